"""How sure a study is: intervals over seeds and test images, paired comparisons, the verdict.

Seeds meet test images as readers meet cases in a reader study, so the intervals are those of
multi-reader multi-case analysis (Obuchowski and Rockette 1995; degrees of freedom in the manner of
Hillis 2007, after Satterthwaite 1946):

    mean over seeds +- t * sqrt(sd^2 / S + cov)

sd is the sample standard deviation over the S seeds; cov is the covariance that two seeds owe to
sharing their test images, from bootstrap resamples of the images, drawn patient by patient (or
whatever the group is) where groups are known. cov is taken large enough that the whole is never
less than the variance which the images alone give the mean: else seeds that happen to score alike
would have an interval without width.

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

import numpy as np

from ftlab.metrics import resampled

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "kappa": "kappa",
}


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
    _, group_of = np.unique(np.arange(n_images) if groups is None else groups, return_inverse=True)
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
    values = _values(metric, y_true, runs, bootstrap_weights(len(y_true), groups))
    return _interval(values, y_true, groups, -1.0 if metric == "kappa" else 0.0)


def mean_interval(scores: np.ndarray, groups: Sequence | None, lowest: float = 0.0) -> dict:
    """As `interval`, of the mean of what each run scores each image: (S, N), from lowest to 1."""
    weights = bootstrap_weights(len(scores[0]), groups)
    return _interval(scores @ weights.T / weights.sum(1), scores[0], groups, lowest)


def _interval(values, images, groups, lowest):
    mean, error, freedom = _estimate(values, _n_groups(images, groups))
    low, high = _limits(mean, error, freedom)
    return {
        "mean": mean,
        "low": max(low, lowest),
        "high": min(high, 1.0),
        "sd": float(values[:, 0].std(ddof=1)) if len(values) > 1 else None,
        "seeds": len(values),
        "images": len(images),
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
        nothing tells the two apart.

    Raises:
        ValueError: as in `bootstrap_weights`, or the strategies have different numbers of runs.
    """
    if len(reference) != len(other):
        raise ValueError("A paired comparison needs the same seeds of both strategies.")
    weights = bootstrap_weights(len(y_true), groups)
    theirs, ours = (_values(metric, y_true, runs, weights) for runs in (reference, other))
    return _difference(theirs, ours, len(y_true), _n_groups(y_true, groups))


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
        The dictionaries of `paired` with {strategy, reference, metric, p_holm}; p_holm is p
        corrected for the number of comparisons that have one.

    Raises:
        ValueError: as in `bootstrap_weights`.
    """
    weights = bootstrap_weights(len(y_true), groups)
    values = {
        strategy: dict(zip(seeds, _values(metric, y_true, seeds.values(), weights), strict=True))
        for strategy, seeds in runs.items()
    }
    rows = []
    for strategy in runs:
        seeds = sorted(set(runs[strategy]) & set(runs[reference]))
        if strategy == reference or not seeds:
            continue
        theirs, ours = (
            np.array([values[name][seed] for seed in seeds]) for name in (reference, strategy)
        )
        row = _difference(theirs, ours, len(y_true), _n_groups(y_true, groups))
        rows.append({"strategy": strategy, "reference": reference, "metric": metric, **row})
    corrected = holm([row["p"] for row in rows])
    return [{**row, "p_holm": p} for row, p in zip(rows, corrected, strict=True)]


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm 1979), in the order given; None stays None."""
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    corrected, highest = [None] * len(ps), 0.0
    for rank, (p, i) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        corrected[i] = highest
    return corrected


def _values(metric, y_true, runs, weights):
    """The metric of each run on each resample: (S, 1 + R), the first column on the test set."""
    return np.array([resampled(metric, y_true, probs, weights) for probs in runs])


def _n_groups(y_true, groups):
    return len(y_true) if groups is None else len(np.unique(groups))


def _difference(theirs, ours, n_images, n_groups):
    """The row of `paired` from both strategies' values, each (S, 1 + R)."""
    from scipy.stats import t

    difference, error, freedom = _estimate(ours - theirs, n_groups)
    low, high = _limits(difference, error, freedom)
    testable = len(ours) >= 5 and error > 0
    return {
        "difference": difference,
        "low": low,
        "high": high,
        "seeds": len(ours),
        "images": n_images,
        "p": float(2 * t.sf(abs(difference) / error, freedom)) if testable else None,
    }


def _limits(mean, error, freedom):
    from scipy.stats import t

    half = float(t.ppf(0.975, freedom)) * error if error else 0.0
    return mean - half, mean + half


def _estimate(values, n_groups):
    """Mean over seeds, its standard error, and its degrees of freedom, of values (S, 1 + R)."""
    seeds, mean = len(values), float(values[:, 0].mean())
    if np.isnan(mean):
        return mean, mean, 1.0
    draws = values[:, ~np.isnan(values).any(0)][:, 1:]  # not those where the metric is undefined
    between = values[:, 0].var(ddof=1) / seeds if seeds > 1 else 0.0
    by_images = np.atleast_2d(np.cov(draws))  # (S, S)
    covariance = (by_images.sum() - by_images.trace()) / max(seeds * (seeds - 1), 1)
    images = max(covariance, by_images.mean() - between, 0.0)
    variance = between + images
    spread = between**2 / max(seeds - 1, 1) + images**2 / (n_groups - 1)
    freedom = variance**2 / spread if spread else 1.0  # no spread: nothing tells runs apart
    return mean, float(np.sqrt(variance)), float(freedom)


# --- the verdict ---


def verdict(
    validation: Mapping[str, float],
    runs: Mapping[str, Mapping[int, np.ndarray]],
    y_true: np.ndarray,
    groups: Sequence | None,
    metric: str = "balanced_accuracy",
    tuned: bool = False,
    failed: int = 0,
) -> str:
    """What a study of one backbone found, in one sentence.

    The strategy that is best on validation is compared with `full`, or with the next on validation
    where it is `full` itself or there is none: one comparison, chosen without a look at test.

    Args:
        validation: strategy -> mean validation value of the metric, higher is better.
        runs: strategy -> seed -> probs (N, C) on the test images.
        tuned: whether learning rates were chosen on the same grid for all strategies.
        failed: how many runs failed.

    Raises:
        ValueError: as in `bootstrap_weights`.
    """
    ranking = sorted((s for s in validation if runs.get(s)), key=validation.get, reverse=True)
    rivals = [s for s in ranking[1:] if s == "full"] or ranking[1:]
    if rivals:
        clauses = [_finding(ranking[0], rivals[0], runs, y_true, groups, metric)]
    elif ranking:
        clauses = [f"{ranking[0]} alone has finished, so there is nothing to compare"]
    else:
        clauses = ["No run has finished"]
    if "full" not in ranking:
        clauses.append("full is not among the finished strategies")
    rates = "tuned on the same grid for all" if tuned else "not tuned"
    clauses.append(f"learning rates were {rates}")
    if failed:
        clauses.append(f"{failed} failed {'run is' if failed == 1 else 'runs are'} left out")
    return "; ".join(clauses) + "."


def _finding(best, rival, runs, y_true, groups, metric):
    rows = compare_to(rival, {s: runs[s] for s in (best, rival)}, y_true, groups, metric)
    other = rival if rival == "full" else f"the runner-up {rival}"
    leader = f"{best}, best on validation,"
    if not rows:
        return f"Undecided: {leader} and {other} share no finished seed"
    row = rows[0]
    difference, low, high = (100 * row[key] for key in ("difference", "low", "high"))
    if np.isnan(difference):
        return f"Undecided: {NAMES[metric]} is undefined on these test images"
    gap = f"{abs(difference):.1f} points of {NAMES[metric]}"
    above = f"{leader} is {gap} {'above' if difference >= 0 else 'below'} {other}"
    n = f"{row['images']} test images"
    if groups is not None:
        n += f" in {_n_groups(y_true, groups)} groups"
    if row["seeds"] == 1:
        return (
            f"Undecided: {above}, but with one seed the seed noise is unknown "
            f"(95 % CI from the test images alone {low:z.1f} to {high:z.1f}, {n})"
        )
    n = f"{row['seeds']} seeds, {n}"
    if low > 0:
        return f"{leader} beats {other} by {gap} (95 % CI {low:z.1f} to {high:z.1f}, {n})"
    if high < 0:
        return (
            f"{other} beats {best} by {gap} (95 % CI {-high:z.1f} to {-low:z.1f}, {n}), "
            f"although {best} is best on validation"
        )
    return f"Undecided: {above}, but the 95 % CI ({low:z.1f} to {high:z.1f}, {n}) includes 0"
