"""Saliency maps: right by formula and by hand, and nothing left behind."""

from __future__ import annotations

import copy
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import tiny_network
from torch import nn

from ftlab import backbones, explain
from ftlab.backbones import BACKBONES, Network
from ftlab.explain import METHODS, look, saliency
from ftlab.families import split
from ftlab.folding import folded
from ftlab.records import BadInput

pytest.importorskip("pytorch_grad_cam")
GRADIENTS = ("gradcam", "gradcam++", "hirescam", "layercam")


def images(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def by_formula(network: Network, x: torch.Tensor, target: int, unit: int, method: str):
    """The map (h, w) before negative values are cut off, in plain torch."""
    features = network.run(x, upto=unit).detach().requires_grad_()
    logit = network.classify(network.run(features.clone(), after=unit))[0, target]
    (g,) = torch.autograd.grad(logit, features)
    a = features.detach()
    if method == "gradcam":
        return (g.mean((2, 3), keepdim=True) * a).sum(1)[0].numpy()
    if method == "gradcam++":
        alpha = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3)
        alpha = torch.where(g != 0, alpha, 0)
        return ((alpha * g.relu()).sum((2, 3), keepdim=True) * a).sum(1)[0].numpy()
    return ((g if method == "hirescam" else g.relu()) * a).sum(1)[0].numpy()


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_are_the_formula_on_every_backbone_learning_frozen_and_probed(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = Network(split(backbones.create(name)), 3, (0.5,) * 3, (0.25,) * 3).eval()
    x = images(1, 64)
    unit = network.layout().trunk[-1].units[-1]
    wanted = by_formula(network, x, 2, unit, "gradcam")
    assert wanted.std() > 0
    for state in ("learning", "probed", "frozen"):
        network.requires_grad_(state == "learning")
        network.head.requires_grad_(state != "frozen")
        (found,) = saliency(network, x, 2, seen=look(network, x, f"unit{unit}"))
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found.raw / scale, wanted / scale, atol=1e-4, err_msg=state)
        assert found.map.shape == (64, 64) and found.target == 2
        assert (found.map.max() > 0) == (wanted.max() > 0)


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_have_the_known_native_size_at_224_pixels(name):
    network = backbones.skeleton(name)
    unit = explain._unit(network, None)
    with torch.device("meta"):
        features = network.eval().run(torch.zeros(1, 3, 224, 224), upto=unit)
    side = 14 if name == "vgg19" else 7
    assert features.shape[2:] == (side, side)


@pytest.mark.parametrize("size, unit, side", [(32, 3, 4), (64, 3, 8), (80, 4, 5), (96, 4, 6)])
def test_a_small_image_is_looked_at_one_stage_before_the_last(size, unit, side):
    network, x = folded(tiny_network(3)), images(1, size)
    seen = look(network, x)
    assert (seen.unit, *seen.features.shape[2:]) == (unit, side, side)
    torch.testing.assert_close(seen.features, network.run(x, upto=unit), rtol=0, atol=0)
    torch.testing.assert_close(seen.logits, network(x), rtol=0, atol=0)


@pytest.mark.parametrize("layer", [None, "stem", "stage1", "unit2", "unit4"])
@pytest.mark.parametrize("method", GRADIENTS)
def test_gradient_methods_are_their_formula_at_every_layer(method, layer):
    network, x = tiny_network(3).eval(), images(1, 32)
    unit = {None: 3, "stem": 1, "stage1": 3, "unit2": 2, "unit4": 4}[layer]
    (found,) = saliency(network, x, 1, method, look(network, x, layer))
    wanted = by_formula(network, x, 1, unit, method)
    np.testing.assert_allclose(found.raw, wanted, rtol=1e-3, atol=1e-6)
    assert found.raw.shape == (32 // 2**unit,) * 2


# --- a network whose maps are known by hand ---


def red_and_green() -> Network:
    """Class 0 is the mean of red, class 1 that of green, class 2 is against red."""
    conv = nn.Conv2d(3, 2, 1, bias=False)
    network = Network({"stem": [conv]}, 3, (0.0,) * 3, (1.0,) * 3).eval()
    with torch.no_grad():
        conv.weight.copy_(torch.eye(3)[:2, :, None, None])
        network.head.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0]]))
        network.head.bias.zero_()
    return network


@pytest.fixture
def picture() -> torch.Tensor:
    """(1, 3, 8, 8): red above, green in a corner."""
    x = torch.zeros(1, 3, 8, 8)
    x[0, 0, :4] = torch.arange(1.0, 5)[:, None]
    x[0, 1, 6:, 6:] = 2.0
    return x


def test_maps_known_by_hand(picture):
    red, green = picture[0, 0].numpy(), picture[0, 1].numpy()
    upper = (red - 0) / 4  # what ScoreCAM shows of the image for the red channel
    logits = np.array([(red * upper).mean(), (red * green / 2).mean()])
    weights = np.exp(logits) / np.exp(logits).sum()
    wanted = {
        "gradcam": red / 64,
        "hirescam": red / 64,
        "layercam": red / 64,
        "gradcam++": red / (2 + red.mean()),
        "ablationcam": red.mean() * red,
        "scorecam": weights[0] * red + weights[1] * green,
    }
    for method, raw in wanted.items():
        (found,) = saliency(red_and_green(), picture, 0, method)
        np.testing.assert_allclose(found.raw, raw, rtol=1e-4, atol=1e-7, err_msg=method)
        np.testing.assert_allclose(found.map, raw / raw.max(), atol=1e-6, err_msg=method)
    assert set(wanted) | {"eigencam"} == set(METHODS)


def test_eigencam_is_the_first_component_with_its_larger_side_up(picture):
    only_red = picture.clone()
    only_red[:, 1] = 0
    for sign in (1, -1):
        (found,) = saliency(red_and_green(), sign * only_red, 0, "eigencam")
        red = only_red[0, 0].numpy()
        np.testing.assert_allclose(found.raw, red - red.mean(), atol=1e-5)


def test_a_class_that_nothing_speaks_for_has_an_empty_map(picture):
    (found,) = saliency(red_and_green(), picture, 2)
    assert found.raw.min() == pytest.approx(-4 / 64) and found.peak == 0
    assert not found.map.any()


def test_a_negative_logit_does_not_turn_ablation_over(picture):
    (found,) = saliency(red_and_green(), picture, 2, "ablationcam")
    red = picture[0, 0].numpy()
    np.testing.assert_allclose(found.raw, -red.mean() * red, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_in_place_layer_behind_the_unit_changes_no_map(method):
    """As on a GPU, where the library's copy of the activation is out of its reach."""
    maps = []
    for inplace in (True, False):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            units = [nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(inplace), nn.Conv2d(4, 4, 3))]
            network = Network({"stem": units[:1], "stage1": units[1:]}, 2, (0,) * 3, (1,) * 3)
        seen = look(network, images(1, 16), "stem")
        assert seen.features.min() < 0
        maps.append(saliency(network, images(1, 16), 1, method, seen)[0].raw)
    np.testing.assert_array_equal(*maps)


# --- batches, contexts, threads ---


@pytest.mark.parametrize("method", METHODS)
def test_an_image_of_a_batch_has_the_map_it_has_alone(method):
    network, x = tiny_network(3), images(3, 32)
    together = saliency(network, x, [0, 1, 2], method)
    for place, found in enumerate(together):
        (alone,) = saliency(network, x[place : place + 1], place, method)
        np.testing.assert_allclose(found.raw, alone.raw, rtol=1e-3, atol=1e-6)
        assert found.target == place


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_maps_need_no_gradients_to_be_on(context):
    network, x = tiny_network(), images(1, 32)
    (wanted,) = saliency(network, x, 1)
    with context():
        (found,) = saliency(network, x.clone(), 1)
    np.testing.assert_array_equal(found.raw, wanted.raw)


def test_threads_do_not_disturb_each_other():
    network, x = tiny_network(), images(1, 32)
    wanted = {method: saliency(network, x, 1, method)[0].raw for method in METHODS}
    with ThreadPoolExecutor(8) as pool:
        jobs = [(m, pool.submit(saliency, network, x, 1, m)) for m in list(METHODS) * 5]
    for method, job in jobs:
        np.testing.assert_array_equal(job.result()[0].raw, wanted[method])


def test_half_precision_gives_maps_in_full():
    network, x = tiny_network(), images(1, 32)
    seen = look(network, x, precision="bfloat16")
    assert seen.features.dtype == seen.logits.dtype == torch.float32
    (found,) = saliency(network, x, 1, seen=seen)
    assert found.raw.dtype == found.map.dtype == np.float32


def test_nothing_is_left_behind_after_200_maps():
    network, x = tiny_network(), images(1, 32)
    network.train()
    network.stages["stem"].eval()
    network.stages["stage1"].requires_grad_(False)
    network(x).sum().backward()
    network.head.register_forward_hook(lambda *_: None)

    def state():
        return {
            "modes": [m.training for m in network.modules()],
            "learning": [p.requires_grad for p in network.parameters()],
            "gradients": [copy.deepcopy(p.grad) for p in network.parameters()],
            "hooks": [
                len(getattr(m, kind))
                for m in network.modules()
                for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
            ],
            "tensors": [t.clone() for t in network.state_dict().values()],
            "random": [torch.get_rng_state()],
        }

    def living():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    saliency(network, x, 0)
    before, tensors = state(), living()
    methods = list(METHODS)
    for turn in range(200):
        saliency(network, x, turn % 2, methods[turn % len(methods)])
    assert living() == tensors
    after = state()
    for key in ("modes", "learning", "hooks"):
        assert after[key] == before[key], key
    for key in ("gradients", "tensors", "random"):
        pairs = zip(after[key], before[key], strict=True)
        assert all(now is then is None or torch.equal(now, then) for now, then in pairs), key
    assert any(g is not None for g in before["gradients"])


# --- scales and faithfulness ---


def test_one_scale_for_all_keeps_what_each_own_scale_loses(picture):
    strong, weak = red_and_green(), red_and_green()
    with torch.no_grad():
        weak.head.weight.mul_(0.25)
    maps = [saliency(n, picture, c)[0] for n, c in ((strong, 0), (weak, 0), (strong, 2))]
    np.testing.assert_allclose(maps[0].map, maps[1].map, atol=1e-6)
    on_one = explain.shared(maps)
    np.testing.assert_allclose(on_one[0], maps[0].map, atol=1e-6)
    np.testing.assert_allclose(on_one[1], 0.25 * maps[0].map, atol=1e-6)
    assert not on_one[2].any()
    assert not explain.shared(maps[2:])[0].any()


def test_road_tells_a_faithful_map_from_its_opposite():
    network = red_and_green()
    x = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.head.weight.mul_(20)
    x[0, 0, :, 8:] = 0
    x[0, 0, 4:12, :8] += 3
    (found,) = saliency(network, x, 0)
    opposite = explain.Saliency(1 - found.map, found.raw, 0)
    none = explain.Saliency(np.zeros_like(found.map), found.raw, 0)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    good, bad, blind = (explain.road(network, x, m) for m in (found, opposite, none))
    assert torch.equal(torch.get_rng_state(), before)
    assert good["most"] < good["least"] and good["road"] > 0.05
    assert bad["road"] < -0.05
    assert abs(blind["road"]) < abs(good["road"]) / 2
    assert explain.road(network, x, found) == good
    assert good["road"] == pytest.approx((good["least"] - good["most"]) / 2)


# --- what cannot be ---


def test_bad_input_is_said_in_a_sentence():
    network, x = tiny_network(), images(1, 32)
    with pytest.raises(BadInput, match="--method takes gradcam, "):
        saliency(network, x, 0, "saliencycam")
    with pytest.raises(BadInput, match="classes are 0 to 1"):
        saliency(network, x, 2)
    with pytest.raises(BadInput, match="stem, stage1, stage2, unit1 to unit4"):
        look(network, x, "neck")


def test_without_the_library_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    explain._library_class.cache_clear()
    with pytest.raises(BadInput, match="pip install grad-cam"):
        saliency(tiny_network(), images(1, 32), 0)
