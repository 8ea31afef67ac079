"""Folding: a network as it answers, each BatchNorm taken into the convolution before it.

In eval mode BatchNorm is a scale and a shift of each channel, which the convolution can make:
w' = w g / s, b' = (b - m) g / s + beta with s = sqrt(v + eps) (Jacob et al. 2018, equation 14). A
pass over the whole map is saved for each, which MobileNetV2 feels most (docs/benchmarks.md). All
that computes without learning goes this way, so that the same image has the same bits everywhere.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .backbones import Network

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)  # not kinds of their own that change their weights first
NORMS = (nn.BatchNorm2d, BatchNormAct2d)


@torch.inference_mode(False)  # whatever the caller does: gradients may go through what is made
@torch.no_grad()
def folded(network: Network, after: int = 0, upto: int | None = None) -> Network:
    """The network, its units in eval mode, asking for no gradient, folded: itself, or a copy.

    A copy shares the tensors of what is not folded; the network given is not touched.

    Args:
        after, upto: fold units after+1 .. upto alone (default: all), where no other is run; the
            others are the network's own and may learn.
    """
    run = network.units()[after:upto]
    if all(_is_folded(module) for module in (*run, network.head)):
        return network
    kept = {id(unit): unit for unit in network.units() if unit not in run}
    kept |= {id(b): b for b in network.buffers()}
    kept |= {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    network = copy.deepcopy(network, kept)
    for unit in network.units()[after:upto]:
        for parent, convolution, name, norm in list(_foldable(unit.eval())):
            statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight, convolution.bias, *statistics
            )
            setattr(parent, name, getattr(norm, "act", nn.Identity()).eval())
    network.head.eval()
    return network


def _is_folded(unit: nn.Module) -> bool:
    learns = (p.requires_grad for m in unit.modules() for p in m.parameters(recurse=False))
    trains = (module.training for module in unit.modules())
    return not any(learns) and not any(trains) and not any(_foldable(unit))


def _foldable(unit: nn.Module) -> Iterator[tuple[nn.Module, nn.Module, str, nn.Module]]:
    """(parent, convolution, name of the BatchNorm in the parent, BatchNorm), one after another.

    In the units of ftlab.families what is listed as next is computed next.
    """
    for parent in unit.modules():
        for (_, before), (name, norm) in pairwise(parent.named_children()):
            while isinstance(before, nn.Sequential) and len(before):  # as a stem of several layers
                before = before[-1]
            follows = type(before) in CONVOLUTIONS and type(norm) in NORMS
            if follows and before.out_channels == norm.num_features:
                yield parent, before, name, norm
