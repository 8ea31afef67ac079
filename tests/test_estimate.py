"""The estimate before a start: it follows what is asked, and times a network once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny import QUICK, TINY, bands

from ftlab import backbones, estimate, strategies
from ftlab.lab import Lab
from ftlab.records import BadInput, Layout, Question, Stage

ALL = tuple(strategies.STRATEGIES)
LAYOUT = Layout((Stage("a", (1,)), Stage("b", (2,)), Stage("c", (3,)), Stage("head")))
UNITS, REST, LEARNING, SCORING = np.array([1.0, 2.0, 4.0]), 0.5, 20.0, 3.0
WHOLE = UNITS.sum()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("estimate") / "home"
    home.mkdir()
    bands(home)
    return Lab(home)


@pytest.fixture
def costs(monkeypatch):
    """What every image costs in a backbone of three units, and how many networks are timed."""
    timed = []

    def timing(network, settings):
        timed.append(network)
        return estimate.Timing(UNITS, REST, LEARNING, SCORING, settings.batch)

    monkeypatch.setattr(estimate, "_known", {})
    monkeypatch.setattr(estimate, "_build", lambda *network: network)
    monkeypatch.setattr(estimate, "_timed", timing)
    monkeypatch.setattr(estimate, "_reading", lambda data, size: 0.0)
    monkeypatch.setattr(estimate.backbones, "layout", lambda name: LAYOUT)
    return timed


def question(chosen=("full",), seeds=(0,), **settings) -> Question:
    return Question("bands", [TINY], chosen, seeds, replace(QUICK, **settings), weights="random")


def seconds(lab, *args, **settings) -> float:
    return lab.estimate(question(*args, **settings))["seconds"]


@pytest.fixture
def n(lab):
    """How many images each split has; with two classes a threshold is chosen on val."""
    splits = lab.check("bands")["splits"]
    return {**splits, "judged": splits["val"] + splits["test"]}


def test_epochs_seeds_and_candidates_multiply_an_epoch(lab, costs, n):
    epoch = n["train"] * (REST + WHOLE + LEARNING) + n["val"] * (REST + WHOLE) + SCORING
    judged = n["judged"] * (REST + WHOLE)
    assert seconds(lab, ("full",), (0,), epochs=3) == pytest.approx(3 * epoch + judged)
    twice = seconds(lab, ("full",), (0, 1), epochs=3)
    assert twice == pytest.approx(2 * (3 * epoch + judged))
    tuned = seconds(lab, ("full",), (0, 1), epochs=3, lr="auto")
    assert tuned == pytest.approx(4 * 3 * epoch + 2 * judged)
    given = replace(question(lr="auto"), knobs={"full": {"lr": 1e-3}})
    assert lab.estimate(given)["seconds"] == pytest.approx(2 * epoch + judged), "nothing to choose"


def test_what_is_frozen_is_passed_once_and_gradients_stop_above_it(lab, costs, n):
    probe = seconds(lab, ("linear_probe",), epochs=4)
    epochs = 4 * ((n["train"] + n["val"]) * REST + SCORING) + n["judged"] * REST
    assert probe == pytest.approx(epochs + sum(n[s] for s in ("train", "val", "test")) * WHOLE)
    below, above = UNITS[:2].sum(), UNITS[2]
    part = seconds(lab, ("layer_wise",), epochs=4)
    step = REST + above + LEARNING * above / WHOLE
    epochs = 4 * (n["train"] * step + n["val"] * (REST + above) + SCORING)
    epochs += n["judged"] * (REST + above)
    assert part == pytest.approx(epochs + sum(n[s] for s in ("train", "val", "test")) * below)


def test_a_surgical_stage_pays_for_the_gradients_that_come_back_to_it(lab, costs, n):
    asked = replace(question(("surgical",), epochs=1), knobs={"surgical": {"stage": "a"}})
    share = (WHOLE + UNITS[0]) / (2 * WHOLE)
    epoch = n["train"] * (REST + WHOLE + LEARNING * share) + n["val"] * (REST + WHOLE)
    epoch += SCORING
    found = lab.estimate(asked)["seconds"]
    assert found == pytest.approx(epoch + n["judged"] * (REST + WHOLE))


def test_strategies_and_seeds_share_what_is_frozen_unless_each_starts_elsewhere(lab, costs, n):
    probe = replace(question(("linear_probe",)), weights="bundled")
    once = sum(n[s] for s in ("train", "val", "test")) * WHOLE
    alone, fitted, both = (
        lab.estimate(replace(probe, strategies=chosen))["seconds"]
        for chosen in (("linear_probe",), ("lp_ft",), ("linear_probe", "lp_ft"))
    )
    assert both == pytest.approx(alone + fitted - (n["train"] + n["val"]) * WHOLE)
    twice = lab.estimate(replace(probe, seeds=(0, 1)))["seconds"]
    assert twice == pytest.approx(2 * alone - once)
    assert seconds(lab, ("linear_probe",), (0, 1)) == pytest.approx(2 * alone), (
        "from random weights"
    )


def test_augmented_images_pass_what_is_frozen_every_time(lab, costs, n):
    more = seconds(lab, ("linear_probe",), epochs=5, flips=True)
    less = seconds(lab, ("linear_probe",), epochs=4, flips=True)
    assert more - less == pytest.approx(n["train"] * (REST + WHOLE) + n["val"] * REST + SCORING)


def test_a_rate_rule_costs_its_looks_before_each_epoch(lab, costs, n):
    looks = min(5 * QUICK.batch, n["train"])
    extra = seconds(lab, ("auto_rgn",)) - seconds(lab, ("full",))
    assert extra == pytest.approx(QUICK.epochs * looks * (REST + WHOLE + LEARNING))


def test_what_is_cut_away_costs_nothing(lab, costs, n):
    cut = UNITS[:2].sum()
    epoch = n["train"] * (REST + cut + LEARNING * cut / WHOLE) + n["val"] * (REST + cut)
    epoch += SCORING
    found = seconds(lab, ("truncated",), epochs=1)
    assert found == pytest.approx(epoch + n["judged"] * (REST + cut))


def test_train_per_class_cuts_the_images_that_are_counted(lab, costs, n):
    less = seconds(lab, epochs=1) - seconds(lab, epochs=1, train_per_class=4)
    assert less == pytest.approx((n["train"] - 8) * (REST + WHOLE + LEARNING))


def test_a_network_is_timed_once_however_many_strategies_and_people_ask(lab, costs):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: lab.estimate(question(ALL)), range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert len(costs) == 2, "the backbone, and with slim upper units"
    lab.estimate(question(ALL, size=QUICK.size * 2))
    assert len(costs) == 4


def test_whole_batches_are_measured_and_larger_ones_stood_for(lab, monkeypatch):
    monkeypatch.setattr(estimate, "_known", {})
    monkeypatch.setattr(estimate, "SECONDS", 3600.0)
    found = lab.estimate(question(ALL))
    assert found["seconds"] > 0 and found["measured"] is True
    timing = next(iter(estimate._known.values()))
    assert timing.images == QUICK.batch and (timing.units > 0).all()
    assert len(timing.units) == len(backbones.skeleton(TINY).units())
    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    assert lab.estimate(question(size=64))["measured"] is False


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
