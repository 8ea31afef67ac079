"""Before an epoch, the gradients a rate rule (ftlab.rates) wants to see."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from .backbones import Network
from .freezing import learning, set_mode
from .losses import losses
from .records import Phase, Settings


def multipliers(
    network: Network,
    phase: Phase,
    inputs: Iterable[tuple[Tensor, Tensor]],
    settings: Settings,
    after: int = 0,
    weight: Tensor | None = None,
    pieces: int = 1,
) -> dict[str, float]:
    """Parameter name -> multiplier of its rate, from the gradients of the first batches.

    No step is made and BatchNorm reads its stored statistics, so looking changes nothing.

    Args:
        inputs: batches (x, labels) on the network's device, x being what unit `after` gives.
        weight: of the classes (C,). pieces: in how many each is computed, as `ftlab.losses`.
    """
    rule = phase.rates
    set_mode(network, phase)
    network.eval()
    ruled, followers = _ruled(network, phase)
    measured: dict[str, list[float]] = {name: [] for name in ruled}
    for x, labels in islice(inputs, rule.batches):
        parts = losses(network, x, labels, settings, after=after, weight=weight, pieces=pieces)
        gradients = [torch.autograd.grad(part, list(ruled.values())) for part in parts]
        for (name, theta), *of_parts in zip(ruled.items(), *gradients, strict=True):
            measured[name].append(rule.measure(theta.detach(), sum(of_parts)))
    found = rule.multipliers(measured)
    return found | {name: found.get(leader, 0.0) for name, leader in followers.items()}


def _ruled(network: Network, phase: Phase) -> tuple[dict[str, nn.Parameter], dict[str, str | None]]:
    """The tensors a rate rule looks at, and those that follow one of them.

    faithful: every tensor but BatchNorm's, which does not learn (follows nothing: 0).
    practical: the weight of every pretrained module; its other tensors follow it; the head is free.
    """
    norms = {id(p) for m in network.modules() if isinstance(m, BatchNorm) for p in m.parameters()}
    ruled, followers, learns = {}, {}, learning(network, phase)
    for name, (parameter, _) in learns.items():
        leader = f"{name.rpartition('.')[0]}.weight"
        if phase.rates.faithful and id(parameter) in norms:
            followers[name] = None
        elif phase.rates.faithful:
            ruled[name] = parameter
        elif name.startswith("head."):
            continue
        elif name == leader or leader not in learns:
            ruled[name] = parameter
        else:
            followers[name] = leader
    return ruled, followers
