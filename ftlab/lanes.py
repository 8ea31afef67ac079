"""Lanes: processes side by side, each training one run of a study at a time.

A small network does not fill a processor: runs side by side, each with its share of the threads,
take less time than one after another with all of them (docs/benchmarks.md). So whoever works on a
study (`ftlab.schedule`) forks companions, tells each through a pipe what to train, and hears there
what happens. A fork has what is imported and open already, and shares the memory of it; CUDA knows
no forks, but there one lane is enough. Companions hold the study's lock with whoever took them and
die with them, so that nobody else begins while one of them still writes. One that dies is not
replaced: what it trained is trained by whoever took it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import presence
from .studies import Cell, Study, read

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from .context import Context

FORK = multiprocessing.get_context("fork")
MOST = 4
FILLED = 2e10  # multiply-accumulates of a batch that keep all cores busy
LONG = 2e10  # of a study, some seconds on two cores: below, there is nothing to gain
MEMORY_BYTES = 2 * 2**30  # that a companion may need
PATIENCE_SECONDS = 5.0  # for one that was asked to stop; then it is killed
PR_SET_PDEATHSIG = 1  # of Linux
IDLE = {"event": "idle"}  # a companion waits to be told what to train


def number(context: Context, left: Collection[Cell]) -> int:
    """How many runs to train at a time, of those that a study has left.

    One on a GPU, where a batch fills the cores, or where little is left; else as many as there are
    threads, runs and memory for, up to MOST. Operations are counted forward, as `ftlab.costs` does.
    """
    from . import costs

    if not left or context.device.type == "cuda":
        return 1
    settings, classes = context.study.settings, len(context.study.classes)
    macs = [costs.costs(c.backbone, "full", None, classes, settings.size)["macs"] for c in left]
    work = sum(macs) * settings.epochs * len(context.splits["train"])
    if max(macs) * settings.batch > FILLED or work < LONG:
        return 1
    return min(context.threads, MOST, len(left), 1 + _available_bytes() // MEMORY_BYTES)


def _available_bytes() -> int:
    """Memory that can be had without swapping."""
    with open("/proc/meminfo") as meminfo:
        (line,) = (line for line in meminfo if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


@dataclass
class Board:
    """Which runs are being trained, and by whom; shared by the threads of one process."""

    folder: Path
    study: Study
    ready: Callable[[Path, Study, Collection[Cell]], Cell | None]  # the next, but for those at work
    at: dict[int, Cell] = field(default_factory=dict)  # by process
    events: queue.SimpleQueue = field(default_factory=queue.SimpleQueue)  # of companions
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False

    def take(self, pid: int) -> Cell | None:
        """The next run for a process whose last one has ended; None where none can begin now."""
        with self.changed:
            before = self.at.pop(pid, None)
            if cell := self.ready(self.folder, self.study, self.at.values()):
                self.at[pid] = cell
            if cell or before:  # else those who wait would wake each other without end
                self.note()
                self.changed.notify_all()
            return cell

    def wait(self, pid: int) -> Cell | None:
        """As `take`, but wait until one can begin; None once all is over."""
        with self.changed:
            while not self.over:
                if cell := self.take(pid):
                    return cell
                self.changed.wait(1.0)
        return None

    def heard(self, seconds: float = 0.0) -> Iterator[dict]:
        """What companions have said, after waiting so long for the first word."""
        with contextlib.suppress(queue.Empty):
            yield self.events.get(seconds > 0, seconds)
            while True:
                yield self.events.get_nowait()

    def note(self) -> None:
        """Write worker.json; this process's own run is the one that may take it down."""
        own = self.at.get(os.getpid())
        place = own and own.folder(self.folder).relative_to(self.folder).as_posix()
        named = {pid: replace(cell, candidate=None).name for pid, cell in self.at.items()}
        presence.note(self.folder, named.pop(os.getpid(), None), place, [*named.values()])


@contextlib.contextmanager
def company(context: Context, board: Board, lanes: int) -> Iterator[None]:
    """Companions that train what is on the board as long as this lasts, and end with it.

    Args:
        lanes: with the caller's own; each computes with its share of the threads, of which the
            caller has all again in the end.
    """
    import torch

    threads = context.threads
    context.threads //= lanes
    if lanes > 1:
        gc.freeze()  # a collection writes into every object, and memory written to is not shared
    others, talks, begun = [], [], queue.SimpleQueue()
    try:
        for _ in range(lanes - 1):  # one by one: none may inherit another's end of a pipe
            talks.append(threading.Thread(target=_talk, args=(context, board, begun), daemon=True))
            talks[-1].start()
            others += begun.get()
        yield
    finally:
        with board.changed:
            board.over = True
            board.changed.notify_all()
        _end(others)
        for talk in talks:
            talk.join()
        if lanes > 1:
            gc.unfreeze()
        torch.set_num_threads(threads)


def _talk(context: Context, board: Board, begun: queue.SimpleQueue) -> None:
    """Fork a companion, tell it what to train, and pass on what it says, while there is anything.

    In a thread that has computed nothing, since OpenMP's threads belong to the thread that made
    them and a child has none of them; and that lasts as long as its companion, which dies with it.
    """
    pipe, far = FORK.Pipe()
    companion = FORK.Process(target=_train, args=(context, far, os.getpid()), daemon=True)
    try:
        companion.start()
    except OSError:  # no memory or no process left for it
        begun.put([])
        return
    far.close()
    begun.put([companion])
    with pipe, contextlib.suppress(EOFError, OSError):  # it is gone
        while True:
            event = pipe.recv()
            if event != IDLE:
                board.events.put(event)
            elif cell := board.wait(companion.pid):
                pipe.send(cell)
            else:
                break
    with board.changed:  # if it died, another takes the run it was at
        board.at.pop(companion.pid, None)
        board.note()


def _end(companions: list[BaseProcess]) -> None:
    for companion in companions:
        companion.terminate()
    for companion in companions:
        companion.join(PATIENCE_SECONDS)
        if companion.is_alive():
            companion.kill()
            companion.join()


# --- a companion's own side -----------------------------------------------------------------------


def _train(context: Context, pipe: Connection, parent: int) -> None:
    """Train the cells that come through a pipe, and say there what happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    from . import training
    from .worker import StopFlag

    os.setsid()  # a terminal's Ctrl-C is for whoever took it
    with open(context.folder / "log.txt", "a", encoding="utf-8") as log:
        for stream in (1, 2):  # whatever a library prints is for the log
            os.dup2(log.fileno(), stream)
    stop = StopFlag()
    while not stop():
        pipe.send(IDLE)
        cell = pipe.recv()
        context.study = read(context.folder)  # somebody may have asked for more meanwhile
        for event in training.train(context, cell, stop):
            pipe.send(event)
