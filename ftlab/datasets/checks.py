"""Duplicates: the leak that makes a test result too good, and the contradiction in the labels."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from PIL import Image

THUMB = 32  # pixels, both sides; small enough that a picture resized to half still matches
CORRELATION = 0.99  # of the thumbs of near duplicates, at the least
HASH_BITS = 10  # of 64 that may differ between them
CHAIN = 0.05  # of all images: a larger cluster is a chain of look-alikes, not copies
CHAIN_AT_LEAST = 10  # images, so that a small data set may have a cluster at all


@dataclass(frozen=True)
class Print:
    """What is kept of a picture to find its copies by."""

    pixels: str  # sha256 of the decoded pixels and their shape
    dhash: int  # 64 bits
    thumb: np.ndarray  # (32, 32) uint8, grey


def fingerprint(pixels: np.ndarray) -> Print:
    """The fingerprint of (H, W, 3) uint8 pixels."""
    digest = sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    grey = Image.fromarray(pixels).convert("L")
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX)).astype(int)
    bits = np.packbits(small[:, 1:] > small[:, :-1])  # dHash: does a row get brighter here?
    thumb = grey.resize((THUMB, THUMB), Image.Resampling.BILINEAR)
    return Print(digest, int.from_bytes(bits.tobytes()), np.asarray(thumb))


def duplicates(prints: list[Print]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of images that are equal in every pixel, and pairs that are nearly so.

    Nearly: their thumbs correlate by 0.99 or more and their hashes differ in at most 10 of 64
    bits. Neither would do alone: a hash chains whole classes of look-alikes (all chest X-rays show
    a thorax), and pictures under one bright mask correlate whatever is inside.

    Returns:
        two (pairs, 2) integer arrays. Of k equal images the first is paired with each other one,
        and it alone stands for them in the near pairs.
    """
    _, first, which = np.unique([p.pixels for p in prints], return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[which] != np.arange(len(prints)))
    exact = np.stack([first[which[copies]], copies], axis=1)
    near = _near([prints[i] for i in first])
    return exact, first[near]


def _near(prints: list[Print], rows: int = 1024) -> np.ndarray:
    """Near pairs by their places in `prints`, by blocks of rows so that memory stays small."""
    hashes = np.array([p.dhash for p in prints], np.uint64)
    thumbs = np.stack([p.thumb.ravel() for p in prints]).astype(np.float32)
    thumbs -= thumbs.mean(1, keepdims=True)
    thumbs /= np.maximum(np.linalg.norm(thumbs, axis=1, keepdims=True), 1e-6)  # constant: stays 0
    found = []
    for start in range(0, len(prints), rows):
        correlation = thumbs[start : start + rows] @ thumbs[start:].T
        i, j = np.nonzero(np.triu(correlation >= CORRELATION, k=1))
        alike = np.bitwise_count(hashes[start + i] ^ hashes[start + j]) <= HASH_BITS
        found.append(np.stack([i, j], axis=1)[alike] + start)
    return np.concatenate(found)


def clusters(pairs: np.ndarray, n: int) -> np.ndarray:
    """The number of the cluster that each of n images is in, (n,); pairs connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return connected_components(links, directed=False)[1]


def trusted(exact: np.ndarray, near: np.ndarray, n: int) -> np.ndarray:
    """The pairs whose images must share a split: all but those of clusters that are chains.

    A cluster above 5 % of the images keeps its exact pairs, unless these alone are as many.
    """
    both = np.concatenate([exact, near])
    kept = both[_sizes(both, n)[both[:, 0]] <= _limit(n)]
    exact = exact[_sizes(exact, n)[exact[:, 0]] <= _limit(n)]
    return np.concatenate([kept, exact])


def _limit(n: int) -> float:
    return max(CHAIN * n, CHAIN_AT_LEAST)


def _sizes(pairs: np.ndarray, n: int) -> np.ndarray:
    cluster = clusters(pairs, n)
    return np.bincount(cluster)[cluster]


def describe(
    exact: np.ndarray, near: np.ndarray, labels: np.ndarray, splits: np.ndarray, own_splits: bool
) -> tuple[dict[str, int], list[str]]:
    """The duplicates as JSON-ready numbers, and the warnings they call for.

    Args:
        exact, near: (pairs, 2) as `duplicates` gives them.
        labels, splits: (N,) of each image.
        own_splits: whether the splits came with the data set.
    """
    n = len(labels)
    pairs = np.concatenate([exact, near])
    sizes = np.bincount(clusters(pairs, n))
    numbers = {
        "exact": len(exact),
        "near": len(near),
        "clusters": int((sizes > 1).sum()),
        "largest_cluster": int(sizes.max()),
        "differing_labels": int((labels[pairs[:, 0]] != labels[pairs[:, 1]]).sum()),
        "across_splits": int((splits[pairs[:, 0]] != splits[pairs[:, 1]]).sum()),
    }
    warnings = []
    if numbers["differing_labels"]:
        warnings.append(
            f"{numbers['differing_labels']} pairs of duplicates have different labels: "
            "look whether one of each pair is wrong."
        )
    if numbers["across_splits"] and own_splits:
        warnings.append(
            f"{numbers['across_splits']} pairs of duplicates lie in different splits of the data "
            "set's own: test results on them are too good."
        )
    if sizes.max() > _limit(n):
        equal = int(_sizes(exact, n).max()) if len(exact) else 0
        what = f"{sizes.max()} images look nearly alike, too many to be copies of one another"
        if equal > _limit(n):
            what = f"{equal} images are equal in every pixel, so many that all but one should go"
        warnings.append(f"{what}, and were not kept in one split.")
    return numbers, warnings
