"""The command line's promises: shapes of --json, one sentence for bad input, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from terminal import document_of, typed
from tiny import ENVIRONMENT, OPTIONS, QUICK, Command, ask, bands, test_files, trained
from typer.testing import CliRunner

from ftlab import __main__, files, presence, studies
from ftlab.commands import app, parse_knobs
from ftlab.commands.study import SETTINGS
from ftlab.records import BadInput, Settings

METRICS = {
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "auroc",
    "average_precision",
    "kappa",
    "ece",
}
COMMANDS = """strategies backbones plan datasets studies runs import check compare train demo status
stop delete worker search predict explain evaluate similarity drift maps average report card
export fetch serve users doctor""".split()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a data set, a finished study `done` and an unfinished one `open`."""
    folder = tmp_path_factory.mktemp("cli") / "home"
    folder.mkdir()
    bands(folder)
    trained(folder, ("full", "linear_probe"), name="done")
    ask(folder, ("full",), name="open")
    return folder


@pytest.fixture
def cli(home, monkeypatch):
    return typed(home, monkeypatch)


@pytest.fixture
def document(cli):
    return document_of(cli)


# --- the shapes others build on ---


def test_strategies(document):
    rows = document("strategies")
    assert len(rows) == 13 and all(row.keys() >= {"name", "source", "summary"} for row in rows)


def test_backbones(document):
    rows = {row["name"]: row for row in document("backbones")}
    resnet = rows["resnet50"]
    assert [s["name"] for s in resnet["stages"]] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert sum(s["parameters"] for s in resnet["stages"]) == 23_508_032  # torchvision, without fc
    assert resnet["cuts"][-1] == {"unit": 17, "stage": "layer4", "parameters": 23_508_032}


def test_plan(document):
    plan = document(
        "plan", "lp_ft", "--backbone", "resnet18", "--epochs", "5", "--set", "probe=0.4"
    )
    assert plan.keys() >= {"strategy", "backbone", "cut_after", "slim_from", "phases"}
    assert [p["epochs"] for p in plan["phases"]] == [2, 3]
    assert plan["phases"][0]["lrs"] == {"head": 0.001}
    assert plan["phases"][0]["penalty"] is None and plan["phases"][0]["rates"] is None
    penalty = document("plan", "l2_sp", "--set", "l2_sp.alpha=0.5")["phases"][0]["penalty"]
    assert penalty == {"name": "l2_sp", "alpha": 0.5, "beta": 0.01}


def test_import_check_datasets_and_delete(document, cli, tmp_path, monkeypatch):
    from dirty import tree

    monkeypatch.setenv("FTLAB_HOME", str(tmp_path / "new" / "home"))
    source = tree(tmp_path / "source", per_class=20)
    made = document("import", source, "pets")
    keys = {"name", "images", "classes", "groups", "splits", "skipped", "warnings"}
    assert made.keys() >= keys and made["classes"] == {"cat": 20, "dog": 20}
    assert made["splits"].keys() == {"train", "val", "test"} and sum(made["splits"].values()) == 40
    assert document("check", "pets") == made and document("datasets") == [made]
    assert document("delete", "pets", "--yes") == {"deleted": "pets"}
    assert document("datasets") == []


def test_studies_and_runs(document):
    rows = {row["study"]: row for row in document("studies")}
    assert rows["done"] == {
        "study": "done",
        "data": "bands",
        "classes": ["class0", "class1"],
        "backbones": ["test_resnet"],
        "strategies": ["full", "linear_probe"],
        "seeds": [0],
        "state": "finished",
    }
    assert rows["open"]["state"] == "queued"
    own = [row for row in document("runs") if row["study"] == "done"]
    assert [row["run"] for row in own] == ["full-test_resnet-s0", "linear_probe-test_resnet-s0"]
    for row in own:
        _is_finished_run(row)


def _is_finished_run(row):
    assert row.keys() >= {"run", "strategy", "backbone", "seed", "state", "seconds"}
    assert row["state"] == "finished" and row["trained_parameters"] > 0 and row["stored_bytes"] > 0
    assert row["test"].keys() >= METRICS


def test_status(document):
    answer = document("status", "done")
    assert answer["state"] == "finished" and answer["epochs_done"] == answer["epochs"] == 4
    assert answer["seconds_left"] == 0 and len(answer["leaderboard"]["rows"]) == 2


def test_status_says_how_long_it_takes_only_where_that_is_known(cli, monkeypatch):
    from ftlab.lab import Lab

    known = Lab.status
    for left, said in ((None, ""), (90, "about 1 min 30 s left\n")):
        now = {"state": "running", "epochs_done": 0, "seconds_left": left}
        monkeypatch.setattr(Lab, "status", lambda lab, study, now=now: {**known(lab, study), **now})
        code, out, _ = cli("status", "open")
        assert code == 0 and "running, 0 of 2 epochs\n" + said in out and "unknown" not in out


@pytest.mark.parametrize("verb", ["compare", "train"])
def test_training_prints_events_as_json_lines_and_the_answer_last(home, cli, verb):
    which = {"compare": ("--strategies", "full,linear_probe", "--seeds", 1), "train": ()}[verb]
    code, out, err = cli(verb, "bands", *OPTIONS, *which, "--name", f"json-{verb}", "--json")
    assert code == 0 and "epochs to train" in err
    *events, last = map(json.loads, out.splitlines())
    assert {event["event"] for event in events} == {"started", "epoch", "finished"}
    assert all("seconds_left" in event for event in events)
    assert last["study"] == f"json-{verb}"
    asked = {"compare": ["full", "linear_probe"], "train": ["full"]}[verb]
    assert [row["strategy"] for row in last["runs"]] == asked
    for row in last["runs"]:
        _is_finished_run(row)


def test_predict(home, document):
    files, _ = test_files(home)
    answer = document("predict", *files[:2], "--study", "done")
    assert answer["classes"] == ["class0", "class1"]
    assert [image["file"] for image in answer["images"]] == [path.name for path in files[:2]]
    for run in answer["images"][0]["runs"]:
        assert run.keys() >= {"run", "strategy", "probs"} and sum(run["probs"]) == pytest.approx(1)


def test_queue_and_stop(home, document):
    options = ("--strategies", "full", "--seeds", 1, "--name", "open", "--queue")
    assert document("compare", "bands", *OPTIONS, *options) == {"study": "open", "queued": True}
    assert document("stop", "open") == {"study": "open", "stopped": True}
    rows = {row["study"]: row["state"] for row in document("studies")}
    assert rows["open"] == "stopped"
    assert document("stop", "done") == {"study": "done", "stopped": False}
    assert not (home / "checkpoints" / "done" / "stopped").exists()


def test_doctor_says_what_is_here_and_what_is_missing(document, monkeypatch):
    findings = {f["what"]: f for f in document("doctor")}
    assert findings["torch"]["ok"] and findings["home folder"]["ok"] and findings["studies"]["ok"]
    assert all(f.keys() == {"what", "ok", "found"} for f in findings.values())
    from ftlab import doctor

    monkeypatch.setattr(doctor, "FLOORS", {"torch": "99", "no-such-package": "1"})
    monkeypatch.setenv("FTLAB_HOME", "/proc/nowhere/at/all")
    findings = {f["what"]: f for f in document("doctor")}
    assert findings["torch"]["ok"] is False and "99 is needed" in findings["torch"]["found"]
    assert "not installed" in findings["no-such-package"]["found"]


# --- for people ---


def test_help_lists_every_command(cli):
    code, out, _ = cli("--help")
    assert code == 0 and re.findall(r"^  ([a-z]+)  ", out, re.M) == COMMANDS


def test_compare_and_train_offer_every_setting_and_default_to_it():
    assert list(SETTINGS) == [field.name for field in fields(Settings)]
    code = CliRunner().invoke(app, ["train", "--help"]).stdout
    for name in SETTINGS:
        assert f"--{name.replace('_', '-')} " in code


def test_a_leaderboard_says_how_rates_were_chosen_and_what_that_took(home, cli):
    assert "learning rates not tuned." in cli("status", "done")[1]
    settings = {**vars(QUICK), "lr": "auto", "epochs": 1}
    trained(home, ("linear_probe",), name="rates", settings=Settings(**settings))
    text = cli("status", "rates")[1]
    assert re.search(
        r"chosen on validation with seed 0 from 0.0001, 0.001, 0.01: "
        r"3 configurations tried, in \d+ s\.",
        text,
    )


def test_plain_lines_on_standard_error_when_there_is_no_terminal(cli):
    options = ("--strategies", "full", "--seeds", 1, "--name", "plain")
    code, out, err = cli("compare", "bands", *OPTIONS, *options)
    assert code == 0 and "\x1b" not in out + err and "\r" not in err
    lines = err.splitlines()
    assert (
        lines[0] == "Study plain: 2 epochs to train; how long that takes is known after the first."
    )
    assert re.fullmatch(r"full-test_resnet-s0  epoch 1  loss \d\.\d+  val .* s", lines[1])
    assert lines[2].startswith("  1/2 epochs, about ")
    assert "balanced accuracy %" in out and "full alone has finished" in out
    again = cli("compare", "bands", *OPTIONS, *options)
    assert again[2].splitlines() == ["Study plain: nothing is left to train."] and again[1] == out


def test_check_tells_groups_and_duplicates(cli):
    out = cli("check", "bands")[1]
    assert "groups: none known" in out and re.search(r"duplicates: \d+ exact and \d+ near", out)
    assert "the largest cluster has" in out


# --- bad input: exit code 2, one sentence, no traceback, no path ---


BAD = {
    "unknown data set": (("compare", "nothing"), "There is no data set 'nothing'"),
    "data set outside": (("check", "../home/data/bands"), "There is no data set"),
    "unknown strategy": (("compare", "bands", "--strategies", "best"), "no strategy 'best'"),
    "empty strategies": (("compare", "bands", "--strategies", ""), "no strategy ''"),
    "unknown strategy to train": (("train", "bands", "--strategy", "best"), "no strategy 'best'"),
    "unknown backbone": (("compare", "bands", "--backbone", "resnet51"), "no backbone 'resnet51'"),
    "empty backbone": (("compare", "bands", "--backbone", ""), "no backbone ''"),
    "not a CNN": (("plan", "full", "--backbone", "vit_tiny_patch16_224"), "cannot be cut"),
    "unknown backbone to fetch": (("fetch", "resnet51"), "no backbone 'resnet51'"),
    "unknown knob": (("compare", "bands", "--set", "full.speed=3"), "full has no knob 'speed'"),
    "knob of a strategy not asked for": (
        ("compare", "bands", "--strategies", "full", "--set", "l2_sp.alfa=3"), "no knob 'alfa'"),
    "knob of another kind": (("compare", "bands", "--set", "l2_sp.alpha=much"), "'much'"),
    "knob of no strategy": (("compare", "bands", "--set", "best.lr=1"), "no strategy 'best'"),
    "malformed knob": (("compare", "bands", "--set", "lr"), "--set takes strategy.knob=value"),
    "knob without value": (("compare", "bands", "--set", "full.lr="), "--set takes"),
    "knob without strategy": (("compare", "bands", "--set", "lr=1"), "--set takes"),
    "another strategy's knob": (("plan", "full", "--set", "l2_sp.alpha=1"), "no knob of l2_sp"),
    "unknown stage": (("plan", "surgical", "--set", "stage=layer9"), "no stage 'layer9'"),
    "unknown unit": (("plan", "truncated", "--set", "cut=99"), "no unit 99"),
    "negative rate": (("compare", "bands", "--lr", "-1"), "-1"),
    "rate of zero": (("compare", "bands", "--lr", "0"), "above 0"),
    "rate not a number": (("compare", "bands", "--lr", "nan"), "nan"),
    "infinite rate": (("compare", "bands", "--lr", "inf"), "inf"),
    "rate in words": (("compare", "bands", "--lr", "small"), "--lr takes a number or auto"),
    "no epochs": (("compare", "bands", "--epochs", "0"), "--epochs is at least 1"),
    "too few epochs": (("train", "bands", "--strategy", "lp_ft", "--epochs", "1"), "at least 2"),
    "unit of none": (("compare", "bands", "--strategies", "full@3"), "full has no unit to name"),
    "unit in words": (("train", "bands", "--strategy", "truncated@last"), "takes a unit's number"),
    "unit not there": (("plan", "truncated@99", "--backbone", "resnet50"), "no unit 99"),
    "search of another": (("search", "bands", "--strategy", "full"), "A search takes truncated,"),
    "search by another": (("search", "bands", "--metric", "auroc"), "A search takes average_prec"),
    "search otherwise": (("search", "bands", "--how", "guess"), "A search takes two-stage, ranked"),
    "search of two backbones": (
        ("search", "bands", "--backbone", "resnet50,vgg19"), "no backbone 'resnet50,vgg19'"),
    "ranked without a cut": (
        ("search", "bands", "--strategy", "layer_wise", "--how", "ranked"), "Only truncated"),
    "no seeds": (("compare", "bands", "--seeds", "0"), "A study has 1 to 100 seeds."),
    "seeds without end": (("compare", "bands", "--seeds", "1" + 20 * "0"), "1 to 100 seeds."),
    "huge seed": (("train", "bands", "--seed", "1" + 23 * "0"), "A seed is a number from 0 to"),
    "views of nothing": (("compare", "bands", "--views", "2"), "give --augment or --flips with"),
    "seeds below zero": (("compare", "bands", "--seeds", "-3"), "1 to 100 seeds"),
    "seed below zero": (("train", "bands", "--seed", "-1"), "A seed is a number from 0 to"),
    "no batch": (("compare", "bands", "--batch", "0"), "--batch is at least 2"),
    "small size": (("compare", "bands", "--size", "10"), "--size is at least 32"),
    "huge size": (("compare", "bands", "--size", "100000"), "--size is at most 1024"),
    "no patience": (("compare", "bands", "--patience", "0"), "--patience is at least 1"),
    "one image": (("compare", "bands", "--train-per-class", "1"), "--train-per-class is at least"),
    "optimizer": (("compare", "bands", "--optimizer", "lion"), "--optimizer takes adam"),
    "schedule": (("compare", "bands", "--schedule", "step"), "--schedule takes"),
    "augment": (("compare", "bands", "--augment", "heavy"), "--augment takes"),
    "precision": (("compare", "bands", "--precision", "int8"), "--precision takes"),
    "select": (("compare", "bands", "--select", "luck"), "--select takes"),
    "weights missing": (
        ("compare", "bands", "--weights", "/tmp/no/such.pth"), "no weights file 'such.pth'"),
    "study's name": (("compare", "bands", "--name", "../x", *OPTIONS), "letters, digits"),
    "study's long name": (("compare", "bands", "--name", "x" * 300, *OPTIONS), "letters, digits"),
    "other settings": (
        ("compare", "bands", "--name", "done", *OPTIONS, "--batch", 4), "asks something else"),
    "unknown study": (("status", "nothing"), "There is no study 'nothing'; there are done"),
    "stop nothing": (("stop", "nothing"), "There is no study 'nothing'"),
    "delete nothing": (("delete", "nothing"), "no study and no data set 'nothing'"),
    "delete outside": (("delete", "../checkpoints/done", "--yes"), "no study and no data set"),
    "delete a hidden name": (("delete", ".", "--yes"), "no study and no data set"),
    "delete in use": (("delete", "bands", "--yes"), "The study open still needs bands"),
    "predict with nothing": (("predict", "{image}", "--study", "nothing"), "no study 'nothing'"),
    "predict unfinished": (("predict", "{image}", "--study", "open"), "No run of the study open"),
    "image missing": (("predict", "{home}/no.png", "--study", "done"), "no image file 'no.png'"),
    "image a folder": (("predict", "{home}", "--study", "done"), "no image file 'home'"),
    "image unreadable": (("predict", "{text}", "--study", "done"), "text.png: not an image"),
    "import nothing": (("import", "/no/such/folder", "x"), ""),
    "import from nobody's home": (("import", "~nosuchuser/x", "x"), "home folder '~nosuchuser'"),
    "import under a bad name": (("import", "{home}", "../x"), "letters, digits"),
    "import again": (("import", "{home}", "bands"), "There is a data set 'bands' already"),
    "fractions": (("import", "{home}", "x", "--fractions", "a,b"), "--fractions takes three"),
    "two fractions": (("import", "{home}", "x", "--fractions", "0.5,0.5"), "Three fractions"),
    "split seed": (("import", "{home}", "x", "--seed", "-1"), "--seed is at least 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("form", ["text", "json"])
def test_bad_input_ends_in_one_sentence_and_exit_code_2(home, cli, tmp_path, case, form):
    arguments, sentence = BAD[case]
    (home.parent / "text.png").write_text("no image")
    places = {"image": test_files(home)[0][0], "home": home, "text": home.parent / "text.png"}
    if form == "json":
        arguments = (*arguments, "--json")
    before = sorted(home.glob("*/*"))
    code, out, err = cli(*(str(argument).format(**places) for argument in arguments))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and sentence in err and err.endswith((".\n", ")\n")), err
    assert "Traceback" not in err and str(home.parent) not in err and "/tmp/" not in err
    assert sorted(home.glob("*/*")) == before, "bad input leaves nothing behind"


@pytest.mark.parametrize(
    "arguments",
    [("check",), ("compare", "bands", "--epochs", "many"), ("nonsense",), ("plan", "--no")],
)
def test_a_usage_error_exits_2_without_a_traceback(cli, arguments):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "") and "Error: " in err and "Traceback" not in err


@pytest.mark.parametrize("place", ["file", "below a file"])
def test_a_home_that_cannot_be_used_is_a_sentence(cli, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    at = tmp_path / "file" if place == "file" else tmp_path / "file" / "home"
    monkeypatch.setenv("FTLAB_HOME", str(at))
    (tmp_path / "pets").mkdir()
    for arguments in (("worker", "--until-empty"), ("import", tmp_path / "pets", "pets")):
        code, out, err = cli(*arguments)
        assert code == 2 and err.count("\n") == 1 and str(tmp_path) not in err, err
    for arguments in (("datasets",), ("studies",), ("runs",), ("doctor",)):
        assert cli(*arguments)[0] == 0


def test_a_read_only_home_is_a_sentence(cli, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(studies, "save", refuse)
    code, out, err = cli("compare", "bands", *OPTIONS, "--strategies", "full", "--name", "denied")
    assert (code, out, err) == (2, "", "Permission denied: denied.\n")


def test_a_home_that_is_missing_is_made_when_something_is_kept(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FTLAB_HOME", str(tmp_path / "not" / "there"))
    assert cli("datasets")[:2] == (0, "No data set yet: `ftlab import SOURCE NAME` makes one.\n")
    assert cli("worker", "--until-empty")[0] == 0


def test_every_run_failed_is_exit_code_2_with_the_reasons(cli):
    options = ("--strategies", "full", "--seeds", 1, "--optimizer", "sgd", "--lr", "1e30")
    code, out, err = cli("compare", "bands", *OPTIONS, *options, "--name", "fails")
    assert code == 2 and err.endswith("Every run failed; the reasons stand above.\n")
    assert "full-test_resnet-s0 failed: The loss stopped being a number" in out
    code, out, err = cli("compare", "bands", *OPTIONS, *options, "--name", "fails", "--json")
    assert code == 2 and json.loads(out.splitlines()[-1])["runs"][0]["state"] == "failed"


# --- delete asks ---


def test_delete_asks_first_and_keeps_what_is_not_confirmed(home, cli):
    folder = trained(home, ("linear_probe",), name="doomed")
    for said in ("n\n", ""):
        code, out, err = cli("delete", "doomed", input=said)
        assert (
            code == 1 and out.strip() == said.strip() and "Delete the study doomed for good?" in err
        )
        assert folder.exists()
    code, out, _ = cli("delete", "doomed", input="y\n")
    assert code == 0 and out.endswith("Deleted the study doomed.\n")
    assert not folder.exists() and not list(folder.parent.glob(".doomed*"))


def test_delete_yes_does_not_ask(home, cli):
    folder = trained(home, ("linear_probe",), name="doomed")
    assert cli("delete", "doomed", "--yes") == (0, "Deleted the study doomed.\n", "")
    assert not folder.exists()


# --- as a process ---


def test_two_commands_on_one_study_the_second_gets_one_sentence(home):
    options = ("compare", "bands", "--strategies", "full", "--seeds", 1, "--name", "twice")
    folder = ask(home, name="twice")
    with presence.lock(folder):
        process = Command(home, *options, *OPTIONS)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    assert err == (
        "The study twice is being worked on already; `ftlab status twice` shows how far it is, "
        "`ftlab stop twice` stops it.\n"
    )


def test_the_science_needs_neither_gradio_nor_the_saliency_library(home):
    arguments = ["train", "bands", *OPTIONS, "--strategy", "linear_probe", "--name", "bare"]
    code = f"""
import sys
for name in ("gradio", "pytorch_grad_cam", "ftlab.ui"):
    sys.modules[name] = None  # importing it fails
import ftlab.__main__, ftlab.lab, ftlab.worker, ftlab.training, ftlab.prediction, ftlab.doctor
import ftlab.inspection, ftlab.drift
from ftlab.commands import app
sys.argv = ["ftlab", *{arguments}]
app()
"""
    environment = {**ENVIRONMENT, "FTLAB_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment},
        cwd=__main__.__file__.rsplit("/", 2)[0], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (home / "checkpoints/bare/linear_probe-test_resnet-s0/result.json").exists()


def test_listing_commands_start_without_torch():
    code = "import sys, ftlab.__main__; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=__main__.__file__.rsplit("/", 2)[0]
    )


def test_knobs_read_numbers_flags_and_words():
    texts = ["a.n=3", "a.x=1e-3", "a.f=true", "b.w=layer1"]
    assert parse_knobs(texts) == {"a": {"n": 3, "x": 1e-3, "f": True}, "b": {"w": "layer1"}}
    assert parse_knobs(["x=1", "a.y=2"], "a") == {"a": {"x": 1, "y": 2}}
    assert parse_knobs(["b.x=1"], "a") == {"b": {"x": 1}}
    with pytest.raises(BadInput):
        parse_knobs(["x=1"])


def test_nothing_a_study_writes_names_a_folder_of_this_machine(home):
    for path in home.glob("checkpoints/done/**/*.json*"):
        assert str(home) not in path.read_text(), path.name
    assert files.read_json(home / "checkpoints/done/full-test_resnet-s0/run.json")["run"]


def test_names_in_any_letters_are_shown_where_the_terminal_knows_none_of_them(home):
    told = subprocess.run(
        [sys.executable, "-c", "from ftlab import __main__; "
         "__main__.app = lambda: print('\u00dcbel'); __main__.main()"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert (told.returncode, told.stdout) == (0, "\\xdcbel\n"), told.stderr
