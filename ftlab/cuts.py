"""What a search found: a point a unit, with what it scores and what it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

from . import costs, files, leaderboard, search, studies
from .records import BadInput
from .search import Found
from .studies import Cell, Study

Points = list[dict]


def cuts(folder: Path, home: Path, latency: bool = False) -> dict:
    """What the search of a study found so far.

    Returns:
        {study, strategy, metric, how, backbone, done, seeds, points, coarse: the unit that the
        first stage chose, chosen: the answer, chosen_runs, trained and of: how many units the
        search has trained, and could, share_of_cost: what those took of the cost of training
        all, cost_by: in seconds, or in macs while some are not trained, pareto_by, whole:
        {parameters, macs, latency} of the whole network, ranking: [{unit, score}] or None}.
        A point: {unit, stage, label, step, val: {mean, low, high} of the metric, test:
        {balanced_accuracy: {mean, low, high}, average_precision, auroc}, parameters, macs,
        trained_parameters, stored_bytes, latency: {"1": ms, "32": ms}, pareto, trained}; None
        stands for what is not known. step: coarse, fine, ranked or all, None of a unit that the
        search did not ask for. The interval of val is over seeds (t), that of test as in
        `leaderboard`. pareto: trained, and no other has fewer of `pareto_by` and scores as well.

    Args:
        latency: measure what is trained and was not measured on this machine yet.
    Raises:
        BadInput: the study searches nothing.
    """
    study = studies.read(folder)
    found = search.read(folder, study)
    if found is None:
        raise BadInput(f"The study {study.name} is no search; choose one that is.")
    asked, classes, size = found.search, len(study.classes), study.settings.size
    measured = partial(
        costs.latency, classes=classes, size=size, cache=home / "cache", measure=latency
    )
    points = _points(folder, study, found)
    for point in points:
        unit = point["unit"]
        point |= costs.costs(found.backbone, asked.strategy, unit, classes, size)
        timed = point["trained"]
        point["latency"] = measured(found.backbone, asked.strategy, unit) if timed else None
    by = "trained_parameters" if asked.strategy == "layer_wise" else "parameters"
    _mark_front(points, by)
    whole = costs.costs(found.backbone, "full", None, classes, size)
    chosen = [point for point in points if point["unit"] == found.chosen]
    ranking = found.ranking and [{"unit": u, "score": s} for u, s in found.ranking.items()]
    return {
        **{"study": study.name, **asdict(asked), "backbone": found.backbone},
        **{"done": found.done, "seeds": list(study.seeds), "points": points},
        **{"coarse": found.coarse, "chosen": found.chosen},
        "chosen_runs": [run for point in chosen for run in point["runs"]],
        **_effort(folder, found, points),
        "pareto_by": by,
        "whole": {**whole, "latency": measured(found.backbone, "full", None)},
        "ranking": ranking,
    }


def _points(folder: Path, study: Study, found: Found) -> Points:
    """What is known of every unit from its runs."""
    board = leaderboard.leaderboard(folder)["rows"]
    rows = {row["strategy"]: row for row in board if row["backbone"] == found.backbone}
    points = []
    for unit in search.units(found.search.strategy, found.layout):
        named = search.label(found.search.strategy, unit)
        cells = [Cell(found.backbone, named, seed) for seed in study.seeds]
        done = [cell for cell in cells if cell.finished(folder)]
        answers = [files.read_json(cell.folder(folder) / "result.json") for cell in done]
        values = [answer["val"][found.search.metric] for answer in answers]
        points.append(
            {
                "unit": unit,
                "stage": found.layout.stage_of(unit).name,
                "label": named,
                "step": found.steps.get(unit),
                "trained": bool(done) and unit in found.ended,
                "val": _interval(values) if values else None,
                "test": _test(rows[named]) if named in rows else None,
                "stored_bytes": fmean(a["stored_bytes"] for a in answers) if answers else None,
                "seconds": sum(a["seconds"] for a in answers) if answers else None,
                "runs": [cell.name for cell in done],
            }
        )
    return points


def _interval(values: Sequence[float]) -> dict:
    """{mean, low, high} over seeds, by Student's t; of a single seed the mean alone."""
    mean, n = fmean(values), len(values)
    if n == 1:
        return {"mean": mean, "low": None, "high": None}
    half = float(student.ppf(0.975, n - 1)) * stdev(values) / math.sqrt(n)
    return {"mean": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0)}


def _test(row: Mapping) -> dict:
    whole = {part: row["balanced_accuracy"][part] for part in ("mean", "low", "high")}
    other = {"average_precision": row["average_precision"], "auroc": row["auroc"]["mean"]}
    return {"balanced_accuracy": whole, **other}


def _mark_front(points: Points, by: str) -> None:
    """Mark the points that no other trained one beats: it would need less, or score more."""
    trained = [point for point in points if point["trained"]]

    def beats(one: Mapping, other: Mapping) -> bool:
        less, more = one[by] <= other[by], one["val"]["mean"] >= other["val"]["mean"]
        same = one[by] == other[by] and one["val"]["mean"] == other["val"]["mean"]
        return less and more and not same

    for point in points:
        point["pareto"] = point["trained"] and not any(beats(other, point) for other in trained)


def _effort(folder: Path, found: Found, points: Points) -> dict:
    """{trained, of, share_of_cost, cost_by}; ranking costs a pass over the images, too."""
    own = [point for point in points if point["step"] and point["trained"]]
    by = "seconds" if all(point["trained"] for point in points) else "trained_macs"
    spent = sum(point[by] for point in own)
    if found.ranking and by == "seconds":
        spent += files.read_json(folder / search.RANKING)["seconds"]
    return {
        "trained": len(own),
        "of": len(points),
        "share_of_cost": spent / sum(point[by] for point in points),
        "cost_by": "seconds" if by == "seconds" else "macs",
    }
