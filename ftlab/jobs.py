"""A job: an interpreter at work on a study, as `python -m ftlab.worker STUDY_FOLDER`.

start, poll and stop are all that the worker asks of it, so that a cluster can stand where the local
process stands; `Pulse` finds one that is there and does nothing any more.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from . import presence

PATIENCE_SECONDS = 10.0  # for a job that was asked to stop, and then for one that was killed
HANG_SECONDS = 100.0  # without any processor time, after which a job is taken to hang
LAST_WORDS_SECONDS = 1.0  # for it to say where it stands


def start(folder: Path) -> tuple[int, float | None]:
    """A new interpreter at work on a study, in the study's own home: (pid, start time)."""
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ftlab.worker", str(folder)],
            env={**os.environ, "FTLAB_HOME": str(folder.parent.parent)},
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
    """Ask the job to end at its next step; kill it if it does not, and see that it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not poll(pid, pid_start):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        until = time.monotonic() + PATIENCE_SECONDS
        while poll(pid, pid_start) and time.monotonic() < until:
            time.sleep(0.05)


class Pulse:
    """Whether a job still does anything: one that waits for ever uses no processor time.

    What it writes would not tell: to read a large data set takes long and writes nothing.
    """

    def __init__(self, pid: int, pid_start: float | None):
        self.job, self.used, self.since = (pid, pid_start), None, time.monotonic()

    def check(self) -> None:
        """Kill the job if it has hung for HANG_SECONDS; its study's log says where. Ask often."""
        used, now = presence.cpu_seconds(self.job[0]), time.monotonic()
        if used != self.used:
            self.used, self.since = used, now
        if now - self.since < HANG_SECONDS:
            return
        for number, patience in (
            (signal.SIGCONT, 0.0),  # else one that was halted would say nothing
            (signal.SIGUSR1, LAST_WORDS_SECONDS),
            (signal.SIGKILL, 0.0),
        ):
            if poll(*self.job):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.job[0], number)
                time.sleep(patience)
