"""What a study of one backbone found, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from . import statistics

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "average_precision": "average precision",
    "kappa": "kappa",
}


def verdict(
    validation: Mapping[str, float],
    runs: Mapping[str, Mapping[int, np.ndarray]],
    y_true: np.ndarray,
    groups: Sequence | None,
    metric: str = "balanced_accuracy",
    rates: str = "not tuned",
    failed: int = 0,
) -> str:
    """What a study of one backbone found, in one sentence.

    The strategy that is best on validation is compared with `full`, or with the next on validation
    where it is `full` itself or there is none: one comparison, chosen without a look at test.

    Args:
        validation: strategy -> mean validation value of the metric, higher is better.
        runs: strategy -> seed -> probs (N, C) on the test images.
        rates: how learning rates came about, as `ftlab.tuning.words`.
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
    clauses.append(f"learning rates were {rates}")
    if failed:
        clauses.append(f"{failed} failed {'run is' if failed == 1 else 'runs are'} left out")
    return "; ".join(clauses) + "."


def _finding(best, rival, runs, y_true, groups, metric):
    rows = statistics.compare_to(rival, {s: runs[s] for s in (best, rival)}, y_true, groups, metric)
    other = rival if rival == "full" else f"the runner-up {rival}"
    leader = f"{best}, best on validation,"
    if not rows:
        return f"Undecided: {leader} and {other} share no finished seed"
    row = rows[0]
    difference, low, high = (100 * row[key] for key in ("difference", "low", "high"))
    if low == high:
        return f"Undecided: {leader} and {other} say exactly the same of the test images"
    if np.isnan(difference):
        return f"Undecided: {NAMES[metric]} is undefined on these test images"
    gap = f"{abs(difference):.1f} points of {NAMES[metric]}"
    above = f"{leader} is {gap} {'above' if difference >= 0 else 'below'} {other}"
    n = f"{row['images']} test images"
    if groups is not None:
        n += f" in {len(np.unique(groups))} groups"
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
