"""Who learns in a phase, and what frozen means for the rest."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from .backbones import Network
from .records import Phase


def set_mode(network: Network, phase: Phase) -> None:
    """The one owner of what frozen means: no gradient, eval mode, BatchNorm statistics untouched.

    Called at the start of every epoch, since any train() call would undo it.
    """
    network.eval().requires_grad_(False)
    for name in phase.lrs:
        network.modules_of(name).train().requires_grad_(True)
    if phase.eval_batchnorm:
        for module in network.modules():
            if isinstance(module, BatchNorm):
                module.eval()


def learning(network: Network, phase: Phase) -> dict[str, tuple[nn.Parameter, float]]:
    """Parameter name -> (parameter, learning rate) of everything that learns in a phase."""
    names = {id(p): n for n, p in network.named_parameters()}
    return {
        names[id(p)]: (p, lr)
        for stage, lr in phase.lrs.items()
        for p in network.modules_of(stage).parameters()
    }
