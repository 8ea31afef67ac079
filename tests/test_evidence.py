"""What the test images say: against numbers worked out by hand or by another road."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny import QUICK, ask, bands, trained

from ftlab import evidence, metrics, runs, statistics
from ftlab.datasets import import_dataset
from ftlab.datasets.masks import read_mask
from ftlab.lab import Lab
from ftlab.records import BadInput
from ftlab.studies import Cell

STRATEGIES = ("full", "linear_probe", "truncated")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = tmp_path_factory.mktemp("evidence") / "home"
    home.mkdir()
    bands(home, classes=3, n=60)
    settings = replace(QUICK, epochs=1)
    return home, trained(home, STRATEGIES, (0, 1), settings=settings, name="told")


@pytest.fixture(scope="module")
def found(study):
    return Lab(study[0]).evidence("told")


def tests_of(folder, strategy, seeds=(0, 1)):
    return [runs.predictions(folder / f"{strategy}-test_resnet-s{seed}") for seed in seeds]


tests_of.__test__ = False


def test_every_finished_run_is_told_of_in_json(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["classes"] == ["class0", "class1", "class2"]
    assert [row["strategy"] for row in found["per_strategy"]] == list(STRATEGIES)
    assert {(r["strategy"], r["seed"]) for r in found["runs"]} == {
        (s, seed) for s in STRATEGIES for seed in (0, 1)
    }


def test_confusion_rates_and_calibration_are_those_of_the_seeds_together(study, found):
    for row in found["per_strategy"]:
        tests = tests_of(study[1], row["strategy"])
        by_seed = [metrics.confusion(t["y_true"], t["probs"]) for t in tests]
        assert row["confusion"] == sum(by_seed).tolist()
        rates = [metrics.per_class(t["y_true"], t["probs"]) for t in tests]
        for c, own in enumerate(row["per_class"]):
            for rate in ("sensitivity", "specificity"):
                assert own[rate]["mean"] == pytest.approx(np.mean([r[rate][c] for r in rates]))
                assert 0 <= own[rate]["low"] <= own[rate]["mean"] <= own[rate]["high"] <= 1
        n = [b["n"] for b in row["reliability"]]
        gaps = [b["n"] * abs(b["accuracy"] - b["confidence"]) for b in row["reliability"]]
        assert sum(n) == 2 * len(tests[0]["y_true"])
        assert row["ece"] == pytest.approx(sum(gaps) / sum(n))


def test_the_area_under_a_drawn_curve_is_the_area_that_is_told(found):
    for row in found["per_strategy"]:
        for roc, pr in zip(row["roc"], row["precision_recall"], strict=True):
            assert (roc["fpr"][0], roc["tpr"][-1]) == (0, 1)
            assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(roc["auroc"], abs=0.01)
            steps = np.diff(pr["recall"]) @ np.array(pr["precision"][1:])
            assert steps == pytest.approx(pr["average_precision"], abs=0.01)


def test_long_curves_are_thinned_and_keep_their_area():
    rng = np.random.default_rng(0)
    is_class = rng.random(20_000) < 0.3
    p = rng.normal(is_class, 1.0)
    roc, pr = evidence._roc(is_class, p), evidence._precision_recall(is_class, p)
    assert len(roc["fpr"]) == len(pr["recall"]) == 200
    assert np.trapezoid(roc["tpr"], roc["fpr"]) == pytest.approx(roc["auroc"], abs=0.002)
    steps = np.diff(pr["recall"]) @ np.array(pr["precision"][1:])
    assert steps == pytest.approx(pr["average_precision"], abs=0.01)


def test_a_class_without_test_images_has_empty_curves_and_no_sensitivity():
    test = {"y_true": np.array([0, 1, 0]), "probs": np.eye(3)[[0, 1, 2]], "group": np.arange(3)}
    row = evidence._of_strategy(("a", "b", "c"), [test])
    absent = row["per_class"][2]
    assert absent["sensitivity"] == {"mean": None, "low": None, "high": None}
    assert absent["specificity"]["mean"] == pytest.approx(2 / 3)
    assert row["roc"][2] == {"class": "c", "fpr": [], "tpr": [], "auroc": None}
    assert row["precision_recall"][2]["average_precision"] is None


def test_a_study_without_answers_tells_nothing(study):
    ask(study[0], name="silent")
    found = Lab(study[0]).evidence("silent")
    assert found["classes"] and found["backbones"] == ["test_resnet"]
    empty = ("runs", "per_strategy", "disagreements", "disagreement_of_all")
    assert not any(found[key] for key in empty)
    assert found["disagreements_of"] == {"test_resnet": []}


# --- intervals of a rate ---


def hits(shape, rate=0.7, seed=0):
    return np.random.default_rng(seed).random(shape) < rate


def test_all_hits_have_wilsons_interval_however_many_seeds_repeat_them():
    every = np.ones(10, bool)
    for seeds in (1, 3):
        rate = evidence._rate(np.ones((seeds, 10), bool), every, None)
        assert (rate["mean"], rate["high"]) == (1, 1)
        assert rate["low"] == pytest.approx(0.7225, abs=1e-4)  # 10 / (10 + 1.96 ** 2)


def test_ten_images_of_one_patient_are_one_patient():
    every = np.ones(10, bool)
    one = evidence._rate(hits((2, 10)), every, np.zeros(10, int))
    assert one["high"] - one["low"] > 0.7
    five = evidence._rate(hits((2, 10)), every, np.repeat(np.arange(5), 2))
    assert five["high"] - five["low"] < one["high"] - one["low"]


@pytest.mark.parametrize("patients", [240, 60, 6])
@pytest.mark.parametrize("seeds", [1, 3])
def test_the_uncertainty_is_that_of_the_leaderboards_intervals(seeds, patients):
    right = hits((seeds, 240)) | hits((1, 240), 0.3, seed=1)
    groups = np.repeat(np.arange(patients), 240 // patients)
    variance, freedom = evidence._uncertainty(right, groups)
    from scipy.stats import t

    as_probs = [np.eye(2)[own.astype(int)] for own in right]
    resampled = statistics.interval(np.ones(240, int), as_probs, groups, "accuracy")
    half = t.ppf(0.975, freedom) * variance**0.5
    assert half == pytest.approx((resampled["high"] - resampled["low"]) / 2, rel=0.1)


# --- disagreement and consensus ---


def test_disagreement_is_0_where_all_say_the_same_and_1_where_each_is_sure_of_another():
    same = np.tile([[0.2, 0.5, 0.3]], (4, 1, 1))
    assert evidence.disagreement(same) == pytest.approx(0, abs=1e-12)
    assert evidence.disagreement(np.eye(3)[:, None]) == pytest.approx(1)
    assert evidence.disagreement(np.eye(2)[[0, 1, 0]][:, None]) == pytest.approx(1)
    assert evidence.disagreement(np.eye(3)[:1, None]) == 0


def test_disagreement_grows_with_the_distance_and_is_the_same_in_any_order():
    apart = [np.array([[[0.5 + d, 0.5 - d]], [[0.5 - d, 0.5 + d]]]) for d in (0.0, 0.1, 0.4)]
    values = [float(evidence.disagreement(p)[0]) for p in apart]
    assert values == sorted(values) and values[0] == 0 < values[1]
    probs = np.random.default_rng(0).dirichlet(np.ones(4), (5, 7))
    assert evidence.disagreement(probs[::-1]) == pytest.approx(evidence.disagreement(probs))


def test_disagreements_are_those_of_the_first_seeds_the_most_first(study, found):
    folder = study[1]
    firsts = {s: tests_of(folder, s, (0,))[0] for s in STRATEGIES}
    expected = evidence.disagreement(np.stack([t["probs"] for t in firsts.values()]))
    assert found["disagreement_of_all"] == pytest.approx(expected)
    listed = [image["disagreement"] for image in found["disagreements"]]
    assert listed == sorted(expected, reverse=True)[: len(listed)]
    for image in found["disagreements"]:
        place = list(firsts["full"]["index"]).index(image["index"])
        assert image["truth"] == found["classes"][firsts["full"]["y_true"][place]]
        calls = {s: found["classes"][t["probs"][place].argmax()] for s, t in firsts.items()}
        assert image["votes"] == calls


def test_of_two_backbones_each_is_told_of_by_itself_and_both_together(study, found):
    assert found["disagreements_of"] == {"test_resnet": found["disagreements"]}
    test = {"y_true": np.array([0, 1]), "index": np.array([4, 7])}
    says = {"x": [[0.9, 0.1], [0.8, 0.2]], "y": [[0.9, 0.1], [0.1, 0.9]]}
    firsts = {
        Cell(backbone, strategy, 0): test | {"probs": np.array(says[said])}
        for backbone, strategy, said in (
            ("a", "full", "x"),
            ("a", "lp_ft", "x"),
            ("b", "full", "y"),
        )
    }
    of_a, of_b, both = (
        evidence._disagreements(("no", "yes"), firsts, of)["disagreements"]
        for of in ("a", "b", None)
    )
    assert [image["disagreement"] for image in of_a + of_b] == pytest.approx([0] * 4)
    assert [image["index"] for image in both] == [7, 4] and both[0]["disagreement"] > 0
    assert both[0]["votes"] == {"full (a)": "no", "lp_ft (a)": "no", "full (b)": "yes"}
    assert of_a[1]["votes"] == {"full": "no", "lp_ft": "no"} and of_b[1]["votes"] == {"full": "yes"}


def test_a_test_image_sent_through_as_a_new_one_disagrees_as_it_did(study, found):
    home, folder = study
    place = {image["index"]: image["disagreement"] for image in found["disagreements"]}
    index = found["disagreements"][0]["index"]
    shown = Lab(home).test_image("told", index)
    assert shown["truth"] == found["disagreements"][0]["truth"] and shown["mask"] is None
    answer = Lab(home).predict([shown["file"]], "told")
    predictions = {"classes": answer["classes"], "runs": answer["images"][0]["runs"]}
    said = Lab(home).consensus(predictions, "told")
    assert said["of"] == 3, "a strategy votes once, however many seeds it has"
    assert said["disagreement"] == pytest.approx(place[index], abs=1e-6)
    n = len(found["disagreement_of_all"])
    assert said["more_than"] == pytest.approx((n - 1) / n, abs=1.01 / n)


def test_a_test_image_brings_the_file_of_its_mask(tmp_path):
    home = tmp_path / "home"
    data = import_dataset(home / "data", "phantom:dermoscopy", "drawn", per_class=16)
    ask(home, data="drawn", name="masked")
    index = int(data.indices("test")[0])
    found = Lab(home).test_image("masked", index)
    assert found["mask"].is_file() and found["pixels"].shape[:2] == data.mask(index).shape
    np.testing.assert_array_equal(read_mask(found["mask"]), data.mask(index))


def test_consensus_counts_votes_and_breaks_ties_by_the_mean(study):
    names = [f"{s}-test_resnet-s0" for s in STRATEGIES]

    def said(*probs):
        answers = [{"run": n, "probs": p} for n, p in zip(names, probs, strict=False)]
        return Lab(study[0]).consensus({"classes": ["a", "b", "c"], "runs": answers}, "told")

    both = said([0.6, 0.4, 0.0], [0.1, 0.9, 0.0])
    assert (both["class"], both["agree"], both["of"]) == ("b", 1, 2)
    assert both["mean_probability"] == pytest.approx(0.65)
    assert said([0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.0, 1.0, 0.0])["class"] == "a"
    alone = said([0.6, 0.4, 0.0])
    assert alone["disagreement"] == 0 and alone["more_than"] is None


def test_consensus_knows_no_other_images_where_predictions_are_gone(study, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(study[0], home)
    (home / "checkpoints" / "told" / "full-test_resnet-s0" / "test.npz").unlink()
    answers = [{"run": f"{s}-test_resnet-s0", "probs": [0.2, 0.3, 0.5]} for s in STRATEGIES]
    said = Lab(home).consensus({"classes": ["a", "b", "c"], "runs": answers}, "told")
    assert (said["agree"], said["more_than"]) == (3, None)
    assert "full-test_resnet-s0" not in {r["run"] for r in Lab(home).evidence("told")["runs"]}


# --- pictures ---


def test_a_test_image_is_one_of_the_test_split_of_the_same_data(study, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(study[0], home)
    index = int(tests_of(study[1], "full")[0]["index"][0])
    assert Lab(home).test_image("told", index)["pixels"].shape == (32, 32, 3)
    trained_on = next(i for i in range(60) if i not in tests_of(study[1], "full")[0]["index"])
    with pytest.raises(BadInput, match="has no test image"):
        Lab(home).test_image("told", trained_on)
    shutil.rmtree(home / "data" / "bands")
    with pytest.raises(BadInput, match="bands of the study told is not on this machine"):
        Lab(home).test_image("told", index)


def test_a_sample_has_as_many_of_each_class_and_depends_on_the_seed(study):
    lab = Lab(study[0])
    rows = lab.sample("bands", 9)
    assert [row["label"] for row in rows] == ["class0", "class1", "class2"] * 3
    assert all(row["file"].is_file() and row["mask"] is None for row in rows)
    assert rows == lab.sample("bands", 9) != lab.sample("bands", 9, seed=1)
    assert len({row["file"] for row in lab.sample("bands", 1000)}) == 60
    tested = lab.sample("bands", 4, split="test")
    assert [row["split"] for row in tested] == ["test"] * 4
    assert len({row["label"] for row in tested}) == len({row["label"] for row in rows[:4]})


def test_a_picture_is_read_or_refused_by_its_name(study, tmp_path):
    file = Lab(study[0]).sample("bands", 1)[0]["file"]
    assert Lab(study[0]).picture(file)["pixels"].dtype == np.uint8
    (tmp_path / "no.png").write_bytes(b"no picture")
    with pytest.raises(BadInput, match=r"no\.png"):
        Lab(study[0]).picture(tmp_path / "no.png")
    with pytest.raises(BadInput, match="There is no image file"):
        Lab(study[0]).picture(tmp_path / "absent.png")
