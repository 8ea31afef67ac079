"""Slimming: a network's upper units half as wide and new (Raghu et al. 2019; Peng et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from .records import BadInput


def halve(units: list[nn.Module], first: int) -> None:
    """Make every layer of units first.. half as wide and draw it anew, in place.

    A unit whose input is added to its output keeps that width and is slim inside only, as in
    Peng et al.'s TransFusion (ResNet-50 has 12.95 M, 17.87 M and 20.69 M parameters when slim from
    units 15, 16 and 17). Layers take their input width from what reaches them, so one pass of a
    dummy image builds them; weights are Kaiming-normal, biases 0.

    Raises:
        BadInput: these units hold a kind of layer that is not known here.
    """
    hooks = []
    for module in (m for unit in units[first - 1 :] for m in unit.modules()):
        if _adds_its_input(module):
            hooks.append(module.register_forward_pre_hook(_keep_width))
        if type(module).__name__ in ("SqueezeExcite", "SEModule"):
            hooks.append(module.register_forward_pre_hook(_keep_gate_width))
        if isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm | BatchNorm):
            module._ftlab_out = max(_out(module) // 2, 1)
            hooks.append(module.register_forward_pre_hook(_rebuild))
    try:
        channels(units)
    except (RuntimeError, IndexError) as error:  # a layer that kept its width met one that did not
        raise BadInput("This backbone has layers that ftlab cannot make half as wide.") from error
    for hook in hooks:
        hook.remove()


def channels(units: list[nn.Module]) -> int:
    """The channels that leave the last unit, from one pass of a dummy image."""
    modes = [(m, m.training) for unit in units for m in unit.modules()]
    x = torch.zeros(1, 3, 64, 64, device=next(units[0].parameters()).device)
    with torch.no_grad():
        for unit in units:
            x = unit.eval()(x)
    for module, training in modes:
        module.training = training
    return x.shape[1]


def _adds_its_input(module: nn.Module) -> bool:
    """Whether a block adds its own input, unprojected, to its output."""
    projected = getattr(module, "downsample", None)
    identity = projected is None or isinstance(projected, nn.Identity)
    by_name = {"BasicBlock": identity, "Bottleneck": identity}
    by_name["ConvNeXtBlock"] = isinstance(getattr(module, "shortcut", None), nn.Identity)
    return by_name.get(type(module).__name__, bool(getattr(module, "has_skip", False)))


def _keep_width(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Let the layer that writes a block's output be as wide as the block's input."""
    width = inputs[0].shape[1]
    writers = [m for m in block.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    named = [
        getattr(block, n) for n in ("conv3", "conv_pwl", "conv_pw", "conv2") if hasattr(block, n)
    ]
    last = named[0] if named else writers[-1]
    for layer in last.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer._ftlab_out = width
    if getattr(block, "gamma", None) is not None:  # ConvNeXt's layer scale
        block.gamma = nn.Parameter(torch.full((width,), 1e-6))


def _keep_gate_width(gate: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Squeeze-and-excitation ends in as many channels as it scales."""
    *_, expand = (m for m in gate.modules() if isinstance(m, nn.Conv2d))
    expand._ftlab_out = inputs[0].shape[1]


def _rebuild(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    x = inputs[0]
    if isinstance(layer, nn.Conv2d):
        width, out = x.shape[1], layer._ftlab_out
        if layer.groups == layer.in_channels:  # depthwise
            layer.groups = out = width
        elif layer.groups > 1:  # grouped: keep the width of a group, or nearly
            wanted = max(width * layer.groups // layer.in_channels, 1)
            layer.groups = next(g for g in range(wanted, 0, -1) if width % g == 0 == out % g)
        layer.in_channels, layer.out_channels = width, out
        shape = (out, width // layer.groups, *layer.kernel_size)
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = x.shape[-1], layer._ftlab_out
        shape = (layer._ftlab_out, x.shape[-1])
    else:
        return _rebuild_norm(layer, x)
    layer.weight = nn.Parameter(torch.empty(shape))
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.zeros(shape[0]))
    return None


def _rebuild_norm(layer: nn.Module, x: Tensor) -> None:
    if isinstance(layer, BatchNorm):
        width = layer.num_features = x.shape[1]
        layer.running_mean, layer.running_var = torch.zeros(width), torch.ones(width)
        layer.num_batches_tracked.zero_()
    else:  # LayerNorm2d reads channels first, LayerNorm channels last
        width = x.shape[1] if type(layer).__name__ == "LayerNorm2d" else x.shape[-1]
        layer.normalized_shape = (width,)
    layer.weight, layer.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))


def _out(module: nn.Module) -> int:
    names = ("out_channels", "out_features", "num_features")
    return next((getattr(module, n) for n in names if hasattr(module, n)), 0)
