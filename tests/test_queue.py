"""The queue's table: order, turns, and who may be waiting where."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ftlab import homes, queue
from ftlab.records import BadInput


def add(home, *studies, owner=""):
    own = homes.personal(home, owner) if owner else home
    for study in studies:
        queue.add(own, own / "checkpoints" / study, owner)


def order(home) -> list[str]:
    return [row["study"].removeprefix("checkpoints/") for row in queue.listed(home)]


def test_the_queue_keeps_its_order_and_one_place_a_study(tmp_path):
    add(tmp_path, "b", "a", "b", "c", "a")
    assert order(tmp_path) == ["b", "a", "c"]
    queue.remove(tmp_path, tmp_path / "checkpoints" / "a")
    add(tmp_path, "a")
    assert order(tmp_path) == ["b", "c", "a"]


def test_ten_clicks_from_ten_threads_make_one_row(tmp_path):
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: add(tmp_path, "s"), range(10)))
    assert len(queue.listed(tmp_path)) == 1


def test_whoever_comes_while_a_new_queue_is_written_waits_for_it(tmp_path):
    first = sqlite3.connect(tmp_path / queue.NAME, isolation_level=None, check_same_thread=False)
    first.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: (first.execute("COMMIT"), first.close())).start()
    add(tmp_path, "s")
    assert order(tmp_path) == ["s"]


def test_a_queue_that_is_none_is_named_with_what_to_do(tmp_path):
    (tmp_path / "queue.sqlite").write_bytes(b"this is no database, whatever it is called" * 50)
    with pytest.raises(BadInput) as error:
        queue.listed(tmp_path)
    assert str(error.value) == (
        "The queue cannot be used: file is not a database (queue.sqlite). "
        "Move that file out of the home: studies stay, only who waits is forgotten."
    )
    (tmp_path / "queue.sqlite").unlink()
    other = sqlite3.connect(tmp_path / "queue.sqlite")
    other.execute("CREATE TABLE jobs (other TEXT)")
    other.close()
    with pytest.raises(BadInput, match=r"column.*\(queue.sqlite\). Move that file"):
        queue.listed(tmp_path)


def test_a_queue_that_is_locked_stays_where_it_is(tmp_path, monkeypatch):
    add(tmp_path, "s")
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0}))
    other = connect(tmp_path / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BadInput) as error:
        queue.listed(tmp_path)
    other.close()
    assert str(error.value) == "The queue cannot be used: database is locked (queue.sqlite)."
    assert order(tmp_path) == ["s"]


def test_people_wait_in_one_queue_whatever_their_studies_are_called(tmp_path):
    for owner in ("ann", "ben"):
        add(tmp_path, "mine", owner=owner)
    assert order(tmp_path) == ["people/ann/checkpoints/mine", "people/ben/checkpoints/mine"]
    assert order(homes.personal(tmp_path, "ben")) == order(tmp_path)


def test_everybodys_first_study_comes_before_anybodys_second(tmp_path):
    for study in range(20):
        add(tmp_path, f"many{study}", owner="ann")
    for owner in ("ben", "cem", "dora"):
        add(tmp_path, "one", "two", owner=owner)
    owners = [row["owner"] for row in queue.listed(tmp_path)]
    assert owners[:4] == ["ann", "ben", "cem", "dora"] == sorted(owners[4:8])
    assert owners[8:] == ["ann"] * 18


def test_whoever_was_served_longest_ago_comes_first(tmp_path):
    for owner in ("ann", "ben", "cem"):
        add(tmp_path, "one", "two", owner=owner)
    for owner in ("ann", "cem", "ann"):
        queue.serve(tmp_path, owner)
    assert [row["owner"] for row in queue.listed(tmp_path)] == ["ben", "cem", "ann"] * 2


def test_a_study_at_work_stands_first(tmp_path):
    add(tmp_path, "first", "second")
    second = queue.row(tmp_path, tmp_path / "checkpoints" / "second")
    assert queue.note(tmp_path, second, pid=1, pid_start=1.0)
    assert order(tmp_path) == ["second", "first"]
    assert queue.row(tmp_path, tmp_path / "checkpoints" / "third") is None


def test_a_study_that_is_asked_for_again_is_another_row(tmp_path):
    folder = tmp_path / "checkpoints" / "study"
    add(tmp_path, "study")
    first = queue.row(tmp_path, folder)
    queue.remove(tmp_path, folder)
    add(tmp_path, "study")
    assert not queue.note(tmp_path, first, pid=1)
    queue.drop(tmp_path, first)
    again = queue.row(tmp_path, folder)
    assert again["pid"] is None and again["position"] > first["position"]
    queue.drop(tmp_path, again)
    assert order(tmp_path) == []
