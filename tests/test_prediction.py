"""What a finished run's folder promises: small weight files, and predictions equal to its test."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import QUICK, ask, bands, test_files, trained

from ftlab import backbones, device, files, metrics, prediction, runs, studies, train, weights
from ftlab.context import prepare
from ftlab.lab import Lab
from ftlab.records import BadInput
from ftlab.strategies import STRATEGIES


@pytest.fixture(scope="module", params=[2, 3], ids=["two classes", "three classes"])
def study(request, tmp_path_factory):
    """(home, folder) of a study of every strategy, one seed, two epochs."""
    home = tmp_path_factory.mktemp("prediction") / "home"
    home.mkdir()
    bands(home, request.param, n=60)
    return home, trained(home, tuple(STRATEGIES), name="all", settings=QUICK)


def finished(folder):
    return [cell for cell in studies.cells(studies.read(folder)) if cell.finished(folder)]


def test_every_strategy_finishes(study):
    _, folder = study
    assert len(finished(folder)) == len(STRATEGIES)


def test_predicting_a_test_file_gives_what_test_npz_holds(study):
    """The file as it was imported, read alone, against the array and batch of the test."""
    home, folder = study
    files, index = test_files(home)
    answer = Lab(home).predict(files[:5], "all")
    last = [image["runs"][-1:] for image in answer["images"]]
    only = Lab(home).predict(files[:5], "all", [last[0][0]["run"]])
    assert [image["runs"] for image in only["images"]] == last
    assert answer["classes"] == list(studies.read(folder).classes)
    for place, image in enumerate(answer["images"]):
        assert [run["strategy"] for run in image["runs"]] == list(STRATEGIES)
        for run in image["runs"]:
            test = runs.predictions(folder / run["run"])
            assert test["index"].tolist() == index.tolist()
            assert run["probs"] == pytest.approx(test["probs"][place], abs=1e-4), run["run"]
    assert answer["without_weights"] == []


def test_what_a_processor_only_imitates_is_answered_in_float32(study, monkeypatch):
    home, _ = study
    rounded = trained(home, name="rounded", settings=replace(QUICK, precision="bfloat16"))
    (run,) = [rounded / cell.name for cell in finished(rounded)]
    image, probs = test_files(home)[0][:1], {}
    for imitates in (True, False):
        monkeypatch.setattr(prediction, "_kept", OrderedDict())
        monkeypatch.setattr(device, "imitates_bfloat16", lambda on, imitates=imitates: imitates)
        (answer,) = Lab(home).predict(image, "rounded")["images"]
        probs[imitates] = answer["runs"][0]["probs"]
    assert probs[False] == pytest.approx(runs.predictions(run)["probs"][0], abs=1e-2)
    assert probs[True] != probs[False] and probs[True] == pytest.approx(probs[False], abs=1e-2)
    assert files.read_json(run / "run.json")["settings"]["precision"] == "bfloat16"


def test_a_restored_network_gives_the_test_probabilities_in_the_same_bits(study):
    home, folder = study
    context = prepare(folder, studies.read(folder), home)
    for cell in finished(folder):
        network, _ = prediction.restore(folder / cell.name, home / "cache")
        network.to(memory_format=torch.channels_last)
        probs = train.predict(network, context.splits["test"], QUICK)
        test = runs.predictions(folder / cell.name)
        np.testing.assert_array_equal(probs, test["probs"], err_msg=cell.name)
        np.testing.assert_array_equal(test["y_true"], context.splits["test"].labels)


def test_weight_files_hold_the_tensors_that_differ_from_theta_0_and_no_other(study):
    home, folder = study
    for cell in finished(folder):
        question = files.read_json(folder / cell.name / "run.json")
        stored, _ = runs.load_tensors(folder / cell.name / "best.safetensors")
        theta0 = weights.load(cell.backbone, "random", cell.seed)
        plan, classes = question["plan"], len(question["data"]["classes"])
        start = backbones.build(
            cell.backbone, classes, theta0, plan["cut_after"], plan["slim_from"], cell.seed
        )
        given = backbones.inherited(start, plan["slim_from"])
        before = start.state_dict()
        assert {"head.weight", "head.bias"} <= stored.keys() <= before.keys()
        for name in stored.keys() & given:
            assert not stored[name].equal(before[name]), f"{cell.name}: {name} is theta_0's own"
        size = (folder / cell.name / "best.safetensors").stat().st_size
        assert files.read_json(folder / cell.name / "result.json")["stored_bytes"] == size


def test_a_linear_probe_stores_its_head_alone_in_a_few_kilobytes(study):
    _, folder = study
    path = folder / "linear_probe-test_resnet-s0" / "best.safetensors"
    stored, header = runs.load_tensors(path)
    assert stored.keys() == {"head.weight", "head.bias"}
    numbers = 4 * sum(tensor.numel() for tensor in stored.values())
    assert path.stat().st_size < numbers + len(header["run"].encode()) * 1.2 + 1000


def test_trained_parameters_are_counted_over_all_phases(study):
    _, folder = study
    counts = {
        cell.strategy: files.read_json(folder / cell.name / "result.json")
        for cell in finished(folder)
    }
    classes = len(studies.read(folder).classes)
    network = backbones.skeleton("test_resnet", classes)
    everything, head = backbones.parameters(network), backbones.parameters(network.head)
    learned = {name: answer["trained_parameters"] for name, answer in counts.items()}
    assert learned["linear_probe"] == head
    assert {learned[s] for s in ("full", "lp_ft", "gradual_last_first", "l2_sp")} == {everything}
    assert head < learned["layer_wise"] < everything
    assert learned["truncated"] == counts["truncated"]["parameters"] < everything


def test_test_metrics_are_those_of_the_saved_predictions(study):
    _, folder = study
    for cell in finished(folder):
        result = files.read_json(folder / cell.name / "result.json")
        test = runs.predictions(folder / cell.name)
        assert result["test"] == files.plain(metrics.score(test["y_true"], test["probs"]))
        hits = [(test["probs"].argmax(1) == test["y_true"])[test["y_true"] == c].mean()
                for c in np.unique(test["y_true"])]  # fmt: skip
        assert result["test"]["balanced_accuracy"] == pytest.approx(np.mean(hits))


def test_two_classes_report_the_point_chosen_on_validation_beside_one_half(study):
    home, folder = study
    context = prepare(folder, studies.read(folder), home)
    for cell in finished(folder)[:3]:
        result = files.read_json(folder / cell.name / "result.json")
        if len(studies.read(folder).classes) > 2:
            assert "test_at_threshold" not in result
            continue
        points = result["test_at_threshold"]
        assert points.keys() == {"0.5", "chosen_on_val"} and points["0.5"]["threshold"] == 0.5
        network, _ = prediction.restore(folder / cell.name, home / "cache")
        val = context.splits["val"]
        threshold = metrics.operating_point(val.labels, train.predict(network, val, QUICK))
        assert points["chosen_on_val"]["threshold"] == pytest.approx(threshold, abs=1e-6)
        test = runs.predictions(folder / cell.name)
        called = test["probs"][:, 1] > points["chosen_on_val"]["threshold"]
        rates = [(called == test["y_true"])[test["y_true"] == c].mean() for c in (0, 1)]
        assert points["chosen_on_val"]["balanced_accuracy"] == pytest.approx(np.mean(rates))


def test_runs_without_their_weights_are_named_and_the_others_predict(study, tmp_path):
    import shutil

    home, folder = study
    other = tmp_path / "home"
    shutil.copytree(folder, other / "checkpoints" / "all")
    files, _ = test_files(home)
    gone = other / "checkpoints" / "all" / "full-test_resnet-s0" / "best.safetensors"
    gone.unlink()
    answer = Lab(other).predict(files[:1], "all")
    assert answer["without_weights"] == ["full-test_resnet-s0"]
    assert len(answer["images"][0]["runs"]) == len(STRATEGIES) - 1
    with pytest.raises(BadInput, match="full-test_resnet-s0 is here without its weights"):
        prediction.restore(gone.parent, other / "cache")
    for path in other.glob("**/best.safetensors"):
        path.unlink()
    with pytest.raises(BadInput, match="without the weights of its runs"):
        Lab(other).predict(files[:1], "all")


def test_a_study_without_a_finished_run_cannot_predict(study):
    home, _ = study
    ask(home, name="fresh", settings=QUICK)
    files, _ = test_files(home)
    with pytest.raises(BadInput, match="No run of the study fresh has finished"):
        Lab(home).predict(files[:1], "fresh")


# --- networks kept in memory ---


def test_a_restored_network_is_kept_until_its_weights_change(study, tmp_path):
    import os
    import shutil

    home, folder = study
    run = shutil.copytree(folder / "full-test_resnet-s0", tmp_path / "full-test_resnet-s0")
    first, _ = prediction.recall(run, home / "cache")
    assert prediction.recall(run, home / "cache")[0] is first
    assert not any(p.requires_grad for p in first.parameters())
    os.utime(run / "best.safetensors", ns=(1, 1))
    assert prediction.recall(run, home / "cache")[0] is not first


def test_kept_networks_stay_within_their_budget(study, monkeypatch):
    home, folder = study
    monkeypatch.setattr(prediction, "_kept", type(prediction._kept)())
    names = [cell.name for cell in finished(folder)][:4]
    prediction.recall(folder / names[0], home / "cache")
    monkeypatch.setattr(prediction, "KEPT_BYTES", int(2.5 * prediction._held()))
    for name in names[1:]:
        prediction.recall(folder / name, home / "cache")
    assert [stamp[0].parent.name for stamp in prediction._kept] == names[2:]
    monkeypatch.setattr(prediction, "KEPT_BYTES", 0)
    network, _ = prediction.recall(folder / names[0], home / "cache")
    assert [kept is network for kept, _ in prediction._kept.values()] == [True]


def test_networks_that_begin_alike_share_their_units_and_what_these_make_of_an_image(
    study, monkeypatch
):
    home, folder = study
    monkeypatch.setattr(prediction, "_kept", type(prediction._kept)())
    chosen = [f"{name}-test_resnet-s0" for name in ("linear_probe", "layer_wise", "surgical")]
    image = test_files(home)[0][0]

    def explained(names):
        found = prediction.explain(image, folder, home / "cache", chosen=names, target="own")
        return {run["run"]: run for run in found["runs"]}

    alone = {}
    for name in chosen:
        prediction._kept.clear()
        alone |= explained([name])
    prediction._kept.clear()
    probe, wise, surgical = (
        prediction.recall(folder / n, home / "cache", folded=True)[0] for n in chosen
    )
    each = [sum(t.nbytes for t in n.state_dict().values()) for n in (probe, wise, surgical)]
    assert max(each) < prediction._held() < sum(each), "what they share counts once"
    names = list(probe.stages)
    assert probe.stages[names[0]][0] is wise.stages[names[0]][0] is surgical.stages[names[0]][0]
    assert probe.stages[names[1]][-1] is wise.stages[names[1]][-1]
    assert probe.stages[names[1]][-1] is not surgical.stages[names[1]][-1]
    assert probe.stages[names[-1]][-1] is not wise.stages[names[-1]][-1]
    passes = []
    probe.units()[0].register_forward_hook(lambda *_: passes.append(1))
    together = explained(chosen)
    assert len(passes) == 1, "the stem sees the image once, not three times"
    for name in chosen:
        assert together[name]["probs"] == alone[name]["probs"]
        np.testing.assert_array_equal(together[name]["overlay"], alone[name]["overlay"])


# --- saliency maps ---


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("pytorch_grad_cam")


@pytest.mark.usefixtures("library")
def test_every_run_explains_the_class_they_prefer_on_average(study):
    home, folder = study
    images, _ = test_files(home)
    answer = Lab(home).explain(images[0], "all")
    predicted = Lab(home).predict(images[:1], "all")["images"][0]
    mean = np.mean([run["probs"] for run in predicted["runs"]], axis=0)
    assert answer["target"] == answer["classes"][mean.argmax()]
    assert answer["file"] == images[0].name
    for run, other in zip(answer["runs"], predicted["runs"], strict=True):
        assert run["probs"] == pytest.approx(other["probs"], abs=1e-5)
        assert run["target"] == answer["target"]
        assert {k: run[k] for k in other if k != "probs"} == {
            k: v for k, v in other.items() if k != "probs"
        }
        assert run["raw"] == [run["saliency"].raw.min(), run["saliency"].raw.max()]
        assert tuple(run["native"]) == run["saliency"].raw.shape
        assert run["overlay"].shape == (32, 32, 3) and run["mask"] is run["road"] is None


@pytest.mark.usefixtures("library")
def test_each_run_may_explain_its_own_prediction_or_all_a_class_given(study):
    home, folder = study
    images, _ = test_files(home)
    own = Lab(home).explain(images[0], "all", target="own")
    for run in own["runs"]:
        assert run["target"] == own["classes"][int(np.argmax(run["probs"]))]
    last = own["classes"][-1]
    given = Lab(home).explain(images[0], "all", target=last)
    assert given["target"] == last and {run["target"] for run in given["runs"]} == {last}


@pytest.mark.usefixtures("library")
def test_chosen_runs_on_one_scale(study):
    home, folder = study
    images, _ = test_files(home)
    names = ["linear_probe-test_resnet-s0", "full-test_resnet-s0"]
    wish = dict(chosen=names, layer="layer1", method="layercam")
    own = Lab(home).explain(images[0], "all", **wish)["runs"]
    one = Lab(home).explain(images[0], "all", scale="shared", **wish)["runs"]
    assert {run["run"] for run in own} == set(names)
    peaks = [run["saliency"].peak for run in own]
    strongest = int(np.argmax(peaks))
    assert 0 < min(peaks) < max(peaks)
    for place, (each, together) in enumerate(zip(own, one, strict=True)):
        same = np.array_equal(each["overlay"], together["overlay"])
        assert same == (place == strongest)
        np.testing.assert_array_equal(each["saliency"].raw, together["saliency"].raw)


@pytest.mark.usefixtures("library")
def test_masks_and_road_score_the_maps(study, tmp_path):
    home, folder = study
    images, _ = test_files(home)
    for name, lit in (("all", 32), ("none", 0), ("speck", 1)):
        mask = np.zeros((32, 32), bool)
        mask[:lit, :lit] = True
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    Image.fromarray(np.ones((30, 32), bool)).save(tmp_path / "other.png")
    wish = dict(chosen=["full-test_resnet-s0"], layer="layer1", method="layercam")

    def scores(name, **more):
        answer = Lab(home).explain(images[0], "all", mask=tmp_path / name, **wish, **more)
        return answer["runs"][0]

    whole = scores("all.png", road=True)
    assert whole["mask"]["energy"] == pytest.approx(1) and whole["mask"]["pointing"]
    assert whole["road"].keys() == {"most", "least", "road"}
    assert scores("none.png")["mask"] is None
    assert scores("speck.png")["mask"]["energy"] < 0.1
    with pytest.raises(BadInput, match="other.png is 32 x 30, its image 32 x 32"):
        scores("other.png")
    with pytest.raises(BadInput, match="no mask file 'absent.png'"):
        scores("absent.png")


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (dict(chosen=["nobody"]), "no finished run 'nobody'"),
        (dict(target="nothing"), "--target takes own or a class"),
        (dict(scale="log"), "--scale takes own or shared"),
        (dict(layer="layer9"), "no layer 'layer9'"),
        (dict(method="nocam"), "--method takes gradcam"),
    ],
)
def test_wishes_that_cannot_be_are_refused(study, wish, said):
    home, folder = study
    images, _ = test_files(home)
    with pytest.raises(BadInput, match=said):
        Lab(home).explain(images[0], "all", **wish)


@pytest.mark.usefixtures("library")
def test_the_command_writes_overlays_and_maps(study, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from ftlab import __main__  # noqa: F401  (registers the commands)
    from ftlab.commands import app

    home, folder = study
    monkeypatch.setenv("FTLAB_HOME", str(home))
    images, _ = test_files(home)
    run, out = "full-test_resnet-s0", tmp_path / "maps"
    words = ["explain", *map(str, images[:2]), "--study", "all", "--run", run, "--out", str(out)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0 and "raw map" in shown.stdout, shown.output
    done = CliRunner().invoke(app, [*words, "--json"])
    answer = json.loads(done.stdout)
    assert answer.keys() == {"classes", "without_weights", "images"}
    assert [image["file"] for image in answer["images"]] == [p.name for p in images[:2]]
    for path, image in zip(images, answer["images"], strict=False):
        (row,) = image["runs"]
        assert row["overlay"] == str(out / f"{path.stem}-{run}.png")
        with Image.open(row["overlay"]) as overlay:
            assert overlay.size == (32, 32)
        with np.load(row["map"]) as arrays:
            assert arrays["map"].shape == (32, 32)
            assert list(arrays["raw"].shape) == row["native"]
            assert [arrays["raw"].min(), arrays["raw"].max()] == pytest.approx(row["raw"])
    shown = CliRunner().invoke(app, ["explain", "--help"], env={"COLUMNS": "200"})
    assert all(method["name"] in shown.stdout for method in Lab(home).methods())
    for wrong, said in (
        ([*words, "--mask", "one.png"], "once for each image"),
        ([*words, str(images[0])], "Two images are called"),
        ([*words[:-1], str(images[0])], "takes a folder"),
    ):
        refused = CliRunner().invoke(app, wrong)
        assert refused.exit_code == 2 and said in refused.stderr
