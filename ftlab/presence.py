"""Who is at work on a study: a lock the system lets go when its holder dies, and a note."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import files
from .records import BadInput


class Busy(BadInput):
    """Somebody else is at work on the study."""


def busy(folder: Path) -> Busy:
    """The error to raise where somebody else is at work."""
    name = folder.name
    look = f"`ftlab status {name}` shows how far it is, `ftlab stop {name}` stops it"
    return Busy(f"The study {name} is being worked on already; {look}.")


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Be the only one at work on a study, with whoever is forked meanwhile.

    Raises:
        Busy: somebody else is.
    """
    with open(folder / "lock", "w") as file:
        if not _take(file):
            raise busy(folder)
        (folder / "stopped").unlink(missing_ok=True)
        files.sweep(folder)
        note(folder, None, None)
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
    """Whether somebody is at work on the study now."""
    return held(folder / "lock")


def held(lock: Path) -> bool:
    """Whether some process holds the lock that is this file."""
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def process_start(pid: int) -> float | None:
    """When a process started, in clock ticks since boot; None if it is not there (any more)."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        threads = len(os.listdir(f"/proc/{pid}/task"))  # of a dying one the last hold its locks
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state in "ZX" and threads < 2 else float(numbers[18])


def cpu_seconds(pid: int) -> float | None:
    """Processor time a process and its children have used; None if it is gone."""
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        listed = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return None
    own = sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")  # with those it waited for
    children = " ".join(listed).split()  # of each of its threads
    return own + sum(cpu_seconds(int(child)) or 0.0 for child in children)


def at_work(folder: Path) -> dict | None:
    """worker.json of whoever is working on the study now, or None."""
    return files.read_json(folder / "worker.json") if locked(folder) else None


def note(folder: Path, run: str | None, at: str | None, beside: Sequence[str] = ()) -> None:
    """worker.json: who works here, on which run, and at which folder (a candidate has its own).

    beside: the runs that its companions are at (`ftlab.lanes`).
    """
    pid = os.getpid()
    who = {"pid": pid, "start": process_start(pid), "since": time.time()}
    files.write_json(folder / "worker.json", {**who, "run": run, "at": at, "beside": list(beside)})
