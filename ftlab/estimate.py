"""What a study will take before it starts: time, from a few steps timed here, and downloads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from timm.models import is_model_pretrained

from . import backbones, datasets, strategies, train, tuning, weights
from . import device as devices
from .asking import Question
from .backbones import Network
from .datasets import Dataset
from .records import Phase, Plan, Settings

SECONDS = 8.0  # about as long as the steps of one network may be tried, all kinds together
FEW, MOST = 2, 64  # images of the first try, and of the second at most
TINY = 1e-9  # a learning rate that leaves the weights as they are, or nearly


class Cost(NamedTuple):
    """Seconds of a batch: so many, and so many for each image. whole: a whole batch was timed."""

    batch: float
    image: float
    whole: bool

    def of(self, images: int, size: int) -> float:
        """Seconds for all images, in batches of at most `size`."""
        return self.batch * train.steps(images, size) + self.image * images


def estimate(question: Question, home: Path) -> dict:
    """{seconds, measured} of the study a question asks for, from its first step to its last answer.

    What decides the time of a step is timed: which part of a backbone learns (frozen parts make
    steps cheaper), penalty, rate rule, size, batch and optimizer; for each, two batches of noise
    on random weights. So are validation, the test and, where the data set has no array of this
    size yet, reading its images. Epochs, seeds and the candidates of an automatic rate multiply
    it. Not counted: starting Python, saving weights, and epochs that `patience` would save.
    Timings are kept until the process ends.

    measured: whether whole batches were timed; False where smaller ones stand for them, because
    whole ones take too long to try or have more than 64 images.

    Raises:
        BadInput: the data set, a backbone, a strategy or a setting cannot be used.
    """
    data, settings = datasets.open_dataset(home / "data", question.data), question.settings
    train.check(settings)
    images, seconds, measured = _images(data, settings), _reading(data, settings.size), True
    for network, plans in _plans(question, len(data.classes)).items():
        costs = _costs(network, [phase for _, plan in plans for phase in plan.phases], settings)
        measured &= all(cost.whole for cost in costs.values())
        judged = images["test"] + (images["val"] if len(data.classes) == 2 else 0)  # a threshold
        answer = costs[None].of(judged, settings.batch)
        for strategy, plan in plans:
            tuned = settings.lr == "auto" and "lr" not in question.knobs.get(strategy, {})
            spared = len(tuning.GRID) - 1 if tuned else 0  # one candidate is the first seed's run
            training = sum(p.epochs * _epoch(costs, p, settings, images) for p in plan.phases)
            seconds += (len(question.seeds) + spared) * training + len(question.seeds) * answer
    return {"seconds": seconds, "measured": measured}


def _plans(question: Question, classes: int) -> dict[tuple, list[tuple[str, Plan]]]:
    """(strategy, plan) of a question by the network that trains: the arguments of `_build`."""
    found: dict[tuple, list[tuple[str, Plan]]] = {}
    for backbone in dict.fromkeys(question.backbones):
        layout = backbones.layout(backbone)
        for strategy in strategies.parse_names(question.strategies):
            knobs = question.knobs.get(strategy, {})
            plan = strategies.write_plan(strategy, layout, question.settings.epochs, **knobs)
            network = backbone, classes, plan.cut_after, plan.slim_from
            found.setdefault(network, []).append((strategy, plan))
    return found


def _images(data: Dataset, settings: Settings) -> dict[str, int]:
    """How many images each split has, train cut to train_per_class."""
    n = {split: len(data.indices(split)) for split in ("val", "test")}
    by_class = np.bincount(data.labels[data.indices("train")])
    return {**n, "train": int(by_class.clip(max=settings.train_per_class).sum())}


def _reading(data: Dataset, size: int) -> float:
    """Seconds to read all images at one size, from a few of them; 0 where that is done."""
    if (data.folder / "arrays" / f"{size}.npy").exists():
        return 0.0
    few = data.files[:: math.ceil(len(data.files) / 5)]
    began = time.perf_counter()
    for file in few:
        datasets.resize(datasets.read_image(data.folder / file).pixels, size)
    return (time.perf_counter() - began) / len(few) * len(data.files)


def _epoch(costs: Mapping[Kind, Cost], phase: Phase, settings: Settings, images: dict) -> float:
    """Seconds of an epoch of a phase, validation included."""
    batch, step = settings.batch, costs[_kind(replace(phase, rates=None))]
    seconds = step.of(images["train"], batch) + costs[None].of(images["val"], batch)
    if phase.rates:  # looks at the gradients of the first batches before it trains
        looks = min(phase.rates.batches * batch, images["train"])
        ruled = costs[_kind(phase)]
        seconds += max(ruled.of(looks, batch) - step.of(looks, batch), 0.0)
    return seconds


def weights_state(backbone: str) -> dict:
    """{ready, download_bytes} of a backbone's own weights; asks no network.

    ready: they are on this machine. download_bytes: what fetching them would take, about; None
    where they are ready, or where there are none to fetch.

    Raises:
        BadInput: there is no such backbone.
    """
    size, ready = _bytes(backbone), weights.on_this_machine(backbone)
    on_hub = is_model_pretrained(weights.hub_repository(backbone).removeprefix("timm/"))
    return {"ready": ready, "download_bytes": size if on_hub and not ready else None}


@cache
def _bytes(backbone: str) -> int:
    """Of all tensors of a timm model, its classifier too, as its file on the hub has them."""
    with torch.device("meta"):
        tensors = backbones.create(backbone).state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# --- timing ---------------------------------------------------------------------------------------

Kind = tuple | None  # what of a phase decides how long a step takes; None: looking, not learning
_known: dict[tuple, Cost] = {}
_alone = threading.Lock()  # two timings at once would disturb each other


def _kind(phase: Phase) -> Kind:
    return frozenset(phase.lrs), type(phase.penalty), phase.rates, phase.eval_batchnorm


def _costs(network: tuple, phases: Sequence[Phase], settings: Settings) -> dict[Kind, Cost]:
    """What a batch costs in each phase, with and without its rate rule, and to look at (None)."""
    wanted: dict[Kind, Phase | None] = {None: None}
    for phase in phases:
        plain = replace(phase, rates=None)
        wanted |= {_kind(plain): plain, _kind(phase): phase}
    how = ("size", "batch", "optimizer", "augment", "flips", "precision")
    same = network, *(getattr(settings, name) for name in how)
    with _alone:
        missing = {kind: phase for kind, phase in wanted.items() if (same, kind) not in _known}
        if missing:
            built = _build(*network)
            looking = _looked(built, FEW, settings)
        for kind, phase in missing.items():
            _known[same, kind] = _cost(built, phase, settings, looking, SECONDS / len(missing))
        return {kind: _known[same, kind] for kind in wanted}


def _build(backbone: str, classes: int, cut_after: int | None, slim_from: int | None) -> Network:
    theta0 = weights.load(backbone, "random")
    network = backbones.build(backbone, classes, theta0, cut_after, slim_from)
    return network.to(devices.pick(), memory_format=torch.channels_last)


def _cost(
    network: Network, phase: Phase | None, settings: Settings, looking: float, budget: float
) -> Cost:
    """From the seconds of a batch of FEW images and of one as large as the budget allows.

    Args:
        looking: seconds that a validation on FEW images takes; each epoch that is timed has one.
        budget: seconds, about.
    """

    def seconds(images: int) -> float:
        if phase is None:
            return _looked(network, images, settings)
        return max(_stepped(network, phase, images, settings) - looking, 1e-6)

    few = seconds(FEW)
    many = int(min(max(FEW * budget / (2 * few), 2 * FEW), MOST, settings.batch))
    if many <= FEW:
        return Cost(0.0, few / FEW, True)
    longer = seconds(many)
    image = min(max((longer - few) / (many - FEW), 0.0), longer / many)
    return Cost(longer - image * many, image, many == settings.batch)


def _looked(network: Network, images: int, settings: Settings) -> float:
    """Seconds to validate on so many images, the faster of two."""
    noise, taken = _noise(images, settings.size), []
    for _ in range(2):
        began = time.perf_counter()
        train.validate(network, noise, settings)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _stepped(network: Network, phase: Phase, images: int, settings: Settings) -> float:
    """Seconds of an epoch of one batch and a validation on FEW images, the faster of two."""
    still = replace(phase, epochs=2, lrs=dict.fromkeys(phase.lrs, TINY))
    epochs = train.fit(
        network,
        Plan((still,)),
        _noise(images, settings.size),
        _noise(FEW, settings.size),
        replace(settings, patience=None),
        seed=0,
    )
    return min(epoch.seconds for epoch in epochs)


def _noise(images: int, size: int) -> train.Split:
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
    return train.Split(pixels, np.arange(images), np.arange(images) % 2)
