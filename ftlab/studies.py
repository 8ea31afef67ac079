"""A study is a folder of runs that belong together: data set x backbones x strategies x seeds.

study.json     the question; written first, extended when strategies, backbones or seeds join
<run>/         one folder a run (ftlab.runs)
tuning/<run>/  with --lr auto: candidates that only chose a learning rate, never tested
worker.json    who works on it: pid, start time and the run at hand
stopped        somebody asked it to stop
lock           held by whoever works on it; the system lets it go when they die
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import runs
from .records import BadInput, Plan, Settings
from .strategies import knobs, write_plan

GRID = (1e-4, 1e-3, 1e-2)  # what --lr auto tries, for every strategy alike


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
    weights: dict  # {kind: imagenet | random | file, name, checksum}, the last two of a file
    settings: Settings
    knobs: dict[str, dict]
    version: str = "1"

    def same_question(self, other: Study) -> bool:
        """Whether the two differ in nothing but which backbones, strategies and seeds they hold."""
        reach = dict(name="", backbones=(), strategies=(), seeds=())
        return replace(self, **reach) == replace(other, **reach)

    def joined(self, other: Study) -> Study:
        """This study extended by what the other asks for beyond it."""
        parts = ("backbones", "strategies", "seeds")
        both = {p: tuple(dict.fromkeys(getattr(self, p) + getattr(other, p))) for p in parts}
        return replace(self, **both)

    def digest(self) -> str:
        """Six letters for the part of the question that all its runs share."""
        shared = asdict(replace(self, name="", backbones=(), strategies=(), seeds=()))
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


def save(folder: Path, study: Study) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_json(folder / "study.json", asdict(study))


def read(folder: Path) -> Study:
    """The study in a folder.

    Raises:
        BadInput: the folder holds none.
    """
    record = runs.read_json(folder / "study.json")
    if record is None:
        raise BadInput(f"There is no study {folder.name!r}; `ftlab studies` lists them.")
    tuples = {k: tuple(record[k]) for k in ("classes", "backbones", "strategies", "seeds")}
    return Study(**{**record, **tuples, "settings": Settings(**record["settings"])})


def cells(study: Study) -> list[Cell]:
    """The runs in the order they are trained: seed by seed, so that early answers compare all."""
    return [
        Cell(backbone, strategy, seed)
        for seed in study.seeds
        for backbone in study.backbones
        for strategy in study.strategies
    ]


def candidates(study: Study, cell: Cell) -> list[Cell]:
    """The tuning runs of a cell's backbone and strategy: the grid, with the study's first seed."""
    if study.settings.lr != "auto" or "lr" in study.knobs.get(cell.strategy, {}):
        return []
    return [replace(cell, seed=study.seeds[0], candidate=lr) for lr in GRID]


def chosen_lr(folder: Path, study: Study, cell: Cell) -> float | None:
    """The candidate with the best validation value; ties go to the smaller rate.

    None where there is nothing to choose. A candidate that failed is not chosen.

    Raises:
        BadInput: all candidates failed.
    """
    tried = candidates(study, cell)
    results = {c.candidate: runs.read_json(c.folder(folder) / "result.json") for c in tried}
    scored = {lr: r["selected"] for lr, r in results.items() if r}
    if tried and not scored:
        raise BadInput(f"No learning rate of the grid trains {cell.strategy}; see `ftlab status`.")
    return max(scored, key=lambda lr: (scored[lr], -lr)) if scored else None


def plan_of(study: Study, cell: Cell, layout, lr: float | None) -> tuple[Plan, dict]:
    """(plan, all knobs of the strategy as used) of a cell; lr None: given, else the default."""
    given = dict(study.knobs.get(cell.strategy, {}))
    lr = cell.candidate or lr
    if lr is None and isinstance(study.settings.lr, float):
        lr = study.settings.lr
    if lr is not None:
        given = {"lr": lr, **given}
    plan = write_plan(cell.strategy, layout, study.settings.epochs, **given)
    return plan, {**knobs(cell.strategy), **given}


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Be the only one at work on a study.

    Raises:
        BadInput: somebody else is.
    """
    with open(folder / "lock", "w") as file:
        if not _take(file):
            raise BadInput(
                f"The study {folder.name} is being worked on already; "
                f"`ftlab status {folder.name}` shows how far it is, `ftlab stop` stops it."
            )
        (folder / "stopped").unlink(missing_ok=True)
        try:
            yield
        finally:
            (folder / "worker.json").unlink(missing_ok=True)


def _take(file, seconds: float = 1.0) -> bool:
    """Take the lock; wait a moment, since whoever asks for the state holds it for an instant."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)


def locked(folder: Path) -> bool:
    try:
        with open(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def process_start(pid: int) -> float | None:
    """When a process started, in clock ticks since boot; None if it is not there."""
    try:
        return float(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def at_work(folder: Path) -> dict | None:
    """worker.json of whoever is working on the study now, or None."""
    return runs.read_json(folder / "worker.json") if locked(folder) else None


def run_states(folder: Path, study: Study) -> dict[str, str]:
    """Run name -> queued, running, stopped, interrupted, failed or finished."""
    worker = at_work(folder)
    now = worker and worker["run"]
    stopped = (folder / "stopped").exists()
    names = (cell.name for cell in cells(study))
    return {name: runs.state(folder / name, now, stopped) for name in names}


def state(folder: Path, study: Study) -> str:
    """running, stopped, interrupted, failed, finished, or queued: the study as a whole."""
    if locked(folder):
        return "running"
    if (folder / "error.txt").exists():
        return "failed"
    states = set(run_states(folder, study).values())
    if states <= {"finished", "failed"}:
        return "finished" if "finished" in states else "failed"
    if (folder / "stopped").exists():
        return "stopped"
    return "queued" if states == {"queued"} else "interrupted"


def work(folder: Path, home: Path, stop: Callable[[], bool]) -> Iterator[dict]:
    """Work through a study's runs, yielding an event before and after each and after each epoch.

    Events: {event: started, run, epochs}, {event: epoch, run, ...}, {event: finished, run, ...},
    {event: failed, run, reason}. A run that fails is written down in words and the study goes on.

    Args:
        home: the folder that holds data/ and cache/.
        stop: asked before every step; once true, whole epochs are kept and the work ends.
    """
    from . import training  # torch is imported only where something trains

    with lock(folder):
        study = read(folder)
        context = training.prepare(folder, study, home)
        for cell in cells(study):
            for each in (*candidates(study, cell), cell):
                if _done(each, folder):
                    continue
                if stop():
                    return
                note = {"pid": os.getpid(), "start": process_start(os.getpid()), "run": cell.name}
                runs.write_json(folder / "worker.json", {**note, "since": time.time()})
                yield from training.train(context, each, stop)


def _done(cell: Cell, folder: Path) -> bool:
    own = cell.folder(folder)
    return (own / "result.json").exists() or (own / "error.txt").exists()


def forgive(folder: Path, study: Study) -> None:
    """Let what failed be tried again."""
    (folder / "error.txt").unlink(missing_ok=True)
    for cell in cells(study):
        for each in (*candidates(study, cell), cell):
            (each.folder(folder) / "error.txt").unlink(missing_ok=True)


def progress(folder: Path, study: Study) -> dict:
    """{epochs_done, epochs, seconds_left}, candidates included.

    seconds_left is estimated from the epochs done so far, each strategy's own mean where it has
    one, else the mean of all; None before the first epoch.
    """
    spent: dict[tuple[str, str], list[float]] = {}
    left: dict[tuple[str, str], int] = {}
    for cell, planned in _schedule(study):
        epochs, own = runs.diary(cell.folder(folder)), (cell.backbone, cell.strategy)
        spent.setdefault(own, []).extend(epoch.seconds for epoch in epochs[:planned])
        over = _done(cell, folder) or not planned
        left[own] = left.get(own, 0) + (0 if over else planned - len(epochs))
    every = [seconds for own in spent.values() for seconds in own]
    mean = sum(every) / len(every) if every else None
    rates = {own: sum(s) / len(s) if s else mean for own, s in spent.items()}
    remaining = sum(n * rates[own] for own, n in left.items()) if every else None
    done = len(every)
    return {"epochs_done": done, "epochs": done + sum(left.values()), "seconds_left": remaining}


def _schedule(study: Study) -> Iterator[tuple[Cell, int]]:
    """(run or candidate, epochs it has to train): a tuned run of the first seed trains none."""
    for cell in cells(study):
        tried = candidates(study, cell)
        first = bool(tried) and cell.seed == study.seeds[0]
        yield cell, 0 if first else study.settings.epochs
        if first:
            yield from ((candidate, study.settings.epochs) for candidate in tried)
