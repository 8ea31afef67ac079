"""How a study is getting on, from small files only: cheap enough to ask every second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from . import queue, runs, schedule, studies, tuning
from .studies import Cell, Study

SHOWN = ("epoch", "phase", "train_loss", "val", "seconds", "lrs", "best")


def summaries(home: Path, found: Iterable[tuple[Path, Study]]) -> list[dict]:
    """[{study, data, classes, backbones, strategies, seeds, state}] of studies."""
    waiting = _waiting(home)
    return [_summary(folder, study, queue.key(home, folder) in waiting) for folder, study in found]


def state(home: Path, folder: Path, study: Study) -> str:
    """As `studies.state`, but a study that waits in the queue is queued."""
    return _state(folder, study, queue.key(home, folder) in _waiting(home))


def _waiting(home: Path) -> list[str]:
    return [row["study"] for row in queue.listed(home)]


def _summary(folder: Path, study: Study, waits: bool) -> dict:
    kept = ("data", "classes", "backbones", "strategies", "seeds")
    asked = {key: getattr(study, key) for key in kept}
    return {"study": study.name, **asked, "state": _state(folder, study, waits)}


def _state(folder: Path, study: Study, waits: bool) -> str:
    """A study that waits in the queue is queued, whatever stopped it before."""
    state = studies.state(folder, study)
    return "queued" if waits and state not in ("running", "finished") else state


def watch(home: Path, folder: Path) -> dict:
    """{study, state, reason, ahead, epochs_done, epochs, seconds_left, runs} of a study.

    runs: [{run, strategy, backbone, seed, state, epochs_done, epochs, reason}], the epochs of a
    first seed's run under --lr auto being those of its candidates. reason: why it failed, else
    None. ahead: how many studies of the queue come first, None where it waits in none.
    """
    study = studies.read(folder)
    states = studies.run_states(folder, study)
    waiting, own = _waiting(home), queue.key(home, folder)
    state = _state(folder, study, own in waiting)
    ahead = waiting.index(own) if state == "queued" and own in waiting else None
    rows = [_row(folder, study, cell, states[cell.name]) for cell in studies.cells(study)]
    return {
        "study": study.name,
        "state": state,
        "reason": runs.reason(folder) if state == "failed" else None,
        "ahead": ahead,
        **schedule.progress(folder, study),
        "runs": rows,
    }


def _row(folder: Path, study: Study, cell: Cell, state: str) -> dict:
    trains = [cell]
    if cell == tuning.first(study, cell):
        trains = tuning.candidates(study, cell) or trains
    done = sum(_epochs(each.folder(folder)) for each in trains)
    over = state in ("finished", "failed")
    return {
        "run": cell.name,
        "strategy": cell.strategy,
        "backbone": cell.backbone,
        "seed": cell.seed,
        "state": state,
        "epochs_done": done,
        "epochs": done if over else study.settings.epochs * len(trains),
        "reason": runs.reason(cell.folder(folder)) if state == "failed" else None,
    }


def _epochs(folder: Path) -> int:
    """How many epochs a diary has; a line that is being written does not count."""
    try:
        return (folder / "epochs.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def diaries(folder: Path) -> dict[str, list[dict]]:
    """{run: [{epoch, phase, train_loss, val, seconds, lrs, best}]} of all runs, some still []."""
    return {
        cell.name: [{k: asdict(e)[k] for k in SHOWN} for e in runs.diary(folder / cell.name)]
        for cell in studies.cells(studies.read(folder))
    }
