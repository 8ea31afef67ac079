"""An optimizer over exactly what learns in a phase; its state is kept by the parameters' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial

import torch
from torch import Tensor, nn

from . import device as devices
from .backbones import Network
from .freezing import learning
from .records import Phase, Settings

FUSED = devices.pick().type == "cpu"  # Adam in one pass over each tensor; SGD's needs all momenta
OPTIMIZERS: dict[str, Callable] = {
    "adam": partial(torch.optim.Adam, fused=FUSED),
    "adamw": partial(torch.optim.AdamW, fused=FUSED),
    "sgd": lambda groups, **knobs: torch.optim.SGD(groups, momentum=0.9, **knobs),
}
ADAMW_DECAY = 0.01

Moments = MutableMapping[str, dict[str, Tensor]]  # parameter name -> optimizer state


def optimizer_of(
    network: Network, phase: Phase, settings: Settings, multipliers: Mapping, moments: Moments
) -> torch.optim.Optimizer:
    """An optimizer over exactly what learns, its state taken from the moments where they have it.

    Weight decay is off under a penalty: it pulls to 0, the penalty to theta_0.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    parameters = learning(network, phase)
    for name, (parameter, lr) in parameters.items():
        groups.setdefault(lr * multipliers.get(name, 1.0), []).append(parameter)
    decay = phase.weight_decay or (ADAMW_DECAY if settings.optimizer == "adamw" else 0.0)
    optimizer = OPTIMIZERS[settings.optimizer](
        [{"params": params, "lr": lr, "base": lr} for lr, params in groups.items()],
        lr=0.0,
        weight_decay=0.0 if phase.penalty else decay,
    )
    for name, (parameter, _) in parameters.items():
        if name in moments:
            optimizer.state[parameter] = {
                k: _laid_as(parameter, t) if t.ndim else t for k, t in moments[name].items()
            }
    return optimizer


def _laid_as(parameter: Tensor, moment: Tensor) -> Tensor:
    """A moment in its parameter's memory format: the fused step takes both as they lie."""
    alike = moment.stride() == parameter.stride()
    return moment if alike else torch.empty_like(parameter).copy_(moment)


def remember(network: Network, phase: Phase, optimizer, moments: Moments) -> None:
    """Let the moments be those of an optimizer, for who goes on from here."""
    moments.clear()
    for name, (parameter, _) in learning(network, phase).items():
        if parameter in optimizer.state:
            moments[name] = optimizer.state[parameter]
