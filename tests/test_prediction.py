"""What a finished run's folder promises: small weight files, and predictions equal to its test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import QUICK, ask, bands, test_files, trained

from ftlab import backbones, files, metrics, prediction, runs, studies, train, training, weights
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
    assert answer["classes"] == list(studies.read(folder).classes)
    for place, image in enumerate(answer["images"]):
        assert [run["strategy"] for run in image["runs"]] == list(STRATEGIES)
        for run in image["runs"]:
            test = runs.predictions(folder / run["run"])
            assert test["index"].tolist() == index.tolist()
            assert run["probs"] == pytest.approx(test["probs"][place], abs=1e-4), run["run"]
    assert answer["without_weights"] == []


def test_a_restored_network_gives_the_test_probabilities_in_the_same_bits(study):
    home, folder = study
    context = training.prepare(folder, studies.read(folder), home)
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
    context = training.prepare(folder, studies.read(folder), home)
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
