"""The records the rest of ftlab passes around: plain data, no torch, nothing from the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any


class BadInput(ValueError):
    """What a person gave cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Stage:
    """A named group of units; `units` are their numbers, counted from 1 over the whole backbone."""

    name: str
    units: tuple[int, ...] = ()


@dataclass(frozen=True)
class Layout:
    """What a strategy may know of a backbone: its stages in order, trunk, then neck, then head.

    The neck holds pretrained layers between the trunk and the classifier (VGG's fc6 and fc7,
    ConvNeXt's last norm); most backbones have none. The head is the new classifier alone.
    """

    stages: tuple[Stage, ...]

    @property
    def trunk(self) -> tuple[Stage, ...]:
        return tuple(s for s in self.stages if s.name not in ("neck", "head"))

    @property
    def top(self) -> tuple[str, ...]:
        """The stages behind the trunk: (neck,) head."""
        return tuple(s.name for s in self.stages if s.name in ("neck", "head"))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.stages)

    def stage_of(self, unit: int) -> Stage:
        """The stage that holds a unit.

        Raises:
            BadInput: no trunk unit has that number.
        """
        for stage in self.trunk:
            if unit in stage.units:
                return stage
        last = self.trunk[-1].units[-1]
        raise BadInput(f"There is no unit {unit}: this backbone's trunk has units 1 to {last}.")

    def cut(self, after: int | None) -> Layout:
        """The layout that remains when everything behind unit `after` but the head is dropped."""
        if after is None:
            return self
        self.stage_of(after)
        kept = (Stage(s.name, tuple(u for u in s.units if u <= after)) for s in self.trunk)
        return Layout((*(s for s in kept if s.units), Stage("head")))


def unit_name(unit: int) -> str:
    """How a single unit is named where a stage learns only in part: unit 7 is "unit7"."""
    return f"unit{unit}"


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of rates.

    lrs maps a stage (or a single unit, "unit7") to its learning rate. What has no rate is frozen.
    """

    epochs: int
    lrs: Mapping[str, float]
    penalty: Any = None  # ftlab.penalties: added to the loss
    rates: Any = None  # ftlab.rates: rescales the learning rates from gradients, before every epoch
    weight_decay: float = 0.0
    eval_batchnorm: bool = False  # keep BatchNorm at its stored statistics where it learns, too
    keep_moments: bool = False  # what learned in the phase before keeps its optimizer state


@dataclass(frozen=True)
class Plan:
    """What a strategy writes: phases in order, and how the network is cut or slimmed first."""

    phases: tuple[Phase, ...]
    cut_after: int | None = None  # the unit behind which the head is attached and the rest dropped
    slim_from: int | None = None  # the unit from which on the network is half as wide and new

    def __add__(self, then: Plan) -> Plan:
        return replace(self, phases=self.phases + then.phases)

    @property
    def epochs(self) -> int:
        return sum(phase.epochs for phase in self.phases)


def plan_record(plan: Plan) -> dict:
    """A plan as JSON-ready data; penalties and rate rules become {name, knobs...}."""
    phases = []
    for phase in plan.phases:
        record = {f: getattr(phase, f) for f in phase.__dataclass_fields__}
        record["lrs"] = dict(phase.lrs)
        for part in ("penalty", "rates"):
            rule = getattr(phase, part)
            record[part] = rule and {"name": rule.name, **asdict(rule)}
        phases.append(record)
    return {"cut_after": plan.cut_after, "slim_from": plan.slim_from, "phases": phases}


@dataclass(frozen=True)
class Settings:
    """How every run of a study trains, whatever its strategy."""

    epochs: int = 10
    size: int = 224  # pixels, both sides
    batch: int = 32
    lr: float | str | None = None  # a value, "auto", or None: each strategy's documented default
    optimizer: str = "adam"
    schedule: str = "cosine"
    augment: str = "none"
    flips: bool = False
    views: int | None = None  # augmented views of each image, in turn; None: a new one every epoch
    precision: str = "auto"  # the faster one here (ftlab.arithmetic); or float32, or bfloat16
    class_weights: bool = False
    patience: int | None = None  # epochs without a better one before the last phase stops
    select: str = "balanced_accuracy"  # which validation value picks the best epoch
    train_per_class: int | None = None  # at most so many training images of each class


@dataclass(frozen=True)
class Search:
    """Which unit a strategy should take: by what, and in which of the ways of `ftlab.search`."""

    strategy: str = "truncated"
    metric: str = "average_precision"  # on validation
    how: str = "two-stage"


@dataclass(frozen=True)
class Question:
    """What a study is asked: a data set, backbones, strategies and seeds, and how to train.

    weights: pretrained (each backbone's own), imagenet, bundled, random, or a file's path.
    knobs: strategy -> {knob: value}; what is not given takes the strategy's default.
    name: of the study; "" makes one from the data set and the question.
    search: what finds out which strategies to train; those given are trained, too.
    """

    data: str
    backbones: Sequence[str]
    strategies: Sequence[str]
    seeds: Sequence[int] = (0,)
    settings: Settings = Settings()
    weights: str = "pretrained"
    knobs: Mapping[str, dict] = field(default_factory=dict)
    name: str = ""
    search: Search | None = None


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: `phase` and `epoch` count from 0, `epoch` over the whole plan."""

    phase: int
    epoch: int
    lrs: Mapping[str, float]  # by stage; under a rate rule, the mean over its tensors
    train_loss: float
    val: Mapping[str, float]  # loss, accuracy, balanced_accuracy, average_precision
    seconds: float  # those of its features included, whoever computed them
    best: bool = False
    rates: Mapping[str, float] = field(default_factory=dict)  # by tensor, where a rate rule ran
