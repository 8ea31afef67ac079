"""What a study found: one row a backbone and strategy, with intervals, and the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import numpy as np

from . import files, looks, metrics, runs, statistics, studies, tuning
from .studies import Cell, Study
from .verdict import verdict

METRIC = "balanced_accuracy"
WITH_INTERVAL = ("balanced_accuracy", "auroc")
SHOWN = (  # of a run's answer
    *("seconds", "mean_epoch_seconds", "peak_memory_bytes", "trained_parameters", "stored_bytes"),
    *("best_epoch", "val", "test", "test_per_class", "test_confusion", "test_at_threshold"),
)
HALVED = (
    "memory ran out in epoch {}; from there on each batch was computed in two halves whose "
    "gradients are added up, so that BatchNorm saw half as many images at once"
)
MEANS = ("seconds", "trained_parameters", "stored_bytes", "peak_memory_bytes")


def leaderboard(folder: Path) -> dict:
    """{metric, tuning, tuned, rates, precision, maps, rows, ensembles, verdicts} of finished runs.

    A row: {backbone, strategy, lr, precision, seeds, balanced_accuracy and auroc as {mean, low,
    high, sd}, the other test metrics and the costs as means, to_full: the paired difference or
    None, energy, pointing and road: {mean, low, high, sd} where its runs' maps were looked at, else
    None}, the best mean first. Fractions, seconds and bytes. `tuning` is `ftlab.tuning.report`,
    `tuned` that in words, `rates` with a caution where there is one, `precision` that of all rows
    in words; `maps` is `ftlab.looks.about`; `ensembles` are those of `_ensemble`; `verdicts` maps a
    backbone to its sentence. The answer is kept until a run ends, and is not to be changed.
    """
    return _leaderboard(folder, tuple(_ended(folder)))


def _ended(folder: Path) -> Iterator[tuple[str, int]]:
    """The files that say how runs ended, and the question, each with its time in nanoseconds."""
    in_a_run = ("*/result.json", "*/error.txt", "*/maps.json", "tuning/*/result.json")
    for pattern in ("study.json", *in_a_run):
        for path in sorted(folder.glob(pattern)):
            yield str(path), path.stat().st_mtime_ns


@lru_cache(maxsize=16)  # a page asks again at every visit, and the bootstraps take seconds
def _leaderboard(folder: Path, _ended: tuple) -> dict:
    study = studies.read(folder)
    maps, tuned = looks.read(folder, study), tuning.report(folder, study)
    rows, ensembles, verdicts = [], [], {}
    for backbone in study.backbones:
        finished = _finished(folder, study, backbone)
        if not finished:
            continue
        y_true, groups, probs = _predictions(folder, finished)
        to_full = {}
        if "full" in probs:
            compared = statistics.compare_to("full", probs, y_true, groups, METRIC)
            to_full = {row["strategy"]: row for row in compared}
        for strategy, done in finished.items():
            row = _row(folder, done, list(probs[strategy].values()), y_true, groups)
            looked = looks.scores(folder, {cell: maps[cell] for cell in done if cell in maps})
            rows.append({**row, "to_full": to_full.get(strategy), **looked})
        if sum(map(len, finished.values())) > 1:
            ensembles.append(_ensemble(folder, finished, probs, y_true, groups))
        verdicts[backbone] = _verdict(
            folder, study, backbone, finished, probs, y_true, groups, tuning.words(tuned)
        )
    rows.sort(key=lambda row: -row[METRIC]["mean"])
    return {
        "metric": METRIC,
        "tuning": tuned,
        "tuned": tuning.words(tuned),
        "rates": "; ".join(filter(None, (tuning.words(tuned), tuning.edge(tuned)))),
        "precision": _precision(rows),
        "maps": looks.about(maps),
        "rows": rows,
        "ensembles": ensembles,
        "verdicts": verdicts,
    }


def _finished(folder: Path, study: Study, backbone: str) -> dict[str, list[Cell]]:
    """strategy -> its finished runs, strategies in the study's order, seeds ascending."""
    done: dict[str, list[Cell]] = {}
    for cell in sorted(
        studies.cells(study), key=lambda c: (study.strategies.index(c.strategy), c.seed)
    ):
        if cell.backbone == backbone and cell.finished(folder):
            done.setdefault(cell.strategy, []).append(cell)
    return done


def _predictions(folder: Path, finished: dict[str, list[Cell]]):
    """(y_true (N,), groups (N,) or None, strategy -> seed -> probs (N, C))."""
    probs, test = {}, {}
    for strategy, done in finished.items():
        for cell in done:
            test = runs.predictions(folder / cell.name)
            probs.setdefault(strategy, {})[cell.seed] = test["probs"]
    return test["y_true"], statistics.clusters(test["group"]), probs


def _row(folder: Path, done: list[Cell], probs: list[np.ndarray], y_true, groups) -> dict:
    answers = [files.read_json(folder / cell.name / "result.json") for cell in done]
    questions = [files.read_json(folder / cell.name / "run.json") for cell in done]
    row = {
        "backbone": done[0].backbone,
        "strategy": done[0].strategy,
        "lr": questions[0]["knobs"]["lr"],
        "precision": questions[0]["settings"]["precision"],  # of all runs of a backbone
        "seeds": [cell.seed for cell in done],
    }
    for metric in answers[0]["test"]:
        values = [a["test"][metric] for a in answers if a["test"][metric] is not None]
        row[metric] = fmean(values) if values else None
    for metric in WITH_INTERVAL:
        row[metric] = statistics.interval(y_true, probs, groups, metric)
    return row | {name: fmean(answer[name] for answer in answers) for name in MEANS}


def _precision(rows: list[dict]) -> str:
    """In which precision runs computed, by backbone where they differ."""
    found = {row["backbone"]: row["precision"] for row in rows}
    if len(set(found.values())) < 2:
        return next(iter(found.values()), "")
    return ", ".join(f"{precision} ({backbone})" for backbone, precision in found.items())


def _ensemble(folder: Path, finished: dict[str, list[Cell]], probs: dict, y_true, groups) -> dict:
    """The mean of the test probabilities of all finished runs of a backbone, as one classifier.

    Its intervals know the test images alone; to_full is paired with each seed of full, and has no
    p: it is no strategy that was compared with others.

    Returns:
        {backbone, runs: how many, balanced_accuracy and auroc as {mean, low, high, sd: None}, the
        other test metrics, seconds and stored_bytes of all its runs together, to_full}
    """
    together = np.mean([p for seeds in probs.values() for p in seeds.values()], axis=0)
    cells = [cell for done in finished.values() for cell in done]
    answers = [files.read_json(folder / cell.name / "result.json") for cell in cells]
    row = {"backbone": cells[0].backbone, "runs": len(cells), **metrics.score(y_true, together)}
    for metric in WITH_INTERVAL:
        row[metric] = statistics.interval(y_true, [together], groups, metric)
    for cost in ("seconds", "stored_bytes"):
        row[cost] = sum(answer[cost] for answer in answers)
    full = list(probs.get("full", {}).values())
    same = [together] * len(full)
    paired = statistics.paired(y_true, full, same, groups, METRIC) if full else None
    return {**row, "to_full": paired and {**paired, "p": None, "p_holm": None}}


def _verdict(folder, study, backbone, finished, probs, y_true, groups, rates) -> str:
    validation = {
        strategy: fmean(
            files.read_json(folder / cell.name / "result.json")["val"][METRIC] for cell in done
        )
        for strategy, done in finished.items()
    }
    return verdict(
        validation,
        probs,
        y_true,
        groups,
        METRIC,
        rates=rates,
        failed=_count_failed(folder, study, backbone),
    )


def _count_failed(folder: Path, study: Study, backbone: str) -> int:
    own: Iterable[Cell] = (c for c in studies.cells(study) if c.backbone == backbone)
    states = studies.run_states(folder, study)
    return sum(states[cell.name] == "failed" for cell in own)


def run_rows(folder: Path, study: Study) -> list[dict]:
    """Every run of a study with its state and, once finished, its test metrics and costs.

    reason: why it failed. note: what is to be known of one that finished.
    """
    states, rows = studies.run_states(folder, study), []
    for cell in studies.cells(study):
        own = folder / cell.name
        row = {
            "run": cell.name,
            "strategy": cell.strategy,
            "backbone": cell.backbone,
            "seed": cell.seed,
            "state": states[cell.name],
        }
        answer = files.read_json(own / "result.json")
        if answer:
            row |= {name: answer[name] for name in SHOWN if name in answer}
            if answer.get("halved_from") is not None:
                row["note"] = HALVED.format(answer["halved_from"] + 1)
        elif states[cell.name] == "failed":
            row["reason"] = runs.reason(own)
        rows.append(row)
    return rows
