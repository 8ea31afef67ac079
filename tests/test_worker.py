"""The worker and its jobs: order, adoption, death, stopping, and processes that are not ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import (
    OPTIONS,
    QUICK,
    Command,
    answer_bits,
    ask,
    epochs_written,
    json_lines,
    kill_group,
    serve,
    served_home,
    states,
    trained,
    wait_for,
)

from ftlab import files, jobs, presence, queue, runs, studies, worker
from ftlab.lab import Lab
from ftlab.records import BadInput

RUN = "full-test_resnet-s0"
LONG = replace(QUICK, epochs=500)
PROJECT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path, monkeypatch):
    yield from served_home(tmp_path, monkeypatch)


# --- jobs ---


def test_a_second_worker_gets_a_sentence(home):
    ask(home, name="waits", settings=LONG)
    queue.add(home, home / "checkpoints" / "waits")
    first = worker.serve(home, until_empty=True, stopped=lambda: False)
    next(first)
    with pytest.raises(BadInput, match="A worker is at work on this queue already"):
        serve(home)
    worker.stop_study(home, home / "checkpoints" / "waits")
    first.close()


def test_queued_studies_are_worked_through_in_order_to_the_same_end_as_anywhere(home):
    trained(home, name="here")
    for name in ("second", "first"):
        queue.add(home, ask(home, name=name))
    events = serve(home)
    assert events == [(s, e) for s in ("second", "first") for e in ("started", "finished")]
    assert queue.listed(home) == []
    checkpoints = home / "checkpoints"
    assert answer_bits(checkpoints / "first" / RUN) == answer_bits(checkpoints / "here" / RUN)


def test_a_study_that_was_deleted_leaves_the_queue(home):
    queue.add(home, home / "checkpoints" / "gone")
    assert serve(home) == [("gone", "gone")] and queue.listed(home) == []


def test_stop_ends_a_job_within_seconds_and_keeps_whole_epochs(home):
    folder = ask(home, settings=LONG, name="long")
    queue.add(home, home / "checkpoints" / "long")
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    next(events)
    wait_for(lambda: epochs_written(folder))
    job = presence.at_work(folder)
    began = time.monotonic()
    assert Lab(home).stop("long")
    assert time.monotonic() - began < 30
    assert not worker.poll(job["pid"], job["start"]) and not presence.locked(folder)
    assert states(folder) == {RUN: "stopped"} and queue.listed(home) == []
    done, _, _ = runs.resume(folder / RUN)
    assert len(done) == len(runs.diary(folder / RUN)) > 0
    assert [e["event"] for e in events] == ["stopped"]
    assert not Lab(home).stop("long"), "nobody is at work any more"


def test_a_job_that_has_not_begun_yet_can_be_stopped_too(home):
    folder = ask(home, settings=LONG, name="early")
    queue.add(home, home / "checkpoints" / "early")
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    next(events)
    (row,) = queue.listed(home)
    assert Lab(home).stop("early")
    assert not worker.poll(row["pid"], row["pid_start"])
    assert studies.state(folder, studies.read(folder)) == "stopped"
    events.close()


def test_a_job_outlives_its_worker_and_the_next_worker_adopts_it(home):
    folder = ask(home, settings=LONG, name="orphan")
    queue.add(home, home / "checkpoints" / "orphan")
    first = Command(home, "worker")
    try:
        wait_for(lambda: epochs_written(folder))
    finally:
        kill_group(first)
    job, before = presence.at_work(folder), epochs_written(folder)
    assert job and worker.poll(job["pid"], job["start"])
    second = Command(home, "worker", "--until-empty", "--json")
    try:
        wait_for(second.out.read_text)
        wait_for(lambda: epochs_written(folder) > before)
        assert presence.at_work(folder)["pid"] == job["pid"], "the same job, not another"
        Lab(home).stop("orphan")
        out, _ = second.communicate(timeout=30)
    finally:
        kill_group(second)
    assert json_lines(out) == [
        {"study": "orphan", "event": "found at work"},
        {"study": "orphan", "event": "stopped"},
    ]


def test_a_worker_that_is_stopped_stops_its_job_and_the_next_worker_goes_on(home):
    folder = ask(home, settings=LONG, name="pause")
    queue.add(home, home / "checkpoints" / "pause")
    first = Command(home, "worker")
    try:
        wait_for(lambda: epochs_written(folder))
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
    finally:
        kill_group(first)
    assert first.returncode == 0 and not presence.locked(folder)
    assert states(folder) == {RUN: "interrupted"}
    before = epochs_written(folder)
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    assert next(events)["event"] == "started"
    wait_for(lambda: epochs_written(folder) > before)
    worker.stop_study(home, folder)
    assert [e["event"] for e in events] == ["stopped"]


STUB = """
# A job whose training only answers, so that it starts in no time, and that one run kills.
import os, signal, sys, types
from pathlib import Path
import ftlab
from ftlab import files, lanes, runs, tuning, worker

lanes.number = lambda context, left: 1

def prepare(folder, study, home):
    return types.SimpleNamespace(folder=folder, study=study, threads=1)

def train(context, cell, stop):
    folder = context.folder
    if os.environ["DEADLY"] == cell.name:
        os.kill(os.getpid(), signal.SIGKILL)
    lr = cell.candidate or tuning.chosen_lr(folder, context.study, cell)
    runs.start(cell.folder(folder), {"knobs": {"lr": lr}})
    files.write_json(cell.folder(folder) / "result.json", {"selected": 1.0, "seconds": 0.0})
    yield {"event": "finished", "run": cell.name}

for name, own in {"context": {"prepare": prepare}, "training": {"train": train}}.items():
    module = sys.modules[f"ftlab.{name}"] = types.ModuleType(f"ftlab.{name}")
    vars(module).update(own)
    setattr(ftlab, name, module)
sys.exit(worker.main(Path(sys.argv[1])))
"""


@pytest.fixture
def deadly(home, monkeypatch):
    """Work through a study whose runs in folders of that name kill their interpreter."""
    popen = subprocess.Popen

    def stub(arguments, **options):
        return popen([sys.executable, "-c", STUB, arguments[-1]], **options)

    def run(name: str, folder: Path) -> list[str]:
        monkeypatch.setenv("DEADLY", name)
        monkeypatch.setattr(worker.subprocess, "Popen", stub)
        monkeypatch.setattr(worker, "start", jobs.start)
        queue.add(home, folder)
        return [event for _, event in serve(home)]

    return run


def test_a_run_that_kills_its_interpreter_three_times_fails_and_the_study_goes_on(home, deadly):
    settings = replace(QUICK, epochs=1)
    folder = ask(home, ("full", "linear_probe"), settings=settings, name="deadly")
    again = ["started", f"died at {RUN}, starting again"]
    assert deadly(RUN, folder) == [
        *again, *again, "started", f"{RUN} failed, going on", "started", "finished"
    ]  # fmt: skip
    assert states(folder) == {RUN: "failed", "linear_probe-test_resnet-s0": "finished"}
    reason = (folder / RUN / "error.txt").read_text()
    assert reason.startswith("This took its interpreter down 3 times")


def test_a_candidate_that_kills_its_interpreter_is_not_chosen_and_the_others_are(
    home, deadly, monkeypatch
):
    monkeypatch.setattr(worker, "ATTEMPTS", 1)
    folder = ask(home, settings=replace(QUICK, epochs=1, lr="auto"), name="deadly")
    at = "full-test_resnet-lr0.001-s0"
    events = deadly(at, folder)
    assert events == ["started", f"tuning/{at} failed, going on", "started", "finished"]
    assert (folder / "tuning" / at / "error.txt").exists()
    assert files.read_json(folder / RUN / "run.json")["knobs"]["lr"] != 0.001


def test_a_job_that_cannot_begin_says_why_and_leaves_the_queue(home):
    import shutil

    folder = ask(home, name="no-data")
    shutil.rmtree(home / "data" / "bands")
    queue.add(home, home / "checkpoints" / "no-data")
    assert serve(home) == [("no-data", "started"), ("no-data", "failed")]
    assert (folder / "error.txt").read_text().startswith("There is no data set 'bands'")
    answer = Lab(home).status("no-data")
    assert answer["state"] == "failed" and answer["reason"].startswith("There is no data set")
    assert queue.listed(home) == []


# --- processes that are not ours ---


def test_a_foreign_process_with_a_reused_number_is_never_touched(home):
    folder = ask(home, name="reused")
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        start = presence.process_start(stranger.pid)
        assert worker.poll(stranger.pid, start)
        assert not worker.poll(stranger.pid, start - 1) and not worker.poll(stranger.pid, None)
        worker.stop(stranger.pid, start - 1)
        queue.add(home, home / "checkpoints" / "reused")
        queue.note(home, queue.row(home, folder), pid=stranger.pid, pid_start=start - 1)
        files.write_json(folder / "worker.json", {"pid": stranger.pid, "start": start, "run": RUN})
        assert presence.at_work(folder) is None, "nobody holds the lock"
        assert worker.stop_study(home, folder), "it waited in the queue"
        assert stranger.poll() is None
        queue.add(home, ask(home, name="reused"))
        queue.note(home, queue.row(home, folder), pid=stranger.pid, pid_start=start - 1)
        assert serve(home) == [("reused", "started"), ("reused", "finished")]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_study_somebody_compares_in_a_terminal_is_waited_for_and_never_stopped(home):
    folder = ask(home, settings=LONG, name="terminal")
    options = ("compare", "bands", "--strategies", "full", "--seeds", 1, "--name", "terminal")
    person = Command(home, *options, *OPTIONS, "--epochs", LONG.epochs)
    try:
        wait_for(lambda: epochs_written(folder))
        queue.add(home, home / "checkpoints" / "terminal")
        flag = iter([False] * 5)
        assert serve(home, lambda: next(flag, True)) == [("terminal", "found at work")]
        assert person.poll() is None and presence.at_work(folder)["pid"] == person.pid
    finally:
        kill_group(person)


# --- a worker that outlives whoever needs it ---


def worker_pids(home) -> list[int]:
    """The workers of that home, by their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            ours = f"FTLAB_HOME={home}".encode() in (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if ours and words[-3:-1] == [b"ftlab", b"worker"]:
            found.append(int(path.name))
    return found


@pytest.fixture
def workers(home):
    yield lambda: worker_pids(home)
    for pid in worker_pids(home):
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not any(worker.poll(p, presence.process_start(p)) for p in worker_pids(home)))


def test_a_queued_study_is_trained_by_a_worker_that_was_started_for_it(home, workers):
    from ftlab.records import Question

    asked = Question("bands", ["test_resnet"], ["full"], (0,), QUICK, "random", name="asked")
    assert Lab(home).enqueue(asked, owner="class 7b") == "asked"
    folder = home / "checkpoints" / "asked"
    wait_for(lambda: states(folder) == {RUN: "finished"}, 300)
    assert len(workers()) == 1
    assert not Lab(home).start_worker(), "it goes on serving, one is enough"
    wait_for(lambda: queue.listed(home) == [])
    with pytest.raises(BadInput, match="The study asked is finished"):
        Lab(home).resume("asked")


def test_a_stopped_study_is_resumed_and_what_failed_is_forgiven(home, monkeypatch):
    began = []
    monkeypatch.setattr(worker, "ensure", began.append)
    folder = ask(home, ("full", "linear_probe"), name="again")
    runs.fail(folder / RUN, "no luck")
    worker.stop_study(home, folder)
    before = Lab(home).watch("again")
    assert (before["state"], before["ahead"]) == ("stopped", None)
    queue.add(home, home / "checkpoints" / "first")
    assert Lab(home).resume("again", owner="me") == "again"
    after = Lab(home).watch("again")
    assert (after["state"], after["ahead"]) == ("queued", 1)
    assert began == [home] and queue.listed(home)[-1]["owner"] == "me"
    assert not (folder / RUN / "error.txt").exists()


@pytest.fixture
def begun(home):
    """A study whose job has just been started by a worker: (folder, the worker's events)."""
    folder = ask(home, settings=LONG, name="quick")
    queue.add(home, folder)
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    assert next(events)["event"] == "started"
    yield folder, events
    events.close()


def test_a_study_resumed_before_the_worker_saw_it_stop_goes_on(home, begun):
    folder, events = begun
    Lab(home).stop("quick")
    Lab(home).resume("quick")
    assert [next(events)["event"] for _ in range(2)] == ["stopped", "started"]
    wait_for(lambda: presence.locked(folder))
    assert Lab(home).watch("quick")["state"] == "running"
    Lab(home).stop("quick")


def test_a_study_resumed_while_the_worker_decides_goes_on(home, begun, monkeypatch):
    folder, events = begun
    Lab(home).stop("quick")
    state = studies.state

    def late(*of):
        stopped = state(*of)
        monkeypatch.setattr(studies, "state", state)
        Lab(home).resume("quick")
        return stopped

    monkeypatch.setattr(studies, "state", late)
    assert [next(events)["event"] for _ in range(2)] == ["stopped", "started"]
    Lab(home).stop("quick")


def test_a_study_resumed_while_it_is_being_stopped_is_not_marked_stopped(home, begun, monkeypatch):
    folder, _ = begun
    stop = worker.stop

    def quick(*job):
        stop(*job)
        Lab(home).resume("quick")

    monkeypatch.setattr(worker, "stop", quick)
    assert Lab(home).stop("quick")
    assert not (folder / "stopped").exists()
    assert Lab(home).watch("quick")["state"] == "queued"


def test_a_study_at_work_is_not_resumed(home):
    folder = ask(home, name="busy")
    with presence.lock(folder), pytest.raises(BadInput, match="being worked on already"):
        Lab(home).resume("busy")


# --- watching ---


def test_watching_counts_epochs_and_says_why_a_run_failed(home):
    folder = trained(home, ("full", "linear_probe"), name="seen")
    (folder / "linear_probe-test_resnet-s0" / "result.json").unlink()
    runs.fail(folder / "linear_probe-test_resnet-s0", "no luck")
    seen = Lab(home).watch("seen")
    assert (seen["state"], seen["epochs_done"], seen["seconds_left"]) == ("finished", 4, 0)
    full, probe = seen["runs"]
    assert (full["state"], full["epochs_done"], full["epochs"]) == ("finished", 2, 2)
    assert (full["reason"], probe["reason"]) == (None, "no luck")
    diaries = Lab(home).diaries("seen")
    assert [e["epoch"] for e in diaries[RUN]] == [0, 1] and diaries[RUN][0]["lrs"]["head"] == 1e-4


def test_watching_counts_the_candidates_of_the_first_seed(home):
    settings = replace(QUICK, epochs=1, lr="auto")
    folder = ask(home, seeds=(0, 1), settings=settings, name="tuned")
    assert [r["epochs"] for r in Lab(home).watch("tuned")["runs"]] == [3, 1]
    assert Lab(home).diaries("tuned") == {RUN: [], "full-test_resnet-s1": []}
    for _ in Lab(home).work(folder, lambda: False):
        pass
    rows = Lab(home).watch("tuned")["runs"]
    assert [(r["epochs_done"], r["epochs"]) for r in rows] == [(3, 3), (1, 1)]


def test_watching_says_why_a_study_could_not_begin(home):
    folder = ask(home, name="broken")
    runs.fail(folder, "There is no data set.")
    assert Lab(home).watch("broken")["reason"] == "There is no data set."
