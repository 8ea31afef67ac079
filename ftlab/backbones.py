"""Backbones as units in named stages: the table, the Network, cutting and slimming.

All come from timm. ftlab.families lists a timm model's units stage by stage; whatever timm class
has an entry there can be wrapped.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import timm
import torch
from timm.models import is_model_pretrained
from torch import Tensor, nn

from . import mini  # noqa: F401  (makes ftlab_mini a model that timm knows)
from .families import FAMILIES, covered, split
from .records import BadInput, Layout, Stage
from .slimming import channels, halve

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
    "ftlab_mini": "drawn",
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
        self.head = nn.Linear(channels(self.units()), classes)

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
        """Features (B, F, H, W) of the last unit, or (B, F) pooled, to logits (B, C)."""
        return self.head(features.mean(dim=(2, 3)) if features.ndim == 4 else features)

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

    The head is drawn alone, so it is the same for every strategy of one seed that ends in as many
    features (PyTorch's default, U(+-1/sqrt(features))).

    Args:
        name: a backbone; classes: C; theta0: ftlab.weights.Theta0.
        cut_after: keep units up to this one, pooled, under a linear head (Peng et al. 2023).
        slim_from: from this unit on half as wide and new (Raghu et al. 2019, Peng et al. 2023).
    Raises:
        BadInput: the backbone is unknown or has no such unit.
    """
    model = create(name)
    model.load_state_dict(theta0.tensors, strict=False)  # weights.py: only the classifier lacks
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(split(model), classes, theta0.mean, theta0.std)
        if cut_after is not None:
            network = cut(network, cut_after)
        if slim_from is not None:
            slim(network, slim_from)
        torch.manual_seed(seed)
        network.head.reset_parameters()
    return network


def inherited(network: Network, slim_from: int | None = None) -> set[str]:
    """Names of the tensors of `state_dict()` that theta_0 gave: not the head, not a slim unit."""
    first_new = slim_from or len(network.units()) + 1
    kept = network.units()[: first_new - 1]
    own = {id(t) for unit in kept for t in unit.state_dict(keep_vars=True).values()}
    return {n for n, t in network.state_dict(keep_vars=True).items() if id(t) in own}


def cut(network: Network, after: int) -> Network:
    """The units up to `after` under a new head; the rest, neck too, dropped."""
    kept = network.layout().cut(after)
    stages = {s.name: list(network.stages[s.name])[: len(s.units)] for s in kept.trunk}
    return Network(stages, network.head.out_features, network.mean, network.std)


def slim(network: Network, first: int) -> None:
    """Make units first.. half as wide and new, in place, and give what leaves them a new head."""
    network.layout().stage_of(first)
    units = network.units()
    halve(units, first)
    network.head = nn.Linear(channels(units), network.head.out_features)


def create(name: str) -> nn.Module:
    """A timm model without weights, by its timm name (with or without a tag after a dot).

    Raises:
        BadInput: timm does not know it, or no family function wraps its class.
    """
    architecture, _, given = name.partition(".")
    wrapped = f"ftlab wraps {', '.join(BACKBONES)} and other timm {', '.join(FAMILIES)} models"
    if not timm.is_model(architecture):
        raise BadInput(f"There is no backbone {name!r}; {wrapped}.")
    if given and not is_model_pretrained(name):
        raise BadInput(f"timm has no weights {given!r} for {architecture}; leave the tag away.")
    model = timm.create_model(architecture, pretrained=False)
    if not covered(model):
        raise BadInput(f"The backbone {name!r} cannot be cut into units here; {wrapped}.")
    return model


def tag(name: str) -> str:
    """The tag of a backbone's default weights: the table's, a given one, or timm's default."""
    architecture, _, given = name.partition(".")
    return given or BACKBONES.get(architecture) or timm.get_pretrained_cfg(architecture).tag


@cache
def layout(name: str) -> Layout:
    """A backbone's layout, without weights or memory for them."""
    return skeleton(name).layout()


def skeleton(name: str, classes: int = 2) -> Network:
    """The network on the meta device: names, shapes and counts, no numbers."""
    with torch.device("meta"):
        return Network(split(create(name)), classes, (0.0,) * 3, (1.0,) * 3)


def parameters(module: nn.Module) -> int:
    """How many numbers a module learns or could learn; buffers do not count."""
    return sum(p.numel() for p in module.parameters())


@cache
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
