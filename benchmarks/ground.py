"""A place to do harm in: a home with phantoms, studies in its queue, and who is at work there."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the command line as a process is the tests'

from tiny import answer_bits, command, kill_group, wait_for  # noqa: E402

from ftlab import queue, studies  # noqa: E402
from ftlab.lab import Lab  # noqa: E402
from ftlab.records import Question, Settings  # noqa: E402

QUICK = Settings(epochs=4, size=48, batch=16, precision="float32")
LONG = Settings(epochs=10_000, size=48, batch=16, precision="float32")
STRATEGIES = ("full", "lp_ft")
WAIT = 1800.0  # seconds for anything, on a machine that may be busy


@dataclass
class Range:
    """A home to do harm in, what a study says there undisturbed, and what was seen so far."""

    home: Path
    chance: random.Random
    until: float
    bits: dict = field(default_factory=dict)
    span: float = 10.0  # seconds the undisturbed study took, its process's start included
    doubled: set = field(default_factory=set)
    studies: list = field(default_factory=list)

    def ask(self, name: str, settings: Settings = QUICK) -> Path:
        """A study in the queue."""
        question = Question("drawn", ["ftlab_mini"], STRATEGIES, (0,), settings, name=name)
        folder = Lab(self.home).ask(question)
        queue.add(self.home, folder)
        self.studies.append(folder)
        return folder

    def same(self, folder: Path) -> bool:
        return bits(folder) == self.bits

    def over(self) -> bool:
        return time.monotonic() > self.until


def bits(folder: Path) -> dict:
    cells = studies.cells(studies.read(folder))
    done = [cell for cell in cells if cell.finished(folder)]
    return {cell.name: answer_bits(cell.folder(folder)) for cell in done}


def draw(ground: Range) -> None:
    Lab(ground.home).import_data("phantom:chest_xray", "drawn", per_class=16, seed=3)


def calm(ground: Range) -> None:
    """See what a study says when nobody disturbs it."""
    folder, began = ground.ask("calm"), time.monotonic()
    disturbed(ground, folder, 0, bool)
    ground.span, ground.bits = time.monotonic() - began, bits(folder)
    if len(ground.bits) != len(STRATEGIES):
        sys.exit("The undisturbed study did not finish: nothing can be said of disturbed ones.")


def disturbed(ground: Range, folder: Path, blows: int, strike: Callable) -> int:
    """See a study to its end under blows of strike(its worker); how many hit a living job."""
    process, hits, began = command(ground.home, "worker", "--until-empty"), 0, time.monotonic()
    try:
        for _ in range(blows):
            wait_for(lambda p=process: job_of(folder) or p.poll() is not None, WAIT)
            hits += bool(strike(process))
            if process.poll() is not None:
                process.communicate()
                process = command(ground.home, "worker", "--until-empty")
        process.communicate(timeout=max(WAIT - (time.monotonic() - began), 1))
    finally:
        kill_group(process)
    return hits


def living(home: Path) -> dict[int, list[str]]:
    """pid -> command line of every process whose home that is."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            mark = f"FTLAB_HOME={home}".encode()
            if mark in (path / "environ").read_bytes().split(b"\0"):
                found[int(path.name)] = (path / "cmdline").read_text().split("\0")[:-1]
    return found


def jobs(home: Path) -> list[tuple[int, str]]:
    """(pid, study folder) of every job; not what one is about to start, still under its name."""
    found = {p: words[-1] for p, words in living(home).items() if words[-2:-1] == ["ftlab.worker"]}
    return [(pid, folder) for pid, folder in found.items() if parent(pid) not in found]


def parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return None


def job_of(folder: Path) -> int | None:
    return next((pid for pid, at in jobs(folder.parent.parent) if at == str(folder)), None)


def workers(home: Path) -> int:
    return sum(words[-2:] == ["ftlab", "worker"] for words in living(home).values())


def watch(ground: Range, ended: threading.Event) -> None:
    while not ended.wait(0.2):
        folders = [folder for _, folder in jobs(ground.home)]
        ground.doubled |= {folder for folder in folders if folders.count(folder) > 1}


def kill(pid: int | None) -> bool:
    with contextlib.suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGKILL)
            return True
    return False


def end_workers(home: Path) -> None:
    for pid, words in living(home).items():
        if words[-2:] == ["ftlab", "worker"]:
            os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not workers(home), WAIT)


def app(home: Path, port: int) -> subprocess.Popen:
    """The app on that port, once it answers."""
    own = {"FTLAB_HOME": str(home), "FTLAB_PORT": str(port), "OMP_NUM_THREADS": "1"}
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(
        [sys.executable, "app.py"],
        env={**os.environ, **own, "HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        **quiet,
    )
    wait_for(lambda: answers(f"http://127.0.0.1:{port}/healthz"), WAIT)
    return process


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
        return True
    return False


def ended(folder: Path) -> bool:
    return studies.state(folder, studies.read(folder)) == "finished"


def reason(folder: Path) -> str:
    texts = [path.read_text() for path in folder.rglob("error.txt")]
    return " / ".join(text.strip() for text in texts)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
