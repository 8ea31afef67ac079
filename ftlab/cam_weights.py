"""How much each channel counts in a map, where the grad-cam library's own way will not do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbones import Network

CHANNELS = 32  # that go through the network at once


class Work(NamedTuple):
    """What weights can be made of beside activations and gradients."""

    network: Network
    above: nn.Module  # what lies above the unit, in eval mode; its input are features
    x: Tensor  # (B, 3, H, W)
    features: Tensor  # (B, F, h, w)
    targets: Sequence[int]


def plus_plus(work: Work, activations: np.ndarray, grads: np.ndarray) -> np.ndarray:
    """Chattopadhyay et al. 2018, eq. 19: alpha = g^2 / (2 g^2 + sum(A) g^3) where g is positive.

    The library adds 1e-6 below the line, more than g^2 is behind a global average of 7 x 7.
    """
    totals = activations.sum(axis=(2, 3), keepdims=True)
    positive = np.maximum(grads, 0)
    return (positive / (2 + totals * positive)).sum(axis=(2, 3))


@torch.no_grad()
def score(work: Work, *_) -> np.ndarray:
    """Wang et al. 2020, Algorithm 1: the class's logit when only a channel's place is shown.

    The library holds an image for each channel in memory at once: gigabytes for a ResNet-50.
    """
    weights = []
    for image, maps, target in zip(work.x, work.features, work.targets, strict=True):
        logits = []
        for part in maps[:, None].split(CHANNELS):
            masks = F.interpolate(part, size=image.shape[1:], mode="bilinear")
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masks = (masks - low) / (high - low + 1e-8)
            logits.append(work.network(image * masks)[:, target])
        weights.append(torch.cat(logits).softmax(dim=0))
    return torch.stack(weights).cpu().numpy()


@torch.no_grad()
def ablation(work: Work, *_) -> np.ndarray:
    """Desai & Ramaswamy 2020, eq. 5: w_k = y - y_k, y_k the logit with channel k set to 0.

    They divide by y, which scales the whole map, turns it over where y < 0 and would hide which run
    lost more. The library sets channels whose least value is not 0 to -1e7 instead, and lower for
    each further one of a batch.
    """
    weights = []
    for maps, target in zip(work.features, work.targets, strict=True):
        y = work.above(maps[None])[0, target]
        ablated = []
        for part in torch.arange(len(maps), device=maps.device).split(CHANNELS):
            batch = maps.repeat(len(part), 1, 1, 1)
            batch[range(len(part)), part] = 0
            ablated.append(work.above(batch)[:, target])
        weights.append(y - torch.cat(ablated))
    return torch.stack(weights).cpu().numpy()
