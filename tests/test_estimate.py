"""The estimate before a start: it follows what is asked, is kept, and is near the truth."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from tiny import QUICK, TINY, bands, trained

from ftlab import estimate, runs, strategies
from ftlab.asking import Question
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
    """Every step costs what it should: 1 s a batch to look at, 10 to learn, 100 under a rule."""

    def cost(network, phase, *_):
        learning = 0 if phase is None else 110 if phase.rates else 10
        return estimate.Cost(1.0 + learning, 0.0, True)

    monkeypatch.setattr(estimate, "_known", {})
    monkeypatch.setattr(estimate, "_cost", cost)
    monkeypatch.setattr(estimate, "_reading", lambda data, size: 0.0)


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


def test_every_strategy_is_timed_within_seconds_and_once(lab):
    began = time.process_time()
    first = lab.estimate(question(ALL))
    took = time.process_time() - began
    assert first["seconds"] > 0 and first["measured"] is True
    assert took < 20
    kinds = len(estimate._known)
    began = time.process_time()
    again = lab.estimate(question(ALL, (0, 1)))
    assert time.process_time() - began < took / 2
    assert again["seconds"] > 1.5 * first["seconds"] and len(estimate._known) == kinds


def test_many_who_ask_at_once_get_one_answer(lab, monkeypatch):
    monkeypatch.setattr(estimate, "_known", {})
    timed, cost = [], estimate._cost

    def noted(network, phase, *rest):
        timed.append(phase)
        return cost(network, phase, *rest)

    monkeypatch.setattr(estimate, "_cost", noted)
    monkeypatch.setattr(estimate, "_reading", lambda data, size: 0.0)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: lab.estimate(question(("linear_probe",))), range(4)))
    assert len(timed) == 2, "looking and one kind of learning, once each"
    assert all(answer == answers[0] for answer in answers)


def test_a_batch_too_large_to_try_is_not_said_to_be_measured(lab, monkeypatch):
    monkeypatch.setattr(estimate, "_known", {})
    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    assert lab.estimate(question(("linear_probe",)))["measured"] is False


def test_a_frozen_trunk_is_cheaper_than_one_that_learns(lab):
    plans = estimate._plans(question(("full", "linear_probe"), size=96, batch=16), 2)
    (network, found), *rest = plans.items()
    assert not rest, "both train the same network"
    phases = {name: plan.phases[0] for name, plan in found}
    costs = estimate._costs(network, list(phases.values()), replace(QUICK, size=96, batch=16))
    step = {name: costs[estimate._kind(phase)].of(16, 16) for name, phase in phases.items()}
    assert step["linear_probe"] < 0.8 * step["full"]


def test_it_is_of_the_size_of_what_the_runs_then_take(lab):
    folder = trained(lab.home, ("full", "linear_probe"), settings=replace(QUICK, epochs=4))
    ran = sum(e.seconds for path in folder.glob("*/") for e in runs.diary(path))
    said = seconds(lab, ("full", "linear_probe"), epochs=4)
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
