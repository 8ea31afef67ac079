"""Networks that begin alike: what they share is in memory once, and an image passes it once.

A linear probe leaves every unit as theta_0 has it, `layer_wise` and `surgical` the first ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .backbones import Network


def join(network: Network, other: Network) -> None:
    """Give a network the very units of another one of its backbone, as far up as they are equal."""
    if (network.mean, network.std) != (other.mean, other.std):
        return
    places = [(stage, i) for stage in network.stages.values() for i in range(len(stage))]
    for (stage, i), unit in zip(places, other.units(), strict=False):  # one may be cut
        if not _equal(stage[i], unit):
            return
        stage[i] = unit


def _equal(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def run(network: Network, x: Tensor, upto: int, passed: dict[nn.Module, Tensor]) -> Tensor:
    """`network.run(x, upto=upto)`, of which what a joined network has done is not done again.

    Args:
        x: (B, 3, H, W), the same of all networks that use `passed`; upto: a unit of the trunk.
        passed: the last unit of a stage, or unit `upto` -> what it makes of x, (B, F, h, w); what
            is not there yet is put there. Change none of it.
    """
    at, units = 0, network.units()
    for stage in network.layout().trunk:
        end = min(stage.units[-1], upto)
        if end == at:
            break
        if units[end - 1] not in passed:  # a clone, since a unit may write into what it is given
            passed[units[end - 1]] = network.run(x.clone(), after=at, upto=end)
        x, at = passed[units[end - 1]], end
    return x
