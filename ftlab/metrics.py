"""What a run is worth: metrics of saved probabilities, computed by scikit-learn.

Everywhere `y_true` is (N,) class numbers and `probs` is (N, C) after softmax. A predicted class is
the argmax of probs, so with two classes p(class 1) > 0.5.

Where a metric is undefined its value is nan: a class that y_true lacks is skipped by every mean
over classes, and AUROC and kappa need two classes to tell apart.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

AT_ONCE = 100_000  # weights worked on at a time: 0.8 MB an array, so that a few stay in the cache


def score(
    y_true: np.ndarray, probs: np.ndarray, names: Collection[str] | None = None
) -> dict[str, float]:
    """Every metric of one run, as fractions (not per cent), log_loss in nats.

    auroc, average_precision and auprc are those of class 1, the positive one
    (`ftlab.datasets.classes`), with two classes, else the mean over
    classes, one against the rest. average_precision sums the steps of the precision-recall curve;
    auprc is the trapezoid under it, which interpolates between steps and is therefore optimistic
    (Davis and Goadrich 2006): use it only to compare with papers that report it. Chance level of
    both is the prevalence.

    Args:
        names: those that are wanted; default: all.
    Raises:
        ValueError: y_true and probs do not fit each other, or probs are not probabilities.
    """
    from sklearn import metrics as sk

    y_true, probs = _checked(y_true, probs)
    predicted = probs.argmax(1)
    classes = np.unique(y_true)
    several = len(classes) > 1
    called = several or (predicted != y_true).any()  # else kappa is 0 / 0
    nan = float("nan")
    metrics = {
        "accuracy": lambda: sk.accuracy_score(y_true, predicted),
        "balanced_accuracy": lambda: sk.recall_score(
            y_true, predicted, labels=classes, average="macro"
        ),
        "macro_f1": lambda: sk.f1_score(y_true, predicted, labels=classes, average="macro"),
        "auroc": lambda: _one_vs_rest(sk.roc_auc_score, y_true, probs) if several else nan,
        "average_precision": lambda: _one_vs_rest(sk.average_precision_score, y_true, probs),
        "auprc": lambda: _one_vs_rest(_trapezoid, y_true, probs),
        "kappa": lambda: sk.cohen_kappa_score(y_true, predicted) if called else nan,
        "ece": lambda: calibration_error(y_true, probs),
        "log_loss": lambda: sk.log_loss(
            y_true, probs / probs.sum(1, keepdims=True), labels=range(probs.shape[1])
        ),
    }
    return {name: float(metrics[name]()) for name in names or metrics}


def calibration_error(y_true: np.ndarray, probs: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of the top probability over equally wide bins (Guo et al. 2017).

    The mean over images of |accuracy - mean top probability| of the image's bin (low, high].
    """
    top = probs.max(1)
    gap = (probs.argmax(1) == y_true) - top
    bin_of = np.ceil(top * bins).astype(int)
    return float(np.abs(np.bincount(bin_of, weights=gap)).sum() / len(top))


def confusion(y_true: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """(C, C) counts of images: rows are the true class, columns the predicted one.

    Raises:
        ValueError: as in `score`.
    """
    from sklearn.metrics import confusion_matrix

    y_true, probs = _checked(y_true, probs)
    return confusion_matrix(y_true, probs.argmax(1), labels=range(probs.shape[1]))


def per_class(y_true: np.ndarray, probs: np.ndarray) -> dict[str, list]:
    """Each class against the rest: sensitivity, specificity, prevalence and n, each a list of C.

    The sensitivity of a class that y_true lacks is nan, and so is the specificity of its only one.

    Raises:
        ValueError: as in `score`.
    """
    counts = confusion(y_true, probs)
    total, n, hits = counts.sum(), counts.sum(1), counts.diagonal()
    false_alarms = counts.sum(0) - hits
    with np.errstate(invalid="ignore"):
        sensitivity = hits / n
        specificity = 1 - false_alarms / (total - n)
    return {
        "sensitivity": sensitivity.tolist(),
        "specificity": specificity.tolist(),
        "prevalence": (n / total).tolist(),
        "n": n.tolist(),
    }


def operating_point(y_true: np.ndarray, probs: np.ndarray) -> float:
    """The threshold on p(class 1) with the best balanced accuracy (Youden 1950): for validation.

    Chosen on test it would be optimistic. Candidates lie midway between neighbouring
    probabilities; among equals the one nearest to 0.5 is taken.

    Raises:
        ValueError: as in `score`, there are not two classes, or y_true lacks one of them.
    """
    from sklearn.metrics import roc_curve

    y_true, probs = _checked_binary(y_true, probs)
    if len(np.unique(y_true)) < 2:
        raise ValueError("An operating point needs images of both classes.")
    false_rate, true_rate, cuts = roc_curve(y_true, probs[:, 1], drop_intermediate=False)
    if len(cuts) < 3:
        return 0.5  # one probability for all: no threshold tells the classes apart
    youden = (true_rate - false_rate)[1:-1]
    between = (cuts[1:-1] + cuts[2:]) / 2
    best = between[np.isclose(youden, youden.max())]
    return float(best[np.abs(best - 0.5).argmin()])


def at_threshold(y_true: np.ndarray, probs: np.ndarray, threshold: float) -> dict[str, float]:
    """Two classes, class 1 called where p(class 1) > threshold: what that does on these images.

    Sensitivity is that of class 1, specificity that of class 0.

    Raises:
        ValueError: as in `score`, or there are not two classes.
    """
    y_true, probs = _checked_binary(y_true, probs)
    called = probs[:, 1] > threshold
    rates = per_class(y_true, np.eye(2)[called.astype(int)])
    specificity, sensitivity = rates["sensitivity"]
    return {
        "threshold": float(threshold),
        "balanced_accuracy": float((sensitivity + specificity) / 2),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": float((called == y_true).mean()),
    }


def _one_vs_rest(area, y_true: np.ndarray, probs: np.ndarray) -> float:
    classes = [1] if probs.shape[1] == 2 else range(probs.shape[1])
    areas = [area(y_true == c, probs[:, c]) for c in classes if (y_true == c).any()]
    return float(np.mean(areas)) if areas else float("nan")


def _trapezoid(is_class: np.ndarray, p: np.ndarray) -> float:
    from sklearn.metrics import auc, precision_recall_curve

    precision, recall, _ = precision_recall_curve(is_class, p)
    return auc(recall, precision)


def _checked(y_true: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y_true, probs = np.asarray(y_true), np.asarray(probs, float)
    if probs.ndim != 2 or y_true.shape != probs.shape[:1] or not len(y_true):
        raise ValueError(
            f"y_true must be (N,) and probs (N, C), not {y_true.shape} and {probs.shape}."
        )
    if not np.isfinite(probs).all():
        raise ValueError("The probabilities hold nan or inf: did the training diverge?")
    if probs.min() < 0 or not np.allclose(probs.sum(1), 1, atol=0.01):  # half precision is coarse
        raise ValueError("Each row of probs must sum to 1: pass probabilities, not logits.")
    if y_true.dtype.kind not in "iu" or y_true.min() < 0 or y_true.max() >= probs.shape[1]:
        raise ValueError(f"y_true must hold class numbers from 0 to {probs.shape[1] - 1}.")
    return y_true, probs


def _checked_binary(y_true: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y_true, probs = _checked(y_true, probs)
    if probs.shape[1] != 2:
        raise ValueError(f"A threshold needs two classes, not {probs.shape[1]}.")
    return y_true, probs


# --- the same on many resamples at once; `weights` (R, N) says how often each holds each image ---


def resampled(
    metric: str, y_true: np.ndarray, probs: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """A metric on R resamples: (R,), each what `score` gives for the images drawn.

    Args:
        metric: a key of RESAMPLED.
        y_true: (N,) class numbers.
        probs: (N, C).
        weights: (R, N), how often each resample holds each image.

    Raises:
        ValueError: as in `score`.
    """
    y_true, probs = _checked(y_true, probs)
    value = RESAMPLED[metric]
    chunks = np.array_split(weights, min(len(weights), 1 + weights.size // AT_ONCE))
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 where a class was not drawn
        return np.concatenate([value(y_true, probs, chunk.astype(float)) for chunk in chunks])


def _counts(y_true, probs, weights):
    """Images hit, images present and images called, by resample and class: each (R, C)."""
    one_hot = np.eye(probs.shape[1])
    present, called = one_hot[y_true], one_hot[probs.argmax(1)]
    return weights @ (present * called), weights @ present, weights @ called


def _accuracy(y_true, probs, weights):
    hits, present, _ = _counts(y_true, probs, weights)
    return hits.sum(1) / present.sum(1)


def _balanced_accuracy(y_true, probs, weights):
    hits, present, _ = _counts(y_true, probs, weights)
    return _mean_defined(hits / present)


def _macro_f1(y_true, probs, weights):
    hits, present, called = _counts(y_true, probs, weights)
    return _mean_defined(np.where(present > 0, 2 * hits / (present + called), np.nan))


def _kappa(y_true, probs, weights):
    hits, present, called = _counts(y_true, probs, weights)
    n = present.sum(1)
    chance = (present * called).sum(1) / n**2
    return (hits.sum(1) / n - chance) / (1 - chance)


def _auroc(y_true, probs, weights):
    return _mean_area(_roc_area, y_true, probs, weights)


def _average_precision(y_true, probs, weights):
    return _mean_area(_precision_steps, y_true, probs, weights)


def _roc_area(positive, negative):
    outranking = np.cumsum(positive, 1) - positive / 2  # a tie counts half
    return (negative * outranking).sum(1) / (positive.sum(1) * negative.sum(1))


def _precision_steps(positive, negative):
    precision = np.cumsum(positive, 1) / np.cumsum(positive + negative, 1)
    return np.where(positive > 0, positive * precision, 0).sum(1) / positive.sum(1)


def _mean_area(area, y_true, probs, weights):
    classes = [1] if probs.shape[1] == 2 else range(probs.shape[1])
    areas = [area(*_ranked(y_true == c, probs[:, c], weights)) for c in classes]
    return _mean_defined(np.stack(areas, 1))


def _ranked(is_class, p, weights):
    """Weight of the class and of the rest at each distinct probability, highest first: (R, T)."""
    order = np.argsort(-p)
    first = np.flatnonzero(np.diff(p[order], prepend=np.inf))
    weights = np.take(weights, order, axis=1)
    positive = weights * is_class[order]
    if len(first) < len(order):
        weights, positive = (np.add.reduceat(each, first, axis=1) for each in (weights, positive))
    return positive, weights - positive


def _mean_defined(by_class):
    """The mean over classes, those left out that a resample does not hold."""
    defined = ~np.isnan(by_class)
    return np.where(defined, by_class, 0).sum(1) / defined.sum(1)


RESAMPLED = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "auroc": _auroc,
    "average_precision": _average_precision,
    "kappa": _kappa,
}
