"""What a study will take before it starts: time, from a few steps timed here, and downloads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from timm.models import is_model_pretrained

from . import arithmetic, backbones, datasets, search, strategies, train, tuning, weights
from . import device as devices
from .asking import check_seeds
from .backbones import Network
from .datasets import Dataset
from .records import Layout, Phase, Plan, Question, Settings, unit_name

SECONDS = 4.0  # about as long as the steps of one network may be tried
LOOKS = 14  # what trying a batch takes, all in all, in times of looking at it once
FEW, MOST = 2, 64  # images of the first try, and of the second at most
TINY = 1e-9  # a learning rate that leaves the weights as they are, or nearly


class Timing(NamedTuple):
    """Seconds an image takes in one network, from a batch of `images`."""

    units: np.ndarray  # (U,) to go through each unit
    rest: float  # to be read, prepared and classified
    learning: float  # what a step takes beyond looking when everything learns
    scoring: float  # seconds of an epoch, however many images it has
    images: int


class Cost(NamedTuple):
    """Seconds of a run. frozen: (split, units) -> to compute what these units make of it, once."""

    training: float
    testing: float
    frozen: dict[tuple[str, int], float]


def estimate(question: Question, home: Path) -> dict:
    """{seconds, measured} of the study a question asks for, from its first step to its last answer.

    A search is taken to train as many units as it may.

    Timed on noise and random weights, once for all strategies: looking at a batch, unit by unit,
    and a step in which everything learns. What each phase costs follows (`_cost`): frozen units
    are passed once (ftlab.features), and gradients go back no further than the first unit that
    learns. Epochs, seeds and the candidates of an automatic rate multiply it. Not counted: starting
    Python, saving weights, the few percent of a penalty, epochs that `patience` would save, and
    what runs side by side save (`ftlab.lanes`).
    Timings are kept until the process ends.

    measured: whether whole batches were timed; False where smaller ones stand for them, because
    whole ones take too long to try or have more than 64 images.

    Raises:
        BadInput: the data set, a backbone, a strategy or a setting cannot be used.
    """
    data, settings = datasets.open_dataset(home / "data", question.data), question.settings
    train.check(settings)
    check_seeds(question.seeds)
    images, seconds, measured = _images(data, settings), _reading(data, settings.size), True
    judged = ("test", "val") if len(data.classes) == 2 else ("test",)  # val: for a threshold
    seeds = len(question.seeds)
    for backbone in dict.fromkeys(question.backbones):
        layout, frozen = backbones.layout(backbone), {}
        settings = arithmetic.settled(question.settings, backbone, home / "cache")
        named = strategies.parse_names(question.strategies)
        for strategy in dict.fromkeys((*named, *search.at_most(question.search, layout))):
            knobs = strategies.given(strategy, question.knobs)
            plan = strategies.write_plan(strategy, layout, settings.epochs, **knobs)
            timing = _timing(backbone, len(data.classes), plan.slim_from, settings)
            cost = _cost(plan, layout, timing, settings, images, judged)
            tuned = settings.lr == "auto" and "lr" not in knobs
            spared = len(tuning.GRID) - 1 if tuned else 0  # one candidate is the first seed's run
            seconds += (seeds + spared) * cost.training + seeds * cost.testing
            frozen |= cost.frozen  # every strategy finds what another has left
            measured &= timing.images == settings.batch
        seconds += sum(frozen.values()) * (seeds if question.weights == "random" else 1)
    return {"seconds": float(seconds), "measured": measured}


def _images(data: Dataset, settings: Settings) -> dict[str, int]:
    """How many images each split has, train cut to train_per_class."""
    n = {split: len(data.indices(split)) for split in ("val", "test")}
    by_class = np.bincount(data.labels[data.indices("train")])
    most = settings.train_per_class or len(data.files)
    return {**n, "train": int(np.minimum(by_class, most).sum())}


def _reading(data: Dataset, size: int) -> float:
    """Seconds to read all images at one size, from a few of them; 0 where that is done."""
    if (data.folder / "arrays" / f"{size}.npy").exists():
        return 0.0
    few = data.files[:: math.ceil(len(data.files) / 5)]
    began = time.perf_counter()
    for file in few:
        datasets.resize(datasets.read_image(data.folder / file).pixels, size)
    return (time.perf_counter() - began) / len(few) * len(data.files)


def _cost(
    plan: Plan, layout: Layout, timing: Timing, settings: Settings, images: dict, judged: Sequence
) -> Cost:
    """What a run of a plan costs; judged: the splits that are looked at in the end.

    Half of what learning adds brings gradients back to the first unit that learns; the other half
    computes those of weights, where they learn.
    """
    units = timing.units.copy()
    units[plan.cut_after or len(units) :] = 0
    still = settings.augment == "none" and not settings.flips
    fresh = not still and settings.views is None
    training, lowest, deepest, frozen = 0.0, len(units), 0, {}
    for phase in plan.phases:
        learns = _learning(phase, layout)
        below = int(learns.argmax()) if learns.any() else len(units)
        above = units[below:].sum()
        seen = units.sum() if fresh else above
        share = (above + units[learns].sum()) / (2 * timing.units.sum())
        epoch = images["train"] * (timing.rest + seen + timing.learning * share)
        epoch += images["val"] * (timing.rest + above) + timing.scoring
        if phase.rates:  # looks at the gradients of the first batches before it trains
            looks = min(phase.rates.batches * settings.batch, images["train"])
            epoch += looks * (timing.rest + seen + timing.learning)
        training += phase.epochs * epoch
        if below > deepest:  # else kept on the way to what an earlier phase asked for
            if not still and not fresh:  # views are a seed's own
                passes = min(settings.views, phase.epochs)
                training += passes * images["train"] * units[:below].sum()
            for split in ("train", "val") if still else ("val",):
                frozen[split, below] = images[split] * units[:below].sum()
        deepest = max(deepest, below)
        lowest = min(lowest, below)
    testing = sum(images[split] for split in judged) * (timing.rest + units[lowest:].sum())
    frozen |= {(split, lowest): images[split] * units[:lowest].sum() for split in judged}
    return Cost(training, testing, frozen)


def _learning(phase: Phase, layout: Layout) -> np.ndarray:
    """(U,) bool: which units learn in a phase."""
    learns = [
        stage.name in phase.lrs or unit_name(unit) in phase.lrs
        for stage in layout.stages
        for unit in stage.units
    ]
    return np.array(learns)


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

_known: dict[tuple, Timing] = {}
_alone = threading.Lock()  # two timings at once would disturb each other


def _timing(backbone: str, classes: int, slim_from: int | None, settings: Settings) -> Timing:
    how = ("size", "batch", "optimizer", "augment", "flips", "precision")
    key = backbone, classes, slim_from, *(getattr(settings, name) for name in how)
    with _alone:
        if key not in _known:
            _known[key] = _timed(_build(backbone, classes, slim_from), settings)
        return _known[key]


def _build(backbone: str, classes: int, slim_from: int | None) -> Network:
    theta0 = weights.load(backbone, "random")
    network = backbones.build(backbone, classes, theta0, slim_from=slim_from)
    return network.to(devices.pick(), memory_format=torch.channels_last)


def _timed(network: Network, settings: Settings) -> Timing:
    few = _looked(network, _noise(FEW, settings.size), settings).sum() / FEW
    images = int(min(max(SECONDS / (LOOKS * few), FEW), MOST, settings.batch))
    noise = _noise(images, settings.size)
    rest, *units = _looked(network, noise, settings) / images
    look = (rest + sum(units)) * images
    validating = min(_seconds(train.validate, network, noise, settings) for _ in range(2))
    step = max(_epoch(network, noise, settings) - validating, look)
    return Timing(
        np.array(units), rest, (step - look) / images, max(validating - look, 0.0), images
    )


def _looked(network: Network, noise: train.Split, settings: Settings) -> np.ndarray:
    """(1 + U,) seconds to look at a batch, outside the units and in each; the faster of two."""
    marks: list[float] = []

    def mark(*_) -> None:
        if network.head.weight.is_cuda:
            torch.cuda.synchronize()
        marks.append(time.perf_counter())

    hooks = [unit.register_forward_pre_hook(mark) for unit in network.units()]
    hooks.append(network.units()[-1].register_forward_hook(mark))
    taken = []
    for _ in range(2):
        marks.clear()
        whole = _seconds(train.predict, network, noise, settings)
        taken.append([whole - (marks[-1] - marks[0]), *np.diff(marks)])
    for hook in hooks:
        hook.remove()
    return np.min(taken, axis=0)


def _epoch(network: Network, noise: train.Split, settings: Settings) -> float:
    """Seconds of an epoch of one batch in which everything learns, with its validation."""
    phase = Phase(2, dict.fromkeys(network.layout().names, TINY))
    still = replace(settings, patience=None)
    return min(e.seconds for e in train.fit(network, Plan((phase,)), noise, noise, still, seed=0))


def _seconds(work: Callable, *given) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began


def _noise(images: int, size: int) -> train.Split:
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
    return train.Split(pixels, np.arange(images), np.arange(images) % 2)
