"""Backbones as units: the papers' counts, timm's own forward pass, cutting and slimming."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from ftlab import backbones, weights
from ftlab.backbones import BACKBONES, Network, skeleton
from ftlab.families import covered, split
from ftlab.records import BadInput

# Parameters of each stage, from the papers' own code (ResNet: torchvision's layers; DenseNet: norm5
# counted with the last block; VGG: fc6 and fc7 are the neck).
STAGES = {
    "resnet50": {
        "stem": 9_536,
        "layer1": 215_808,
        "layer2": 1_219_584,
        "layer3": 7_098_368,
        "layer4": 14_964_736,
    },
    "densenet121": {
        "stem": 9_536,
        "denseblock1": 335_040,
        "transition1": 33_280,
        "denseblock2": 919_680,
        "transition2": 132_096,
        "denseblock3": 2_837_760,
        "transition3": 526_336,
        "denseblock4": 2_158_080 + 2_048,
    },
    "vgg19": {
        "conv1": 38_720,
        "conv2": 221_440,
        "conv3": 2_065_408,
        "conv4": 8_259_584,
        "conv5": 9_439_232,
        "neck": 102_764_544 + 16_781_312,
    },
}
# Peng et al. 2023: ResNet-50 cut after unit 1 .. 17: channels, trunk parameters.
CUTS = [
    (64, 9_536),
    (256, 84_544),
    (256, 154_944),
    (256, 225_344),
    (512, 604_736),
    (512, 884_800),
    (512, 1_164_864),
    (512, 1_444_928),
    (1024, 2_957_376),
    (1024, 4_074_560),
    (1024, 5_191_744),
    (1024, 6_308_928),
    (1024, 7_426_112),
    (1024, 8_543_296),
    (2048, 14_582_848),
    (2048, 19_045_440),
    (2048, 23_508_032),
]
AT_LEAST = {
    "resnet50": 17,
    "resnet18": 9,
    "mobilenetv2_100": 19,
    "efficientnet_b0": 18,
    "convnext_tiny": 19,
    "regnety_008": 15,
    "vgg19": 16,
    "densenet121": 8,
    "ftlab_mini": 9,
}


def images(n: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_the_papers_number_of_parameters(name):
    described = backbones.describe(name)
    assert {s["name"]: s["parameters"] for s in described["stages"]} == STAGES[name]
    network = skeleton(name, classes=7)
    width = network.head.in_features
    assert backbones.parameters(network.head) == 7 * width + 7
    assert width == {"resnet50": 2048, "densenet121": 1024, "vgg19": 4096}[name]


def test_resnet50_has_the_17_cuts_of_the_truncation_paper():
    assert [c["parameters"] for c in backbones.describe("resnet50")["cuts"]] == [p for _, p in CUTS]
    for unit, (channels, trunk) in enumerate(CUTS, start=1):
        with torch.device("meta"):
            network = backbones.cut(skeleton("resnet50"), unit)
        assert network.head.in_features == channels
        assert backbones.parameters(network) == trunk + 2 * channels + 2


@pytest.mark.parametrize("name", BACKBONES)
def test_every_parameter_is_in_exactly_one_stage(name):
    with torch.device("meta"):
        model = timm.create_model(name)
        network = Network(split(model), 3, (0,) * 3, (1,) * 3)
    staged = [id(p) for stage in network.stages.values() for p in stage.parameters()]
    classifier = [id(p) for p in model.get_classifier().parameters()]
    assert len(staged) == len(set(staged))
    assert sorted(staged + classifier) == sorted(id(p) for p in model.parameters())
    assert len(list(network.parameters())) == len(staged) + 2


@pytest.mark.parametrize("name", BACKBONES)
def test_units_are_numbered_from_1_over_the_whole_trunk(name):
    layout = backbones.layout(name)
    units = [u for stage in layout.trunk for u in stage.units]
    assert units == list(range(1, len(units) + 1))
    assert len(units) >= AT_LEAST[name]
    cuts = backbones.describe(name)["cuts"]
    assert [c["unit"] for c in cuts] == units
    assert all(a["parameters"] < b["parameters"] for a, b in zip(cuts, cuts[1:], strict=False))


@torch.no_grad()
def drawn(name: str) -> nn.Module:
    """A timm model drawn once, with BatchNorm statistics that are neither 0 nor 1."""
    with torch.device("meta"):
        model = timm.create_model(name)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.zero_()
    return model


@pytest.mark.parametrize("name", BACKBONES)
def test_unit_by_unit_is_timms_own_forward_pass(name):
    model = drawn(name)
    network = Network(split(model), model.num_classes, (0,) * 3, (1,) * 3).eval()
    network.head.load_state_dict(model.get_classifier().state_dict())
    last = len(network.units())
    for size, halfway in ((64, 1), (75, last // 2), (96, last - 1)):
        x = images(2, size, size)
        with torch.no_grad():
            truth = model.eval()(x)
            whole = network(x)
            halves = network.classify(network.run(network.run(x, upto=halfway), after=halfway))
        assert (whole - truth).abs().max() <= 1e-5 * truth.abs().max()
        assert halves.equal(whole)


def test_pixels_are_normalised_by_the_weights_own_statistics():
    network = Network({"stem": [nn.Conv2d(3, 2, 1)]}, 2, (0.1, 0.2, 0.3), (0.5, 0.25, 0.2))
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    expected = torch.tensor([(0 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (1 - 0.3) / 0.2])
    assert torch.allclose(network.prepare(pixels).flatten(), expected, atol=1e-6)
    assert torch.allclose(network.prepare(pixels.double()).flatten().float(), expected, atol=1e-6)


@pytest.mark.parametrize(
    "unit, millions", [(5, 6.10), (9, 7.14), (15, 12.95), (16, 17.87), (17, 20.69)]
)
def test_a_slim_resnet50_has_the_papers_size(unit, millions):
    """The paper counts from the bottlenecks: its 3, 7, 13, 14 and 15 are units 5, 9, 15, 16, 17."""
    with torch.device("meta"):
        network = skeleton("resnet50")
        backbones.slim(network, unit)
    assert round(backbones.parameters(network) / 1e6, 2) == millions


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_can_be_cut_and_slimmed_at_both_ends_and_inside(name):
    whole, x = skeleton(name), torch.zeros(2, 3, 64, 64, device="meta")
    trunk = whole.layout().trunk
    middle, last = trunk[len(trunk) // 2].units, trunk[-1].units
    for unit in sorted({1, middle[0], middle[-1], last[0], last[-1]}):
        with torch.device("meta"):
            cut = backbones.cut(whole, unit)
            slim = copy.deepcopy(whole)
            backbones.slim(slim, unit)
        assert len(cut.units()) == unit
        assert "neck" not in cut.stages
        kept = zip(slim.units()[: unit - 1], whole.units(), strict=False)
        assert all(backbones.parameters(a) == backbones.parameters(b) for a, b in kept)
        assert backbones.parameters(slim) < backbones.parameters(whole)
        if unit in (1, last[-1]):
            for network in (slim, cut):
                network.train()(x).sum().backward()
                assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", ["mobilenetv2_100", "test_convnext", "test_resnet"])
def test_what_is_kept_is_theta_0_bit_for_bit_and_the_rest_is_new(name):
    theta0 = weights.load(name, "random", seed=5)
    last = backbones.layout(name).trunk[-1].units[-1]
    middle = last // 2 + 1
    plain = backbones.build(name, 3, theta0)
    assert backbones.inherited(plain) == {
        n for n in plain.state_dict() if not n.startswith("head.")
    }
    theirs = sorted(t.sum().item() for t in theta0.tensors.values())
    kept = backbones.inherited(plain)
    assert sorted(t.sum().item() for n, t in plain.state_dict().items() if n in kept) == theirs
    for change in ({"cut_after": middle}, {"slim_from": middle}):
        network = backbones.build(name, 3, theta0, **change)
        kept = backbones.inherited(network, change.get("slim_from"))
        own, start = network.state_dict(), plain.state_dict()
        assert kept and all(own[n].equal(start[n]) for n in kept)
        new = set(own) - kept
        assert {"head.weight", "head.bias"} <= new
        assert (new == {"head.weight", "head.bias"}) == ("cut_after" in change)
        network.train()(images(2, 64)).sum().backward()


def test_a_slim_unit_that_inherits_its_width_has_the_same_head_as_the_whole_network():
    theta0 = weights.load("resnet18", "random")
    whole = backbones.build("resnet18", 2, theta0, seed=3)
    slim = backbones.build("resnet18", 2, theta0, slim_from=9, seed=3)
    cut = backbones.build("resnet18", 2, theta0, cut_after=9, seed=3)
    other = backbones.build("resnet18", 2, theta0, seed=4)
    assert whole.head.weight.equal(slim.head.weight) and whole.head.bias.equal(slim.head.bias)
    assert whole.head.weight.equal(cut.head.weight)
    assert not whole.head.weight.equal(other.head.weight)


def test_a_seed_builds_the_same_network_whatever_was_drawn_before():
    theta0 = weights.load("test_resnet", "random")
    first = backbones.build("test_resnet", 2, theta0, slim_from=4, seed=1).state_dict()
    torch.rand(7)
    again = backbones.build("test_resnet", 2, theta0, slim_from=4, seed=1).state_dict()
    assert all(first[n].equal(again[n]) for n in first)


def test_what_a_regnet_has_behind_its_last_block_belongs_to_it():
    model = timm.create_model("regnetz_005", num_classes=0)
    model.final_conv = nn.SiLU()  # as in regnetv_040 and regnetz_040, which are large
    x = torch.randn(2, 3, 64, 64)
    stages = split(model.eval())
    with torch.no_grad():
        expected, found = model.forward_features(x), x
        for unit in (unit for units in stages.values() for unit in units):
            found = unit(found)
    assert covered(model) and torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    ["resnet34", "wide_resnet50_2", "regnetx_002", "vgg11_bn", "densenet169", "efficientnet_lite0"]
    + ["mobilenetv2_050", "resnext50_32x4d", "seresnet18", "resnet18d", "convnext_atto"],
)
def test_other_networks_of_the_families_wrap_cut_and_slim(name):
    layout = backbones.layout(name)
    last = layout.trunk[-1].units[-1]
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=2)
        network = skeleton(name)
        assert backbones.parameters(network) == backbones.parameters(model)
        backbones.slim(network, last // 2)
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


@pytest.mark.parametrize(("name", "unit"), [("convnextv2_atto", 3), ("res2net50_26w_4s", 15)])
def test_a_network_with_unknown_layers_wraps_but_says_that_it_cannot_be_slimmed(name, unit):
    with torch.device("meta"):
        network = skeleton(name)
        with pytest.raises(BadInput, match="half as wide"):
            backbones.slim(network, unit)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "inception_v3", "no_such_net", "", "../x"]
)
def test_a_name_that_cannot_be_wrapped_gets_one_sentence_that_lists_what_can(name):
    with pytest.raises(BadInput) as caught:
        backbones.layout(name)
    assert all(known in str(caught.value) for known in (*BACKBONES, "ResNet", "RegNet"))
    assert "\n" not in str(caught.value)


def test_a_tag_that_timm_does_not_know_is_named():
    with pytest.raises(BadInput, match="no weights 'bogus' for resnet50"):
        backbones.layout("resnet50.bogus")
    assert backbones.layout("resnet50.a1_in1k") == backbones.layout("resnet50")
    assert backbones.tag("resnet50.a1_in1k") == "a1_in1k"
    assert backbones.tag("resnet50") == "tv_in1k"


@pytest.mark.parametrize("unit", [0, -1, 10, 99])
def test_a_unit_that_is_not_there_is_refused(unit):
    theta0 = weights.load("test_resnet", "random")
    for change in ("cut_after", "slim_from"):
        with pytest.raises(BadInput, match="There is no unit"):
            backbones.build("test_resnet", 2, theta0, **{change: unit})


@pytest.mark.parametrize("name", BACKBONES)
def test_saliency_looks_at_the_last_trunk_unit_a_map_with_more_than_one_place(name):
    with torch.device("meta"):
        network = skeleton(name)
        place = network.layout().trunk[-1].units[-1]
        assert network.cam_layer is network.units()[place - 1]
        height, width = network.run(torch.zeros(1, 3, 64, 64), upto=place).shape[2:]
    assert height == width >= 2
