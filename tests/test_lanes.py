"""Runs side by side end in the same bits as one after another, whoever is killed or stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from tiny import (
    ENVIRONMENT,
    OPTIONS,
    QUICK,
    answer_bits,
    ask,
    bands,
    kill_group,
    states,
    wait_for,
    work,
)

from ftlab import lanes, presence, studies
from ftlab.studies import Cell

TUNED = replace(QUICK, lr="auto")
ASKED = ("full", "linear_probe")


def bits(folder: Path) -> dict:
    """What every run of a study answers."""
    return {cell.name: answer_bits(folder / cell.name) for cell in cells(folder)}


def cells(folder: Path) -> list[Cell]:
    return list(studies.cells(studies.read(folder)))


def beside(folder: Path) -> list[str]:
    """What companions are at now."""
    return (presence.at_work(folder) or {}).get("beside", [])


def companions(pid: int | str = "self") -> set[int]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    children = {int(child) for path in found for child in path.read_text().split()}
    own = Path(f"/proc/{pid}/cmdline").read_bytes()  # which a fork keeps
    return {c for c in children if Path(f"/proc/{c}/cmdline").read_bytes() == own}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """(home, what each run answers) of a study trained run after run, with one thread."""
    home = tmp_path_factory.mktemp("lanes") / "home"
    bands(home)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = ask(home, ASKED, (0, 1), settings=TUNED, name="calm")
    work(home, folder)
    torch.set_num_threads(threads)
    return home, bits(folder)


@pytest.fixture
def two_lanes(monkeypatch):
    """Every study is worth two lanes, of a thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(lanes, "number", lambda context, left: 2)
    yield
    torch.set_num_threads(threads)


def waits_for_company(folder: Path, then=lambda: False):
    """A question "stop?" whose first answer waits until a companion is at a run, then `then()`."""
    answers = []

    def stop() -> bool:
        if not answers:
            wait_for(lambda: beside(folder), 120)
            answers.append(then())
        return answers[0]

    return stop


def test_two_lanes_end_in_the_same_bits_as_one_and_tell_of_every_run_once(calm, two_lanes):
    home, expected = calm
    folder = ask(home, ASKED, (0, 1), settings=TUNED, name="side-by-side")
    shown = {}
    events = work(home, folder, waits_for_company(folder, lambda: shown.update(states(folder))))
    assert bits(folder) == expected
    assert [name for name, state in shown.items() if state == "running"] == ["full-test_resnet-s0"]
    ended = [event["run"] for event in events if event["event"] == "finished"]
    tried = [f"tuning/{s}-{TINY}-lr{lr:g}-s0" for s in ASKED for lr in (1e-4, 1e-3, 1e-2)]
    assert sorted(ended) == sorted([*expected, *tried])
    assert not list(folder.glob("tuning/*/best.safetensors")), "once chosen, no others are kept"
    assert not companions() and not presence.locked(folder)
    assert torch.get_num_threads() == 2, "whoever works on a study has all threads again"


def test_what_a_companion_died_of_is_trained_by_whoever_took_it(calm, two_lanes):
    home, expected = calm
    folder = ask(home, ASKED, (0, 1), settings=TUNED, name="bereaved")
    gone = []

    def kill() -> None:
        gone.extend(beside(folder))
        for child in companions():
            os.kill(child, signal.SIGKILL)

    events = work(home, folder, waits_for_company(folder, kill))
    assert gone and bits(folder) == expected
    assert not [event for event in events if event["event"] == "failed"]


def test_a_stop_ends_all_lanes_and_the_study_goes_on_from_there(calm, two_lanes):
    home, expected = calm
    folder = ask(home, ASKED, (0, 1), settings=TUNED, name="stopped")
    began = []

    def now() -> bool:
        began.append(time.monotonic())
        return True

    work(home, folder, waits_for_company(folder, now))
    assert time.monotonic() - began[0] < lanes.PATIENCE_SECONDS + 1
    assert not companions() and not presence.locked(folder)
    work(home, folder)
    assert bits(folder) == expected


def test_a_companion_dies_with_whoever_took_it_and_nothing_is_lost(calm):
    home, expected = calm
    folder = ask(home, ASKED, (0, 1), settings=TUNED, name="orphaned")
    program = (  # slow itself, so that a companion is there before all is done
        "import time; from ftlab import __main__, lanes, worker; lanes.number = lambda *_: 2; "
        "worker.StopFlag.__call__ = lambda flag: time.sleep(0.3); __main__.main()"
    )
    options = ("compare", "bands", "--strategies", ",".join(ASKED), "--seeds", "2", *OPTIONS)
    process = subprocess.Popen(
        [sys.executable, "-c", program, *options, "--lr", "auto", "--name", "orphaned"],
        env={**os.environ, **ENVIRONMENT, "OMP_NUM_THREADS": "2", "FTLAB_HOME": str(home)},
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        wait_for(lambda: beside(folder) or process.poll() is not None, 120)
        others = companions(process.pid)
        assert others
    finally:
        kill_group(process)
    wait_for(lambda: not presence.locked(folder), 5)
    assert not any(presence.process_start(each) for each in others)
    torch.set_num_threads(1)
    work(home, folder)
    assert bits(folder) == expected


def test_companions_without_work_wait_and_do_not_wake_each_other(tmp_path, monkeypatch):
    asked = []

    def ready(*_):
        asked.append(time.monotonic())

    monkeypatch.setattr(presence, "note", lambda *_: None)
    board = lanes.Board(tmp_path, None, ready)
    waiting = [threading.Thread(target=board.wait, args=(pid,)) for pid in (1, 2, 3)]
    for thread in waiting:
        thread.start()
    time.sleep(0.5)
    with board.changed:
        board.over = True
        board.changed.notify_all()
    for thread in waiting:
        thread.join(5)
    assert len(waiting) <= len(asked) <= 2 * len(waiting)


# --- how many ---


def context(threads: int = 4, device: str = "cpu", images: int = 1000, size: int = 96):
    settings = replace(QUICK, size=size, batch=32, epochs=10)
    study = SimpleNamespace(settings=settings, classes=["a", "b"])
    train = range(images)
    device = torch.device(device)
    return SimpleNamespace(threads=threads, device=device, study=study, splits={"train": train})


@pytest.mark.parametrize(
    ("runs", "backbone", "where", "lanes_there"),
    [
        (8, "ftlab_mini", {}, 4),
        (8, "ftlab_mini", {"threads": 2}, 2),
        (8, "ftlab_mini", {"threads": 64}, lanes.MOST),
        (2, "ftlab_mini", {}, 2),
        (0, "ftlab_mini", {}, 1),
        (8, "ftlab_mini", {"threads": 1}, 1),
        (8, "ftlab_mini", {"device": "cuda"}, 1),
        (8, "ftlab_mini", {"images": 1}, 1),  # over before it would help
        (8, "resnet50", {"size": 224}, 1),  # fills the cores alone
    ],
)
def test_a_study_takes_as_many_lanes_as_pay(runs, backbone, where, lanes_there, monkeypatch):
    monkeypatch.setattr(lanes, "MEMORY_BYTES", 1)
    left = [Cell(backbone, "full", seed) for seed in range(runs)]
    assert lanes.number(context(**where), left) == lanes_there


def test_a_machine_short_of_memory_takes_no_companion(monkeypatch):
    monkeypatch.setattr(lanes, "MEMORY_BYTES", 2**60)
    left = [Cell("ftlab_mini", "full", seed) for seed in range(8)]
    assert lanes.number(context(), left) == 1
