"""A study is a folder of runs that belong together: data set x backbones x strategies x seeds.

study.json     the question; written first, extended when strategies, backbones or seeds join
<run>/         one folder a run (ftlab.runs)
tuning/<run>/  with --lr auto: candidates that only chose a learning rate, never tested
worker.json    who works on it: pid, start time and the run at hand
stopped        somebody asked it to stop
lock           held by whoever works on it; the system lets it go when they die
search.json    the question of a search, which lets the study grow (ftlab.search)
spent.json     where studies have a limit: the seconds this one has had
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import files, presence, runs, search
from .records import BadInput, Plan, Settings
from .strategies import given, knobs, write_plan


@dataclass(frozen=True)
class Study:
    """The question of a study. `knobs` are those given, by strategy; others take their defaults."""

    name: str
    data: str
    data_hash: str
    classes: tuple[str, ...]
    backbones: tuple[str, ...]
    strategies: tuple[str, ...]
    seeds: tuple[int, ...]
    weights: dict  # {kind: pretrained | random | file, name, checksum}, the last two of a file
    settings: Settings
    knobs: dict[str, dict]
    version: str = "1"

    def same_question(self, other: Study) -> bool:
        """Whether the two differ in nothing but which backbones, strategies and seeds they hold."""
        return self.shared() == other.shared()

    def joined(self, other: Study) -> Study:
        """This study extended by what the other asks for beyond it."""
        parts = ("backbones", "strategies", "seeds")
        both = {p: tuple(dict.fromkeys(getattr(self, p) + getattr(other, p))) for p in parts}
        return replace(self, **both)

    def shared(self) -> dict:
        """The part of the question that all its runs share; a weights file counts, not its name."""
        weights = {**self.weights, "name": None}
        reach = dict(name="", backbones=(), strategies=(), seeds=(), weights=weights)
        return asdict(replace(self, **reach))

    def digest(self) -> str:
        """Six letters for the shared part; what is not asked of it leaves older names alone."""
        shared = self.shared()
        if shared["settings"]["views"] is None:
            del shared["settings"]["views"]
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:6]


@dataclass(frozen=True)
class Cell:
    """One run of a study: backbone, strategy, seed, and the learning rate if it is a candidate."""

    backbone: str
    strategy: str
    seed: int
    candidate: float | None = None

    @property
    def name(self) -> str:
        rate = "" if self.candidate is None else f"-lr{self.candidate:g}"
        return f"{self.strategy}-{self.backbone}{rate}-s{self.seed}"

    def folder(self, study: Path) -> Path:
        return study / self.name if self.candidate is None else study / "tuning" / self.name

    def finished(self, study: Path) -> bool:
        return (self.folder(study) / "result.json").exists()

    def failed(self, study: Path) -> bool:
        return (self.folder(study) / "error.txt").exists()


def save(folder: Path, study: Study) -> None:
    """Write study.json, making the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / "study.json", asdict(study))


def read(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        BadInput: the folder holds none, or none that this ftlab can read.
    """
    record = files.read_json(folder / "study.json")
    if record is None:
        raise BadInput(f"There is no study {folder.name!r}; `ftlab studies` lists them.")
    try:
        if record["version"] != Study.version:
            raise BadInput(f"The study {folder.name} was made by a newer ftlab: update this one.")
        tuples = {k: tuple(record[k]) for k in ("classes", "backbones", "strategies", "seeds")}
        return Study(**{**record, **tuples, "settings": Settings(**record["settings"])})
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder.name}/study.json is damaged: it describes no study.") from error


def cells(study: Study) -> list[Cell]:
    """The runs in the order they are trained: seed by seed, so that early answers compare all."""
    return [
        Cell(backbone, strategy, seed)
        for seed in study.seeds
        for backbone in study.backbones
        for strategy in study.strategies
    ]


def finished(folder: Path, study: Study, chosen: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """The finished runs, or the chosen ones among them: with their weights here, and without.

    Raises:
        BadInput: none has finished, or one of the chosen has not.
    """
    have = [cell.name for cell in cells(study) if cell.finished(folder)]
    if not have:
        raise BadInput(f"No run of the study {study.name} has finished.")
    for name in chosen:
        if name not in have:
            raise BadInput(f"The study {study.name} has no finished run {name!r}: `ftlab runs`.")
    wanted = [name for name in have if not chosen or name in chosen]
    able = [name for name in wanted if (folder / name / "best.safetensors").exists()]
    return able, [name for name in wanted if name not in able]


def with_weights(
    folder: Path, study: Study, chosen: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """As `finished`.

    Raises:
        BadInput: also where none has its weights here.
    """
    able, absent = finished(folder, study, chosen)
    if not able:
        which = "those runs" if chosen else "its runs"
        raise BadInput(f"The study {study.name} is here without the weights of {which}.")
    return able, absent


def plan_of(study: Study, cell: Cell, layout, lr: float | None) -> tuple[Plan, dict]:
    """(plan, all knobs of the strategy as used) of a cell; lr None: given, else the default."""
    own = given(cell.strategy, study.knobs)
    lr = cell.candidate or lr
    if lr is None and isinstance(study.settings.lr, float):
        lr = study.settings.lr
    if lr is not None:
        own = {"lr": lr, **own}
    plan = write_plan(cell.strategy, layout, study.settings.epochs, **own)
    return plan, {**knobs(cell.strategy), **own}


def run_states(folder: Path, study: Study) -> dict[str, str]:
    """Run name -> queued, running, stopped, interrupted, failed or finished."""
    worker = presence.at_work(folder)
    now = {worker["run"], *worker["beside"]} - {None} if worker else set()
    stopped = (folder / "stopped").exists()
    names = (cell.name for cell in cells(study))
    return {name: runs.state(folder / name, now, stopped) for name in names}


def state(folder: Path, study: Study) -> str:
    """running, stopped, interrupted, failed, finished, or queued: the study as a whole."""
    if presence.locked(folder):
        return "running"
    if (folder / "error.txt").exists():
        return "failed"
    states = set(run_states(folder, study).values())
    if states <= {"finished", "failed"} and not search.goes_on(folder, study):
        return "finished" if "finished" in states else "failed"
    if (folder / "stopped").exists():
        return "stopped"
    return "queued" if states == {"queued"} else "interrupted"
