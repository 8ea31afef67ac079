"""What a network is fed: the images of a split, as pixels, still or augmented, or as a frozen
prefix leaves them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from .augment import augment


@dataclass(frozen=True)
class Split:
    """The images of one split: rows of a shared array, and their labels.

    pixels: (N, S, S, 3) uint8, often memory-mapped; rows: (n,) int; labels: (n,) int64.
    key: names these very images at this size, for what is computed of them; "" where nothing is.
    """

    pixels: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    key: str = ""
    after: ClassVar[int] = 0  # units of a network that the images have been through
    number: ClassVar[int] = 0  # which of its views

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(self.pixels[self.rows[places]])


@dataclass(frozen=True)
class Features:
    """A split as a network's unit `after` leaves it: what `Split` is for pixels.

    array: (n, F) pooled features where every unit is frozen, else (n, F, h, w), or (n, h, w, F)
    where the network keeps channels last; bfloat16 as the int16 of its bits. seconds: that it took
    to compute them, whoever did.
    """

    array: np.ndarray
    labels: np.ndarray
    after: int
    channels_last: bool
    bfloat16: bool
    seconds: float

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, places: np.ndarray) -> Tensor:
        rows = torch.from_numpy(self.array[places])
        rows = rows.view(torch.bfloat16) if self.bfloat16 else rows
        return rows.permute(0, 3, 1, 2) if self.channels_last else rows


@dataclass(frozen=True)
class View:
    """A split in which each image is augmented in one way, always the same: what `Split` is.

    number: which of its views; seed: of the run. An image's view is drawn from a generator of its
    own, seeded by the run's seed, the image's place in the data set and the number.
    """

    split: Split
    number: int
    seed: int
    preset: str
    flips: bool
    after: ClassVar[int] = 0

    def __len__(self) -> int:
        return len(self.split)

    @property
    def labels(self) -> np.ndarray:
        return self.split.labels

    @property
    def key(self) -> str:
        how = f"view {self.number} of seed {self.seed}, {self.preset}, {self.flips}"
        return self.split.key and f"{self.split.key} {how}"

    def batch(self, places: np.ndarray) -> Tensor:
        """As `Split.batch`, (B, S, S, 3) in 0..255."""
        generators = [self._generator(row) for row in self.split.rows[places]]

        def draw(n: int) -> Tensor:
            return torch.cat([torch.rand(1, generator=generator) for generator in generators])

        return augment(self.split.batch(places), self.preset, self.flips, draw)

    def _generator(self, row: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, int(row), self.number]).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))


Images = Split | View | Features


def seen(split: Split, settings, seed: int, epoch: int) -> Split | View:
    """A training split as an epoch sees it: still, as one of a few views, or new every time."""
    if settings.augment == "none" and not settings.flips:
        return split
    if settings.views is None:
        return replace(split, key="")  # there is nothing to keep
    return View(split, epoch % settings.views, seed, settings.augment, settings.flips)


def batches(images: Images, order: np.ndarray, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (pixels or features, labels) of nearly equal length; see `steps`."""
    for part in np.array_split(order, steps(len(order), size)):
        yield images.batch(part), torch.from_numpy(images.labels[part])


def steps(images: int, size: int) -> int:
    """How many batches: at most `size` images in each, one more where a single one would be left.

    BatchNorm cannot learn from a batch of one.
    """
    return max(1, min(math.ceil(images / size), images // 2))
