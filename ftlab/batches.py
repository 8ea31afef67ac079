"""What a network is fed: the images of a split, as pixels or as a frozen prefix leaves them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor


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

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(self.pixels[self.rows[places]])


@dataclass(frozen=True)
class Features:
    """A split as a network's unit `after` leaves it: what `Split` is for pixels.

    array: (n, F) pooled features where every unit is frozen, else (n, F, h, w), or (n, h, w, F)
    where the network keeps channels last; bfloat16 as the int16 of its bits.
    """

    array: np.ndarray
    labels: np.ndarray
    after: int
    channels_last: bool
    bfloat16: bool

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, places: np.ndarray) -> Tensor:
        rows = torch.from_numpy(self.array[places])
        rows = rows.view(torch.bfloat16) if self.bfloat16 else rows
        return rows.permute(0, 3, 1, 2) if self.channels_last else rows


Images = Split | Features  # as pixels, or as a frozen prefix leaves them


def batches(images: Images, order: np.ndarray, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (pixels or features, labels) of nearly equal length; see `steps`."""
    for part in np.array_split(order, steps(len(order), size)):
        yield images.batch(part), torch.from_numpy(images.labels[part])


def steps(images: int, size: int) -> int:
    """How many batches: at most `size` images in each, one more where a single one would be left.

    BatchNorm cannot learn from a batch of one.
    """
    return max(1, min(math.ceil(images / size), images // 2))
