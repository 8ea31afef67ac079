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
from collections.abc import Iterator
from pathlib import Path

from . import runs, studies
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
    connection = sqlite3.connect(home / "queue.sqlite", timeout=30, isolation_level=None)
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
    finally:
        connection.close()


def enqueue(home: Path, study: str, owner: str = "") -> None:
    """Put a study at the end of the queue; one that waits already keeps its place."""
    with _queue(home) as queue:
        queue.execute("INSERT OR IGNORE INTO queue (study, owner) VALUES (?, ?)", (study, owner))


def dequeue(home: Path, study: str) -> None:
    with _queue(home) as queue:
        queue.execute("DELETE FROM queue WHERE study = ?", (study,))


def queued(home: Path) -> list[dict]:
    """What waits or runs, in order: {study, owner, pid, pid_start, run, attempts}."""
    with _queue(home) as queue:
        return [dict(row) for row in queue.execute("SELECT * FROM queue ORDER BY position")]


def _note(home: Path, study: str, **columns) -> None:
    names = ", ".join(f"{name} = ?" for name in columns)
    with _queue(home) as queue:
        queue.execute(f"UPDATE queue SET {names} WHERE study = ?", (*columns.values(), study))


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
    return process.pid, studies.process_start(process.pid)


def poll(pid: int | None, pid_start: float | None) -> bool:
    """Whether that very process is still there: the number alone may be another's by now."""
    if not pid:
        return False
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return pid_start is not None and studies.process_start(pid) == pid_start


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
    dequeue(home, folder.name)
    (folder / "stopped").touch()
    worker = studies.at_work(folder)
    if worker:
        stop(worker["pid"], worker["start"])
    return bool(worker)


# --- the worker --------------------------------------------------------------------------------


def serve(home: Path, checkpoints: Path, until_empty: bool, stopped: StopFlag) -> Iterator[str]:
    """Take queued studies in order until stopped, or until none waits; yields lines to show.

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


def _attend(home: Path, folder: Path, row: dict, stopped: StopFlag) -> Iterator[str]:
    """Start (or adopt) the job of one study and see it to its end."""
    if not (folder / "study.json").exists():
        dequeue(home, folder.name)
        return
    if poll(row["pid"], row["pid_start"]):
        pid, pid_start = row["pid"], row["pid_start"]
        yield f"{folder.name}: found at work"
    else:
        pid, pid_start = start(home, folder)
        _note(home, folder.name, pid=pid, pid_start=pid_start)
        yield f"{folder.name}: started"
    while poll(pid, pid_start):
        if stopped():
            stop(pid, pid_start)
            return
        time.sleep(POLL_SECONDS)
    yield _after(home, folder, row)


def _after(home: Path, folder: Path, row: dict) -> str:
    """Decide, from the study's folder, whether the job that ended is done, stopped or died."""
    study = studies.read(folder)
    died_at = runs.read_json(folder / "worker.json")  # left behind by a process that was killed
    if studies.state(folder, study) in ("finished", "failed", "stopped"):
        dequeue(home, folder.name)
        return f"{folder.name}: {studies.state(folder, study)}"
    run = died_at["run"] if died_at else ""
    attempts = row["attempts"] + 1 if row["run"] == run else 1
    _note(home, folder.name, pid=None, pid_start=None, run=run, attempts=attempts)
    if attempts < ATTEMPTS:
        return f"{folder.name}: died at {run or 'its start'}, starting again"
    reason = f"This took its interpreter down {ATTEMPTS} times; memory may be too small for it."
    if run:
        runs.write_text(folder / run / "error.txt", reason + "\n")
        return f"{folder.name}: {run} failed, going on"
    runs.write_text(folder / "error.txt", reason + "\n")
    dequeue(home, folder.name)
    return f"{folder.name}: failed"


def main(folder: Path) -> int:
    """One job: work through the study in `folder`; 0 done or stopped, 2 it cannot be worked on."""
    home = Path(os.environ["FTLAB_HOME"])
    try:
        for _ in studies.work(folder, home, StopFlag()):
            pass
    except BadInput as error:
        runs.write_text(folder / "error.txt", f"{error}\n")
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
