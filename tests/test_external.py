"""External validation: against predictions made by hand, and what is left out of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import pictures
from PIL import Image
from tiny import ask, bands, trained
from typer.testing import CliRunner

from ftlab import external, metrics, statistics, studies
from ftlab.__main__ import app
from ftlab.datasets import import_dataset, open_dataset
from ftlab.lab import Lab
from ftlab.records import BadInput

STRATEGIES = ("full", "linear_probe")


def elsewhere(home, name: str, names: dict[int, str], n: int = 30, seed: int = 7) -> str:
    """A data set of other pictures of the bands, its classes called as `names` says."""
    pixels, labels = pictures(n, 3, seed=seed)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        if label in names:
            folder = home.parent / name / names[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{number:03}.png")
    import_dataset(home / "data", str(home.parent / name), name)
    return name


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with the study `own` of three classes, two strategies and two seeds."""
    folder = tmp_path_factory.mktemp("external") / "home"
    folder.mkdir()
    bands(folder, classes=3, n=60)
    trained(folder, STRATEGIES, (0, 1), name="own")
    elsewhere(folder, "other", {0: "class0", 1: "Class1", 2: "class2"})
    return folder


def test_it_scores_what_predict_says_of_the_other_images(home):
    answer = Lab(home).evaluate("own", "other")
    other = open_dataset(home / "data", "other")
    names = [name.casefold() for name in other.classes]
    order = [names.index(f"class{c}") for c in range(3)]
    truth = np.array([order.index(label) for label in other.labels])
    board = Lab(home).answer(home / "checkpoints" / "own")["leaderboard"]["rows"]
    board = {row["strategy"]: row for row in board}
    told = Lab(home).predict([other.folder / file for file in other.files], "own")
    assert answer["images"] == len(truth) == 30 and answer["groups"] is None
    assert (answer["unknown"], answer["shared"], answer["without_weights"]) == (0, 0, [])
    assert answer["classes"] == ["class0", "class1", "class2"]
    assert {row["strategy"] for row in answer["rows"]} == set(STRATEGIES)
    for row in answer["rows"]:
        assert row["seeds"] == [0, 1]
        probs = [
            np.array(
                [
                    next(r["probs"] for r in image["runs"] if r["run"] == name)
                    for image in told["images"]
                ]
            )
            for name in (f"{row['strategy']}-test_resnet-s{seed}" for seed in (0, 1))
        ]
        for metric in ("balanced_accuracy", "auroc"):
            wanted = statistics.interval(truth, probs, None, metric)
            assert row["external"][metric] == pytest.approx(wanted)
        accuracy = np.mean([metrics.score(truth, p)["accuracy"] for p in probs])
        assert row["metrics"]["accuracy"] == pytest.approx(accuracy)
        recalls = [found["recall"] for found in row["per_class"]]
        assert np.mean(recalls) == pytest.approx(row["external"]["balanced_accuracy"]["mean"])
        own = board[row["strategy"]]["balanced_accuracy"]
        assert row["internal"]["balanced_accuracy"] == pytest.approx(own)
    means = [row["external"]["balanced_accuracy"]["mean"] for row in answer["rows"]]
    assert means == sorted(means, reverse=True)


def test_a_split_of_the_other_data_is_judged_alone(home):
    other = open_dataset(home / "data", "other")
    answer = Lab(home).evaluate("own", "other", split="test")
    assert answer["images"] == len(other.indices("test"))


def test_images_of_unknown_classes_are_left_out_and_counted(home):
    elsewhere(home, "partly", {0: "class0", 1: "class1", 2: "never seen"})
    answer = Lab(home).evaluate("own", "partly")
    assert (answer["images"], answer["unknown"]) == (20, 10)
    assert answer["classes"] == ["class0", "class1"]
    assert [found["class"] for found in answer["rows"][0]["per_class"]] == ["class0", "class1"]


def test_classes_that_differ_by_case_alone_are_told_apart_by_it(home):
    own = replace(studies.read(home / "checkpoints" / "own"), classes=("A", "a", "Rest"))
    other = SimpleNamespace(classes=("A", "a", "REST", "b"), labels=np.arange(4))
    rows, labels = external._known(own, other, np.arange(4))
    assert rows.tolist() == [0, 1, 2] and labels.tolist() == [0, 1, 2]


def test_images_that_are_in_the_studys_own_data_are_left_out(home):
    shutil.copytree(home.parent / "other", home.parent / "mixed")
    for label in range(3):
        folder = home.parent / "bands-pictures" / f"class{label}"
        target = next(p for p in (home.parent / "mixed").iterdir() if p.name.lower() == folder.name)
        for path in sorted(folder.iterdir())[:4]:
            shutil.copy(path, target / f"copied-{path.name}")
    import_dataset(home / "data", str(home.parent / "mixed"), "mixed")
    assert len(open_dataset(home / "data", "mixed").files) == 42
    before, after = (Lab(home).evaluate("own", name) for name in ("other", "mixed"))
    assert (after["images"], after["shared"]) == (30, 12)
    assert after["rows"] == before["rows"]


def test_a_study_whose_data_is_not_here_cannot_say_what_is_shared(home, tmp_path):
    shutil.copytree(home, tmp_path / "home")
    shutil.rmtree(tmp_path / "home" / "data" / "bands")
    assert Lab(tmp_path / "home").evaluate("own", "other")["shared"] is None


def test_groups_are_kept_together(home):
    rows = ["file,label,group"]
    for path in sorted((home.parent / "other").glob("*/*.png")):
        label = path.parent.name.casefold()
        rows.append(f"{path.parent.name}/{path.name},{label},{int(path.stem) % 10}")
    (home.parent / "other" / "labels.csv").write_text("\n".join(rows))
    labels = home.parent / "other" / "labels.csv"
    source = str(home.parent / "other")
    import_dataset(home / "data", source, "grouped", labels=labels, group_column="group")
    answer = Lab(home).evaluate("own", "grouped")
    assert answer["groups"] == 10
    alone = Lab(home).evaluate("own", "other")
    first, second = (a["rows"][0]["external"]["balanced_accuracy"] for a in (answer, alone))
    assert first["mean"] == pytest.approx(second["mean"])
    assert (first["low"], first["high"]) != (second["low"], second["high"])


def test_what_cannot_be_judged_gets_a_sentence(home):
    lab = Lab(home)
    elsewhere(home, "foreign", {0: "cat", 1: "dog"})
    with pytest.raises(BadInput, match=r"foreign has too little .* 20 of classes it does not know"):
        lab.evaluate("own", "foreign")
    with pytest.raises(BadInput, match=r"bands has too little .* 60 of its images are in bands"):
        lab.evaluate("own", "bands")
    with pytest.raises(BadInput, match="--split takes all, train, val, test, not 'some'"):
        lab.evaluate("own", "other", split="some")
    with pytest.raises(BadInput, match="no data set 'nothing'"):
        lab.evaluate("own", "nothing")
    ask(home, name="untrained")
    with pytest.raises(BadInput, match="No run of the study untrained has finished"):
        lab.evaluate("untrained", "other")


def test_the_command_says_what_was_left_out(home, monkeypatch):
    monkeypatch.setenv("FTLAB_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")
    if not (home / "data" / "partly").exists():
        elsewhere(home, "partly", {0: "class0", 1: "class1", 2: "never seen"})
    done = CliRunner().invoke(app, ["evaluate", "own", "--data", "partly"])
    assert done.exit_code == 0, done.output
    assert "on 20 images of partly. Left out: 10 of classes" in done.stdout
    assert all(name in done.stdout for name in STRATEGIES) and "own data, too" not in done.stdout


def test_what_was_done_is_counted(home):
    told = []
    external.evaluate(
        home / "checkpoints" / "own", home, "other", progress=lambda *at: told.append(at)
    )
    assert told == [(n, 4) for n in range(1, 5)]
