"""Saliency maps: which places of an image speak for a class. The only door to the grad-cam library.

A network is seen from one unit on. What lies below runs once and without gradients; the library
gets what lies above as a network of its own, folded (`ftlab.folding`), asking for no gradient. So
frozen backbones and linear probes have maps, nothing of the network given is touched (mode,
gradients, hooks; other threads may use it meanwhile), and a map costs little more than the forward
pass. The library keeps a reference to the unit's output where a GPU would make it keep a copy; a
layer that follows works on a copy here, so that in-place layers cannot make the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import cam_weights, folding, sharing
from . import device as devices
from .backbones import Network
from .records import BadInput, unit_name

PLACES = 5  # a side that a map needs to say where: ResNets have 7 at 224 pixels, 3 at 96
REMOVED = (10, 20, 30, 40, 50, 60, 70, 80, 90)  # per cent of the pixels, for ROAD


@dataclass(frozen=True)
class Seen:
    """What one forward pass leaves: features (B, F, h, w) of a unit, and logits (B, C).

    network: the one that was looked through, of `ftlab.folding.folded`.
    """

    features: Tensor
    logits: Tensor
    unit: int
    network: Network


@dataclass(frozen=True)
class Saliency:
    """The saliency map of one image.

    map: (H, W) float32 at the image's size. 0 is no evidence for the class; 1 is the most there
        is in this map, so two such maps say nothing of which network saw more: see `shared`.
    raw: (h, w) float32 at the unit's own size, as the method gives it: negative values are
        evidence against the class.
    """

    map: np.ndarray
    raw: np.ndarray
    target: int

    @property
    def peak(self) -> float:
        """The largest evidence for the class; 0 where there is none."""
        return max(float(self.raw.max()), 0.0)


class Method(NamedTuple):
    """A way to a saliency map: what the library calls it, and how its channels are weighed."""

    cam: str  # its class in pytorch_grad_cam
    summary: str
    weights: Callable[..., np.ndarray] | None = None  # (B, F), where the library's will not do
    slow: bool = False  # sends an image through the whole network once for each channel


METHODS = {
    "gradcam": Method("GradCAM", "weighs each channel by its mean gradient"),
    "gradcam++": Method(
        "GradCAMPlusPlus", "like gradcam, but with positive gradients alone", cam_weights.plus_plus
    ),
    "hirescam": Method("HiResCAM", "like gradcam, but weighs each place by its own gradient"),
    "layercam": Method("LayerCAM", "like hirescam, but with positive gradients alone"),
    "eigencam": Method("EigenCAM", "the first principal component; the same for every class"),
    "scorecam": Method(
        "ScoreCAM", "weighs each channel by the logit of its part alone", cam_weights.score, True
    ),
    "ablationcam": Method(
        "AblationCAM",
        "weighs each channel by the fall of the logit without it",
        cam_weights.ablation,
    ),
}


def methods() -> list[dict]:
    """[{name, summary, slow}]"""
    return [{"name": n, "summary": m.summary, "slow": m.slow} for n, m in METHODS.items()]


@cache
def _library_class(method: str) -> type:
    """The library's class of a method, made to keep its raw maps; see `_raw`."""
    if method not in METHODS:
        raise BadInput(f"--method takes {', '.join(METHODS)}, not {method!r}.")
    try:
        import pytorch_grad_cam
    except ImportError:
        raise BadInput("Saliency maps need grad-cam: pip install grad-cam.") from None
    weights = METHODS[method].weights

    class Keeping(getattr(pytorch_grad_cam, METHODS[method].cam)):
        def get_cam_image(self, *args):
            self.raw = super().get_cam_image(*args)
            return self.raw

        def get_cam_weights(self, x, layer, targets, activations, grads):
            if weights:
                return weights(self.work, activations, grads)
            return super().get_cam_weights(x, layer, targets, activations, grads)

    return Keeping


# --- from a network to its maps ---


def look(
    network: Network,
    x: Tensor,
    layer: str | None = None,
    precision: str = "float32",
    passed: dict[nn.Module, Tensor] | None = None,
) -> Seen:
    """One forward pass of x (B, 3, H, W) that keeps the features behind a layer.

    Args:
        layer: a trunk stage or unit of a plan ("layer3", "unit7"); default: the last trunk unit,
            whose output is what the head pools (VGG-19: 14 x 14 at 224 pixels, before the pool),
            or where that has fewer than PLACES places a side (small images), the stage before.
        passed: of `ftlab.sharing.run`, where several networks look at the same x in turn.
    Raises:
        BadInput: the trunk has no such layer.
    """
    unit, model = _unit(network, layer), folding.folded(network)
    before = [stage.units[-1] for stage in network.layout().trunk[:-1]]
    below = before[-1] if layer is None and before else unit
    with torch.inference_mode(False), torch.no_grad(), devices.autocast(x.device, precision):
        if passed is None:
            earlier = model.run(x, upto=below)
        else:
            earlier = sharing.run(model, x, below, passed)
        features = model.run(earlier.clone(), after=below, upto=unit)
        logits = model.classify(model.run(features.clone(), after=unit))
    if below < unit and min(features.shape[2:]) < PLACES:
        features, unit = earlier, below
    return Seen(features.float(), logits.float(), unit, model)


def saliency(
    network: Network,
    x: Tensor,
    target: int | Sequence[int],
    method: str = "gradcam",
    seen: Seen | None = None,
) -> list[Saliency]:
    """The map of each image of x (B, 3, H, W) for a class.

    Args:
        target: the class explained, one for all or one for each image.
        method: a name of METHODS.
        seen: what `look` gave for this x; default: `look(network, x)`.
    Raises:
        BadInput: there is no such method or class, or grad-cam is not installed.
    """
    kind = _library_class(method)
    seen = seen or look(network, x)
    targets = [target] * len(x) if isinstance(target, int) else list(map(int, target))
    if not all(0 <= t < seen.logits.shape[1] for t in targets):
        raise BadInput(f"There is no class {targets}: classes are 0 to {seen.logits.shape[1] - 1}.")
    raws = _raw(kind, x, seen, targets)
    if method == "eigencam":  # a component's sign is arbitrary: Chung & Ying 2025, eq. 13
        raws = np.stack([-raw if raw.max() < -raw.min() else raw for raw in raws])
    size = tuple(x.shape[2:])
    return [Saliency(_scaled(r, size), r, t) for r, t in zip(raws, targets, strict=True)]


def _raw(kind: type, x: Tensor, seen: Seen, targets: list[int]) -> np.ndarray:
    """The library's maps (B, h, w) before it cuts off negative values, scales and resizes."""
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    above = _Above(seen.network, seen.unit)
    cam = kind(above, [above.opening[0]])
    with torch.inference_mode(False), torch.enable_grad():
        features = seen.features.clone().requires_grad_()
        cam.work = cam_weights.Work(seen.network, above, x, seen.features, targets)
        try:
            cam(features, [ClassifierOutputTarget(t) for t in targets])
        finally:  # not its `with` block, which swallows an IndexError
            cam.activations_and_grads.release()
    return np.float32(cam.raw)


class _Above(nn.Module):
    """What lies above a unit, as a network that takes that unit's output for its x."""

    def __init__(self, network: Network, unit: int):
        super().__init__()
        self.opening = nn.Sequential(nn.Identity(), _Copy())  # of its own: hooks are put there
        self.units = nn.ModuleList(network.units()[unit:])
        self.head, self.classify = network.head, network.classify
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        features = self.opening(features)
        for unit in self.units:
            features = unit(features)
        return self.classify(features)


class _Copy(nn.Module):
    """Keeps what comes after it from writing into what came before."""

    def forward(self, features: Tensor) -> Tensor:
        return features.clone()


def _unit(network: Network, layer: str | None) -> int:
    if layer is None:
        return network.units().index(network.cam_layer) + 1
    trunk = network.layout().trunk
    ends = {stage.name: stage.units[-1] for stage in trunk}
    ends |= {unit_name(u): u for stage in trunk for u in stage.units}
    if layer not in ends:
        names = ", ".join(stage.name for stage in trunk)
        last = trunk[-1].units[-1]
        raise BadInput(
            f"There is no layer {layer!r}: this network has {names}, unit1 to unit{last}."
        )
    return ends[layer]


def _scaled(raw: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    positive = np.maximum(raw, 0)
    tensor = torch.from_numpy(positive / (positive.max() or 1))
    return F.interpolate(tensor[None, None], size=size, mode="bilinear")[0, 0].numpy()


def shared(maps: Sequence[Saliency]) -> list[np.ndarray]:
    """The maps (H, W) on one scale, on which 1 is the most evidence in any of them."""
    most = max(m.peak for m in maps) or 1
    return [m.map * np.float32(m.peak / most) for m in maps]


def road(network: Network, x: Tensor, found: Saliency, seed: int = 0) -> dict[str, float]:
    """How the class's probability changes as pixels are removed (Rong et al. 2022).

    Removed are 10 to 90 % of the pixels, each replaced by a noisy mean of its neighbours: those
    of most evidence first, then those of least. Pixels of equal evidence are in a random order.

    Args:
        x: (1, 3, H, W), the image that was explained.
        seed: of the noise and of that order.
    Returns:
        {most, least: mean change of the probability, road: (least - most) / 2}. A faithful map
        has a low `most`, a high `least`; `road` is 0 for a map without information.
    """
    from pytorch_grad_cam.metrics import road as library

    ranks = torch.from_numpy(_ranks(found.map, seed))
    kinds = (library.RemoveMostRelevantFirst, library.RemoveLeastRelevantFirst)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        fill = library.NoisyLinearImputer()
        without = [kind(100 - part, fill)(x[0].cpu(), ranks) for kind in kinds for part in REMOVED]
    images = torch.stack([x[0], *(image.to(x.device) for image in without)])
    with torch.no_grad():
        probs = folding.folded(network)(images).double().softmax(dim=1)[:, found.target].cpu()
    most, least = (probs[1:] - probs[0]).reshape(2, -1).mean(dim=1).tolist()
    return {"most": most, "least": least, "road": (least - most) / 2}


def _ranks(values: np.ndarray, seed: int) -> np.ndarray:
    """Each value's place among all, in [0, 1). The library removes all where many are equal."""
    flat = values.ravel()
    order = np.lexsort((np.random.default_rng(seed).random(flat.size), flat))
    ranks = np.empty(flat.size, np.float32)
    ranks[order] = np.arange(flat.size) / flat.size
    return ranks.reshape(values.shape)
