"""Studies in the queue that are gone, damaged, or grow while they are trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import TINY
from tiny import QUICK, ask, epochs_written, serve, served_home, wait_for

from ftlab import presence, queue, worker
from ftlab.lab import Lab
from ftlab.records import BadInput

LONG = replace(QUICK, epochs=500)


@pytest.fixture
def home(tmp_path, monkeypatch):
    yield from served_home(tmp_path, monkeypatch)


def test_a_study_that_cannot_be_read_does_not_keep_the_next_from_its_turn(home):
    for name in ("broken", "well"):
        queue.add(home, ask(home, name=name))
    broken = home / "checkpoints" / "broken"
    (broken / "study.json").write_text("{")
    assert serve(home) == [("broken", "failed"), ("well", "started"), ("well", "finished")]
    assert (broken / "error.txt").read_text() == (
        "broken/study.json is damaged: it holds no JSON.\n"
    )
    assert queue.listed(home) == []


def test_a_study_deleted_by_hand_while_it_trains_is_let_go_and_does_not_come_back(home):
    folder = ask(home, settings=LONG, name="deleted")
    for name in ("deleted", "next"):
        queue.add(home, ask(home, settings=LONG, name=name))
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    next(events)
    wait_for(lambda: epochs_written(folder))
    job = presence.at_work(folder)
    folder.rename(home / "elsewhere")
    assert [(e["study"], e["event"]) for _, e in zip(range(2), events, strict=False)] == [
        ("deleted", "gone"),
        ("next", "started"),
    ]
    assert not worker.poll(job["pid"], job["start"]) and not folder.exists()
    Lab(home).stop("next")
    events.close()


def test_a_study_whose_job_has_just_begun_is_not_deleted(home):
    folder = ask(home, settings=LONG, name="begun")
    queue.add(home, folder)
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    next(events)
    assert not presence.locked(folder), "the job is still on its way"
    with pytest.raises(BadInput, match="The study begun is being worked on"):
        Lab(home).delete("begun")
    Lab(home).stop("begun")
    events.close()


def test_what_is_asked_for_while_a_study_trains_is_trained_by_the_same_job(home):
    folder = ask(home, name="grows")
    events = Lab(home).work(folder, lambda: False)
    next(events)
    for seeds in ((0, 1), (0, 1, 2)):
        ask(home, seeds=seeds, name="grows")
    finished = [event["run"] for event in events if event["event"] == "finished"]
    assert finished == [f"full-{TINY}-s{seed}" for seed in range(3)]
