"""SVCCA and CKA: against their definitions, against hand-made truths, and on a study's runs."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import split, tiny_network
from tiny import QUICK, bands, trained
from typer.testing import CliRunner

from ftlab import inspection, runs, similarity
from ftlab.__main__ import app
from ftlab.lab import Lab
from ftlab.records import BadInput
from ftlab.similarity import Kernels, Moments, gram, hsic, random_edges, random_mean, svcca

STRATEGIES = ("full", "linear_probe", "layer_wise", "truncated", "transfusion")


def matrices(p=5, q=7, n=400, seed=0):
    """x (p, n) and y (q, n) that share three directions more or less."""
    g = torch.Generator().manual_seed(seed)
    shared, x, y = (torch.randn(k, n, generator=g).double() for k in (3, p, q))
    return x + torch.randn(p, 3, generator=g).double() @ shared, y + torch.randn(
        q, 3, generator=g
    ).double() @ (shared + 0.5 * torch.randn(3, n, generator=g).double())


def moments(x, y, parts=1) -> Moments:
    found = Moments(len(x), len(y))
    for a, b in zip(x.chunk(parts, 1), y.chunk(parts, 1), strict=True):
        found.add(a, b, shift=1)
    return found


# --- SVCCA ---


def by_svd(x, y, keep):
    """The same from the matrices themselves: SVD of each side, then of the bases' product."""
    bases = []
    for side in (x, y):
        _, s, basis = torch.linalg.svd(side - side.mean(1, keepdim=True), full_matrices=False)
        held = (s**2).cumsum(0) / (s**2).sum()
        bases.append(basis[: int((held < keep).sum()) + 1] if keep < 1 else basis)
    return torch.linalg.svdvals(bases[0] @ bases[1].T), [len(b) for b in bases]


@pytest.mark.parametrize("keep", [0.8, 0.99, 1.0])
def test_svcca_from_sums_is_svcca_from_an_svd_of_the_activations(keep):
    x, y = matrices()
    found = svcca(moments(x + 3, y - 2, parts=9), keep)
    expected, features = by_svd(x, y, keep)
    assert found["coefficients"] == pytest.approx(expected.numpy(), abs=1e-9)
    assert found["features"] == features and found["samples"] == 400
    assert found["mean"] == pytest.approx(float(expected.mean()))
    assert found["area"] == pytest.approx(found["mean"] - random_mean(*features, 400))


def test_truncation_drops_directions_that_hold_little_variance():
    x, y = matrices()
    x = torch.cat([x, 1e-3 * torch.randn(4, 400).double()])
    assert svcca(moments(x, y), 0.99)["features"][0] <= 5
    assert svcca(moments(x, y), 1.0)["features"][0] == 9


def test_svcca_does_not_see_an_invertible_map_shift_or_channels_that_are_dead():
    x, y = matrices()
    mixed = torch.linalg.qr(torch.randn(5, 5).double())[0] @ x * 4 + 1
    mixed = torch.cat([mixed, torch.zeros(2, 400).double()])
    before, after = svcca(moments(x, y), 1.0), svcca(moments(mixed, y), 1.0)
    assert after["features"] == [5, 7]
    assert after["coefficients"] == pytest.approx(before["coefficients"], abs=1e-9)
    assert svcca(moments(x, x))["mean"] == pytest.approx(1)


def test_a_side_that_does_not_vary_has_no_score():
    found = svcca(moments(torch.ones(3, 50), matrices(n=50)[1]))
    assert not any(found[key] for key in ("mean", "random", "area", "unpaired"))


def test_unpaired_is_the_score_of_each_image_against_another():
    """Two images of 3 positions a batch: y of the second belongs to x of the first, and back."""
    x, y = matrices(n=60)
    found = Moments(5, 7)
    for a, b in zip(x.chunk(10, 1), y.chunk(10, 1), strict=True):
        found.add(a, b, shift=3)
    swapped = y.reshape(7, 10, 2, 3).flip(2).reshape(7, 60)
    assert svcca(found)["unpaired"] == pytest.approx(svcca(moments(x, swapped))["area"])


def test_a_layout_that_all_images_share_is_seen_without_the_images():
    """Features of the place alone: another image gives as much; of the image alone: hardly any."""
    g = torch.Generator().manual_seed(0)
    found = {}
    for kind in ("place", "image"):
        x, y = (0.1 * torch.randn(4, 200, 9, generator=g) for _ in range(2))
        shape = (4, 1, 9) if kind == "place" else (4, 200, 1)
        both = torch.randn(shape, generator=g)
        sums = Moments(4, 4)
        sums.add(*((z + both).flatten(1) for z in (x, y)), shift=9)
        found[kind] = svcca(sums)
    assert found["place"]["unpaired"] == pytest.approx(found["place"]["area"], rel=0.01)
    assert found["image"]["area"] > 0.9 > 0.2 > found["image"]["unpaired"]


PENG = [(256, 56, 0.0186), (512, 28, 0.0526), (1024, 14, 0.148), (2048, 7, 0.411)]


@pytest.mark.parametrize(("features", "side", "edge"), PENG)
def test_random_edges_are_those_drawn_by_peng_et_al(features, side, edge):
    """The upper ends of the baselines in their Figure 4: 944 images, ResNet-50's four stages."""
    low, high = random_edges(features, features, 944 * side**2)
    assert low == pytest.approx(0, abs=1e-12)
    assert high == pytest.approx(edge, rel=0.005)


@pytest.mark.parametrize(("p", "q", "n"), [(20, 30, 400), (40, 40, 300), (60, 80, 101), (9, 3, 10)])
def test_the_random_baseline_is_what_independent_features_give(p, q, n):
    g = torch.Generator().manual_seed(0)
    drawn = [
        svcca(moments(*(torch.randn(k, n, generator=g) for k in (p, q))), 1.0) for _ in range(8)
    ]
    assert np.mean([d["mean"] for d in drawn]) == pytest.approx(random_mean(p, q, n), rel=0.01)
    assert np.mean([d["area"] for d in drawn]) == pytest.approx(0, abs=0.01)
    if p + q < n:
        top = np.mean([d["coefficients"][0] for d in drawn])
        assert 0.9 < top / random_edges(p, q, n)[1] < 1.01


# --- CKA ---


def kernel_pair(m=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(m, 4, 3, 3, generator=g)
    return x, x.flatten(1)[:, :20] + torch.randn(m, 20, generator=g)


def test_hsic_is_the_mean_over_quadruples_of_different_images():
    """The U-statistic itself (Song et al. 2012, equation 4), over all ordered quadruples."""
    from itertools import permutations

    x, y = kernel_pair(m=6)
    k, l = (z.flatten(1).double() @ z.flatten(1).double().T for z in (x, y))  # noqa: E741
    terms = [
        k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q]
        for i, j, q, r in permutations(range(6), 4)
    ]
    assert hsic(gram(x), gram(y)) == pytest.approx(float(sum(terms) / len(terms)))


def cka(*batches):
    sums = Kernels()
    for x, y in batches:
        sums.add(gram(x), gram(y))
    return sums.cka()


def test_cka_is_the_quotient_of_sums_over_minibatches():
    pairs = [kernel_pair(seed=seed) for seed in range(3)]
    sums = np.zeros(3)
    for x, y in pairs:
        k, l = gram(x), gram(y)  # noqa: E741
        sums += hsic(k, l), hsic(k, k), hsic(l, l)
    assert cka(*pairs) == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]))


def test_cka_does_not_see_rotation_scale_and_shift_but_sees_other_maps():
    x, y = kernel_pair()
    x = x.flatten(1).double()
    turn = torch.linalg.qr(torch.randn(36, 36, generator=torch.Generator().manual_seed(1)))[0]
    assert cka((x @ turn.double() * 7 + 2, y)) == pytest.approx(cka((x, y)))
    assert cka((x, x)) == pytest.approx(1)
    stretched = x.clone()
    stretched[:, 0] *= 50
    assert cka((stretched, y)) != pytest.approx(cka((x, y)), abs=0.05)


def test_cka_of_unrelated_features_is_about_0_however_few_the_images():
    """The biased estimator gives 0.9 here: that is what the unbiased one is for."""
    g = torch.Generator().manual_seed(0)
    pairs = [[torch.randn(8, 200, generator=g) for _ in range(2)] for _ in range(200)]
    assert cka(*pairs) == pytest.approx(0, abs=0.02)
    centred = [[z - z.mean(0) for z in pair] for pair in pairs]
    biased = [((x.T @ y) ** 2).sum() / ((x.T @ x).norm() * (y.T @ y).norm()) for x, y in centred]
    assert np.mean(biased) > 0.9


def test_cka_without_variance_is_none():
    assert cka((torch.ones(6, 4), torch.randn(6, 4))) is None


# --- networks ---


def test_the_same_network_is_the_same_at_every_stage_and_another_is_not():
    network, order = tiny_network().eval(), np.arange(40)
    same = inspection.compare(network, network, split(40), order)
    assert [row["stage"] for row in same] == ["stem", "stage1", "stage2", "neck"]
    assert [row["svcca"]["mean"] for row in same] == pytest.approx([1] * 4)
    assert [row["cka"] for row in same] == pytest.approx([1] * 4)
    other = inspection.compare(network, tiny_network(seed=1).eval(), split(40), order)
    assert all(row["svcca"]["mean"] < 0.999 and row["cka"] < 0.999 for row in other)


def test_the_sums_over_batches_are_those_of_all_activations_together():
    """Both at the smaller of two sizes, every position a sample."""
    networks = tiny_network().eval(), tiny_network(seed=1).eval()
    images = split(40)
    rows = inspection.compare(*networks, images, np.arange(40), keep=1.0, across=True)
    found = {(row["stage"], row["against"]): row for row in rows}
    assert len(found) == 16
    with torch.no_grad():
        x = networks[0].prepare(images.batch(np.arange(40)))
        stem, stage1 = networks[0].run(x, upto=1), networks[1].run(x, upto=3)
    pooled = torch.nn.functional.avg_pool2d(stem, 4)
    assert pooled.shape[2:] == stage1.shape[2:]
    sides = [z.permute(1, 0, 2, 3).flatten(1).double() for z in (pooled, stage1)]
    expected = by_svd(*sides, 1.0)[0].mean()
    assert found["stem", "stage1"]["svcca"]["mean"] == pytest.approx(float(expected), abs=1e-6)
    halves = [(stem[:20], stage1[:20]), (stem[20:], stage1[20:])]
    assert found["stem", "stage1"]["cka"] == pytest.approx(cka(*halves), abs=1e-6)


@pytest.mark.parametrize("backbone", ["test_resnet", "ftlab_mini"])
def test_a_stage_that_works_in_place_does_not_change_what_was_seen(backbone):
    from ftlab import backbones, weights

    network = backbones.build(backbone, 2, weights.load(backbone, "random")).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        found = inspection.activations(network, x.clone(), {})
        for stage in network.layout().stages[:-1]:
            assert found[stage.name].equal(network.run(x.clone(), upto=stage.units[-1]))


def test_a_stage_that_was_cut_within_is_compared_up_to_the_cut():
    from ftlab import backbones, weights

    theta0 = weights.load("ftlab_mini", "random")
    whole, cut = (backbones.build("ftlab_mini", 2, theta0, unit).eval() for unit in (None, 6))
    assert len(cut.stages["layer3"]) < len(whole.stages["layer3"])
    for pair in ((whole, cut), (cut, whole)):
        rows = inspection.compare(*pair, split(8, size=64), np.arange(8))
        assert [row["stage"] for row in rows] == ["stem", "layer1", "layer2", "layer3"]
        assert all(row["cka"] == pytest.approx(1) for row in rows), "nothing was trained"


# --- a study ---


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = tmp_path_factory.mktemp("inspection") / "home"
    home.mkdir()
    bands(home, n=60)
    return home, trained(home, STRATEGIES, settings=QUICK, name="told")


@pytest.fixture(scope="module")
def found(study):
    return Lab(study[0]).similarity("told")


def by_stage(answer, strategy):
    (run,) = [run for run in answer["runs"] if run["strategy"] == strategy]
    return {row["stage"]: row for row in run["rows"]}


def test_every_run_is_compared_with_theta_0_and_the_answer_is_json(found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [run["strategy"] for run in found["runs"]] == list(STRATEGIES)
    assert (found["to"], found["split"], found["without_weights"]) == ("theta_0", "test", [])


def test_what_stayed_frozen_sees_as_theta_0_does_and_what_learned_does_not(found):
    probe, full = by_stage(found, "linear_probe"), by_stage(found, "full")
    wise = by_stage(found, "layer_wise")
    for row in (*probe.values(), wise["stem"], wise["layer1"]):
        assert row["cka"] == pytest.approx(1)
        assert row["svcca"]["mean"] == pytest.approx(1)
    assert all(row["cka"] < 1 - 1e-6 for row in full.values())
    assert wise["layer2"]["cka"] < 1 - 1e-6


def test_a_cut_run_has_the_stages_it_kept_and_a_slim_one_all(found):
    assert list(by_stage(found, "truncated")) == ["stem", "layer1", "layer2", "layer3"]
    assert list(by_stage(found, "transfusion")) == list(by_stage(found, "full"))


def test_two_runs_can_be_compared_and_a_run_with_itself(study):
    name = "full-test_resnet-s0"
    answer = Lab(study[0]).similarity("told", [name], to=name, across=True, split="train")
    rows = {(row["stage"], row["against"]): row for row in answer["runs"][0]["rows"]}
    assert len(rows) == 25 and answer["to"] == name
    assert all(rows[s, s]["cka"] == pytest.approx(1) for s, _ in rows)
    assert rows["stem", "layer4"]["cka"] == pytest.approx(rows["layer4", "stem"]["cka"])
    assert rows["stem", "layer4"]["cka"] < 1


def test_images_are_bounded_and_their_order_mixes_the_classes(study):
    answer = Lab(study[0]).similarity("told", ["full-test_resnet-s0"], images=6)
    assert answer["images"] == 6
    with pytest.raises(BadInput, match="--images is at least 4, not 3"):
        Lab(study[0]).similarity("told", images=3)


def test_what_was_worked_out_is_kept_by_weights_and_images(study, found, tmp_path):
    lab, one = Lab(study[0]), ["full-test_resnet-s0"]
    assert lab.similarity("told", one, images=9, known=True)["runs"] == []
    home = tmp_path / "home"
    shutil.copytree(study[0], home)
    shutil.rmtree(home / "data" / "bands")
    told = []
    assert Lab(home).similarity("told", progress=lambda *at: told.append(at)) == found
    assert told == [], "nothing is computed again, and no image is needed"
    weights = home / "checkpoints" / "told" / one[0] / "best.safetensors"
    tensors, header = runs.load_tensors(weights)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    runs.save_tensors(weights, {**tensors, name: tensors[name] + 1}, header)
    assert Lab(home).similarity("told", one, known=True)["runs"] == []


def test_the_images_of_another_data_set_can_be_looked_at(study, found):
    bands(study[0], classes=3, name="others", n=60)
    one = ["full-test_resnet-s0"]
    answer = Lab(study[0]).similarity("told", one, data="others")
    assert answer["data"] == "others" and answer["images"] > 3
    assert answer["runs"][0]["rows"] != found["runs"][0]["rows"]
    with pytest.raises(BadInput, match="absent"):
        Lab(study[0]).similarity("told", one, data="absent")


def test_what_cannot_be_compared_is_refused_in_one_sentence(study, tmp_path, monkeypatch):
    lab = Lab(study[0])
    with pytest.raises(BadInput, match="no finished run 'absent'"):
        lab.similarity("told", ["absent"])
    with pytest.raises(BadInput, match="no finished run 'absent'"):
        lab.similarity("told", to="absent")
    with pytest.raises(BadInput, match="--split takes train, val or test"):
        lab.similarity("told", split="other")
    with pytest.raises(BadInput, match="--keep is a share"):
        lab.similarity("told", keep=1.5)
    monkeypatch.setattr(inspection, "compare", lambda *arguments: [])
    with pytest.raises(BadInput, match="no stage of one name: compare them --across"):
        lab.similarity("told", to="full-test_resnet-s0")
    home = tmp_path / "home"
    shutil.copytree(study[0], home)
    shutil.rmtree(home / "data" / "bands")
    shutil.rmtree(home / "cache" / "similarity")
    with pytest.raises(BadInput, match="bands of the study told is not on this machine"):
        Lab(home).similarity("told")
    for path in (home / "checkpoints" / "told").glob("*/best.safetensors"):
        path.unlink()
    with pytest.raises(BadInput, match="without the weights of its runs"):
        Lab(home).similarity("told")


def said(home, monkeypatch, *arguments) -> str:
    monkeypatch.setenv("FTLAB_HOME", str(home))
    done = CliRunner().invoke(app, ["similarity", "--study", "told", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_says_it_in_tables_and_in_json(study, found, monkeypatch):
    tables = said(study[0], monkeypatch)
    assert "SVCCA, area above random: test_resnet" in tables
    probe = [line.split() for line in tables.splitlines() if line.startswith("linear_probe")]
    assert probe[2] == ["linear_probe-test_resnet-s0", *["1.000"] * 5], "the third table is CKA"
    assert probe[1] != probe[2]
    cut = next(line for line in tables.splitlines() if line.startswith("truncated"))
    assert cut.split()[-1] == "-", "a stage that was cut off has no score"
    assert "Against the pretrained network, on 12 images of test." in tables
    assert json.loads(said(study[0], monkeypatch, "--json")) == found


def test_across_stages_the_command_gives_a_matrix(study, monkeypatch):
    name = "full-test_resnet-s0"
    lines = said(study[0], monkeypatch, name, "--across", "--to", name).splitlines()
    start = lines.index(f"CKA, unbiased: {name}")
    table = [line.split() for line in lines[start + 1 :]][:7]
    assert table[0] == ["stage", "stem", "layer1", "layer2", "layer3", "layer4"]
    assert [row[0] for row in table[2:]] == table[0][1:]
    assert [row[i + 1] for i, row in enumerate(table[2:])] == ["1.000"] * 5


def test_thousands_of_samples_need_no_more_memory_than_their_sums():
    """What stays between batches is p^2 + q^2 + p q numbers, whatever the number of samples."""
    sums = Moments(3, 4)
    for _ in range(5):
        sums.add(torch.randn(3, 200_000), torch.randn(4, 200_000), shift=10)
    kept = [t for t in vars(sums).values() if isinstance(t, torch.Tensor)]
    assert sums.n == 1_000_000 and sum(t.numel() for t in kept) == 3 + 4 + 9 + 16 + 12 + 12
    assert similarity.COLUMNS < 200_000, "a batch is taken in parts"
