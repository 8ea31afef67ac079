"""What a study's finished runs say of its test images, class by class and image by image.

Everything is computed from test.npz. Confusion, curves and reliability pool the seeds of a
strategy: each image counts once for each seed. The areas given are those under the curves shown,
so with several seeds they differ a little from the leaderboard's means over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from . import files, metrics, runs, studies
from .studies import Cell

POINTS = 200  # of a curve: more cannot be seen
MOST = 60  # images of most disagreement that are listed
BINS = 15  # of reliability, as in `metrics.calibration_error`
Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


def evidence(folder: Path) -> dict:
    """Everything the finished runs of a study say of its test images.

    Returns:
        {classes, backbones, runs: [{run, strategy, backbone, seed}], per_strategy, disagreements,
        disagreements_of, disagreement_of_all}, without any finished run all lists but classes and
        backbones empty.
        per_strategy: [{strategy, backbone, seeds, confusion (C, C) as `metrics.confusion`,
        per_class: [{class, sensitivity, specificity: {mean, low, high}}],
        roc: [{class, fpr, tpr, auroc}], precision_recall: [{class, recall, precision,
        average_precision}], reliability: [{confidence, accuracy, n}], ece}]. Curves are those of
        each class against the rest, empty for a class without test images.
        disagreements: [{index, truth, votes: {strategy: class}, disagreement}], at most 60, the
        most first; index is the image's place in the data set, votes are those of each strategy's
        first finished seed (with several backbones, of "strategy (backbone)"). disagreements_of:
        the same of each backbone alone, {backbone: [as disagreements]}, votes by strategy.
        disagreement_of_all: one `disagreement` a test image.
    """
    finished = [c for c in studies.cells(studies.read(folder)) if _tested(folder, c)]
    written = [(folder / cell.name / "test.npz").stat().st_mtime_ns for cell in finished]
    return _evidence(folder, tuple(zip(finished, written, strict=True)))


def _tested(folder: Path, cell: Cell) -> bool:
    return cell.finished(folder) and (folder / cell.name / "test.npz").exists()


@lru_cache(maxsize=8)  # a page asks again at every click
def _evidence(folder: Path, finished: tuple[tuple[Cell, int], ...]) -> dict:
    study = studies.read(folder)
    tests = {cell: runs.predictions(folder / cell.name) for cell, _ in finished}
    kept = ("strategy", "backbone", "seed")
    by_strategy: dict[tuple[str, str], list[Cell]] = {
        (backbone, strategy): [] for backbone in study.backbones for strategy in study.strategies
    }
    for cell in tests:
        by_strategy[cell.backbone, cell.strategy].append(cell)
    firsts = {own[0]: tests[own[0]] for own in by_strategy.values() if own}
    return files.plain(
        {
            "classes": study.classes,
            "backbones": study.backbones,
            "runs": [{"run": c.name, **{k: getattr(c, k) for k in kept}} for c in tests],
            "per_strategy": [
                {"strategy": strategy, "backbone": backbone, "seeds": [c.seed for c in own]}
                | _of_strategy(study.classes, [tests[c] for c in own])
                for (backbone, strategy), own in by_strategy.items()
                if own
            ],
            **_disagreements(study.classes, firsts),
            "disagreements_of": {
                backbone: _disagreements(study.classes, firsts, backbone)["disagreements"]
                for backbone in study.backbones
            },
        }
    )


# --- one strategy ---------------------------------------------------------------------------------


def _of_strategy(classes: Sequence[str], tests: Sequence[Mapping[str, np.ndarray]]) -> dict:
    y_true, group = tests[0]["y_true"], tests[0]["group"]
    groups = None if len(np.unique(group)) == len(group) else group
    calls = np.stack([test["probs"].argmax(1) for test in tests])  # (S, N)
    everyone = np.tile(y_true, len(tests))
    probs = np.concatenate([test["probs"] for test in tests])  # (S * N, C)
    return {
        "confusion": metrics.confusion(everyone, probs),
        "per_class": [
            {
                "class": name,
                "sensitivity": _rate(calls == c, y_true == c, groups),
                "specificity": _rate(calls != c, y_true != c, groups),
            }
            for c, name in enumerate(classes)
        ],
        "roc": [
            {"class": name, **_roc(everyone == c, probs[:, c])} for c, name in enumerate(classes)
        ],
        "precision_recall": [
            {"class": name, **_precision_recall(everyone == c, probs[:, c])}
            for c, name in enumerate(classes)
        ],
        "reliability": _reliability(everyone, probs),
        "ece": metrics.calibration_error(everyone, probs),
    }


def _rate(hits: np.ndarray, of: np.ndarray, groups: np.ndarray | None) -> dict:
    """{mean, low, high} of a share of images, over all seeds, with its 95 % interval.

    All three are None where there are no images.

    Wilson's score interval (1927) at the effective sample size of Korn and Graubard (1998): how
    many independent images would leave a proportion as uncertain as this one is, seeds and groups
    considered. It is at most the number of images (of groups, where there are any): where all are
    hits nothing varies, and yet the next image may be a miss.

    Args:
        hits: (S, N) bool. of: (N,) bool, the images that count.
    """
    from scipy.stats import t

    if not of.any():
        return dict.fromkeys(("mean", "low", "high"))
    hits, groups = hits[:, of], np.arange(of.sum()) if groups is None else groups[of]
    p, n = float(hits.mean()), float(len(np.unique(groups)))
    variance, freedom = _uncertainty(hits, groups) if n > 1 else (0.0, 1.0)
    if variance:
        n = min(n, p * (1 - p) / variance * (Z / t.ppf(0.975, freedom)) ** 2)
    centre, spread = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    low, high = (centre - spread) / (1 + Z**2 / n), (centre + spread) / (1 + Z**2 / n)
    return {"mean": p, "low": max(0.0, min(low, p)), "high": min(1.0, max(high, p))}


def _uncertainty(hits: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Variance of a share (S, n) and its degrees of freedom: `statistics.interval` in closed form,
    less what `ftlab.rare` adds, for which Wilson's interval sees to few images and to 0 errors.

    A share is a mean, so what resampling whole groups would find is known without drawing (the
    linearised ratio estimator of Rao and Scott 1992).
    """
    seeds, n = hits.shape
    _, group_of = np.unique(groups, return_inverse=True)
    n_groups = group_of.max() + 1
    means = hits.mean(1)
    off = np.stack([np.bincount(group_of, own) for own in hits - means[:, None]]) / n  # (S, G)
    by_images = off @ off.T * n_groups / (n_groups - 1)  # (S, S)
    between = means.var(ddof=1) / seeds if seeds > 1 else 0.0
    covariance = (by_images.sum() - by_images.trace()) / max(seeds * (seeds - 1), 1)
    images = max(covariance, by_images.mean() - between, 0.0)
    spread = between**2 / max(seeds - 1, 1) + images**2 / (n_groups - 1)
    variance = between + images
    return float(variance), float(variance**2 / spread) if spread else 1.0


def _roc(is_class: np.ndarray, p: np.ndarray) -> dict:
    from sklearn import metrics as sk

    if is_class.all() or not is_class.any():
        return {"fpr": [], "tpr": [], "auroc": None}
    false_rate, true_rate, _ = sk.roc_curve(is_class, p)
    fpr, tpr = _thin(false_rate, true_rate)
    return {"fpr": fpr, "tpr": tpr, "auroc": sk.roc_auc_score(is_class, p)}


def _precision_recall(is_class: np.ndarray, p: np.ndarray) -> dict:
    """Recall rises from 0; between points the curve is a step, precision that of the later one."""
    from sklearn import metrics as sk

    if not is_class.any():
        return {"recall": [], "precision": [], "average_precision": None}
    precision, recall, _ = sk.precision_recall_curve(is_class, p, drop_intermediate=True)
    recall, precision = _thin(recall[::-1], precision[::-1])
    area = sk.average_precision_score(is_class, p)
    return {"recall": recall, "precision": precision, "average_precision": area}


def _thin(*columns: np.ndarray) -> list[np.ndarray]:
    """At most POINTS points of a curve, both ends among them."""
    last = len(columns[0]) - 1
    at = np.linspace(0, last, min(last + 1, POINTS)).round().astype(int)
    return [column[at].round(4) for column in columns]


def _reliability(y_true: np.ndarray, probs: np.ndarray) -> list[dict]:
    """Mean top probability and accuracy of each bin that holds an image (Guo et al. 2017)."""
    top, hit = probs.max(1), probs.argmax(1) == y_true
    bin_of = np.ceil(top * BINS).astype(int)
    return [
        {"confidence": top[own].mean(), "accuracy": hit[own].mean(), "n": own.sum()}
        for own in (bin_of == each for each in np.unique(bin_of))
    ]


# --- one image ------------------------------------------------------------------------------------


def disagreement(probs: np.ndarray) -> np.ndarray:
    """How far the probabilities of K runs (K, N, C) lie apart for each image: (N,), from 0 to 1.

    The generalised Jensen-Shannon divergence, H(mean of p_k) - mean of H(p_k) (Lin 1991), as a
    share of the most it can be: 0 where all runs say the same, 1 where each is sure and they are
    split over the classes as evenly as can be. One run alone does not disagree.
    """
    runs_, classes = probs.shape[0], probs.shape[-1]
    most = _entropy(np.bincount(np.arange(runs_) % classes) / runs_)
    apart = _entropy(probs.mean(0)) - _entropy(probs).mean(0)
    return (apart / most).clip(0, 1) if most else np.zeros(probs.shape[1])


def _entropy(p: np.ndarray) -> np.ndarray:
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


def _disagreements(
    classes: Sequence[str], firsts: Mapping[Cell, Mapping[str, np.ndarray]], of: str | None = None
) -> dict:
    """Of the first run of each strategy and backbone, or of those of one backbone."""
    firsts = {cell: test for cell, test in firsts.items() if of in (None, cell.backbone)}
    if not firsts:
        return {"disagreements": [], "disagreement_of_all": []}
    probs = np.stack([test["probs"] for test in firsts.values()])
    test, calls, apart = next(iter(firsts.values())), probs.argmax(2), disagreement(probs)
    several = len({cell.backbone for cell in firsts}) > 1
    names = [f"{c.strategy} ({c.backbone})" if several else c.strategy for c in firsts]
    return {
        "disagreements": [
            {
                "index": test["index"][i],
                "truth": classes[test["y_true"][i]],
                "votes": {n: classes[c] for n, c in zip(names, calls[:, i].tolist(), strict=True)},
                "disagreement": apart[i],
            }
            for i in np.argsort(-apart, kind="stable")[:MOST]
        ],
        "disagreement_of_all": apart,
    }


def consensus(folder: Path, predictions: Mapping) -> dict:
    """What the runs of a study say together of one new image, the first run of each strategy.

    Args:
        predictions: {classes, runs: [{run, probs: [p]}]}, at least one run, as `Lab.explain` gives
            them, or an image of `Lab.predict`.
    Returns:
        {class, agree, of, mean_probability, disagreement, more_than}: `agree` of `of` strategies
        (of several backbones: of networks, as many as a strategy has) vote for the class, whose
        mean probability this is; ties go to the larger mean. more_than is the share of the test
        images on which these runs disagree less, None where they left no predictions or only one
        was asked.
    """
    firsts: dict[tuple[str, str], Mapping] = {}
    cells = {cell.name: cell for cell in studies.cells(studies.read(folder))}
    for answer in predictions["runs"]:
        cell = cells[answer["run"]]
        firsts.setdefault((cell.backbone, cell.strategy), answer)
    classes = predictions["classes"]
    probs = np.array([answer["probs"] for answer in firsts.values()])  # (K, C)
    votes, mean = np.bincount(probs.argmax(1), minlength=len(classes)), probs.mean(0)
    winner = max(range(len(classes)), key=lambda c: (votes[c], mean[c]))
    apart, own = float(disagreement(probs[:, None])[0]), [a["run"] for a in firsts.values()]
    more_than = None
    if len(own) > 1 and all((folder / run / "test.npz").exists() for run in own):
        known = np.stack([runs.predictions(folder / run)["probs"] for run in own])
        more_than = float((disagreement(known) < apart).mean())
    return {
        "class": classes[winner],
        "agree": int(votes[winner]),
        "of": len(own),
        "mean_probability": float(mean[winner]),
        "disagreement": apart,
        "more_than": more_than,
    }
