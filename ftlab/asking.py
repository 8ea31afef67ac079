"""From what a person asks to a study on disk, after making sure that it can be trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import datasets, files, presence, schedule, search, strategies, studies
from .records import BadInput, Question
from .studies import Cell, Study

MAX_SEEDS = 100
MAX_SEED = 2**32 - 1


def ask(question: Question, home: Path, alone: bool) -> Path:
    """Write a study's question, or extend the one of its name; its folder. As `Lab.ask`."""
    folder, study, searched = asked(question, home)
    if alone and presence.locked(folder):
        raise presence.busy(folder)
    studies.save(folder, study)
    if searched:
        search.save(folder, searched)
    if not presence.locked(folder):
        schedule.forgive(folder, study)
    return folder


def asked(question: Question, home: Path) -> tuple[Path, Study, dict | None]:
    """What `ask` would write: the folder, the study with all that it holds there, its search.

    Raises:
        BadInput: as `Lab.ask`.
    """
    searched = None
    if question.search:
        question, searched = search.opened(question)
    study = _study(question, home)
    study = replace(study, weights=_weights(study.backbones, question.weights, home))
    study = replace(study, name=study.name or _name(question, study))
    folder = home / "checkpoints" / study.name
    if (folder / "study.json").exists():
        before = studies.read(folder)
        if study.settings.precision == "auto":  # the one that the study computes in
            precision = before.settings.precision
            study = replace(study, settings=replace(study.settings, precision=precision))
        if not before.same_question(study):
            raise BadInput(
                f"The study {study.name} asks something else (data, weights or settings differ): "
                "choose another name."
            )
        study = before.joined(study)
        if study != before and _averages(folder, before):
            raise BadInput(
                f"The study {study.name} is one of averages, of which no more can be trained: "
                "choose another name."
            )
    return folder, study, searched


def _averages(folder: Path, study: Study) -> bool:
    """Whether a study holds runs that no training makes (`ftlab.averaging`)."""
    records = (files.read_json(folder / cell.name / "run.json") for cell in studies.cells(study))
    return any(record and "derived" in record for record in records)


def _name(question: Question, study: Study) -> str:
    """Made of what is asked; a search has a study of its own, whatever its metric and its way."""
    searched = ()
    if question.search:
        searched = question.search.strategy, re.sub(r"\W", "_", study.backbones[0])
    return "-".join((study.data, *searched, study.digest()))


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse too many seeds, none, or one that generators do not take.

    Raises:
        BadInput: of these.
    """
    if not 1 <= len(seeds[: MAX_SEEDS + 1]) <= MAX_SEEDS:
        raise BadInput(f"A study has 1 to {MAX_SEEDS} seeds.")
    if not 0 <= min(seeds) <= max(seeds) <= MAX_SEED:
        raise BadInput(f"A seed is a number from 0 to {MAX_SEED}.")


def _study(question: Question, home: Path) -> Study:
    """The question as a study without weights, every plan of it written once to see that it can."""
    from . import backbones, train  # and with them torch

    data = datasets.open_dataset(home / "data", question.data)
    train.check(question.settings)
    check_seeds(question.seeds)
    study = Study(
        name=question.name,
        data=question.data,
        data_hash=data.hash,
        classes=data.classes,
        backbones=tuple(dict.fromkeys(question.backbones)),
        strategies=tuple(strategies.parse_names(question.strategies)),
        seeds=tuple(question.seeds),
        weights={},
        settings=question.settings,
        knobs=dict(question.knobs),
    )
    if not (study.backbones and study.strategies):
        raise BadInput("A study has at least one backbone and one strategy: name them.")
    for backbone in study.backbones:
        layout = backbones.layout(backbone)
        for strategy in dict.fromkeys((*study.strategies, *study.knobs)):
            studies.plan_of(study, Cell(backbone, strategy, 0), layout, None)
    if not re.fullmatch(r"[A-Za-z0-9_-]{0,100}", study.name):
        raise BadInput(f"A study's name has letters, digits, - and _ only, not {study.name!r}.")
    return study


def _weights(backbones: Sequence[str], given: str, home: Path) -> dict:
    """The record of theta_0, after making sure that every backbone has it on this machine."""
    from . import weights

    nameless = {"name": None, "checksum": None}
    if given == "random":
        return {"kind": "random", **nameless}
    for backbone in backbones:
        theta0 = weights.load(backbone, given)
    if theta0.kind == "file":
        weights.keep(theta0, home / "cache")
        return theta0.record
    return {"kind": "pretrained", **nameless}
