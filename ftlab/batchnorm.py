"""BatchNorm's running statistics of an average of networks, computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from . import device as devices
from .backbones import Network
from .batches import Split, batches
from .records import Settings

STATISTICS = ("running_mean", "running_var")


@torch.no_grad()
def refreshed(
    network: Network, parts: Sequence[Mapping[str, Tensor]], images: Split, settings: Settings
) -> dict[str, Tensor]:
    """The tensors of an average of parts, with the running statistics that its images give it.

    One pass, whose batches count alike (Izmailov et al. 2018, SWA). A BatchNorm whose statistics
    are the same in all parts, as where it was frozen, keeps them; so an average of one part stays
    as it is, bit by bit.

    Args:
        network: the average, on the device to compute on; it comes back in eval mode.
        images: those that its parts were trained on.
    """
    network.eval()
    for name, module in network.named_modules():
        if isinstance(module, BatchNorm) and _differ(parts, name):
            module.reset_running_stats()
            module.momentum = None  # the mean over batches
            module.train()
    if any(module.training for module in network.modules()):
        device = network.head.weight.device
        order = np.random.default_rng(0).permutation(len(images))  # no batch of one class alone
        for x, _ in batches(images, order, settings.batch):
            with devices.autocast(device, settings.precision):
                network.classify(network.run(network.prepare(x.to(device))))
    return {name: tensor.cpu().clone() for name, tensor in network.eval().state_dict().items()}


def _differ(parts: Sequence[Mapping[str, Tensor]], name: str) -> bool:
    kinds = [f"{name}.{kind}" for kind in STATISTICS]
    return any(not part[kind].equal(parts[0][kind]) for part in parts[1:] for kind in kinds)
