"""What a study still has to train, how long that will take, and the working through it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import lanes, presence, runs, search, studies, tuning
from .studies import Cell, Study, cells, read

if TYPE_CHECKING:
    from .context import Context

NEWS_SECONDS = 0.2  # to wait for news of companions before asking again whether to stop


def work(folder: Path, home: Path, stop: Callable[[], bool]) -> Iterator[dict]:
    """Work through a study's runs, yielding an event before and after each and after each epoch.

    Events: {event: started, run, epochs}, {event: epoch, run, ...}, {event: finished, run, ...},
    {event: failed, run, reason}. A run that fails is written down in words and the study goes on.
    Where a search finds out what to train next: {event: search, strategies}.

    Args:
        home: the folder that holds data/ and cache/.
        stop: asked before every step; once true, whole epochs are kept and the work ends.
    """
    from .context import prepare  # and with it torch, only where something trains

    with presence.lock(folder):
        (folder / "error.txt").unlink(missing_ok=True)
        context = prepare(folder, read(folder), home)
        board = lanes.Board(folder, context.study, _ready)
        left = _left(folder, context.study)
        for backbone in {cell.backbone for cell in left}:
            with contextlib.suppress(Exception):  # its runs will say in words what is wrong
                context.settings(backbone)  # before there are lanes, in which it could differ
        side_by_side = lanes.number(context, left)
        with lanes.company(context, board, side_by_side):
            while True:
                yield from _train(context, board, stop)
                if stop():
                    return
                if (asked := read(folder)) != context.study:  # somebody asked for more meanwhile
                    context.study = asked
                elif search.goes_on(folder, asked):
                    yield _search_on(context)
                else:
                    return
                board.study = context.study


def _train(context: Context, board: lanes.Board, stop: Callable[[], bool]) -> Iterator[dict]:
    """Train what the study holds and has no answer yet, here and in whatever lanes there are."""
    from . import training

    folder, study = context.folder, context.study
    while not stop():
        for cell in cells(study):
            tuning.drop_weights(folder, study, cell)
        if cell := board.take(os.getpid()):
            for event in training.train(context, cell, stop):
                yield event
                yield from board.heard()
        elif board.at:
            yield from board.heard(NEWS_SECONDS)
        else:
            yield from board.heard()
            return


def _ready(folder: Path, study: Study, at: Collection[Cell]) -> Cell | None:
    """The next run or candidate that can begin, but for those at work; candidates come first."""
    for cell in cells(study):
        left = waiting(folder, study, cell)
        tried = [each for each in left if each.candidate is not None]
        for each in tried or left:
            if each not in at:
                return each
    return None


def _search_on(context: Context) -> dict:
    """Let the study's search ask for what it needs next; the event that says so."""
    folder = context.folder
    found = search.read(folder, context.study)
    if found.unranked:
        from . import readout

        readout.rank(context, found.backbone, found.search.metric)
        found = search.read(folder, context.study)
    more = replace(context.study, strategies=found.lacks)
    context.study = read(folder).joined(more)  # somebody may have asked for more meanwhile
    studies.save(folder, context.study)
    return {"event": "search", "strategies": list(found.lacks)}


def _left(folder: Path, study: Study) -> set[Cell]:
    """All runs and candidates that are still to be trained."""
    return {each for cell in cells(study) for each in waiting(folder, study, cell)}


def _unfinished(folder: Path, study: Study, cell: Cell) -> list[Cell]:
    """What has no answer yet of a cell: candidates, unless their choice is made, and the run."""
    chosen = tuning.first(study, cell).finished(folder)
    tried = [] if chosen else tuning.candidates(study, cell)
    return [each for each in (*tried, cell) if not each.finished(folder)]


def waiting(folder: Path, study: Study, cell: Cell) -> list[Cell]:
    """What is left to train of a cell, its candidates first; nothing of one that failed."""
    if cell.finished(folder) or cell.failed(folder):
        return []
    return [each for each in _unfinished(folder, study, cell) if not each.failed(folder)]


def forgive(folder: Path, study: Study) -> None:
    """Let what failed be tried again, but no candidate beside a choice that is made."""
    (folder / "error.txt").unlink(missing_ok=True)
    for cell in cells(study):
        for each in _unfinished(folder, study, cell):
            (each.folder(folder) / "error.txt").unlink(missing_ok=True)


def progress(folder: Path, study: Study) -> dict:
    """{epochs_done, epochs, seconds_left}, candidates included.

    seconds_left is estimated from the epochs done so far, each strategy's own mean where it has
    one, else the mean of all; None before the first epoch.
    """
    spent: dict[tuple[str, str], list[float]] = {}
    left: dict[tuple[str, str], int] = {}
    to_train = _left(folder, study)
    for cell, planned in _schedule(study):
        epochs, own = runs.diary(cell.folder(folder)), (cell.backbone, cell.strategy)
        spent.setdefault(own, []).extend(epoch.seconds for epoch in epochs[:planned])
        over = cell not in to_train or not planned
        left[own] = left.get(own, 0) + (0 if over else planned - len(epochs))
    every = [seconds for own in spent.values() for seconds in own]
    mean = sum(every) / len(every) if every else None
    rates = {own: sum(s) / len(s) if s else mean for own, s in spent.items()}
    remaining = sum(n * rates[own] for own, n in left.items()) if every else None
    done = len(every)
    if at_work := presence.at_work(folder):
        remaining = remaining and remaining / (1 + len(at_work["beside"]))
    return {"epochs_done": done, "epochs": done + sum(left.values()), "seconds_left": remaining}


def _schedule(study: Study) -> Iterator[tuple[Cell, int]]:
    """(run or candidate, epochs it has to train): a tuned run of the first seed trains none."""
    for cell in cells(study):
        tried = tuning.candidates(study, cell)
        first = bool(tried) and cell == tuning.first(study, cell)
        yield cell, 0 if first else study.settings.epochs
        if first:
            yield from ((candidate, study.settings.epochs) for candidate in tried)
