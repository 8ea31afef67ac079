"""Prediction flips: which test images one strategy gets right and another wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from . import runs, studies
from .studies import Cell, Study

MOST = 60  # images that are listed of a pair, in either direction


def flips(folder: Path) -> list[dict]:
    """Every two strategies of a study, seed by seed on the same test images.

    Returns:
        [{backbone, before, after, seeds, images: N, corrected: [n], broken: [n], changed: [n],
        per_class: [{class, images, corrected, broken}], corrected_images, broken_images: [index]}]
        in the study's order. corrected: `before` is wrong and `after` right, one number a seed;
        broken: the other way round; changed: both are wrong, and not of the same class. per_class
        by the true class, means over the seeds. The images listed flip in more than half of the
        seeds, at most 60 of them, by their places in the data set. Only seeds that both have.
    """
    study = studies.read(folder)
    calls = {
        (cell.backbone, cell.strategy, cell.seed): runs.predictions(folder / cell.name)
        for cell in studies.cells(study)
        if _tested(folder, cell)
    }
    return [
        _pair(study, calls, backbone, before, after, seeds)
        for backbone in study.backbones
        for before, after in combinations(study.strategies, 2)
        if (seeds := [s for s in study.seeds if _both(calls, backbone, before, after, s)])
    ]


def _tested(folder: Path, cell: Cell) -> bool:
    return cell.finished(folder) and (folder / cell.name / "test.npz").exists()


def _both(calls: Mapping, backbone: str, before: str, after: str, seed: int) -> bool:
    return (backbone, before, seed) in calls and (backbone, after, seed) in calls


def _pair(
    study: Study, tests: Mapping, backbone: str, before: str, after: str, seeds: Sequence[int]
) -> dict:
    first, second = (
        np.stack([tests[backbone, name, seed]["probs"].argmax(1) for seed in seeds])
        for name in (before, after)
    )  # (S, N) each
    test = tests[backbone, before, seeds[0]]
    truth, index = test["y_true"], test["index"]
    corrected = (first != truth) & (second == truth)
    broken = (first == truth) & (second != truth)
    changed = (first != truth) & (second != truth) & (first != second)
    per_class = [
        {
            "class": name,
            "images": int((truth == c).sum()),
            "corrected": float(corrected[:, truth == c].sum(1).mean()),
            "broken": float(broken[:, truth == c].sum(1).mean()),
        }
        for c, name in enumerate(study.classes)
    ]
    return {
        **{"backbone": backbone, "before": before, "after": after},
        **{"seeds": list(seeds), "images": len(truth)},
        **{"corrected": corrected.sum(1).tolist(), "broken": broken.sum(1).tolist()},
        **{"changed": changed.sum(1).tolist(), "per_class": per_class},
        "corrected_images": index[corrected.mean(0) > 0.5][:MOST].tolist(),
        "broken_images": index[broken.mean(0) > 0.5][:MOST].tolist(),
    }
