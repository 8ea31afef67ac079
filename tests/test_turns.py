"""Several people at one queue: turns, and how long a study may take."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import pytest
from tiny import QUICK, answer_bits, ask, serve, served_home, trained, work

from ftlab import files, homes, presence, queue, watching, worker
from ftlab.records import BadInput

RUN = "full-test_resnet-s0"
LONG = replace(QUICK, epochs=500)


@pytest.fixture
def home(tmp_path, monkeypatch):
    yield from served_home(tmp_path, monkeypatch)


def test_people_take_turns_and_lose_nothing_by_it(home, monkeypatch):
    monkeypatch.setattr(worker, "TURN_SECONDS", 0.0)
    settings = replace(QUICK, epochs=3)
    trained(home, name="here", settings=settings)
    people = [homes.personal(home, owner) for owner in ("ann", "ben")]
    studies = [ask(own, name="turns", settings=settings) for own in people]
    for own, study in zip(people, studies, strict=True):
        queue.add(own, study, own.name)
    rows, events = [], worker.serve(home, until_empty=True, stopped=lambda: False)
    for event in events:
        rows.append(event["event"])
    assert rows.count("waits for its next turn") >= 2 and rows.count("finished") == 2
    assert rows[:3] == ["started", "waits for its next turn", "started"]
    undisturbed = answer_bits(home / "checkpoints" / "here" / RUN)
    assert [answer_bits(study / RUN) for study in studies] == [undisturbed] * 2


def test_one_person_alone_is_never_interrupted(home, monkeypatch):
    monkeypatch.setattr(worker, "TURN_SECONDS", 0.0)
    for name in ("first", "second"):
        queue.add(home, ask(home, name=name), "ann")
    assert [event for _, event in serve(home)] == ["started", "finished"] * 2


def test_a_study_that_takes_too_long_ends_in_a_sentence_and_keeps_what_it_did(home):
    folder = ask(home, name="long", settings=LONG)
    queue.add(home, folder, limit_seconds=6.0)
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    assert [event["event"] for event in events] == ["started", "failed"]
    said = watching.watch(home, folder)
    assert said["state"] == "failed" and not queue.listed(home)
    assert said["reason"] == "This took the 0.1 minutes it may take here; what is done is kept."
    assert not presence.locked(folder)


def test_the_time_a_study_may_take_counts_over_its_turns(home, monkeypatch):
    monkeypatch.setattr(worker, "TURN_SECONDS", 0.0)
    folder = ask(home, name="long", settings=LONG)
    queue.add(home, folder, "ann", limit_seconds=600)
    queue.add(home, ask(home, name="other"), "ben")
    events = worker.serve(home, until_empty=True, stopped=lambda: False)
    assert [next(events)["event"] for _ in range(2)] == ["started", "waits for its next turn"]
    (row,) = [row for row in queue.listed(home) if row["owner"] == "ann"]
    assert files.read_json(folder / "spent.json")["seconds"] > 0 and row["pid"] is None
    assert watching.watch(home, folder)["state"] == "queued"
    events.close()


def test_the_time_a_study_may_take_does_not_begin_again_when_it_is_resumed(home):
    folder = ask(home, name="long", settings=LONG)
    queue.add(home, folder, "ann", limit_seconds=2.0)
    assert serve(home)[-1] == ("long", "failed")
    with pytest.raises(BadInput, match=r"This took the 0 minutes it may take here"):
        worker.resume(home, folder, "ann", limit_seconds=2.0)
    assert not queue.listed(home)


def test_a_clock_that_jumps_by_days_changes_no_order_and_ends_nothing(home, monkeypatch):
    """A day ahead, two days back, and so on at every look: neither turns nor limits see it."""

    def here(folder):
        work(home, folder)
        return None, None

    now, jumps = time.time(), itertools.cycle((86_400, -172_800))
    monkeypatch.setattr(worker, "start", here)
    for owner, name in (("ann", "first"), ("ann", "third"), ("ben", "second")):
        queue.add(home, ask(home, name=name), owner, limit_seconds=3600)
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))
    order = ["first", "second", "third"]
    assert serve(home) == [(n, event) for n in order for event in ("started", "finished")]
    assert not queue.listed(home)
