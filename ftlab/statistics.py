"""How sure a study is: intervals over seeds and test images, and paired comparisons.

Seeds meet test images as readers meet cases in a reader study, so the intervals are those of
multi-reader multi-case analysis (Obuchowski and Rockette 1995; degrees of freedom in the manner of
Hillis 2007, after Satterthwaite 1946):

    mean over seeds +- t * sqrt(sd^2 / S + cov)

sd is the sample standard deviation over the S seeds; cov is the covariance that two seeds owe to
sharing their test images, from bootstrap resamples of the images, drawn patient by patient (or
whatever the group is) where groups are known, times G / (G - 1) of G groups, since resamples
scatter about this very sample's mean. cov is taken large enough that the whole is never less than
the variance which the images alone give the mean: else seeds that happen to score alike would have
an interval without width. What resampling cannot see, of classes with few images and of classes
without an error, is added by `ftlab.rare`, which also gives the images' degrees of freedom.

Per cent of 95 % intervals that held a known difference in accuracy of two strategies (3.3 points,
150 test images, 1000 simulated studies; `coverage` in tests/test_statistics.py):

    noise between runs comes from      images       images,      both         seeds
                                                    each run
    seeds                              3     5      3     5      3     5      3     5
    this module                        98    96     99    97     94    94     93    95
    bootstrap of seeds and images      99    98     99    99     94    95     82    89
    bootstrap of images alone          94    94     95    95     82    86     47    50
    t over seeds alone                 91    81     96    93     93    91     95    94

What no interval here knows: one training set and one split were drawn, once. Near a metric's
ceiling, where seeds scatter to one side, the interval of a single strategy covers less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256

import numpy as np

from ftlab.metrics import resampled
from ftlab.rare import by_image, numbered, strata, unseen

KEPT = 4096  # runs whose resamples are remembered, 8 kB each
_KEPT: dict[bytes, np.ndarray] = {}  # the oldest first

# --- intervals and comparisons; `runs` are the (N, C) probs of one strategy, one per seed ---


def bootstrap_weights(
    n_images: int, groups: Sequence | None, replicates: int = 1000, seed: int = 0
) -> np.ndarray:
    """How often each replicate draws each image: (1 + replicates, N), the sample itself first.

    Whole groups are drawn with replacement, as many as there are: images of one patient are not
    independent. The same seed gives the same draws, which is what pairs two strategies.

    Raises:
        ValueError: there are fewer than two groups, so nothing can be said about others.
    """
    group_of = numbered(n_images, groups)
    n_groups = group_of.max() + 1
    if n_groups < 2:
        raise ValueError("An interval needs test images of at least two groups.")
    draws = np.random.default_rng(seed).multinomial(
        n_groups, np.full(n_groups, 1 / n_groups), size=replicates
    )
    return np.vstack([np.ones(n_groups, draws.dtype), draws])[:, group_of]


def clusters(groups: np.ndarray) -> np.ndarray | None:
    """Groups (N,) of images, None where every image is one of its own."""
    return None if len(np.unique(groups)) == len(groups) else groups


def interval(y_true: np.ndarray, runs: Sequence, groups: Sequence | None, metric: str) -> dict:
    """What one strategy scores: mean over seeds with its 95 % interval.

    Returns:
        {mean, low, high, sd, seeds, images}. low and high stay within the metric's range. sd is the
        sample standard deviation over seeds; with one seed it is None, and the interval knows the
        test images only.

    Raises:
        ValueError: as in `bootstrap_weights`.
    """
    values, right = _measured(metric, y_true, runs, groups)
    missed = unseen(right.mean(0), groups, *strata(metric, y_true))
    return _interval(values, missed, groups, len(y_true), -1.0 if metric == "kappa" else 0.0)


def mean_interval(scores: np.ndarray, groups: Sequence | None, lowest: float = 0.0) -> dict:
    """As `interval`, of the mean of what each run scores each image: (S, N), from lowest to 1."""
    images = len(scores[0])
    weights = _weights(numbered(images, groups).tobytes())
    missed = unseen(scores.mean(0), groups, np.zeros(images, int), 1.0, 1.0)
    return _interval(scores @ weights.T / weights.sum(1), missed, groups, images, lowest)


def _interval(values, missed, groups, n_images, lowest):
    mean, error, freedom = _estimate(values, *missed, numbered(n_images, groups).max() + 1)
    low, high = _limits(mean, error, freedom)
    return {
        "mean": mean,
        "low": max(low, lowest),
        "high": min(high, 1.0),
        "sd": float(values[:, 0].std(ddof=1)) if len(values) > 1 else None,
        "seeds": len(values),
        "images": n_images,
    }


def paired(
    y_true: np.ndarray, reference: Sequence, other: Sequence, groups: Sequence | None, metric: str
) -> dict:
    """How much better `other` is than `reference`, seed by seed on the same draws of the images.

    p is two-sided, from the interval's own t: below 0.05 exactly where the interval excludes 0. (A
    plain t-test over seeds would take these very images as given and reject too often, as the last
    line of the module's table shows.)

    Returns:
        {difference, low, high, seeds, images, p}; p is None with fewer than five seeds, and where
        the two say the same of every image.

    Raises:
        ValueError: as in `bootstrap_weights`, or the strategies have different numbers of runs.
    """
    if len(reference) != len(other):
        raise ValueError("A paired comparison needs the same seeds of both strategies.")
    from scipy.stats import t

    theirs, ours = (_measured(metric, y_true, runs, groups) for runs in (reference, other))
    values, right = (a - b for a, b in zip(ours, theirs, strict=True))
    missed, freedom = unseen(right.mean(0), groups, *strata(metric, y_true))
    if all(map(np.array_equal, reference, other)):
        missed = 0.0  # other images would not tell them apart, either
    n_groups = numbered(len(y_true), groups).max() + 1
    difference, error, freedom = _estimate(values, missed, freedom, n_groups)
    low, high = _limits(difference, error, freedom)
    testable = len(values) >= 5 and error > 0
    return {
        "difference": difference,
        "low": low,
        "high": high,
        "seeds": len(values),
        "images": len(y_true),
        "p": float(2 * t.sf(abs(difference) / error, freedom)) if testable else None,
    }


def compare_to(
    reference: str,
    runs: Mapping[str, Mapping[int, np.ndarray]],
    y_true: np.ndarray,
    groups: Sequence | None,
    metric: str,
) -> list[dict]:
    """Every other strategy against the reference: one row each, over the seeds that both have.

    `runs`: strategy -> seed -> probs (N, C). Without a seed in common there is no row.
    Returns:
        The dictionaries of `paired` with {strategy, reference, metric, p_holm, corrected}: p_holm
        is p corrected for the number of rows, and corrected whether any of them has one. Where some
        have, a row without is undecided whatever its interval says: less data is no evidence.

    Raises:
        ValueError: as in `bootstrap_weights`.
    """
    rows = []
    for strategy in runs:
        seeds = sorted(set(runs[strategy]) & set(runs[reference]))
        if strategy == reference or not seeds:
            continue
        both = ([runs[name][seed] for seed in seeds] for name in (reference, strategy))
        row = paired(y_true, *both, groups, metric)
        rows.append({"strategy": strategy, "reference": reference, "metric": metric, **row})
    ps = holm([row["p"] for row in rows])
    corrected = any(p is not None for p in ps)
    return [{**row, "p_holm": p, "corrected": corrected} for row, p in zip(rows, ps, strict=True)]


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm 1979), in the order given.

    None stays None, and counts: a comparison that was planned and has no p yet.
    """
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    corrected, highest = [None] * len(ps), 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(ps) - rank)))
        corrected[i] = highest
    return corrected


def _measured(metric, y_true, runs, groups):
    """Of each run: the metric on each resample (S, 1 + R), the first of which is the test set; and
    how right it is on each image (S, N)."""
    y_true, group_of = np.asarray(y_true), numbered(len(y_true), groups)
    runs = [np.asarray(probs) for probs in runs]
    values = [_resampled(metric, y_true, probs, group_of) for probs in runs]
    return np.array(values), np.array([by_image(metric, y_true, probs) for probs in runs])


def _resampled(metric, y_true, probs, group_of):
    """`resampled`, remembered by all that goes into it: a run that ended is not resampled again
    because another did."""
    key = sha256(f"{metric} {y_true.dtype} {probs.dtype} {probs.shape}".encode())
    for part in (y_true, probs, group_of):
        key.update(np.ascontiguousarray(part))
    key = key.digest()
    if key not in _KEPT:
        _KEPT[key] = resampled(metric, y_true, probs, _weights(group_of.tobytes()))
        for oldest in list(_KEPT)[:-KEPT]:
            _KEPT.pop(oldest, None)
    return _KEPT[key]


@lru_cache(maxsize=1)
def _weights(group_of: bytes) -> np.ndarray:
    groups = np.frombuffer(group_of, int)
    return bootstrap_weights(len(groups), groups)


def _limits(mean, error, freedom):
    from scipy.stats import t

    half = float(t.ppf(0.975, freedom)) * error if error else 0.0
    return mean - half, mean + half


def _estimate(values, missed, images_freedom, n_groups):
    """Mean over seeds, its standard error, and its degrees of freedom, of values (S, 1 + R).

    missed, images_freedom: as `unseen` gives them. n_groups: of the test images.
    """
    seeds, mean = len(values), float(values[:, 0].mean())
    if np.isnan(mean):
        return mean, mean, 1.0
    draws = values[:, ~np.isnan(values).any(0)][:, 1:]  # not those where the metric is undefined
    between = values[:, 0].var(ddof=1) / seeds if seeds > 1 else 0.0
    by_images = np.atleast_2d(np.cov(draws)) * n_groups / (n_groups - 1)  # (S, S)
    covariance = (by_images.sum() - by_images.trace()) / max(seeds * (seeds - 1), 1)
    images = max(covariance, by_images.mean() - between, 0.0) + missed
    variance = between + images
    spread = between**2 / max(seeds - 1, 1) + images**2 / images_freedom
    freedom = variance**2 / spread if spread else 1.0  # no spread: nothing tells runs apart
    return mean, float(np.sqrt(variance)), float(freedom)
