"""The worker: takes queued studies in order and gives each a fresh interpreter of its own.

A job (`ftlab.jobs`) is an interpreter running `python -m ftlab.worker STUDY_FOLDER`, which works
through the study's runs. One that dies, or hangs and is killed, is replaced; a run that takes its
interpreter down three times is failed and the study goes on. While other people wait, a study goes
back into the queue (`ftlab.queue`) at the end of the epoch in which its turn ends: nothing is lost
by that, because a run that is resumed between epochs is the run that was never stopped.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import functools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from . import files, homes, presence, queue, runs, schedule, search, studies
from .jobs import Pulse, poll, start, stop
from .records import BadInput

ATTEMPTS = 3
POLL_SECONDS = 0.5
TURN_SECONDS = 120.0  # that a study has the machine for itself while other people wait


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


def stop_study(home: Path, folder: Path) -> bool:
    """Stop whoever works on a study and take it off the queue; whether either was to be done."""
    row = queue.row(home, folder)
    queue.remove(home, folder)
    _mark_stopped(folder)
    at_work = presence.at_work(folder)
    jobs = {(row["pid"], row["pid_start"])} if row else set()  # one that starts holds no lock yet
    jobs |= {(at_work["pid"], at_work["start"])} if at_work else set()
    jobs = {job for job in jobs if poll(*job)}
    for job in jobs:
        stop(*job)
    if not queue.row(home, folder):  # nobody has asked for it again meanwhile
        _mark_stopped(folder)  # a job that had just begun took the mark away
    return bool(jobs) or row is not None


def _mark_stopped(folder: Path) -> None:
    if studies.state(folder, studies.read(folder)) != "finished":
        (folder / "stopped").touch()


# --- the worker --------------------------------------------------------------------------------


def ensure(home: Path) -> bool:
    """Start a worker of its own, which outlives this process, if none serves; whether it did."""
    home = homes.trunk(home)
    home.mkdir(parents=True, exist_ok=True)
    if presence.held(home / "worker.lock"):
        return False
    with open(home / "worker.log", "a") as log:
        subprocess.Popen(
            [sys.executable, "-m", "ftlab", "worker"],
            env={**os.environ, "FTLAB_HOME": str(home)},
            cwd=Path(__file__).parent.parent,  # where ftlab is, installed or not
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return True


def begin(home: Path, folder: Path, owner: str = "", limit_seconds: float | None = None) -> str:
    """Queue a study, as `queue.add`, and see that a worker serves; the study's name."""
    queue.add(home, folder, owner, limit_seconds)
    ensure(home)
    return folder.name


def resume(home: Path, folder: Path, owner: str = "", limit_seconds: float | None = None) -> str:
    """`begin` a study again, which was stopped, interrupted or has runs that failed.

    Raises:
        BadInput: the study is being worked on, has nothing left to do or has had its time.
    """
    study = studies.read(folder)
    if presence.locked(folder):
        raise presence.busy(folder)
    all_there = all(cell.finished(folder) for cell in studies.cells(study))
    if all_there and not search.goes_on(folder, study):
        raise BadInput(f"The study {study.name} is finished: there is nothing left to train.")
    if limit_seconds and seconds_had(folder) >= limit_seconds:
        raise BadInput(_too_long(limit_seconds))
    (folder / "stopped").unlink(missing_ok=True)
    schedule.forgive(folder, study)
    return begin(home, folder, owner, limit_seconds)


def serve(home: Path, until_empty: bool, stopped: StopFlag) -> Iterator[dict]:
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
            waiting = queue.listed(home)
            if waiting:
                row, folder = waiting[0], home / waiting[0]["study"]
                try:
                    yield from _attend(home, folder, row, stopped)
                except queue.Unusable:
                    raise
                except (BadInput, FileNotFoundError) as error:  # those behind it have their turn
                    yield {"study": folder.name, "event": _give_up(home, folder, row, error)}
            elif until_empty:
                return
            else:
                time.sleep(POLL_SECONDS)


def _attend(home: Path, folder: Path, row: dict, stopped: StopFlag) -> Iterator[dict]:
    """Start (or adopt) the job of one study and see it to its end, or to that of its turn.

    Raises:
        BadInput, FileNotFoundError: the study is gone or damaged, perhaps only now.
    """
    studies.read(folder)
    job = row["pid"], row["pid_start"]
    other = presence.at_work(folder)
    theirs = other is not None and (other["pid"], other["start"]) != job
    if theirs:  # somebody's `ftlab compare`: wait for it, and never stop it
        job = other["pid"], other["start"]
    if poll(*job):
        yield {"study": folder.name, "event": "found at work"}
    else:
        job = start(folder)
        queue.serve(home, row["owner"])
        if not queue.note(home, row, pid=job[0], pid_start=job[1]):
            stop(*job)  # taken off the queue meanwhile
            return
        yield {"study": folder.name, "event": "started"}
    began, spent = time.monotonic(), seconds_had(folder)
    try:
        over = _see_through(home, folder, row, job, theirs, spent, stopped)
    finally:
        if row["limit_seconds"] and not theirs:
            with contextlib.suppress(OSError):  # the study may be gone
                taken = spent + time.monotonic() - began
                files.write_json(folder / "spent.json", {"seconds": taken})
    if over in ("limit", "turn"):
        queue.note(home, row, pid=None, pid_start=None)
        yield {"study": folder.name, "event": _put_back(home, folder, row, over)}
    elif not over:
        yield {"study": folder.name, "event": _after(home, folder, row)}


def _see_through(home, folder, row, job, theirs: bool, spent: float, stopped) -> str:
    """Wait for a job: "" once it has ended, else why it was left: "stopped", "limit" or "turn".

    spent: seconds the study has had before.
    """
    began, written, pulse = time.monotonic(), _written(folder), Pulse(*job)
    while poll(*job):
        if stopped():
            if not theirs:
                stop(*job)
            return "stopped"
        time.sleep(POLL_SECONDS)
        studies.read(folder)  # it may be deleted by hand: then its job has nothing to do
        before, written = written, _written(folder)
        if theirs:
            continue
        pulse.check()
        if over := _over(home, row, spent, time.monotonic() - began, written > before):
            stop(*job)
            return over
    return ""


def seconds_had(folder: Path) -> float:
    """Seconds that a study has had, of those it may take."""
    return (files.read_json(folder / "spent.json") or {"seconds": 0.0})["seconds"]


def _written(folder: Path) -> int:
    """How much all diaries of a study hold: more when an epoch has just ended."""
    return sum(path.stat().st_size for path in folder.rglob("epochs.jsonl"))


def _give_up(home: Path, folder: Path, row: dict, reason: Exception) -> str:
    """Let go of a study that is gone or cannot be read, and end its job; what became of it."""
    now = next((r for r in queue.listed(home) if r["position"] == row["position"]), row)
    stop(now["pid"], now["pid_start"])
    queue.drop(home, row)
    if not (folder / "study.json").exists():
        return "gone"
    runs.fail(folder, files.in_words(reason))
    return "failed"


def _over(home: Path, row: dict, spent: float, seconds: float, epoch_ended: bool) -> str:
    """Why a job has to end now, after so many seconds: "limit" or "turn"; "" where it need not."""
    if row["limit_seconds"] and spent + seconds > row["limit_seconds"]:
        return "limit"
    if epoch_ended and seconds > TURN_SECONDS:
        return "turn" if any(r["owner"] != row["owner"] for r in queue.listed(home)) else ""
    return ""


def _put_back(home: Path, folder: Path, row: dict, over: str) -> str:
    """What becomes of a study whose job was ended before its time: it waits again, or fails."""
    if studies.state(folder, studies.read(folder)) == "finished":  # just so
        queue.drop(home, row)
        return "finished"
    if over == "turn":
        return "waits for its next turn"
    runs.fail(folder, _too_long(row["limit_seconds"]))
    queue.drop(home, row)
    return "failed"


def _too_long(limit_seconds: float) -> str:
    minutes = round(limit_seconds / 60, 1)
    return f"This took the {minutes:g} minutes it may take here; what is done is kept."


def _after(home: Path, folder: Path, row: dict) -> str:
    """Decide, from the study's folder, whether the job that ended is done, stopped or died.

    Only this row is touched: who resumes a study that has just stopped has written another.
    """
    state = studies.state(folder, studies.read(folder))
    if state in ("finished", "failed", "stopped"):
        queue.drop(home, row)
        return state
    left = files.read_json(folder / "worker.json")  # left behind by a process that was killed
    run = (left and left["at"]) or ""
    attempts = row["attempts"] + 1 if row["run"] == run else 1
    if not queue.note(home, row, pid=None, pid_start=None, run=run, attempts=attempts):
        return "stopped"
    if attempts < ATTEMPTS:
        return f"died at {run or 'its start'}, starting again"
    reason = f"This took its interpreter down {ATTEMPTS} times; memory may be too small for it."
    runs.fail(folder / run, reason)
    if run:
        return f"{run} failed, going on"
    queue.drop(home, row)
    return "failed"


def main(folder: Path) -> int:
    """One job: work through the study in `folder`; 0 done or stopped, 2 it cannot be worked on."""
    home = Path(os.environ["FTLAB_HOME"])
    faulthandler.register(signal.SIGUSR1)  # says where it stands when a worker takes it to hang
    flag = functools.cache(StopFlag)  # made when first asked: before, SIGTERM may end it at once
    try:
        for _ in schedule.work(folder, home, lambda: flag()()):
            pass
    except presence.Busy as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        with contextlib.suppress(OSError):  # where there is room for it
            traceback.print_exc()  # into the study's log
        if (folder / "study.json").exists():  # else somebody has deleted it meanwhile
            runs.fail(folder, files.in_words(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
