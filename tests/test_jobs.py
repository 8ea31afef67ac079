"""Jobs that hang, that are stopped while they start, and processes that are somebody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tiny import ask, bands, wait_for

from ftlab import jobs, presence

REGISTERED = "import faulthandler, signal, time; faulthandler.register(signal.SIGUSR1); print(1); "


@pytest.fixture
def job(monkeypatch):
    """Start a process that runs some code; once it is ready: (Popen, its Pulse)."""
    monkeypatch.setattr(jobs, "HANG_SECONDS", 1.5)
    begun = []

    def start(code: str):
        process = subprocess.Popen(
            [sys.executable, "-uc", REGISTERED + code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        process.stdout.readline()
        return process, jobs.Pulse(process.pid, presence.process_start(process.pid))

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def checked(pulse: jobs.Pulse, seconds: float) -> None:
    until = time.monotonic() + seconds
    while jobs.poll(*pulse.job) and time.monotonic() < until:
        pulse.check()
        time.sleep(0.05)


@pytest.mark.parametrize("halted", [False, True])
def test_a_job_that_hangs_is_killed_and_says_where_it_stood(job, halted):
    process, pulse = job("time.sleep(600)")
    if halted:
        os.kill(process.pid, signal.SIGSTOP)
    began = time.monotonic()
    checked(pulse, 60)
    assert not jobs.poll(*pulse.job)
    assert time.monotonic() - began > jobs.HANG_SECONDS
    said = process.stderr.read()
    assert "most recent call first" in said and "<string>" in said


def test_a_job_that_works_is_left_alone(job):
    _, pulse = job("\nwhile True: sum(range(10**6))")
    checked(pulse, 4)
    assert jobs.poll(*pulse.job)


def test_one_that_has_ended_is_not_touched_and_nobody_else_either(job):
    _, pulse = job("")
    wait_for(lambda: not jobs.poll(*pulse.job))
    stranger, _ = job("time.sleep(600)")
    pulse.job = (stranger.pid, presence.process_start(stranger.pid) - 1)  # its number, reused
    until = time.monotonic() + 2 * jobs.HANG_SECONDS
    while time.monotonic() < until:
        pulse.check()
        time.sleep(0.05)
    assert stranger.poll() is None


def test_a_job_that_still_starts_ends_at_once_when_it_is_stopped(home):
    """Nothing is lost yet, and to import torch may take longer than anybody waits."""
    bands(home)
    pid, start = jobs.start(ask(home))
    time.sleep(0.2)
    began = time.monotonic()
    jobs.stop(pid, start)
    assert time.monotonic() - began < jobs.PATIENCE_SECONDS / 2
    assert not jobs.poll(pid, start)
