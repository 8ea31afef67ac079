"""What resampling test images cannot see: classes of few images, and classes without an error.

A class of two images that are both right is right in every resample, so it adds nothing to the
variance of balanced accuracy, although next to nothing is known of it. Each class (of balanced
accuracy; the whole test set of accuracy) is therefore given the variance that its mean has, but

    at least 2 * (step / (n + 2))^2, with n + 1 degrees of freedom,

as if two more of its n groups had been tested and lain a step off: Agresti and Coull (1998) add two
images to either side in this spirit, and for large n 2 / n^2 is their variance of a class that is
all right. `step` is how far a group lies off where it does: 1 where an image is right or wrong,
less where errors are spread over a patient's images or over seeds. Where no group lies off it is 1,
and 1/2 for AUROC, where an image of which nothing is known ranks above half of the others. The
degrees of freedom of classes are joined as Welch (1947) and Satterthwaite (1946) do.

Per cent of 95 % intervals that held the truth, and their mean width in points where recalls are 90
and 80 %, the second class is rare and there are 200 test images; the difference is that to 95 % of
both (500 simulated studies; `python tests/test_rare.py`):

    images of the rare class            2        3        5        10       20       100
    balanced accuracy, one seed       100 73   100 57    99 42   100 28    93 19    94 10
        bootstrap alone                33 30    49 30    66 30    89 24    91 18    94 10
    balanced accuracy, three seeds    100 57   100 45   100 36    97 25    93 17    96  9
        bootstrap alone                51 34    67 32    83 29    91 22    93 16    96  9
    AUROC, one seed                   100 72   100 48   100 30    98 18    95 12    94  7
        bootstrap alone                52 14    63 16    75 16    81 13    87 10    94  7
    difference, three seeds           100 72   100 53   100 37    98 23    96 16    98  8
        bootstrap alone                50 40    65 36    81 29    93 22    96 16    98  8

With ten images or fewer the intervals are wide rather than exact: so few take few values. Near the
ceiling, where errors spread over the images of few patients, they still cover less than they say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def by_image(metric: str, y_true: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """How right a run is on each image, as a metric sees it: (N,), from 0 to 1.

    For auroc and average_precision that is the image's placement: the share of the other classes'
    images that its own class is less probable for, a tie counting half (DeLong et al. 1988). For
    all others it is 1 where the image is hit.
    """
    if metric not in ("auroc", "average_precision"):
        return (probs.argmax(1) == y_true).astype(float)
    placed = np.zeros(len(y_true))
    for c in np.unique(y_true):
        own, others = probs[y_true == c, c], np.sort(probs[y_true != c, c])
        below, upto = (np.searchsorted(others, own, side) for side in ("left", "right"))
        placed[y_true == c] = (below + upto) / (2 * max(len(others), 1))
    return placed


def strata(metric: str, y_true: np.ndarray) -> tuple[np.ndarray, float, float]:
    """(parts (N,) of the test set whose means a metric adds up, the weight of each mean, the step
    that is assumed where no group lies off).

    Exact for accuracy, balanced accuracy and the AUROC of two classes. That of more forgets the
    rest, whose images are many; the others are taken to first order near their ceiling.
    """
    classes = len(np.unique(y_true))
    if metric == "accuracy":
        return np.zeros(len(y_true), int), 1.0, 1.0
    if metric in ("auroc", "average_precision"):  # of two classes one curve, which both move
        return y_true, 1.0 if classes == 2 else 1 / classes, 0.5
    if metric == "kappa":
        return y_true, 1 / max(classes - 1, 1), 1.0  # (accuracy - 1 / C) / (1 - 1 / C)
    return y_true, 1 / classes, 1.0


def unseen(
    right: np.ndarray, groups: Sequence | None, parts: np.ndarray, weight: float, step: float
) -> tuple[float, float]:
    """(variance that resampling misses, the images' degrees of freedom) of a metric's mean.

    Args:
        right: (N,), how right the runs are on each image, or how much righter than others.
        groups: of the images, as in `ftlab.statistics.bootstrap_weights`.
        parts, weight, step: see `strata`.
    """
    group_of = numbered(len(right), groups)
    off = []  # how far each group of a part lies from the part's mean
    for own in (parts == part for part in np.unique(parts)):
        _, at = np.unique(group_of[own], return_inverse=True)
        sums = np.bincount(at, right[own] - right[own].mean())
        off.append(sums * len(sums) / own.sum())
    far, n = np.abs(np.concatenate(off)), np.array([len(each) for each in off])
    step = 2 * (far @ far) / far.sum() if far.sum() > 1e-9 else step
    least = 2 * (step / (n + 2)) ** 2
    seen = np.array([each @ each for each in off]) / (n * np.maximum(n - 1, 1))
    kept = np.maximum(seen, least)
    freedom = kept.sum() ** 2 / (kept**2 / (n + 1)).sum()
    return weight**2 * float((kept - seen).sum()), min(float(freedom), float(group_of.max()))


def numbered(n_images: int, groups: Sequence | None) -> np.ndarray:
    """The group of each image (N,), from 0; each image is one of its own where none are given."""
    own = np.arange(n_images) if groups is None else groups
    return np.unique(own, return_inverse=True)[1].astype(int)
