"""The worker: takes queued studies in order and gives each a fresh interpreter of its own.

The queue is a small SQLite table of what the folders cannot say: order, owner, process, attempts.
A job is an interpreter running `python -m ftlab.worker STUDY_FOLDER`, which works through the
study's runs; start, poll and stop are all the worker asks of it, so that a cluster can stand where
the local process stands. An interpreter that dies is replaced; a run that takes its interpreter
down three times is failed and the study goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from . import files, presence, runs, schedule, studies
from .records import BadInput

ATTEMPTS = 3
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 10.0  # between asking a job to stop and killing it


class StopFlag:
    """Becomes true at SIGINT or SIGTERM; a second signal interrupts at once."""

    def __init__(self):
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number, _frame):
        if self.signal:
            raise KeyboardInterrupt
        self.signal = number

    def __call__(self) -> bool:
        return bool(self.signal)


# --- the queue ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _queue(home: Path) -> Iterator[sqlite3.Connection]:
    """The queue's table, in one transaction."""
    home.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(home / "queue.sqlite", timeout=30, isolation_level=None)
    except sqlite3.Error as error:
        raise BadInput(f"The queue cannot be opened: {error}.") from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS queue (position INTEGER PRIMARY KEY AUTOINCREMENT,"
            " study TEXT UNIQUE, owner TEXT, pid INTEGER, pid_start REAL,"
            " run TEXT, attempts INTEGER DEFAULT 0)"
        )
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise BadInput(f"The queue cannot be used: {error}.") from error
    finally:
        connection.close()


def enqueue(home: Path, study: str, owner: str = "") -> None:
    """Put a study at the end of the queue; one that waits already keeps its place."""
    with _queue(home) as queue:
        queue.execute("INSERT OR IGNORE INTO queue (study, owner) VALUES (?, ?)", (study, owner))


def dequeue(home: Path, study: str) -> None:
    """Take a study off the queue, if it is there."""
    with _queue(home) as queue:
        queue.execute("DELETE FROM queue WHERE study = ?", (study,))


def queued(home: Path) -> list[dict]:
    """What waits or runs, in order: {study, owner, pid, pid_start, run, attempts}."""
    with _queue(home) as queue:
        return [dict(row) for row in queue.execute("SELECT * FROM queue ORDER BY position")]


def _note(home: Path, study: str, **columns) -> bool:
    """Write columns of a study's row; whether it is (still) in the queue."""
    names = ", ".join(f"{name} = ?" for name in columns)
    change = f"UPDATE queue SET {names} WHERE study = ?"
    with _queue(home) as queue:
        return bool(queue.execute(change, (*columns.values(), study)).rowcount)


# --- a job: start, poll, stop ------------------------------------------------------------------


def start(home: Path, folder: Path) -> tuple[int, float | None]:
    """A new interpreter at work on a study: (pid, start time)."""
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ftlab.worker", str(folder)],
            env={**os.environ, "FTLAB_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return process.pid, presence.process_start(process.pid)


def poll(pid: int | None, pid_start: float | None) -> bool:
    """Whether that very process is still there: the number alone may be another's by now."""
    if not pid:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return pid_start is not None and presence.process_start(pid) == pid_start


def stop(pid: int, pid_start: float | None) -> None:
    """Ask the job to end at its next step; kill it if it does not."""
    for number, patience in ((signal.SIGTERM, PATIENCE_SECONDS), (signal.SIGKILL, 1.0)):
        if not poll(pid, pid_start):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + patience
        while poll(pid, pid_start) and time.monotonic() < until:
            time.sleep(0.05)


def stop_study(home: Path, folder: Path) -> bool:
    """Stop whoever works on a study and take it off the queue; whether somebody was."""
    rows = [row for row in queued(home) if row["study"] == folder.name]
    dequeue(home, folder.name)
    if studies.state(folder, studies.read(folder)) != "finished":
        (folder / "stopped").touch()
    at_work = presence.at_work(folder)
    jobs = {(row["pid"], row["pid_start"]) for row in rows}  # one that starts holds no lock yet
    jobs |= {(at_work["pid"], at_work["start"])} if at_work else set()
    jobs = {job for job in jobs if poll(*job)}
    for job in jobs:
        stop(*job)
    return bool(jobs)


# --- the worker --------------------------------------------------------------------------------


def ensure(home: Path) -> bool:
    """Start a worker of its own, which outlives this process, if none serves; whether it did."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "worker.lock", "a") as lock, open(home / "worker.log", "a") as log:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(lock, fcntl.LOCK_UN)  # it is the worker's to hold
        subprocess.Popen(
            [sys.executable, "-m", "ftlab", "worker"],
            env={**os.environ, "FTLAB_HOME": str(home.resolve())},
            cwd=Path(__file__).parent.parent,  # where ftlab is, installed or not
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return True


def begin(home: Path, folder: Path, owner: str = "") -> str:
    """Queue a study and see that a worker serves; the study's name."""
    enqueue(home, folder.name, owner)
    ensure(home)
    return folder.name


def resume(home: Path, folder: Path, owner: str = "") -> str:
    """`begin` a study again, which was stopped, interrupted or has runs that failed.

    Raises:
        BadInput: the study is being worked on or has nothing left to do.
    """
    study = studies.read(folder)
    if presence.locked(folder):
        raise presence.busy(folder)
    if all(cell.finished(folder) for cell in studies.cells(study)):
        raise BadInput(f"The study {study.name} is finished: there is nothing left to train.")
    (folder / "stopped").unlink(missing_ok=True)
    schedule.forgive(folder, study)
    return begin(home, folder, owner)


def serve(home: Path, checkpoints: Path, until_empty: bool, stopped: StopFlag) -> Iterator[dict]:
    """Take queued studies in order until stopped, or until none waits; yields {study, event}.

    Raises:
        BadInput: another worker serves this home.
    """
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "worker.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput("A worker is at work on this queue already; one is enough.") from None
        while not stopped():
            waiting = queued(home)
            if waiting:
                yield from _attend(home, checkpoints / waiting[0]["study"], waiting[0], stopped)
            elif until_empty:
                return
            else:
                time.sleep(POLL_SECONDS)


def _attend(home: Path, folder: Path, row: dict, stopped: StopFlag) -> Iterator[dict]:
    """Start (or adopt) the job of one study and see it to its end."""
    if not (folder / "study.json").exists():
        dequeue(home, folder.name)
        return
    job = row["pid"], row["pid_start"]
    other = presence.at_work(folder)
    theirs = other is not None and (other["pid"], other["start"]) != job
    if theirs:  # somebody's `ftlab compare`: wait for it, and never stop it
        job = other["pid"], other["start"]
    if poll(*job):
        yield {"study": folder.name, "event": "found at work"}
    else:
        job = start(home, folder)
        if not _note(home, folder.name, pid=job[0], pid_start=job[1]):
            stop(*job)  # taken off the queue meanwhile
            return
        yield {"study": folder.name, "event": "started"}
    while poll(*job):
        if stopped():
            if not theirs:
                stop(*job)
            return
        time.sleep(POLL_SECONDS)
    yield {"study": folder.name, "event": _after(home, folder, row)}


def _after(home: Path, folder: Path, row: dict) -> str:
    """Decide, from the study's folder, whether the job that ended is done, stopped or died."""
    state = studies.state(folder, studies.read(folder))
    if state in ("finished", "failed", "stopped"):
        dequeue(home, folder.name)
        return state
    left = files.read_json(folder / "worker.json")  # left behind by a process that was killed
    run = (left and left["at"]) or ""
    attempts = row["attempts"] + 1 if row["run"] == run else 1
    _note(home, folder.name, pid=None, pid_start=None, run=run, attempts=attempts)
    if attempts < ATTEMPTS:
        return f"died at {run or 'its start'}, starting again"
    reason = f"This took its interpreter down {ATTEMPTS} times; memory may be too small for it."
    runs.fail(folder / run, reason)
    if run:
        return f"{run} failed, going on"
    dequeue(home, folder.name)
    return "failed"


def main(folder: Path) -> int:
    """One job: work through the study in `folder`; 0 done or stopped, 2 it cannot be worked on."""
    home = Path(os.environ["FTLAB_HOME"])
    try:
        for _ in schedule.work(folder, home, StopFlag()):
            pass
    except presence.Busy as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        traceback.print_exc()  # into the study's log
        reason = str(error) if isinstance(error, BadInput) else files.in_words(error)
        runs.fail(folder, reason)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
