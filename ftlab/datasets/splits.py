"""Who trains, who validates, who tests: stratified by class, and a group is never torn apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..records import BadInput
from .checks import clusters

NAMES = ("train", "val", "test")
AT_LEAST = 2  # images of each class in each split
FEW = 5  # of them, below which results mean little


def divide(
    own: np.ndarray, labels: np.ndarray, groups: np.ndarray, pairs: np.ndarray, fractions, seed: int
) -> np.ndarray:
    """The split of each image, (N,): the data set's own, and what it lacks carved from its train.

    Args:
        own: (N,) names of splits; "" where the data set has none.
        labels: (N,) integers from 0.
        groups: (N,) names.
        pairs: (pairs, 2) of duplicates, which stay together as groups do.
        fractions: of train, val and test.

    Raises:
        BadInput: the data set's own splits have no train.
    """
    together = joined(groups, pairs)
    wanted = dict(zip(NAMES, fractions, strict=True))
    if not own[0]:
        return assign(labels, together, wanted, seed)
    if "train" not in own:
        raise BadInput("The data set's own splits have no train images.")
    carved = {s: wanted[s] for s in NAMES if s == "train" or s not in own}
    train = np.flatnonzero(own == "train")
    split = own.astype("U5")
    if len(carved) > 1:
        shares = {s: share / sum(carved.values()) for s, share in carved.items()}
        split[train] = assign(labels[train], together[train], shares, seed)
    return split


def joined(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The number of what each image stays with, (N,): all of its group, and all copies of these."""
    _, first, which = np.unique(groups, return_index=True, return_inverse=True)
    same_group = np.stack([first[which], np.arange(len(groups))], axis=1)
    return clusters(np.concatenate([same_group, pairs]), len(groups))


def draws(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The group (N,) that each image counts in where images are resampled: copies are one draw."""
    _, first, which = np.unique(joined(groups, pairs), return_index=True, return_inverse=True)
    return groups[first][which]


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


def own_warnings(own: np.ndarray, split: np.ndarray, groups: np.ndarray) -> list[str]:
    """What a person should know of splits that the data set brought."""
    if not own[0]:
        return []
    warnings = ["The data set's own splits were kept."]
    if carved := [s for s in NAMES if s not in own]:
        warnings = [
            f"The data set's own splits were kept; its {' and '.join(carved)} images were "
            "taken from train."
        ]
    pairs = np.unique(np.stack([groups, split]), axis=1)
    torn = int((np.unique(pairs[0], return_counts=True)[1] > 1).sum())
    if torn:
        warnings.append(
            f"{torn} groups have images in more than one of the data set's own splits: test "
            "results on them are too good."
        )
    return warnings


def judge(
    labels: np.ndarray, groups: np.ndarray, split: np.ndarray, classes: list[str], own: bool
) -> list[str]:
    """Warnings of a class with fewer than 5 images in a split, and of fewer than 5 test groups.

    Raises:
        BadInput: a class has fewer than 2 images in a split, or all test images are of one group.
    """
    warnings = []
    for index, name in enumerate(classes):
        counts = {s: int(((labels == index) & (split == s)).sum()) for s in NAMES}
        found = f"{name!r} has " + ", ".join(f"{n} {s}" for s, n in counts.items()) + " images"
        if min(counts.values()) < AT_LEAST:
            n = len(np.unique(groups[labels == index]))
            torn = f" from {n} groups, which stay whole" if n < sum(counts.values()) else ""
            who = "in the data set's own splits" if own else "after splitting"
            raise BadInput(
                f"Class {found}{torn} {who}, and each split needs at least {AT_LEAST}: "
                "add images of it or leave it out."
            )
        if min(counts.values()) < FEW:
            warnings.append(f"Class {found}: results on so few are chance.")
    tested = len(np.unique(groups[split == "test"]))
    if tested < AT_LEAST:
        raise BadInput(
            "All test images are of one group (patient, lesion or video, or copies of one "
            "another), which stays whole: what they say holds of nobody else. Add images of "
            "others, or widen test in --fractions."
        )
    if tested < FEW:
        warnings.append(f"The test images are of {tested} groups: so few say little of others.")
    return warnings
