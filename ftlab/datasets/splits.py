"""Who trains, who validates, who tests: stratified by class, and a group is never torn apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NAMES = ("train", "val", "test")
AT_LEAST = 2  # images of each class in each split


def assign(
    labels: np.ndarray, groups: np.ndarray, fractions: Mapping[str, float], seed: int
) -> np.ndarray:
    """Give every image a split: greedy, largest groups first, each where it is missed most.

    With have and want the images of class c in split s, and n_c those of class c in all, a group
    goes where it lowers  sum over s, c of ((have - want) / n_c)^2  most. Groups of one image thus
    come out stratified to within one image.

    Args:
        labels: (N,) integers from 0.
        groups: (N,) integers; equal numbers stay together.
        fractions: the share of each split; they sum to 1.
        seed: settles who goes where among equals. The same seed gives the same splits.

    Returns:
        (N,) names of splits.
    """
    _, groups = np.unique(groups, return_inverse=True)
    counts = np.zeros((groups.max() + 1, labels.max() + 1))  # (groups, classes)
    np.add.at(counts, (groups, labels), 1)
    totals = np.maximum(counts.sum(0), 1)
    want = _wanted(counts.sum(0), np.array(list(fractions.values())))  # (splits, classes)
    have = np.zeros_like(want)
    place = np.empty(len(counts), int)

    shuffled = np.random.default_rng(seed).permutation(len(counts))
    for group in shuffled[np.argsort(-counts[shuffled].sum(1), kind="stable")]:
        n = counts[group]
        place[group] = np.argmin((n * (2 * (have - want) + n) / totals**2).sum(1))
        have[place[group]] += n
    _relieve(place, counts, have, want)
    return np.array(list(fractions))[place[groups]]


def _wanted(totals: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Whole images of each class for each split, (splits, classes); at least 2 where there are."""
    want = np.rint(np.outer(fractions, totals))
    want = np.where(totals >= AT_LEAST * len(fractions), np.maximum(want, AT_LEAST), want)
    largest = np.argmax(fractions)
    want[largest] += totals - want.sum(0)
    return want


def _relieve(place: np.ndarray, counts: np.ndarray, have: np.ndarray, want: np.ndarray) -> None:
    """Move single groups, in place, until no split lacks a class that another can spare.

    A split lacks a class while it has fewer than two of its images. A move may not make another
    lack; among those that are left, the one that strays least from what is wanted is made.
    """
    totals = np.maximum(counts.sum(0), 1)

    def lack(have):
        return np.maximum(AT_LEAST - have, 0).sum()

    for split, label in np.argwhere(have < AT_LEAST):
        while have[split, label] < AT_LEAST:
            moves = []
            for group in np.flatnonzero((counts[:, label] > 0) & (place != split)):
                after = have.copy()
                after[place[group]] -= counts[group]
                after[split] += counts[group]
                if lack(after) < lack(have):
                    strays = (((after - want) / totals) ** 2).sum()
                    moves.append((strays, group, after))
            if not moves:
                break
            _, group, have[:] = min(moves, key=lambda move: move[:2])
            place[group] = split
