"""Strategies as plans: pure data, no network. plans.txt is what all of them write, to be read."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from ftlab import strategies
from ftlab.console import plan_text
from ftlab.penalties import L1SP, L2SP
from ftlab.rates import AutoRGN, AutoSNR
from ftlab.records import BadInput, Layout, Phase, Plan, Stage, plan_record
from ftlab.strategies import STRATEGIES, write_plan


def layout(neck: bool = False, **units: int) -> Layout:
    """A layout from how many units each trunk stage has."""
    stages, first = [], 1
    for name, count in units.items():
        stages.append(Stage(name, tuple(range(first, first + count))))
        first += count
    if neck:
        stages.append(Stage("neck", (first,)))
    return Layout((*stages, Stage("head")))


RESNET50 = layout(stem=1, layer1=3, layer2=4, layer3=6, layer4=3)
VGG19 = layout(neck=True, conv1=2, conv2=2, conv3=4, conv4=4, conv5=4)
MOBILENET = layout(stem=1, stage1=1, stage2=2, stage3=3, stage4=7, stage5=5)
LAYOUTS = {"resnet50": RESNET50, "vgg19": VGG19, "mobilenetv2_100": MOBILENET}

KIND_NAMES = {"number", "flag", "unit", "stage", "choice"}

everywhere = pytest.mark.parametrize("place", LAYOUTS.values(), ids=LAYOUTS)
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)
every_budget = pytest.mark.parametrize("epochs", [2, 3, 4, 5, 7, 10, 31])


def text(strategy: str, place: Layout) -> str:
    """As the command line prints a plan; `stages` is what "all" would be after a cut."""
    plan = write_plan(strategy, place, 10)
    record = {**plan_record(plan), "stages": place.cut(plan.cut_after).names}
    return f"{strategy:<20}{plan_text(record)}"


def test_all_plans_read_as_they_did():
    """A change here changes what every run of a strategy does: look twice, then edit the file."""
    blocks = []
    for name, place in LAYOUTS.items():
        blocks.append("\n".join([f"{name}, 10 epochs", *(text(s, place) for s in STRATEGIES)]))
    golden = Path(__file__).with_name("plans.txt").read_text(encoding="utf-8")
    assert "\n\n".join(blocks) + "\n" == golden


@every_strategy
@every_budget
@everywhere
def test_a_plan_spends_the_budget_and_the_head_learns_in_every_phase(strategy, epochs, place):
    plan = write_plan(strategy, place, epochs)
    known = {*place.names, *(f"unit{u}" for s in place.trunk for u in s.units)}
    assert sum(phase.epochs for phase in plan.phases) == plan.epochs == epochs
    for phase in plan.phases:
        assert phase.epochs >= 1
        assert "head" in phase.lrs
        assert set(phase.lrs) <= known
        assert all(lr > 0 for lr in phase.lrs.values())


@every_strategy
@everywhere
def test_a_plan_record_is_json_and_tells_two_plans_apart(strategy, place):
    plan = write_plan(strategy, place, 10)
    record = json.loads(json.dumps(plan_record(plan)))
    assert set(record) == {f.name for f in fields(Plan)}
    assert all(set(phase) == {f.name for f in fields(Phase)} for phase in record["phases"])
    for other in STRATEGIES:
        same = plan_record(write_plan(other, place, 10)) == record
        assert same == (other == strategy)


def test_a_plan_record_names_penalties_and_rules_with_their_knobs():
    penalised = plan_record(write_plan("l2_sp", RESNET50, 3, alpha=2, beta=0.5))
    assert penalised["phases"][0]["penalty"] == {"name": "l2_sp", "alpha": 2, "beta": 0.5}
    assert penalised["phases"][0]["rates"] is None
    ruled = plan_record(write_plan("auto_rgn", RESNET50, 3, mode="faithful"))
    assert ruled["phases"][0]["rates"] == {"name": "auto_rgn", "mode": "faithful", "batches": 5}


def test_lp_ft_is_linear_probe_plus_full():
    for epochs in (2, 3, 10):
        for probe in (0.5, 0.3, 0.0, 1.0):
            first = min(max(round(epochs * probe), 1), epochs - 1)
            parts = strategies.linear_probe(VGG19, first, 0.01) + strategies.full(
                VGG19, epochs - first, 0.01 * 0.1
            )
            assert write_plan("lp_ft", VGG19, epochs, lr=0.01, probe=probe) == parts


@everywhere
@every_budget
def test_gradual_unfreezing_adds_stages_and_ends_in_full(place, epochs):
    everything = write_plan("full", place, epochs).phases[0].lrs
    for name, order in (
        ("gradual_first_last", place.trunk),
        ("gradual_last_first", place.trunk[::-1]),
    ):
        phases = write_plan(name, place, epochs).phases
        assert phases[-1].lrs == everything
        assert len(phases) == min(epochs, len(order))
        learning = [set(phase.lrs) - set(place.top) for phase in phases]
        for names in learning:
            assert names == {s.name for s in order[: len(names)]}
        assert all(a < b for a, b in zip(learning, learning[1:], strict=False))
        assert all(set(place.top) <= set(phase.lrs) for phase in phases)
        spans = [phase.epochs for phase in phases]
        assert spans[:-1] == [epochs // len(phases)] * (len(phases) - 1)
        assert [phase.keep_moments for phase in phases] == [False] + [True] * (len(phases) - 1)


def test_with_fewer_epochs_than_stages_neighbours_join_together():
    phases = write_plan("gradual_last_first", RESNET50, 3).phases
    assert [phase.epochs for phase in phases] == [1, 1, 1]
    assert [list(phase.lrs) for phase in phases] == [
        ["layer3", "layer4", "head"],
        ["layer2", "layer3", "layer4", "head"],
        ["stem", "layer1", "layer2", "layer3", "layer4", "head"],
    ]
    assert write_plan("gradual_first_last", RESNET50, 1).phases[0].lrs.keys() == set(RESNET50.names)


def test_defaults_are_the_documented_ones():
    assert write_plan("truncated", RESNET50, 5).cut_after == 14
    assert write_plan("truncated", VGG19, 5).cut_after == 12
    assert list(write_plan("truncated", VGG19, 5).phases[0].lrs) == [
        *("conv1", "conv2", "conv3", "conv4", "head")
    ]
    assert write_plan("transfusion", RESNET50, 5).slim_from == 15
    frozen = write_plan("layer_wise", RESNET50, 5).phases[0].lrs
    assert list(frozen) == ["layer2", "layer3", "layer4", "head"]
    assert list(write_plan("surgical", MOBILENET, 5).phases[0].lrs) == ["stage1", "head"]


def test_a_strict_probe_of_vgg_learns_the_last_layer_only_and_neck_adds_fc6_and_fc7():
    assert list(write_plan("linear_probe", VGG19, 5).phases[0].lrs) == ["head"]
    assert list(write_plan("linear_probe", VGG19, 5, neck=True).phases[0].lrs) == ["neck", "head"]
    assert list(write_plan("linear_probe", RESNET50, 5, neck=True).phases[0].lrs) == ["head"]


def test_layer_wise_opens_single_units_where_a_stage_is_frozen_in_part():
    lrs = write_plan("layer_wise", RESNET50, 5, freeze=6).phases[0].lrs
    assert list(lrs) == ["unit7", "unit8", "layer3", "layer4", "head"]
    assert write_plan("layer_wise", RESNET50, 5, freeze=0) == write_plan("full", RESNET50, 5)
    assert list(write_plan("layer_wise", RESNET50, 5, freeze=17).phases[0].lrs) == ["head"]
    assert list(write_plan("layer_wise", VGG19, 5, freeze=16).phases[0].lrs) == ["neck", "head"]


def test_a_cut_in_the_middle_of_a_stage_keeps_the_units_up_to_it():
    plan = write_plan("truncated", RESNET50, 5, cut=12)
    assert list(plan.phases[0].lrs) == ["stem", "layer1", "layer2", "layer3", "head"]
    assert RESNET50.cut(12).stages[-2] == Stage("layer3", (9, 10, 11, 12))
    assert RESNET50.cut(None) is RESNET50
    whole = write_plan("truncated", VGG19, 5, cut=16)
    assert "neck" not in whole.phases[0].lrs


def test_penalties_and_rules_ride_on_the_full_plan():
    full = write_plan("full", VGG19, 4, lr=0.01).phases[0]
    for strategy, change in {
        "l1_sp": {"penalty": L1SP(1e-4, 0.01)},
        "l2_sp": {"penalty": L2SP(0.1, 0.01)},
        "auto_rgn": {"rates": AutoRGN()},
        "auto_snr": {"rates": AutoSNR()},
    }.items():
        assert write_plan(strategy, VGG19, 4, lr=0.01).phases == (replace(full, **change),)
    faithful = write_plan("auto_snr", VGG19, 4, lr=0.01, mode="faithful").phases[0]
    reference = {"weight_decay": 1e-4, "eval_batchnorm": True}
    assert faithful == replace(full, rates=AutoSNR("faithful"), **reference)


def test_eval_batchnorm_is_a_knob_of_full_and_of_the_second_phase_of_lp_ft():
    assert write_plan("full", RESNET50, 4, eval_batchnorm=True).phases[0].eval_batchnorm
    phases = write_plan("lp_ft", RESNET50, 4, eval_batchnorm=True).phases
    assert [phase.eval_batchnorm for phase in phases] == [False, True]


@pytest.mark.parametrize(
    "strategy, epochs, given, message",
    [
        ("fool", 5, {}, "no strategy 'fool'; there are full, linear_probe"),
        ("full", 5, {"alpha": 1}, "full has no knob 'alpha'; it has lr, eval_batchnorm"),
        ("full", 5, {"layout": 1}, "no knob 'layout'"),
        ("full", 0, {}, "at least 1 epoch"),
        ("lp_ft", 1, {}, "at least 2 epochs"),
        ("full", 5, {"lr": 0}, "above 0"),
        ("full", 5, {"lr": -1e-3}, "a number"),
        ("full", 5, {"lr": float("nan")}, "a number"),
        ("full", 5, {"lr": float("inf")}, "a number"),
        ("full", 5, {"lr": "fast"}, "a number"),
        ("full", 5, {"lr": None}, "a number"),
        ("full", 5, {"lr": True}, "a number"),
        ("full", 5, {"eval_batchnorm": "yes"}, "true or false"),
        ("lp_ft", 5, {"drop": 0}, "above 0"),
        ("lp_ft", 5, {"probe": "half"}, "a number"),
        ("l2_sp", 5, {"alpha": "strong"}, "alpha takes a number"),
        ("l2_sp", 5, {"beta": -1}, "beta takes a number"),
        ("linear_probe", 5, {"neck": 1}, "true or false"),
        ("auto_rgn", 5, {"mode": "quick"}, "practical or faithful"),
        ("auto_snr", 5, {"mode": None}, "practical or faithful"),
        ("surgical", 5, {"stage": "layer9"}, "has stem, layer1"),
        ("surgical", 5, {"stage": "head"}, "no stage 'head'"),
        ("surgical", 5, {"stage": 3}, "no stage 3"),
        ("truncated", 5, {"cut": 0}, "units 1 to 17"),
        ("truncated", 5, {"cut": 18}, "units 1 to 17"),
        ("truncated", 5, {"cut": "layer3"}, "a unit's number"),
        ("truncated", 5, {"cut": 3.5}, "a unit's number"),
        ("layer_wise", 5, {"freeze": -1}, "units 1 to 17"),
        ("layer_wise", 5, {"freeze": True}, "a unit's number"),
        ("transfusion", 5, {"slim": 99}, "units 1 to 17"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_sentence(strategy, epochs, given, message):
    with pytest.raises(BadInput, match=message) as caught:
        write_plan(strategy, RESNET50, epochs, **given)
    assert "\n" not in str(caught.value)


def test_a_knob_of_none_means_the_default():
    for strategy, knob in (("truncated", "cut"), ("layer_wise", "freeze"), ("surgical", "stage")):
        given = write_plan(strategy, RESNET50, 5, **{knob: None})
        assert given == write_plan(strategy, RESNET50, 5)


def test_the_neck_cannot_be_cut_after():
    with pytest.raises(BadInput, match="units 1 to 16"):
        write_plan("truncated", VGG19, 5, cut=17)


@every_strategy
def test_a_strategy_describes_itself_with_its_source_and_its_knobs(strategy):
    described = strategies.describe(strategy)
    assert described["name"] == strategy
    assert "arXiv" in described["source"]
    assert described["summary"].endswith((".", ").")) and "\n" not in described["summary"]
    assert next(iter(strategies.knobs(strategy))) == "lr"
    assert {k["name"]: k["default"] for k in described["knobs"]} == strategies.knobs(strategy)
    assert all(k["help"] and k["kind"] in KIND_NAMES for k in described["knobs"])
    assert [bool(k["choices"]) for k in described["knobs"]] == [
        k["kind"] == "choice" for k in described["knobs"]
    ]
    given = strategies.knobs(strategy)
    assert write_plan(strategy, RESNET50, 5, **given) == write_plan(strategy, RESNET50, 5)


def test_an_equation_and_a_knobs_help_are_read_off_the_docstring():
    described = strategies.describe("l1_sp")
    assert described["equation"] == "L + alpha |w - w_0|_1 + beta/2 |v|^2"
    helps = {knob["name"]: knob["help"] for knob in described["knobs"]}
    assert helps["beta"] == "pull of the new head to zero."
    neck = strategies.describe("linear_probe")["knobs"][1]
    assert (neck["kind"], neck["default"]) == ("flag", False)
    assert neck["help"].endswith("By default the new linear layer learns alone.")  # two lines
    assert strategies.describe("surgical")["equation"] is None
    mode = strategies.describe("auto_rgn")["knobs"][1]
    assert (mode["kind"], mode["choices"]) == ("choice", ["practical", "faithful"])


def test_all_and_davila_stand_for_their_strategies():
    assert strategies.parse_names(["all"]) == list(STRATEGIES)
    assert strategies.parse_names(["davila"]) == list(STRATEGIES)[:8]
    assert set(strategies.DAVILA) == {
        *("full", "linear_probe", "gradual_last_first", "gradual_first_last"),
        *("lp_ft", "l1_sp", "l2_sp", "auto_rgn"),
    }
    assert strategies.parse_names(["lp_ft", "davila", "lp_ft"])[:2] == ["lp_ft", "full"]
    with pytest.raises(BadInput, match="no strategy 'none'"):
        strategies.parse_names(["full", "none"])


def test_the_layouts_here_are_those_of_the_backbones():
    from ftlab import backbones

    assert {name: backbones.layout(name) for name in LAYOUTS} == LAYOUTS
