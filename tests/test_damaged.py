"""Studies and data sets that failed or cannot be read: said of them, and nothing else is hidden."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from terminal import document_of, typed
from tiny import ask, bands, trained


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A home with a data set, a finished study `done` and an unfinished one `open`."""
    folder = tmp_path_factory.mktemp("damaged") / "home"
    folder.mkdir()
    bands(folder)
    trained(folder, ("linear_probe",), name="done")
    ask(folder, ("full",), name="open")
    return folder


@pytest.fixture
def home(whole, tmp_path):
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "home")


@pytest.fixture
def cli(home, monkeypatch):
    return typed(home, monkeypatch)


def test_a_study_that_failed_as_a_whole_says_why(cli, home):
    assert json.loads(cli("status", "done", "--json")[1])["reason"] is None
    (home / "checkpoints" / "done" / "error.txt").write_text("The disk is full.\n")
    assert json.loads(cli("status", "done", "--json")[1])["reason"] == "The disk is full."
    assert "\nThe disk is full.\n" in cli("status", "done")[1]


def test_a_run_whose_answer_is_damaged_hides_its_study_alone(cli, home):
    shutil.copytree(home / "checkpoints" / "done", home / "checkpoints" / "bad")
    record = json.loads((home / "checkpoints" / "bad" / "study.json").read_text())
    (home / "checkpoints" / "bad" / "study.json").write_text(json.dumps({**record, "name": "bad"}))
    (home / "checkpoints" / "bad" / "linear_probe-test_resnet-s0" / "result.json").write_text("{")
    assert {row["study"] for row in json.loads(cli("runs", "--json")[1])} >= {"done", "open"}
    for command in ("studies", "runs"):
        _, _, err = cli(command)
        assert "linear_probe-test_resnet-s0/result.json is damaged" in err


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: b"no archive"])
def test_damaged_predictions_are_refused_in_a_sentence_that_says_what_to_do(cli, home, damage):
    run = "linear_probe-test_resnet-s0"
    kept = home / "checkpoints" / "done" / run / "test.npz"
    kept.write_bytes(damage(kept.read_bytes()))
    said = f"{run}/test.npz is damaged: delete that folder from the study, and the same command"
    for command in (("status", "done"), ("report", "done", "--out", str(home / "r.html"))):
        code, _, err = cli(*command)
        assert code == 2 and err.startswith(said)


def test_doctor_tells_of_a_damaged_queue_beside_all_else(cli, home):
    (home / "queue.sqlite").write_text("no table, and longer than a header of sqlite may be" * 9)
    found = {f["what"]: f for f in json.loads(cli("doctor", "--json")[1])}
    assert found["home folder"]["ok"] and found["studies"]["ok"] is False
    assert "queue" in found["studies"]["found"]


def test_a_damaged_study_is_named_and_doctor_tells_of_it(cli, home):
    (home / "checkpoints" / "done" / "study.json").write_text("{")
    code, _, err = cli("status", "done")
    assert code == 2 and err == "done/study.json is damaged: it holds no JSON.\n"
    (finding,) = [f for f in json.loads(cli("doctor", "--json")[1]) if f["what"] == "damaged"]
    assert finding["ok"] is False and "done/study.json is damaged" in finding["found"]


@pytest.mark.parametrize(
    "what", ["study.json", "half of study.json", "manifest.json", "items.csv", "no items.csv"]
)
def test_what_cannot_be_read_hides_nothing_else_and_can_be_deleted(cli, home, what):
    """As a folder that was copied by half, or comes from a later version, would be."""
    document = document_of(cli)
    shutil.copytree(home / "data" / "bands", home / "data" / "bad")
    name, place = ("open", "checkpoints") if "study" in what else ("bad", "data")
    bad = home / place / name / what.split()[-1]
    kept = {"version": json.loads(bad.read_text())["version"]} if "half" in what else None
    bad.write_text(json.dumps(kept) if kept else "{")
    if "no " in what:
        bad.unlink()
    rows = document("studies") + document("datasets")
    have = [row.get("study") or row["name"] for row in rows]
    assert {"done", "bands"} <= set(have) and name not in have
    assert {run["study"] for run in document("runs")} >= {"done"}
    _, _, err = cli("studies")
    assert re.search(f"^Left out: .*{name}.* damaged", err, re.M), err
    assert cli("delete", name, "--yes")[0] == 0 and not cli("studies")[2]
