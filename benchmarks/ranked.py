"""How often cheaper searches find the best cut, and at what share of the cost: replays of studies.

    python benchmarks/ranked.py STUDY...

Each STUDY is an exhaustive search of where to cut (`ftlab search DATA --how exhaustive`), so all
answers are there. For each, seed by seed and on the mean over seeds, four ways choose as they would
have: two stages (Peng et al. 2023), and the whole network beside the three units that rank best by
logistic regression (what `--how ranked` does), by LogME (You et al. 2021, ICML), or by their depth:
the last three, which need no features. Printed: how often the best cut was found, how far below it
the chosen one lies on validation and on test, and the share of all training seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

import numpy as np

from ftlab import files, readout, search, studies
from ftlab.context import prepare
from ftlab.lab import Lab
from ftlab.search import Found
from ftlab.studies import Cell, Study

WAYS = ("two-stage", "logistic regression", "LogME", "last three")


def logme(seen: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the log evidence per image of a Bayesian linear model (You et al. 2021).

    seen: (n, C), labels: (n,). alpha and beta, the precisions of weights and noise, by their fixed
    point iteration (algorithm 1 there) on the singular values.
    """
    n, width = seen.shape
    u, s, _ = np.linalg.svd(seen - seen.mean(0), full_matrices=False)
    s2, evidences = s**2, []
    for c in np.unique(labels):
        y = (labels == c) - (labels == c).mean()
        z2 = (u.T @ y) ** 2
        outside = max(y @ y - z2.sum(), 0.0)
        alpha = beta = 1.0
        for _ in range(50):
            t = alpha / beta
            gamma = (s2 / (s2 + t)).sum()
            m2 = (s2 * z2 / (s2 + t) ** 2).sum()
            residual = (z2 * t**2 / (s2 + t) ** 2).sum() + outside
            alpha, beta = gamma / (m2 + 1e-9), (n - gamma) / (residual + 1e-9)
            if abs(alpha / beta / t - 1) < 1e-3:
                break
        evidence = n / 2 * np.log(beta) + width / 2 * np.log(alpha) - n / 2 * np.log(2 * np.pi)
        evidence -= beta / 2 * residual + alpha / 2 * m2
        evidence -= (np.log(alpha + beta * s2).sum() + (width - len(s)) * np.log(alpha)) / 2
        evidences.append(evidence / n)
    return float(np.mean(evidences))


def rankings(lab: Lab, study: Study, found: Found) -> dict[str, tuple[dict[int, float], float]]:
    """{way: ({unit: score}, seconds)} of the ways that rank."""
    context = prepare(lab.study_folder(study.name), study, lab.home)
    began = time.perf_counter()
    images, places, seen = readout.pretrained(context, found.backbone)
    labels, groups = images.labels[places], context.groups["train"][places]
    passed, told = time.perf_counter() - began, {}
    scores = {
        "logistic regression": lambda x: readout.readable(x, labels, groups, found.search.metric),
        "LogME": lambda x: logme(x, labels),
    }
    for way, score in scores.items():
        began = time.perf_counter()
        ranked = {unit: score(each) for unit, each in enumerate(seen, 1)}
        told[way] = ranked, passed + time.perf_counter() - began
    return told | {"last three": ({unit: float(unit) for unit in range(1, len(seen) + 1)}, 0.0)}


def cases(lab: Lab, study: Study, found: Found) -> Iterator[dict[int, dict]]:
    """{unit: {val, test, seconds}} for each seed and for their mean."""
    folder, metric = lab.study_folder(study.name), found.search.metric
    every = []
    for seed in study.seeds:
        answers = {
            unit: files.read_json(
                Cell(found.backbone, search.label("truncated", unit), seed).folder(folder)
                / "result.json"
            )
            for unit in search.units("truncated", found.layout)
        }
        every.append(
            {
                unit: {"val": a["val"][metric], "test": a["test"][metric], "seconds": a["seconds"]}
                for unit, a in answers.items()
            }
        )
    yield from every
    if len(every) > 1:
        yield {
            unit: {key: fmean(case[unit][key] for case in every) for key in every[0][unit]}
            for unit in every[0]
        }


def replay(study: str) -> list[tuple]:
    """(way, seeds, chosen, best, lacks on val, lacks on test, share) of each case and way."""
    lab = Lab.at_home()
    folder = lab.study_folder(study)
    asked = studies.read(folder)
    found = search.read(folder, asked)
    ranked, rows = rankings(lab, asked, found), []
    for number, case in enumerate(cases(lab, asked, found)):
        values = {unit: told["val"] for unit, told in case.items()}
        best = search.best("truncated", values)
        whole = sum(told["seconds"] for told in case.values())
        for way in WAYS:
            how = replace(found.search, how="ranked" if way in ranked else "two-stage")
            ranking, extra = ranked.get(way, (None, 0.0))
            tried = search.steps(how, found.layout, values, ranking)
            chosen = search.best("truncated", {unit: values[unit] for unit in tried})
            spent = sum(case[unit]["seconds"] for unit in tried) + extra
            lacks = [case[best][key] - case[chosen][key] for key in ("val", "test")]
            seeds = asked.seeds[number] if number < len(asked.seeds) else "mean"
            rows.append((study, seeds, way, chosen, best, *lacks, spent / whole))
    return rows


def main(names: list[str]) -> None:
    rows = [row for name in names for row in replay(name)]
    print("| study | seed | way | chosen | best | lacks on val | on test, points | cost |")
    print("|---|---|---|---|---|---|---|---|")
    for study, seed, way, chosen, best, val, test, share in rows:
        lacks = f"{100 * val:.1f} | {100 * test:+.1f}"
        print(f"| {study} | {seed} | {way} | {chosen} | {best} | {lacks} | {100 * share:.0f} % |")
    print("\n| way | finds the best cut | lacks on val, mean | most | on test, mean | cost, mean |")
    print("|---|---|---|---|---|---|")
    for way in WAYS:
        own = [row[3:] for row in rows if row[2] == way and row[1] != "mean"]
        hits = sum(chosen == best for chosen, best, *_ in own)
        val, test, share = (np.array([row[k] for row in own]) for k in (2, 3, 4))
        lacks = f"{100 * val.mean():.1f} | {100 * val.max():.1f} | {100 * test.mean():+.1f}"
        print(f"| {way} | {hits} of {len(own)} | {lacks} | {100 * share.mean():.0f} % |")


if __name__ == "__main__":
    main(sys.argv[1:])
