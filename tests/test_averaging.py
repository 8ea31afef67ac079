"""Averages of networks: their ends bit by bit, soups against the mean, and the study they make."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from conftest import TINY, split, tiny_network
from safetensors.torch import save_file
from tiny import QUICK, ask, bands, states, trained
from typer.testing import CliRunner

from ftlab import averaging, batchnorm, files, prediction, runs
from ftlab.__main__ import app
from ftlab.lab import Lab
from ftlab.records import BadInput

STRATEGIES = ("full", "linear_probe", "l2_sp", "truncated")


def parts(n=3):
    g = torch.Generator().manual_seed(0)
    return [
        {"w": torch.randn(4, 3, generator=g), "count": torch.tensor(place)} for place in range(n)
    ]


def test_a_share_of_1_is_that_network_bit_by_bit_and_counts_are_the_largest():
    first, second, _ = parts()
    assert averaging.mix([first, second], [1, 0])["w"].equal(first["w"])
    assert averaging.mix([first, second], [0, 1])["w"].equal(second["w"])
    assert averaging.mix([first, second], [0.5, 0.5])["count"] == 1
    between = averaging.mix([first, second], [0.25, 0.75])["w"]
    torch.testing.assert_close(between, 0.25 * first["w"] + 0.75 * second["w"])


def test_a_uniform_soup_is_the_mean():
    mean = torch.stack([part["w"] for part in parts()]).mean(0)
    torch.testing.assert_close(averaging.uniform(parts())["w"], mean)


def test_a_greedy_soup_keeps_what_does_not_make_validation_worse():
    numbers = [{"w": torch.tensor([v])} for v in (3.0, 9.0, 5.0)]

    def value(tensors):
        return (-abs(float(tensors["w"]) - 4.0),)  # 3 and 5 are as good; their mean is best

    soup, kept = averaging.greedy(numbers, value)
    assert kept == [0, 2] and float(soup["w"]) == 4
    alone, kept = averaging.greedy(numbers, lambda tensors: (float(tensors["w"]),))
    assert kept == [1] and float(alone["w"]) == 9


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = tmp_path_factory.mktemp("averaging") / "home"
    home.mkdir()
    bands(home, n=60)
    return home, trained(home, STRATEGIES, settings=replace(QUICK, epochs=1), name="told")


def tensors(folder, home):
    return prediction.restore(folder, home / "cache")[0].state_dict()


def test_at_0_and_1_wise_ft_is_its_ends_and_answers_as_they_did(study):
    home, source = study
    answer = Lab(home).average("told", "ends", ["full"], alphas=[0, 0.5, 1])
    folder = home / "checkpoints" / "ends"
    assert answer["state"] == "finished"
    for alpha, end in ((0, "linear_probe"), (1, "full")):
        made = folder / f"full_wise_{alpha}-test_resnet-s0"
        old, new = (tensors(each, home) for each in (source / f"{end}-test_resnet-s0", made))
        floats = [name for name, tensor in old.items() if tensor.is_floating_point()]
        assert floats and all(old[name].equal(new[name]) for name in floats)
        test = runs.predictions(source / f"{end}-test_resnet-s0")
        for key, array in runs.predictions(made).items():
            assert (array == test[key]).all(), key
        result = files.read_json(made / "result.json")
        assert (
            result["test"] == files.read_json(source / f"{end}-test_resnet-s0/result.json")["test"]
        )
    question = files.read_json(folder / "full_wise_0.5-test_resnet-s0" / "run.json")
    assert question["derived"]["kind"] == "wise_ft" and question["derived"]["alpha"] == 0.5
    assert question["study"] == "ends"


def test_of_averages_no_more_can_be_trained(study):
    home, _ = study
    Lab(home).average("told", "wise-only", ["full"], alphas=[0.5])
    asked = dict(settings=replace(QUICK, epochs=1), name="wise-only")
    with pytest.raises(BadInput, match="The study wise-only is one of averages"):
        ask(home, ("full",), seeds=(0, 1), **asked)
    ask(home, ("full",), **asked)  # asks for nothing new


def test_an_average_of_a_searchs_unit_can_be_read(study):
    home, _ = study
    tuned = replace(QUICK, lr="auto", epochs=1)
    trained(home, ("layer_wise@2", "linear_probe"), name="units", settings=tuned)
    Lab(home).average("units", "unit-wise", ["layer_wise@2"], alphas=[0.5])
    told = Lab(home).status("unit-wise")
    assert told["state"] == "finished"
    assert told["runs"][-1]["strategy"] == "layer_wise_2_wise_0.5"


def test_a_study_of_averages_is_read_like_any_other_and_leaves_its_source_alone(study):
    home, source = study
    before = files.read_json(source / "study.json")
    Lab(home).average("told", "soups", ["full", "l2_sp", "linear_probe"])
    assert files.read_json(source / "study.json") == before
    assert set(states(home / "checkpoints" / "soups").values()) == {"finished"}
    folder = home / "checkpoints" / "soups"
    names = [f"{s}-test_resnet-s0" for s in ("full", "l2_sp", "linear_probe")]
    soup = tensors(folder / "soup_uniform-test_resnet-s0", home)
    mean = averaging.uniform([tensors(source / name, home) for name in names])
    learned = [n for n in mean if "running_" not in n and "num_batches" not in n]
    assert len(learned) > 10 and all(soup[name].equal(mean[name]) for name in learned)
    costs = [files.read_json(source / name / "result.json") for name in names]
    own = files.read_json(folder / "soup_uniform-test_resnet-s0" / "result.json")
    assert own["seconds"] == sum(cost["seconds"] for cost in costs) > 0
    assert own["trained_parameters"] == costs[0]["trained_parameters"]
    greedy = files.read_json(folder / "soup_greedy-test_resnet-s0" / "run.json")["derived"]["of"]
    assert set(greedy) <= set(names)
    lab = Lab(home)
    index = int(runs.predictions(source / names[0])["index"][0])
    image = lab.test_image("soups", index)["file"]
    said = lab.predict([image], "soups")["images"][0]["runs"]
    assert [run["strategy"] for run in said] == [*names_of(names), "soup_uniform", "soup_greedy"]
    assert len(lab.evidence("soups")["per_strategy"]) == 5
    assert len(lab.status("soups")["leaderboard"]["rows"]) == 5
    lab.drift("soups")


def test_a_soup_of_one_strategys_seeds_is_one_network_under_the_first(study):
    home, _ = study
    start = home.parent / "start.safetensors"  # one theta_0: a random one is each seed's own
    save_file(timm.create_model(TINY).state_dict(), start)
    options = {"settings": replace(QUICK, epochs=1), "weights": str(start)}
    source = trained(home, ("full",), (0, 1, 2), name="seeds", **options)
    answer = Lab(home).average("seeds", "seed_soups", ["full"])
    folder = home / "checkpoints" / "seed_soups"
    assert answer["state"] == "finished" and [run["seed"] for run in answer["runs"]] == [0, 0, 0]
    parts = [tensors(source / f"full-test_resnet-s{seed}", home) for seed in (0, 1, 2)]
    soup = tensors(folder / "full_soup_uniform-test_resnet-s0", home)
    weights = [name for name in soup if name.endswith((".weight", ".bias"))]
    assert all(soup[n].equal(averaging.uniform(parts)[n]) for n in weights)
    made = {run["strategy"]: run for run in answer["runs"]}
    ingredients = files.read_json(folder / made["full_soup_uniform"]["run"] / "run.json")["derived"]
    assert ingredients["of"] == [f"full-test_resnet-s{seed}" for seed in (0, 1, 2)]
    best = max(
        files.read_json(source / name / "result.json")["val"]["balanced_accuracy"]
        for name in ingredients["of"]
    )
    assert made["full_soup_greedy"]["val"]["balanced_accuracy"] >= best


@pytest.fixture
def averaged():
    """(the mean of two tiny networks whose statistics differ, those two, images)"""
    parts = []
    for seed in (0, 1):
        network = tiny_network(seed=seed).train()
        network(network.prepare(split(16, seed=seed).batch(np.arange(16))))
        parts.append(network.state_dict())
    network = tiny_network()
    network.load_state_dict(averaging.uniform(parts))
    return network, parts, split(24)


def test_statistics_of_an_average_are_those_that_torch_computes_of_the_images(averaged):
    network, parts, images = averaged
    expected = copy.deepcopy(network)
    order = np.random.default_rng(0).permutation(24)
    batches = (expected.prepare(images.batch(part)) for part in np.array_split(order, 3))
    torch.optim.swa_utils.update_bn(batches, expected)
    found = batchnorm.refreshed(network, parts, images, QUICK)
    assert QUICK.batch == 8
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(found[name], tensor)
    assert not found["stages.stem.0.1.running_mean"].equal(
        averaging.uniform(parts)["stages.stem.0.1.running_mean"]
    )


def test_statistics_that_all_parts_share_stay_bit_by_bit(averaged):
    network, parts, images = averaged
    network.load_state_dict(parts[0])
    for of in (parts[:1], [parts[0], parts[0]]):
        found = batchnorm.refreshed(network, of, images, QUICK)
        assert all(found[name].equal(tensor) for name, tensor in parts[0].items())


def names_of(runs_):
    return [name.split("-")[0] for name in runs_]


def test_what_cannot_be_averaged_is_refused_in_one_sentence(study):
    lab = Lab(study[0])
    with pytest.raises(BadInput, match="cannot be averaged: one of them was cut"):
        lab.average("told", "no", ["truncated"], alphas=[0.5])
    with pytest.raises(BadInput, match="has no runs of lp_ft"):
        lab.average("told", "no", ["lp_ft"], alphas=[0.5])
    with pytest.raises(BadInput, match="takes two or more, not full"):
        lab.average("told", "no", ["full"])
    with pytest.raises(BadInput, match="--alpha is a share from 0 to 1, not 2"):
        lab.average("told", "no", ["full"], alphas=[2])
    with pytest.raises(BadInput, match="There is a study told already"):
        lab.average("told", "told", ["full"], alphas=[0.5])
    with pytest.raises(BadInput, match="letters, digits"):
        lab.average("told", "../out", ["full"], alphas=[0.5])
    assert not list((study[0] / "checkpoints").glob("*no*"))
    assert not list((study[0] / "checkpoints").glob(".*"))


def test_the_command_makes_the_study_and_shows_it(study, monkeypatch):
    monkeypatch.setenv("FTLAB_HOME", str(study[0]))
    done = CliRunner().invoke(app, ["average", "told", "wise", "--strategy", "full"])
    assert done.exit_code == 0, done.output
    for alpha in averaging.ALPHAS:
        assert f"full_wise_{alpha:g}-test_resnet-s0" in done.stdout
