"""Lanes: interpreters side by side, each training one run of a study at a time.

A small network does not fill a processor: runs side by side, each with its share of the threads,
take less time than one after another with all of them (docs/benchmarks.md). So whoever works on a
study that has long to go (`ftlab.schedule`) takes companions, `python -m ftlab.lanes STUDY_FOLDER
THREADS`, tells each on its standard input what to train, and reads what happens from its standard
output. They hold the study's lock with it and die with it, so that nobody else begins while one of
them still writes. One that dies is not replaced: what it trained is trained by whoever took it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import files, presence
from .studies import Cell, Study, read

if TYPE_CHECKING:
    from .training import Context

MOST = 4
FILLED = 2e10  # multiply-accumulates of a batch that keep all cores busy
LONG = 2e11  # of a study, half a minute on two cores: below, a start costs more than it gains
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
def company(context: Context, board: Board, lanes: int, lock: int) -> Iterator[None]:
    """Companions that train what is on the board as long as this lasts, and end with it.

    Args:
        lanes: with the caller's own; each computes with its share of the threads.
        lock: the file descriptor of the study's lock.
    """
    context.threads //= lanes
    others, talks = [], []
    try:
        for _ in range(lanes - 1):
            others.append(_start(context, lock))
            talks.append(threading.Thread(target=_talk, args=(board, others[-1]), daemon=True))
            talks[-1].start()
        yield
    finally:
        with board.changed:
            board.over = True
            board.changed.notify_all()
        _end(others)
        for talk in talks:
            talk.join()


def _start(context: Context, lock: int) -> subprocess.Popen:
    given = str(context.folder), str(context.threads), str(os.getpid())
    with open(context.folder / "log.txt", "a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ftlab.lanes", *given],
            env={**os.environ, "FTLAB_HOME": str(context.cache.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            pass_fds=[lock],
            start_new_session=True,  # a terminal's Ctrl-C is for whoever took it
        )


def _talk(board: Board, companion: subprocess.Popen) -> None:
    """Tell a companion what to train, and pass on what it says, while there is anything."""
    with contextlib.suppress(OSError, ValueError):  # it is gone, perhaps in the middle of a line
        for line in companion.stdout:
            event = json.loads(line)
            if event != IDLE:
                board.events.put(event)
            elif cell := board.wait(companion.pid):
                companion.stdin.write(json.dumps(asdict(cell)) + "\n")
                companion.stdin.flush()
            else:
                break
    with board.changed:  # if it died, another takes the run it was at
        board.at.pop(companion.pid, None)
        board.note()


def _end(companions: list[subprocess.Popen]) -> None:
    for companion in companions:
        companion.send_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            companion.stdin.close()
    for companion in companions:
        try:
            companion.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            companion.kill()
            companion.wait()


# --- a companion's own side -----------------------------------------------------------------------


def main(folder: Path, threads: int, parent: int) -> None:
    """Train what standard input names, a line each, and say on standard output what happens."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    from . import training
    from .worker import StopFlag

    said = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is for the log
    stop = StopFlag()
    context = training.prepare(folder, read(folder), Path(os.environ["FTLAB_HOME"]))
    context.threads = threads
    print(json.dumps(IDLE), file=said)
    for line in sys.stdin:
        context.study = read(folder)  # a search may have asked for more meanwhile
        for event in training.train(context, Cell(**json.loads(line)), stop):
            print(json.dumps(files.plain(event)), file=said)
        if stop():
            return
        print(json.dumps(IDLE), file=said)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
