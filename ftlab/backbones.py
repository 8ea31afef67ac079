"""Backbones as units in named stages: the table, the Network, cutting and slimming.

All come from timm. A family function lists a timm model's units stage by stage; whatever timm
class has one can be wrapped. Pooling stands in front of the unit that reads it, so a unit's output
is always the map before pooling, which is also what saliency methods look at.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import timm
import torch
from torch import Tensor, nn

from .records import BadInput, Layout, Stage

# Name -> tag of the default weights. The papers' three (and ResNet-18) take torchvision's V1,
# so that the comparison does not mix training recipes.
BACKBONES = {
    "resnet50": "tv_in1k",
    "densenet121": "tv_in1k",
    "vgg19": "tv_in1k",
    "mobilenetv2_100": "ra_in1k",
    "resnet18": "tv_in1k",
    "efficientnet_b0": "ra_in1k",
    "convnext_tiny": "fb_in1k",
    "regnety_008": "pycls_in1k",
}


class Network(nn.Module):
    """Units in stages, then global average pooling and a linear head.

    stages: stage name -> its units in order, trunk first, then the neck where there is one.
    mean, std: what the weights were trained with, per RGB channel of pixels in [0, 1].
    """

    def __init__(self, stages: dict[str, list[nn.Module]], classes: int, mean, std):
        super().__init__()
        self.stages = nn.ModuleDict({name: nn.Sequential(*units) for name, units in stages.items()})
        self.mean, self.std = tuple(mean), tuple(std)
        self.head = nn.Linear(_channels(self.units()), classes)

    def units(self) -> list[nn.Module]:
        """Every unit in order; unit number u is units()[u - 1], a neck comes last."""
        return [unit for stage in self.stages.values() for unit in stage]

    def layout(self) -> Layout:
        stages, first = [], 1
        for name, units in self.stages.items():
            stages.append(Stage(name, tuple(range(first, first + len(units)))))
            first += len(units)
        return Layout((*stages, Stage("head")))

    def prepare(self, pixels: Tensor) -> Tensor:
        """Pixels (B, H, W, 3), uint8 or float in 0..255, to normalised x (B, 3, H, W)."""
        x = pixels.permute(0, 3, 1, 2).float().div(255)
        return (x - x.new_tensor(self.mean)[:, None, None]) / x.new_tensor(self.std)[:, None, None]

    def run(self, x: Tensor, after: int = 0, upto: int | None = None) -> Tensor:
        """Units after+1 .. upto (default: all, neck included) on x, the output of unit `after`."""
        for unit in self.units()[after:upto]:
            x = unit(x)
        return x

    def classify(self, features: Tensor) -> Tensor:
        """Features (B, F, H, W) of the last unit to logits (B, C)."""
        return self.head(features.mean(dim=(2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, 3, H, W), normalised, to logits (B, C)."""
        return self.classify(self.run(x))

    def modules_of(self, name: str) -> nn.Module:
        """The module behind a name of a plan: a stage, a single unit ("unit7") or the head."""
        if name == "head":
            return self.head
        return self.stages[name] if name in self.stages else self.units()[int(name[4:]) - 1]

    @property
    def cam_layer(self) -> nn.Module:
        """The module whose output saliency maps look at: the last trunk unit."""
        return self.units()[self.layout().trunk[-1].units[-1] - 1]


def build(
    name: str, classes: int, theta0, cut_after=None, slim_from=None, seed: int = 0
) -> Network:
    """The network a run starts from: theta_0 in the trunk, everything new drawn from the seed.

    The head is drawn first and alone, so it is the same for every strategy of one seed that ends
    in as many features (methods: PyTorch's default, U(+-1/sqrt(features))).

    Args:
        name: a backbone; classes: C; theta0: ftlab.weights.Theta0.
        cut_after: keep units up to this one, pooled, under a linear head (Peng et al. 2023).
        slim_from: from this unit on half as wide and new (Raghu et al. 2019, Peng et al. 2023).
    Raises:
        BadInput: the backbone is unknown or has no such unit.
    """
    model = create(name)
    model.load_state_dict(
        theta0.tensors, strict=False
    )  # only the classifier is missing: weights.py
    stages = _split(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(stages, classes, theta0.mean, theta0.std)
        if cut_after is not None:
            network = cut(network, cut_after, seed)
        if slim_from is not None:
            slim(network, slim_from)
    return network


def inherited(network: Network, slim_from: int | None = None) -> set[str]:
    """Names of the tensors of `state_dict()` that theta_0 gave: not the head, not a slim unit."""
    first_new = slim_from or len(network.units()) + 1
    own = {
        id(t)
        for u in network.units()[: first_new - 1]
        for t in u.state_dict(keep_vars=True).values()
    }
    return {n for n, t in network.state_dict(keep_vars=True).items() if id(t) in own}


def cut(network: Network, after: int, seed: int) -> Network:
    """The units up to `after` under a new head drawn from the seed; the rest, neck too, dropped."""
    kept = network.layout().cut(after)
    stages = {s.name: list(network.stages[s.name])[: len(s.units)] for s in kept.trunk}
    torch.manual_seed(seed)
    return Network(stages, network.head.out_features, network.mean, network.std)


def slim(network: Network, first: int) -> None:
    """Make every layer of units first.. half as wide and draw it anew, in place.

    A unit whose input is added to its output keeps that width and is slim inside only, as in
    Peng et al.'s TransFusion (ResNet-50 cut to 12.95 M, 17.87 M and 20.69 M parameters from units
    15, 16 and 17). Layers take their input width from what reaches them, so one pass of a dummy
    image builds them; weights are Kaiming-normal, biases 0.
    """
    network.layout().stage_of(first)
    hooks = []
    for unit in network.units()[first - 1 :]:
        for module in unit.modules():
            if _adds_its_input(module):
                hooks.append(module.register_forward_pre_hook(_keep_width))
            if type(module).__name__ in ("SqueezeExcite", "SEModule"):
                hooks.append(module.register_forward_pre_hook(_keep_gate_width))
            if isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm | BATCHNORM):
                module._ftlab_out = max(_out(module) // 2, 1)
                hooks.append(module.register_forward_pre_hook(_rebuild))
    was_training = network.training
    with torch.no_grad():
        features = network.eval().run(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    network.train(was_training)
    network.head = nn.Linear(features.shape[1], network.head.out_features)


BATCHNORM = nn.modules.batchnorm._BatchNorm


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
        elif layer.groups > 1:  # grouped: keep the width of a group
            layer.groups = max(width * layer.groups // layer.in_channels, 1)
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
    if isinstance(layer, BATCHNORM):
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


def _channels(units: list[nn.Module]) -> int:
    """The channels that leave the last unit, from one pass of a dummy image on no device."""
    modes = [(m, m.training) for unit in units for m in unit.modules()]
    x = torch.zeros(1, 3, 64, 64, device=next(units[0].parameters()).device)
    with torch.no_grad():
        for unit in units:
            x = unit.eval()(x)
    for module, training in modes:
        module.training = training
    return x.shape[1]


# --- families: a timm model -> stage name -> units -------------------------------------------


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
    return {
        "stem": [model.stem],
        **{f"s{i}": list(getattr(model, f"s{i}").children()) for i in range(1, 5)},
    }


FAMILIES = {
    "ResNet": _resnet,
    "DenseNet": _densenet,
    "VGG": _vgg,
    "EfficientNet": _efficientnet,
    "ConvNeXt": _convnext,
    "RegNet": _regnet,
}


def create(name: str) -> nn.Module:
    """A timm model without weights, by its timm name (with or without a tag after a dot).

    Raises:
        BadInput: timm does not know it, or no family function wraps its class.
    """
    architecture = name.split(".")[0]
    wrapped = f"ftlab wraps {', '.join(BACKBONES)} and other timm {', '.join(FAMILIES)} models"
    if not timm.is_model(architecture):
        raise BadInput(f"There is no backbone {name!r}; {wrapped}.")
    model = timm.create_model(architecture, pretrained=False)
    if not _covered(model):
        raise BadInput(f"The backbone {name!r} cannot be cut into units here; {wrapped}.")
    return model


def _covered(model: nn.Module) -> bool:
    """Whether a family lists this model so that every parameter is in one unit or the classifier."""
    try:
        stages = _split(model)
    except (KeyError, AttributeError, IndexError):
        return False
    parts = [*(u for units in stages.values() for u in units), model.get_classifier()]
    listed = [id(p) for part in parts for p in part.parameters()]
    return sorted(listed) == sorted(id(p) for p in model.parameters())


def _split(model: nn.Module) -> dict[str, list[nn.Module]]:
    return FAMILIES[type(model).__name__](model)


def tag(name: str) -> str:
    """The tag of a backbone's default weights: the table's, a given one, or timm's default."""
    architecture, _, given = name.partition(".")
    return given or BACKBONES.get(architecture) or timm.get_pretrained_cfg(architecture).tag


def layout(name: str) -> Layout:
    """A backbone's layout, without weights or memory for them."""
    return skeleton(name).layout()


def skeleton(name: str, classes: int = 2) -> Network:
    """The network on the meta device: names, shapes and counts, no numbers."""
    with torch.device("meta"):
        return Network(_split(create(name)), classes, (0.0,) * 3, (1.0,) * 3)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def describe(name: str) -> dict:
    """{name, tag, stages: [{name, parameters}], cuts: [{unit, stage, parameters}]}, head apart."""
    network = skeleton(name)
    layout, units = network.layout(), network.units()
    stages = [{"name": n, "parameters": parameters(s)} for n, s in network.stages.items()]
    return {"name": name, "tag": tag(name), "stages": stages, "cuts": list(_cuts(layout, units))}


def _cuts(layout: Layout, units: list[nn.Module]) -> Iterator[dict]:
    total = 0
    for stage in layout.trunk:
        for unit in stage.units:
            total += parameters(units[unit - 1])
            yield {"unit": unit, "stage": stage.name, "parameters": total}
