"""A tiny laboratory for tests that train, and the command line as people use it."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
from conftest import TINY, pictures
from PIL import Image

from ftlab import files, presence, queue, runs, studies, worker
from ftlab.datasets import import_dataset
from ftlab.lab import Lab
from ftlab.records import Question, Settings

QUICK = Settings(epochs=2, size=32, batch=8, precision="float32")
QUICKLY = "--size 32 --epochs 2 --batch 8 --precision float32"
OPTIONS = f"--backbone {TINY} --weights random {QUICKLY}".split()
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["ftlab.training", "gradio"])


def bands(home: Path, classes: int = 2, name: str = "bands", n: int = 48) -> str:
    """A data set of n pictures of 32 pixels whose class is the place of a bright band."""
    made = _bands(classes, name, n)
    shutil.copytree(made / f"{name}-pictures", home.parent / f"{name}-pictures", dirs_exist_ok=True)
    shutil.copytree(made / "data" / name, home / "data" / name)
    return name


@cache
def _bands(classes: int, name: str, n: int) -> Path:
    """A folder with these pictures and the data set of them, imported once in a process."""
    kept = TemporaryDirectory()
    atexit.register(kept.cleanup)
    root, (pixels, labels) = Path(kept.name), pictures(n, classes)
    source = root / f"{name}-pictures"
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        (source / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(source / f"class{label}" / f"{number:03}.png")
    import_dataset(root / "data", str(source), name)
    return root


def ask(home: Path, strategies=("full",), seeds=(0,), data="bands", **options) -> Path:
    options = {"settings": QUICK, "weights": "random", **options}
    alone = options.pop("alone", False)
    return Lab(home).ask(Question(data, [TINY], strategies, seeds, **options), alone)


def work(home: Path, folder: Path, stop=lambda: False) -> list[dict]:
    return list(Lab(home).work(folder, stop))


def trained(home: Path, strategies=("full",), seeds=(0,), **options) -> Path:
    """The folder of a study that has been worked through."""
    folder = ask(home, strategies, seeds, **options)
    work(home, folder)
    return folder


def answer_bits(run: Path) -> dict:
    """All that a run answers, bit by bit, but for what a clock or a meter says."""
    result = files.read_json(run / "result.json")
    measured = ("seconds", "mean_epoch_seconds", "peak_memory_bytes", "stored_bytes")
    tensors, _ = runs.load_tensors(run / "best.safetensors")
    epochs = [(e.train_loss, dict(e.val), dict(e.lrs), e.best) for e in runs.diary(run)]
    return {
        "result": {k: v for k, v in result.items() if k not in measured},
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "test": {name: array.tobytes() for name, array in runs.predictions(run).items()},
        "epochs": epochs,
    }


def served_home(folder: Path, monkeypatch) -> Iterator[Path]:
    """For a fixture: a home with data, quick polling and forked jobs, none of which outlives it."""
    home = folder / "home"
    home.mkdir()
    bands(home)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(worker, "start", forked)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(Path(__file__).parent.parent)
    yield home
    jobs = [(row["pid"], row["pid_start"]) for row in queue.listed(home)]
    for path in home.glob("checkpoints/*"):
        if note := presence.at_work(path):
            jobs.append((note["pid"], note["start"]))
    for job in jobs:
        if worker.poll(*job):
            os.kill(job[0], signal.SIGKILL)
            wait_for(lambda job=job: not worker.poll(*job))


def forked(folder: Path) -> tuple[int, float | None]:
    """As `jobs.start`, from an interpreter that has imported everything already."""
    job = FORKING.Process(target=_job, args=(folder, dict(os.environ)))
    job.start()
    return job.pid, presence.process_start(job.pid)


def _job(folder: Path, environment: dict[str, str]) -> None:
    log = folder / "log.txt"
    apart(log, log)
    os.environ.clear()
    os.environ.update(environment, FTLAB_HOME=str(folder.parent.parent))
    sys.exit(worker.main(folder))


def apart(out: Path, err: Path) -> None:
    """Make a forked process one of its own, which writes into these files."""
    import torch

    torch.set_num_threads(1)  # OMP_NUM_THREADS would be read no more
    os.setsid()
    for stream, path in ((1, out), (2, err)):
        with open(path, "a", encoding="utf-8") as file:
            os.dup2(file.fileno(), stream)


def serve(home: Path, stopped=lambda: False) -> list[tuple[str, str]]:
    """(study, event) of a worker that works through the queue."""
    events = worker.serve(home, until_empty=True, stopped=stopped)
    return [(event["study"], event["event"]) for event in events]


class Command:
    """`ftlab ...` in a session of its own, forked: what of subprocess.Popen the tests use."""

    def __init__(self, home: Path, *arguments: object):
        environment = {**os.environ, **ENVIRONMENT, "FTLAB_HOME": str(home)}
        told = Path(mkdtemp(dir=home.parent))
        self.out, self.err = told / "out.txt", told / "err.txt"
        words = ["ftlab", *map(str, arguments)]
        self._job = FORKING.Process(target=_main, args=(words, environment, self.out, self.err))
        self._job.start()
        self.pid, self.poll = self._job.pid, lambda: self._job.exitcode
        wait_for(self.err.exists)  # it leads a session by then

    @property
    def returncode(self) -> int | None:
        return self._job.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._job.join(timeout)
        assert self.returncode is not None, "it did not end"
        return self.out.read_text(), self.err.read_text()


def _main(words: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    apart(out, err)
    os.environ.update(environment)
    sys.argv = words
    from ftlab.__main__ import main

    main()


def kill_group(process: subprocess.Popen | Command) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.communicate()


def wait_for(what, seconds: float = 60.0):
    """The first true value of what(), asked every few milliseconds."""
    until = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
    return value


def epochs_written(folder: Path) -> int:
    return sum(len(runs.diary(path.parent)) for path in folder.glob("**/epochs.jsonl"))


def states(folder: Path) -> dict[str, str]:
    return studies.run_states(folder, studies.read(folder))


def json_lines(text: str) -> list:
    return [json.loads(line) for line in text.splitlines()]


def test_files(home: Path, data: str = "bands") -> tuple[list[Path], np.ndarray]:
    """The imported files of the test split and their places in the data set."""
    from ftlab.datasets import open_dataset

    dataset = open_dataset(home / "data", data)
    index = dataset.indices("test")
    return [dataset.folder / dataset.files[i] for i in index], index


test_files.__test__ = False
