"""The estimate before a start: it follows what is asked, is kept, and is near the truth."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny import QUICK, TINY, bands, trained

from ftlab import backbones, estimate, runs, strategies, train, weights
from ftlab.asking import Question
from ftlab.estimate import Cost
from ftlab.lab import Lab
from ftlab.records import BadInput

ALL = tuple(strategies.STRATEGIES)


@pytest.fixture(autouse=True)
def own_time(monkeypatch):
    """Seconds of this process alone, whatever else the machine is busy with."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("estimate") / "home"
    home.mkdir()
    bands(home)
    return Lab(home)


def question(chosen=("full",), seeds=(0,), **settings) -> Question:
    return Question("bands", [TINY], chosen, seeds, replace(QUICK, **settings), weights="random")


def seconds(lab, *args, **settings) -> float:
    return lab.estimate(question(*args, **settings))["seconds"]


@pytest.fixture
def costs(monkeypatch):
    """Every batch costs what it should: 1 s to look at, 10 s more to learn, 100 s under a rule.

    Of looking, the first of the five units takes half, each other an eighth, slim ones half that.
    """
    units = np.array([4.0, 1, 1, 1, 1])
    timing = estimate.Timing(8, Cost(1.0, 0), Cost(1.0, 0), Cost(10.0, 0), units)
    rule = {True: Cost(3.0, 0), False: Cost(100.0, 0)}  # a penalty, a rate rule
    fakes = {
        "_known": {},
        "_timed": lambda *_: timing,
        "_units": lambda *_: units - [0, 0, 0, 0.5, 0.5],
        "_added": lambda network, rules, *_: {k: rule[isinstance(k, type)] for k in rules},
        "_reading": lambda data, size: 0.0,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(estimate, name, fake)


def test_epochs_seeds_and_candidates_multiply_an_epoch(lab, costs):
    data = lab.check("bands")["splits"]
    train, val = (-(-data[split] // 8) for split in ("train", "val"))
    judged = -(-(data["val"] + data["test"]) // 8)  # with two classes a threshold is chosen on val
    epoch = 11 * train + val
    assert seconds(lab, ("full",), (0,), epochs=3) == 3 * epoch + judged
    assert seconds(lab, ("full",), (0, 1), epochs=3) == 2 * (3 * epoch + judged)
    assert seconds(lab, ("full",), (0, 1), epochs=3, lr="auto") == 4 * 3 * epoch + 2 * judged
    given = replace(question(lr="auto"), knobs={"full": {"lr": 1e-3}})
    assert lab.estimate(given)["seconds"] == 2 * epoch + judged, "its rate is not chosen"


def test_a_rate_rule_costs_its_looks_before_each_epoch(lab, costs):
    train = -(-lab.check("bands")["splits"]["train"] // 8)
    looks = min(5, train)
    extra = seconds(lab, ("auto_rgn",)) - seconds(lab, ("full",))
    assert extra == pytest.approx(2 * 100 * looks)


def test_train_per_class_cuts_the_images_that_are_counted(lab, costs):
    less = seconds(lab, epochs=1) - seconds(lab, epochs=1, train_per_class=4)
    train = -(-lab.check("bands")["splits"]["train"] // 8)
    assert less == 11 * (train - 1)


@pytest.mark.parametrize(
    ("strategy", "knobs", "cost"),
    [
        ("linear_probe", {}, 1),
        ("full", {}, 1 + 10),
        ("l1_sp", {}, 1 + 10 + 3),
        ("truncated", {"cut": 3}, (1 + 10) * 6 / 8),
        ("transfusion", {"slim": 4}, (1 + 10) * 7 / 8),
        ("layer_wise", {"freeze": 1}, 1 + 10 * 4 / 8),
        ("layer_wise", {"freeze": 4}, 1 + 10 * 1 / 8),
        ("surgical", {"stage": "layer2"}, 1 + 10 * (3 / 8 + 1 / 8) / 2),
        ("surgical", {"stage": "stem"}, 1 + 10 * (1 + 4 / 8) / 2),
    ],
)
def test_a_step_costs_what_its_units_do(lab, costs, strategy, knobs, cost):
    layout = lab.layout(TINY)
    plan = strategies.write_plan(strategy, layout, 2, **knobs)
    known = estimate._timings(TINY, 2, [plan], QUICK)
    assert estimate._step(plan.phases[0], plan, layout, known).of(8, 8) == pytest.approx(cost)
    kept = 6 / 8 if strategy == "truncated" else 7 / 8 if strategy == "transfusion" else 1
    assert estimate._look(plan, known).of(8, 8) == pytest.approx(kept)


def test_every_strategy_is_timed_within_seconds_and_once(lab, monkeypatch):
    monkeypatch.setattr(estimate, "_known", {})
    began = time.process_time()
    first = lab.estimate(question(ALL))
    took = time.process_time() - began
    assert first["seconds"] > 0 and first["measured"] is True
    assert took < 10
    kinds = len(estimate._known)
    assert kinds == 6, "the backbone, a slim one, two penalties and two rate rules"
    began = time.process_time()
    again = lab.estimate(question(ALL, (0, 1)))
    assert time.process_time() - began < took / 2
    assert again["seconds"] > 1.5 * first["seconds"] and len(estimate._known) == kinds


def test_many_who_ask_at_once_get_one_answer(lab, monkeypatch):
    monkeypatch.setattr(estimate, "_known", {})
    timed, whole = [], estimate._timed

    def noted(network, settings):
        timed.append(settings)
        return whole(network, settings)

    monkeypatch.setattr(estimate, "_timed", noted)
    monkeypatch.setattr(estimate, "_reading", lambda data, size: 0.0)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: lab.estimate(question(("linear_probe",))), range(4)))
    assert len(timed) == 1
    assert all(answer == answers[0] for answer in answers)


def test_a_batch_too_large_to_try_is_not_said_to_be_measured(lab, monkeypatch):
    monkeypatch.setattr(estimate, "_known", {})
    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    assert lab.estimate(question(("linear_probe",)))["measured"] is False


@pytest.mark.parametrize(
    ("strategy", "knobs"),
    [
        ("full", {}),
        ("linear_probe", {}),
        ("layer_wise", {"freeze": 3}),
        ("surgical", {"stage": "stem"}),
        ("truncated", {"cut": 3}),
        ("transfusion", {"slim": 3}),
        ("l2_sp", {}),
        ("auto_snr", {}),
    ],
)
def test_what_a_phase_is_said_to_cost_is_near_what_it_costs(lab, strategy, knobs):
    settings = replace(QUICK, size=96, batch=16)
    layout = lab.layout(TINY)
    plan = strategies.write_plan(strategy, layout, 3, **knobs)
    known = estimate._timings(TINY, 2, [plan], settings)
    said = estimate._training(plan, layout, known, settings, {"train": 16, "val": 16})
    theta0 = weights.load(TINY, "random")
    network = backbones.build(TINY, 2, theta0, plan.cut_after, plan.slim_from)
    noise = estimate._noise(16, 96)
    took = min(epoch.seconds for epoch in train.fit(network, plan, noise, noise, settings, 0))
    assert took / 2 < said / 3 < took * 2


def test_it_is_of_the_size_of_what_the_runs_then_take(lab):
    chosen = ("full", "linear_probe", "gradual_first_last", "auto_rgn", "transfusion")
    folder = trained(lab.home, chosen, settings=replace(QUICK, epochs=4))
    ran = sum(e.seconds for path in folder.glob("*/") for e in runs.diary(path))
    said = seconds(lab, chosen, epochs=4)
    assert ran / 2 < said < ran * 2


def test_images_that_still_have_to_be_read_are_counted(lab):
    from ftlab.datasets import open_dataset

    data = open_dataset(lab.data, "bands")
    assert estimate._reading(data, 33) > 0
    data.array(33)
    assert estimate._reading(data, 33) == 0


@pytest.mark.parametrize(
    "asked, sentence",
    [
        (replace(question(), data="none"), "There is no data set 'none'"),
        (replace(question(), strategies=["magic"]), "magic"),
        (replace(question(), backbones=["magic"]), "There is no backbone 'magic'"),
        (question(batch=1), "--batch is at least 2"),
    ],
)
def test_what_cannot_be_trained_cannot_be_estimated(lab, asked, sentence):
    with pytest.raises(BadInput, match=sentence):
        lab.estimate(asked)


# --- downloads ---


def test_weights_that_would_have_to_be_fetched_say_how_much_it_is(lab, monkeypatch):
    monkeypatch.setattr(estimate.weights, "on_this_machine", lambda name: name == "ftlab_mini")
    assert lab.weights_state("ftlab_mini") == {"ready": True, "download_bytes": None}
    state = lab.weights_state("resnet18")
    assert not state["ready"] and state["download_bytes"] == pytest.approx(46.8e6, rel=0.01)
    monkeypatch.setattr(estimate, "is_model_pretrained", lambda name: False)
    assert lab.weights_state("resnet18") == {"ready": False, "download_bytes": None}


def test_there_is_no_state_of_a_backbone_that_is_none(lab):
    with pytest.raises(BadInput, match="There is no backbone 'magic'"):
        lab.weights_state("magic")
