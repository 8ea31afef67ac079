"""The loss of a batch, at once or in pieces whose gradients add up to that of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import device as devices
from .backbones import Network
from .records import Settings


def losses(
    network: Network,
    x: Tensor,
    labels: Tensor,
    settings: Settings,
    *,
    after: int = 0,
    weight: Tensor | None = None,
    penalty: Callable[[], Tensor] | None = None,
    pieces: int = 1,
) -> Iterator[Tensor]:
    """The share of each piece of a batch in the batch's loss; together they are that loss.

    One is computed when it is asked for: who goes back through each before the next holds the
    memory of one piece, and the gradients add up. Only what looks at several images at once, as
    BatchNorm in training does, sees a piece of them. A piece has at least two images, since
    BatchNorm cannot learn from one.

    Args:
        x: what unit `after` gives for the images (n, ...); labels: (n,), on the network's device.
        weight: of the classes (C,), as `class_weights`. penalty: what is added to the loss.
    """
    parts = max(1, min(pieces, len(labels) // 2))
    for seen, truth in zip(x.chunk(parts), labels.chunk(parts), strict=True):
        with devices.autocast(x.device, settings.precision):
            logits = network.classify(network.run(seen, after))
            loss = F.cross_entropy(logits.float(), truth, weight)
        loss = loss * (_mass(truth, weight) / _mass(labels, weight))
        yield loss + penalty() / parts if penalty else loss


def _mass(labels: Tensor, weight: Tensor | None):
    """What a mean over these images is divided by."""
    return len(labels) if weight is None else weight[labels].sum()


def class_weights(labels: np.ndarray, classes: int) -> Tensor:
    """w_c = N / (C n_c) from the labels (n,) of this training split, (C,)."""
    counts = np.bincount(labels, minlength=classes).clip(min=1)
    return torch.tensor(len(labels) / (classes * counts), dtype=torch.float32)
