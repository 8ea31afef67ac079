"""What a study will take before it starts: time, from a few steps timed here, and downloads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
from .records import Layout, Phase, Plan, Settings, unit_name

SECONDS = 3.0  # about as long as the larger batches of one backbone may be tried, all together
LEARNING = 14  # times what looking takes, what trying a batch takes in all
FEW, MOST = 2, 64  # images of the first try, and of the second at most
TRIES = (2, 3)  # of each batch, and of the small one, which is disturbed more easily
SMALL = 32  # pixels, where the size of images changes nothing
TINY = 1e-9  # a learning rate that leaves the weights as they are, or nearly


class Cost(NamedTuple):
    """Seconds of a batch: so many, and so many for each image."""

    batch: float
    image: float

    def of(self, images: int, size: int) -> float:
        """Seconds for all images, in batches of at most `size`."""
        return self.batch * train.steps(images, size) + self.image * images

    def plus(self, other: Cost, times: float = 1.0) -> Cost:
        """This cost and the other, so many times; never below 0."""
        sums = (own + times * more for own, more in zip(self, other, strict=True))
        return Cost(*(max(each, 0.0) for each in sums))


def estimate(question: Question, home: Path) -> dict:
    """{seconds, measured} of the study a question asks for, from its first step to its last answer.

    Timed on noise and random weights, once for all strategies: looking at a batch, unit by unit;
    steps in which the head alone learns, and everything; what penalties and rate rules add; and,
    where the data set has no array of this size yet, reading its images. From that follows what
    each phase costs (`_step`); epochs, seeds and the candidates of an automatic rate multiply it.
    Not counted: starting Python, saving weights, and epochs that `patience` would save. Timings
    are kept until the process ends.

    measured: whether whole batches were timed; False where smaller ones stand for them, because
    whole ones take too long to try or have more than 64 images.

    Raises:
        BadInput: the data set, a backbone, a strategy or a setting cannot be used.
    """
    data, settings = datasets.open_dataset(home / "data", question.data), question.settings
    train.check(settings)
    images, seconds, measured = _images(data, settings), _reading(data, settings.size), True
    judged = images["test"] + (images["val"] if len(data.classes) == 2 else 0)  # for a threshold
    names = strategies.parse_names(question.strategies)
    knobs = {name: question.knobs.get(name, {}) for name in names}
    for backbone in dict.fromkeys(question.backbones):
        layout = backbones.layout(backbone)
        plans = {s: strategies.write_plan(s, layout, settings.epochs, **knobs[s]) for s in names}
        known = _timings(backbone, len(data.classes), list(plans.values()), settings)
        measured &= known[None].images == settings.batch
        for strategy, plan in plans.items():
            tuned = settings.lr == "auto" and "lr" not in knobs[strategy]
            spared = len(tuning.GRID) - 1 if tuned else 0  # one candidate is the first seed's run
            training = _training(plan, layout, known, settings, images)
            answer = _look(plan, known).of(judged, settings.batch)
            seconds += (len(question.seeds) + spared) * training + len(question.seeds) * answer
    return {"seconds": float(seconds), "measured": measured}


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


# --- what a plan costs ----------------------------------------------------------------------------


def _training(plan: Plan, layout: Layout, known: Mapping, settings: Settings, images) -> float:
    """Seconds of all epochs of a plan, their validation included."""
    batch, seconds = settings.batch, 0.0
    for phase in plan.phases:
        each = _step(phase, plan, layout, known).of(images["train"], batch)
        each += _look(plan, known).of(images["val"], batch)
        if phase.rates:  # looks at the gradients of the first batches before it trains
            each += known[phase.rates].of(min(phase.rates.batches * batch, images["train"]), batch)
        seconds += phase.epochs * each
    return seconds


def _look(plan: Plan, known: Mapping) -> Cost:
    """What it costs to look at a batch."""
    return Cost(0.0, 0.0).plus(known[None].looking, _shares(plan, known).sum())


def _step(phase: Phase, plan: Plan, layout: Layout, known: Mapping) -> Cost:
    """What a step costs, its rate rule aside.

    Every unit that is not cut away is passed. From the first that learns on, gradients come back,
    which is half of what learning adds; computing those of its weights is the other half.
    """
    whole, shares = known[None], _shares(plan, known)
    learns = np.zeros(len(shares), bool)
    for stage in layout.stages:
        for unit in stage.units:
            learns[unit - 1] = not phase.lrs.keys().isdisjoint((stage.name, unit_name(unit)))
    passed = shares[learns.argmax() :].sum() if learns.any() else 0.0
    cost = Cost(0.0, 0.0).plus(whole.head, shares.sum())
    cost = cost.plus(whole.learning, (passed + shares[learns].sum()) / 2)
    return cost.plus(known[type(phase.penalty)]) if phase.penalty else cost


def _shares(plan: Plan, known: Mapping) -> np.ndarray:
    """(U,): what each unit takes of looking at a batch with the whole backbone; 0 if cut away."""
    whole = known[None].units
    units = whole if plan.slim_from is None else known[plan.slim_from]
    return (np.arange(len(units)) < (plan.cut_after or len(units))) * units / whole.sum()


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


class Timing(NamedTuple):
    """What was timed of a whole backbone."""

    images: int  # of the larger batch that was tried
    looking: Cost
    head: Cost  # of a step in which the head alone learns
    learning: Cost  # what is added if everything does
    units: np.ndarray  # (U,) seconds that each unit takes to look at `images`


# Timed of a backbone: None (a Timing), a unit from which on it is slim (its units' seconds), a
# kind of penalty (the Cost that it adds to a step), a rate rule (the Cost of its looks).
_known: dict[tuple, Timing | np.ndarray | Cost] = {}
_alone = threading.Lock()  # two timings at once would disturb each other


def _timings(backbone: str, classes: int, plans: Sequence[Plan], settings: Settings) -> dict:
    """What plans need to know of a backbone: kind -> what was timed, as in `_known`."""
    phases = [phase for plan in plans for phase in plan.phases]
    rules = {type(phase.penalty): phase.penalty for phase in phases if phase.penalty}
    rules |= {phase.rates: phase.rates for phase in phases if phase.rates}
    slim = {plan.slim_from for plan in plans} - {None}
    how = ("size", "batch", "optimizer", "augment", "flips", "precision")
    same = backbone, classes, *(getattr(settings, name) for name in how)
    with _alone:
        known = {kind: found for (of, kind), found in _known.items() if of == same}
        rules = {kind: rule for kind, rule in rules.items() if kind not in known}
        network = _build(backbone, classes) if rules or None not in known else None
        known = known or {None: _timed(network, settings)}
        known |= _added(network, rules, known[None], settings) if rules else {}
        for unit in slim - set(known):
            slimmed = _build(backbone, classes, unit)
            known[unit] = _units(slimmed, known[None].images, settings)
        _known.update({(same, kind): found for kind, found in known.items()})
    return known


def _build(backbone: str, classes: int, slim_from: int | None = None) -> Network:
    theta0 = weights.load(backbone, "random")
    network = backbones.build(backbone, classes, theta0, slim_from=slim_from)
    return network.to(devices.pick(), memory_format=torch.channels_last)


def _timed(network: Network, settings: Settings) -> Timing:
    tried = FEW * SECONDS / (LEARNING * _looked(network, FEW, settings))
    many = int(min(max(tried, FEW), MOST, settings.batch))

    def cost(seconds: Callable[[int], float]) -> Cost:
        few, longer = seconds(FEW), seconds(many)
        image = min(max((longer - few) / max(many - FEW, 1), 0.0), longer / many)
        return Cost(longer - image * many, image)

    def step(phase: Phase) -> Cost:
        return cost(lambda images: _stepped(network, phase, images, settings))

    looking = cost(lambda images: _looked(network, images, settings))
    head, whole = step(Phase(1, {"head": TINY})), step(_everything(network))
    validation = Cost(looking.of(FEW, FEW), 0.0)  # at the end of every step that was timed
    units = _units(network, many, settings)
    return Timing(many, looking, head.plus(validation, -1), whole.plus(head, -1), units)


def _added(network: Network, rules: Mapping, timing: Timing, settings: Settings) -> dict:
    """Kind -> what a penalty adds to a step, or what a rate rule takes to look at a batch.

    Both take their time for weights, not for pixels; a rule beyond that what a step takes.
    """
    small, whole = replace(settings, size=SMALL), _everything(network)
    plain, found = _stepped(network, whole, FEW, small), {}
    for kind, rule in rules.items():
        is_penalty = isinstance(kind, type)
        phase = replace(whole, **{"penalty" if is_penalty else "rates": rule})
        more = _stepped(network, phase, FEW, small) - (1 if is_penalty else 2) * plain
        cost = Cost(max(more, 0.0), 0.0)
        found[kind] = cost if is_penalty else cost.plus(timing.head).plus(timing.learning)
    return found


def _everything(network: Network) -> Phase:
    """A phase in which everything learns."""
    return Phase(1, dict.fromkeys(network.layout().names, TINY))


def _looked(network: Network, images: int, settings: Settings) -> float:
    """Seconds to validate on so many images, the fastest time."""
    noise, taken = _noise(images, settings.size), []
    for _ in range(TRIES[images == FEW]):
        began = time.perf_counter()
        train.validate(network, noise, settings)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _stepped(network: Network, phase: Phase, images: int, settings: Settings) -> float:
    """Seconds of an epoch of one batch and a validation on FEW images, the fastest time."""
    epochs = train.fit(
        network,
        Plan((replace(phase, epochs=TRIES[images == FEW]),)),
        _noise(images, settings.size),
        _noise(FEW, settings.size),
        replace(settings, patience=None),
        seed=0,
    )
    return min(epoch.seconds for epoch in epochs)


def _units(network: Network, images: int, settings: Settings) -> np.ndarray:
    """(U,) seconds that each unit takes to look at so many images, the faster of two."""
    cuda = network.head.weight.is_cuda
    marks: list[float] = []

    def mark(*_) -> None:
        torch.cuda.synchronize() if cuda else None
        marks.append(time.perf_counter())

    hooks = [unit.register_forward_pre_hook(mark) for unit in network.units()]
    hooks.append(network.units()[-1].register_forward_hook(mark))
    for _ in range(2):
        train.validate(network, _noise(images, settings.size), settings)
    for hook in hooks:
        hook.remove()
    return np.diff(np.reshape(marks, (2, -1))).min(axis=0)


def _noise(images: int, size: int) -> train.Split:
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
    return train.Split(pixels, np.arange(images), np.arange(images) % 2)
