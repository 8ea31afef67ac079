"""WiSE-FT of one image: its ends are the two runs bit by bit, its middle is arithmetic."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from tiny import bands, test_files, trained

from ftlab import blending, prediction, studies
from ftlab.batches import batches
from ftlab.inspection import pictures_of
from ftlab.lab import Lab
from ftlab.records import BadInput

STRATEGIES = ("full", "linear_probe", "truncated")
FULL, PROBE = "full-test_resnet-s0", "linear_probe-test_resnet-s0"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(lab, an image) of three trained strategies, of which one is cut."""
    home = tmp_path_factory.mktemp("blending") / "home"
    home.mkdir()
    bands(home)
    trained(home, STRATEGIES, name="told")
    return Lab(home), test_files(home)[0][0]


def halfway(lab):
    """(a network of the mean of both runs' tensors, run.json of the tuned one)"""
    folder, cache = lab.study_folder("told"), lab.home / "cache"
    network, question = prediction.restore(folder / FULL, cache)
    tuned = {name: t.clone() for name, t in network.state_dict().items()}
    probe = prediction.restore(folder / PROBE, cache)[0].state_dict()
    mean = {k: (t + probe[k]) / 2 if t.is_floating_point() else t for k, t in tuned.items()}
    network.load_state_dict(mean)
    return network, question


def probs(answer) -> list:
    return [point["probs"] for point in answer["points"]]


def test_what_fits_the_linear_probe_is_a_run_of_the_same_network(study):
    lab, _ = study
    who = {"run": FULL, "strategy": "full", "backbone": "test_resnet", "seed": 0, "probe": PROBE}
    assert lab.blends("told") == [who], "the one that was cut is another network"


def test_the_ends_are_what_the_runs_predict_bit_by_bit(study):
    lab, image = study
    found = {r["run"]: r["probs"] for r in lab.predict([image], "told")["images"][0]["runs"]}
    assert probs(lab.blend(image, "told", FULL, [0, 1])) == [found[PROBE], found[FULL]]


def test_the_middle_is_the_network_of_the_mean_weights(study, monkeypatch):
    lab, image = study
    monkeypatch.setattr(blending, "_training_images", lambda home, study: None)  # elsewhere
    network, _ = halfway(lab)
    pixels = prediction.resize(prediction.read(image).pixels, 32)[None].copy()
    with torch.no_grad():
        wanted = network(network.prepare(torch.from_numpy(pixels))).softmax(1)[0]
    (found,) = probs(lab.blend(image, "told", FULL, [0.5]))
    assert np.allclose(found, wanted.numpy(), atol=1e-6)
    assert found not in probs(lab.blend(image, "told", FULL, [0, 1]))


def test_the_map_at_1_is_that_of_the_run_and_explains_the_class_asked(study):
    lab, image = study
    target = "class1"
    answer = lab.blend(image, "told", FULL, [0, 1], method="gradcam", target=target)
    wanted = lab.explain(image, "told", target=target, chosen=[FULL])["runs"][0]["saliency"]
    found = answer["points"][1]
    assert found["target"] == target and np.array_equal(found["saliency"].raw, wanted.raw)
    (own,) = lab.blend(image, "told", FULL, [1], method="gradcam")["points"]
    assert own["target"] == answer["classes"][int(np.argmax(own["probs"]))]
    assert lab.blend(image, "told", FULL, [1])["points"][0]["saliency"] is None


def test_nothing_is_written_and_the_networks_in_memory_stay_as_they_are(study):
    lab, image = study
    folder, cache = lab.study_folder("told"), lab.home / "cache"
    before = lab.predict([image], "told")["images"][0]["runs"]
    kept = {name: prediction.recall(folder / name, cache)[0] for name in (FULL, PROBE)}
    weights = {n: {k: t.clone() for k, t in net.state_dict().items()} for n, net in kept.items()}
    files = {path: path.stat().st_mtime_ns for path in lab.home.rglob("*")}
    lab.blend(image, "told", FULL, [0, 0.3, 1], method="gradcam")
    assert {path: path.stat().st_mtime_ns for path in lab.home.rglob("*")} == files
    for name, network in kept.items():
        assert prediction.recall(folder / name, cache)[0] is network
        assert all(torch.equal(t, weights[name][k]) for k, t in network.state_dict().items())
        assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert lab.predict([image], "told")["images"][0]["runs"] == before


def test_batchnorm_between_the_ends_knows_the_training_images(study):
    """As torch's own update_bn leaves it, which counts every batch alike."""
    lab, image = study
    network, question = halfway(lab)
    images = pictures_of(lab.home, studies.read(lab.study_folder("told")))["train"]
    order = np.random.default_rng(0).permutation(len(images))
    loader = [network.prepare(x) for x, _ in batches(images, order, question["settings"]["batch"])]
    torch.optim.swa_utils.update_bn(loader, network)
    pixels = prediction.resize(prediction.read(image).pixels, 32)[None].copy()
    with torch.no_grad():
        wanted = network.eval()(network.prepare(torch.from_numpy(pixels))).softmax(1)[0]
    answer = lab.blend(image, "told", FULL, [0.5])
    assert answer["statistics"] == len(images)
    assert np.allclose(probs(answer)[0], wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("run", "alphas", "options", "said"),
    [
        ("truncated-test_resnet-s0", [0.5], {}, "cannot be blended"),
        (PROBE, [0.5], {}, "cannot be blended"),
        (FULL, [1.5], {}, "shares from 0 to 1"),
        (FULL, [], {}, "shares from 0 to 1"),
        (FULL, [0.1] * 102, {}, "1 to 101 shares"),
        (FULL, [1], {"target": "cat"}, "There is no class 'cat'"),
        (FULL, [1], {"method": "magic"}, "not 'magic'"),
    ],
)
def test_what_cannot_be_blended_is_refused_in_a_sentence(study, run, alphas, options, said):
    lab, image = study
    with pytest.raises(BadInput, match=said):
        lab.blend(image, "told", run, alphas, **options)


def test_a_probe_without_weights_matches_nobody(study, tmp_path):
    lab, _ = study
    home = tmp_path / "home"
    shutil.copytree(lab.home, home)
    (home / "checkpoints" / "told" / PROBE / "best.safetensors").unlink()
    assert Lab(home).blends("told") == []
