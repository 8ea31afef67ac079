"""Families: how a timm model of each class comes apart into stages of units.

A unit is the finest part that can be cut after without cutting a skip connection. Pooling stands
in front of the unit that reads it, so a unit's output is always the map before pooling, which is
also what saliency methods look at.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def _unit(model: nn.Module, *names: str) -> nn.Sequential:
    return nn.Sequential(OrderedDict((n, getattr(model, n)) for n in names))


def _resnet(model) -> dict[str, list[nn.Module]]:
    stages = {f"layer{i}": list(getattr(model, f"layer{i}")) for i in (1, 2, 3, 4)}
    return {"stem": [_unit(model, "conv1", "bn1", "act1", "maxpool")], **stages}


def _densenet(model) -> dict[str, list[nn.Module]]:
    """A dense block is one unit, its transition another; norm5 belongs to the last block."""
    f = model.features
    stages = {"stem": [_unit(f, *(n for n in ("conv0", "norm0", "pool0") if hasattr(f, n)))]}
    for i in (1, 2, 3):
        stages[f"denseblock{i}"] = [getattr(f, f"denseblock{i}")]
        stages[f"transition{i}"] = [getattr(f, f"transition{i}")]
    return {**stages, "denseblock4": [_unit(f, "denseblock4", "norm5")]}


def _vgg(model) -> dict[str, list[nn.Module]]:
    """A unit ends at each activation; a pool opens the block behind it, the last one the neck."""
    blocks, unit = [[]], []
    for layer in model.features:
        if isinstance(layer, nn.MaxPool2d):
            blocks.append([])
        unit.append(layer)
        if isinstance(layer, nn.ReLU):
            blocks[-1].append(nn.Sequential(*unit))
            unit = []
    stages = {f"conv{i}": units for i, units in enumerate(blocks[:5], start=1)}
    return {**stages, "neck": [nn.Sequential(OrderedDict(pool=unit[0], fc=model.pre_logits))]}


def _efficientnet(model) -> dict[str, list[nn.Module]]:
    """Also MobileNetV2. A stage is what runs at one resolution; the last 1x1 layer is a unit."""
    stages: list[list[nn.Module]] = []
    for blocks in model.blocks:
        strides = (m.stride for m in blocks[0].modules() if isinstance(m, nn.Conv2d))
        if not stages or any(stride != (1, 1) for stride in strides):
            stages.append([])
        stages[-1] += list(blocks)
    stages[-1].append(_unit(model, "conv_head", "bn2"))
    named = {f"stage{i}": units for i, units in enumerate(stages, start=1)}
    return {"stem": [_unit(model, "conv_stem", "bn1")], **named}


def _convnext(model) -> dict[str, list[nn.Module]]:
    """Downsampling opens the first block behind it; the norm after pooling is the neck."""
    stages = {"stem": [model.stem]}
    for i, stage in enumerate(model.stages, start=1):
        first, *rest = stage.blocks
        opening = OrderedDict(downsample=stage.downsample, block=first)
        stages[f"stage{i}"] = [nn.Sequential(opening), *rest]
    neck = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), norm=model.head.norm)
    return {**stages, "neck": [nn.Sequential(neck)]}


def _regnet(model) -> dict[str, list[nn.Module]]:
    """What some have behind the last block, an activation or a convolution, belongs to it."""
    stages = {f"s{i}": list(getattr(model, f"s{i}").children()) for i in range(1, 5)}
    if not isinstance(model.final_conv, nn.Identity):
        stages["s4"][-1] = nn.Sequential(stages["s4"][-1], model.final_conv)
    return {"stem": [model.stem], **stages}


FAMILIES = {
    "ResNet": _resnet,
    "DenseNet": _densenet,
    "VGG": _vgg,
    "EfficientNet": _efficientnet,
    "ConvNeXt": _convnext,
    "RegNet": _regnet,
}


def covered(model: nn.Module) -> bool:
    """Whether a family lists every parameter of this model once, in a unit or the classifier."""
    try:
        stages = split(model)
    except (KeyError, AttributeError, IndexError):
        return False
    parts = [*(u for units in stages.values() for u in units), model.get_classifier()]
    listed = [id(p) for part in parts for p in part.parameters()]
    return sorted(listed) == sorted(id(p) for p in model.parameters())


def split(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Stage name -> units in order, trunk first, then the neck where there is one."""
    return FAMILIES[type(model).__name__](model)
