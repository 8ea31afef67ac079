"""The search for a unit: its rule on Peng et al.'s logs, what units cost, a study that grows."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY
from tiny import ENVIRONMENT, QUICK, answer_bits, ask, bands, states, trained, work
from typer.testing import CliRunner

from ftlab import backbones, costs, files, queue, readout, runs, search, studies, worker
from ftlab.__main__ import app
from ftlab.commands import search as search_command
from ftlab.lab import Lab
from ftlab.records import BadInput, Layout, Question, Search, Stage

MINI = "ftlab_mini"  # stem, and four stages of two units
RESNET50 = Layout(
    (
        Stage("stem", (1,)),
        Stage("layer1", (2, 3, 4)),
        Stage("layer2", (5, 6, 7, 8)),
        Stage("layer3", (9, 10, 11, 12, 13, 14)),
        Stage("layer4", (15, 16, 17)),
        Stage("head"),
    )
)
# AUPRC, per cent, means of three splits of BIMCV, from the training logs in Peng et al.'s
# repository: TTL cut after unit 1 to 17 (pooled head), LWFT frozen through unit 1 to 17, TF slim
# from their layer 1 to 15, which are our units 3 to 17 (see the parameters in docs/methods.md).
TTL = [48.1, 66.1, 71.7, 76.3, 79.5, 83.8, 85.0, 85.7, 86.8]
TTL += [86.6, 86.4, 87.1, 86.5, 86.0, 86.1, 85.7, 85.7]
LWFT = [86.1, 85.6, 85.4, 86.1, 85.3, 85.8, 85.4, 85.4, 84.9]
LWFT += [84.9, 84.7, 84.8, 84.4, 83.2, 81.0, 81.1, 70.8]
TF = [64.9, 69.1, 69.4, 76.6, 80.8, 79.6, 83.2, 84.8, 85.4, 85.3, 85.7, 86.0, 86.2, 86.3, 86.2]


# --- the rule -------------------------------------------------------------------------------------


def searched(asked: Search, scores) -> tuple[int | None, int | None, set[int]]:
    """(winner of the first stage, answer, units trained) of a search whose runs score as told."""
    ended: dict[int, float | None] = {}
    while wanted := [u for u in search.steps(asked, RESNET50, ended) if u not in ended]:
        ended |= {unit: scores[unit] for unit in wanted}
    return search.winner_of(asked, RESNET50, ended), search.best(asked.strategy, ended), set(ended)


def test_on_peng_et_als_logs_it_cuts_after_14_and_then_12_with_11_of_17_units():
    assert searched(Search("truncated"), dict(enumerate(TTL, 1))) == (
        14,
        12,
        {4, 8, *range(9, 18)},
    )


def test_on_their_logs_it_freezes_block_1_and_slims_behind_their_layer_14():
    coarse, best, trained = searched(Search("layer_wise"), dict(enumerate(LWFT, 1)))
    assert (coarse, best) == (4, 4) and 1 in trained, "their 1 scores the same, and learns more"
    coarse, best, trained = searched(Search("transfusion"), dict(enumerate(TF, 3)))
    assert (coarse, best) == (13 + 2, 14 + 2) and len(trained) == 10


@pytest.mark.parametrize(
    "strategy, smaller", [("truncated", 4), ("transfusion", 5), ("layer_wise", 17)]
)
def test_ties_go_to_the_smaller_network_or_to_the_one_that_learns_less(strategy, smaller):
    flat = dict.fromkeys(search.units(strategy, RESNET50), 0.5)
    ended = {unit: flat[unit] for unit in search.coarse(strategy, RESNET50)}
    assert search.winner_of(Search(strategy), RESNET50, ended) == smaller
    assert search.best(strategy, flat) == {"truncated": 1, "transfusion": 2}.get(strategy, 17)


def test_what_failed_is_not_chosen_and_holds_nothing_up():
    broken = dict(enumerate(TTL, 1)) | {14: None, 12: None}
    coarse, best, trained = searched(Search("truncated"), broken)
    assert (coarse, best) == (8, 9) and trained == {4, 8, 14, 17, *range(5, 15)}, "tie of 8 and 17"
    nothing = searched(Search("truncated"), dict.fromkeys(range(1, 18)))
    assert nothing == (None, None, {4, 8, 14, 17})


def test_a_dense_block_ends_with_its_transition_as_peng_et_al_cut_it():
    layout = backbones.layout("densenet121")
    names = [layout.stage_of(unit).name for unit in search.coarse("truncated", layout)]
    assert names == ["transition1", "transition2", "transition3", "denseblock4"]
    assert search.fine("truncated", layout, 5) == [4, 5, 6, 7]


def test_other_ways_train_every_unit_or_the_three_best_ranked_and_the_whole():
    scores = dict(enumerate(TTL, 1))
    assert searched(Search(how="exhaustive"), scores) == (None, 12, set(range(1, 18)))
    ranked = search.steps(Search(how="ranked"), RESNET50, {}, {u: -abs(u - 8.4) for u in scores})
    assert set(ranked) == {17, 7, 8, 9}
    assert set(search.steps(Search(how="ranked"), RESNET50, {})) == {17}


@pytest.mark.parametrize("how", search.HOW)
def test_no_search_trains_more_than_was_said(how):
    asked = Search(how=how)
    most = len(search.at_most(asked, RESNET50))
    for unit in range(1, 18):
        peak = {each: -abs(each - unit) for each in range(1, 18)}
        assert len(search.steps(asked, RESNET50, peak, peak)) <= most


# --- what a unit costs ----------------------------------------------------------------------------

SIZES = """1 9,666 0.118 | 2 85,058 0.349 | 3 155,458 0.568 | 4 225,858 0.786 | 5 605,762 1.158
| 6 885,826 1.377 | 7 1,165,890 1.595 | 8 1,445,954 1.814 | 9 2,959,426 2.186 | 10 4,076,610 2.404
| 11 5,193,794 2.623 | 12 6,310,978 2.841 | 13 7,428,162 3.060 | 14 8,545,346 3.278
| 15 14,586,946 3.650 | 16 19,049,538 3.869 | 17 23,512,130 4.087"""


def test_resnet50_costs_what_peng_et_als_code_builds_at_each_of_its_17_cuts():
    for row in SIZES.split("|"):
        unit, parameters, giga = row.split()
        cost = costs.costs("resnet50", "truncated", int(unit), classes=2, size=224)
        assert (cost["parameters"], f"{cost['macs'] / 1e9:.3f}") == (
            int(parameters.replace(",", "")),
            giga,
        )


def test_densenet121_costs_what_its_four_cuts_do():
    found = [costs.costs("densenet121", "truncated", unit, 2, 224) for unit in (3, 5, 7, 8)]
    heads = [2 * (channels + 1) for channels in (128, 256, 512, 1024)]
    trunks = [cost["parameters"] - head for cost, head in zip(found, heads, strict=True)]
    assert trunks == [377_856, 1_429_632, 4_793_728, 6_953_856]
    assert [f"{cost['macs'] / 1e9:.3f}" for cost in found] == ["1.261", "2.077", "2.729", "2.833"]


def test_what_is_frozen_is_kept_and_what_is_slim_is_gone():
    frozen = costs.costs("resnet50", "layer_wise", 14, 2, 224)
    assert (frozen["parameters"], frozen["trained_parameters"]) == (23_512_130, 14_964_736 + 4098)
    assert costs.costs("resnet50", "transfusion", 15, 2, 224)["parameters"] == 12_947_522
    whole = costs.costs("vgg19", "full", None, 2, 224)["parameters"]
    assert whole == 20_024_384 + 102_764_544 + 16_781_312 + 2 * 4097


# --- a study that grows ---------------------------------------------------------------------------

ASKED = Search(metric="balanced_accuracy")
ONE = replace(QUICK, epochs=1)


def asking(home, name: str, asked: Search = ASKED, **options):
    question = Question("bands", [MINI], [], (0,), ONE, "random", name=name, search=asked)
    return Lab(home).ask(replace(question, **options))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "home"
    folder.mkdir()
    bands(folder)
    return folder


@pytest.fixture(scope="module")
def whole(home):
    """(folder, events) of a search that was never interrupted."""
    folder = asking(home, "whole")
    return folder, work(home, folder)


def test_a_study_grows_by_the_second_stage_and_ends(home, whole):
    folder, events = whole
    (grown,) = [event for event in events if event["event"] == "search"]
    points = Lab(home).cuts("whole")["points"]
    first, second = ([p["label"] for p in points if p["step"] == s] for s in ("coarse", "fine"))
    assert first == [f"truncated@{unit}" for unit in (3, 5, 7, 9)] and grown["strategies"] == second
    assert set(states(folder).values()) == {"finished"}
    assert studies.state(folder, studies.read(folder)) == "finished"
    assert not work(home, asking(home, "whole")), "the same command has nothing left to do"
    with pytest.raises(BadInput, match="nothing left to train"):
        Lab(home).resume("whole")


def test_killed_between_its_stages_a_worker_ends_it_the_same(home, whole, monkeypatch):
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.02)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    folder = asking(home, "cut-short")
    study = studies.read(folder)
    for cell in studies.cells(study):
        shutil.copytree(whole[0] / cell.name, folder / cell.name)
    assert set(states(folder).values()) == {"finished"} and len(study.strategies) == 4
    assert studies.state(folder, study) == "interrupted"
    queue.add(home, folder)
    assert [e["event"] for e in worker.serve(home, True, lambda: False)] == ["started", "finished"]
    assert states(folder) == states(whole[0])
    for run in states(folder):
        assert answer_bits(folder / run) == answer_bits(whole[0] / run)
    ours, theirs = (Lab(home).cuts(study) for study in ("cut-short", "whole"))
    assert (ours["coarse"], ours["chosen"]) == (theirs["coarse"], theirs["chosen"])


def answered(folder, unit: int, seed: int, value: float | None) -> None:
    """Pretend that a run of a unit ended on validation as told; None: it failed."""
    run = folder / f"truncated@{unit}-{MINI}-s{seed}"
    if value is None:
        return runs.fail(run, "The loss became NaN.")
    run.mkdir()
    val = {"balanced_accuracy": value}
    return files.write_json(run / "result.json", {"val": val})


def test_it_chooses_by_the_mean_over_seeds_once_all_have_ended(home):
    folder = asking(home, "seeds", seeds=(0, 1))
    scores = {3: (0.6, 0.6), 5: (0.9, 0.1), 7: (None, 0.7), 9: (None, None)}
    for unit, values in scores.items():
        for seed, value in enumerate(values):
            assert search.read(folder, studies.read(folder)).coarse is None
            answered(folder, unit, seed, value)
    found = search.read(folder, studies.read(folder))
    assert (found.coarse, found.done, found.chosen) == (7, False, None)
    assert found.ended == {3: 0.6, 5: 0.5, 7: 0.7, 9: None}
    assert found.lacks == ("truncated@6", "truncated@8")


def test_a_search_asked_in_another_way_keeps_its_runs(home):
    folder = asking(home, "")
    for unit, value in {3: 0.5, 5: 0.5, 7: 0.5, 9: 0.9, 8: 0.6}.items():
        answered(folder, unit, 0, value)
    assert search.read(folder, studies.read(folder)).chosen is None, "8 is not of the study yet"
    assert asking(home, "", Search(how="exhaustive", metric="balanced_accuracy")) == folder
    found = search.read(folder, studies.read(folder))
    assert found.ended == {3: 0.5, 5: 0.5, 7: 0.5, 8: 0.6, 9: 0.9}
    assert set(found.steps.values()) == {"all"} and not found.lacks


def test_the_record_holds_what_the_runs_gave(home, whole):
    folder, _ = whole
    record = json.loads(json.dumps(Lab(home).cuts("whole")))
    answers = {
        p["unit"]: files.read_json(folder / f"{p['label']}-{MINI}-s0" / "result.json")
        for p in record["points"]
        if p["trained"]
    }
    assert [p["unit"] for p in record["points"]] == list(range(1, 10))
    for point in record["points"]:
        answer = answers.get(point["unit"])
        if answer is None:
            assert point["val"] is point["test"] is point["step"] is None and not point["pareto"]
            continue
        value = answer["val"]["balanced_accuracy"]
        assert point["val"] == {"mean": value, "low": None, "high": None}
        assert point["test"]["auroc"] == pytest.approx(answer["test"]["auroc"])
        assert point["parameters"] == answer["parameters"] == answer["trained_parameters"]
        assert point["stored_bytes"] == answer["stored_bytes"]
        smaller = [a["val"]["balanced_accuracy"] for u, a in answers.items() if u < point["unit"]]
        assert point["pareto"] == all(value > other for other in smaller)
    best = max(a["val"]["balanced_accuracy"] for a in answers.values())
    chosen = min(u for u, a in answers.items() if a["val"]["balanced_accuracy"] == best)
    assert record["chosen"] == chosen
    assert record["chosen_runs"] == [f"truncated@{chosen}-{MINI}-s0"]
    assert (record["trained"], record["of"], record["cost_by"]) == (len(answers), 9, "macs")
    macs = {p["unit"]: p["macs"] for p in record["points"]}
    assert record["share_of_cost"] == sum(macs[u] for u in answers) / sum(macs.values())


def test_two_seeds_give_the_interval_of_a_t_with_one_degree_of_freedom(home):
    from ftlab.cuts import _interval

    found = _interval([0.50, 0.52])
    half = 12.7062 * (0.02 / math.sqrt(2)) / math.sqrt(2)  # t of 97.5 % with one degree: tables
    assert (found["low"], found["high"]) == pytest.approx((0.51 - half, 0.51 + half), abs=1e-6)


def test_a_study_without_a_search_says_so(home):
    ask(home, name="plain")
    with pytest.raises(BadInput, match="The study plain is no search"):
        Lab(home).cuts("plain")


def test_the_command_ends_with_the_curve_and_measures_each_network_once(home, whole, monkeypatch):
    monkeypatch.setenv("FTLAB_HOME", str(home))
    monkeypatch.setattr(costs, "PASSES", {1: 3, 32: 1})
    again = "search bands --backbone ftlab_mini --weights random --epochs 1 --size 32 --batch 8"
    again += " --metric balanced_accuracy --seeds 1 --name whole"
    result = CliRunner().invoke(app, [*again.split(), "--json"])
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout.splitlines()[-1])
    for point in record["points"]:
        assert (point["latency"] is not None) == point["trained"]
    known = files.read_json(home / "cache" / costs.KEPT)
    text = CliRunner().invoke(app, again.split()).stdout
    assert f"Chosen: truncated@{record['chosen']}, " in text
    assert files.read_json(home / "cache" / costs.KEPT) == known
    assert Lab(home).cuts("whole") == record, "what was measured stands without measuring"


# --- a unit in a strategy's name ------------------------------------------------------------------


def test_a_unit_in_the_name_is_the_knob_bit_by_bit(home):
    named = trained(home, ("truncated@3",), name="named")
    given = trained(home, ("truncated",), name="given", knobs={"truncated": {"cut": 3}})
    ours, theirs = named / f"truncated@3-{TINY}-s0", given / f"truncated-{TINY}-s0"
    assert answer_bits(ours) == answer_bits(theirs)
    ours, theirs = (files.read_json(run / "run.json") for run in (ours, theirs))
    assert ours["knobs"] == theirs["knobs"] and ours["plan"] == theirs["plan"]


def test_a_name_with_a_unit_takes_the_knobs_of_its_plain_name_but_the_unit(home):
    knobs = {"truncated": {"lr": 0.5, "cut": 2}, "truncated@4": {"lr": 0.25}}
    folder = ask(home, ("truncated@3", "truncated@4"), name="knobs", knobs=knobs)
    study, layout = studies.read(folder), backbones.layout(TINY)
    found = [studies.plan_of(study, cell, layout, None)[1] for cell in studies.cells(study)]
    assert found == [{"lr": 0.5, "cut": 3}, {"lr": 0.25, "cut": 4}]


# --- ranking --------------------------------------------------------------------------------------


def test_readable_is_what_separates_classes_of_patients_that_were_not_fitted_on():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    labels = (groups % 2).astype(np.int64)
    clean = labels[:, None] + 0.1 * rng.normal(size=(200, 3))
    patients = np.eye(40)[groups]  # tells every patient apart, and nothing of their class
    assert readout.readable(clean, labels, groups, "balanced_accuracy") == 1
    assert readout.readable(patients, labels, groups, "balanced_accuracy") < 0.65


@pytest.mark.filterwarnings("ignore:The least populated class")
@pytest.mark.parametrize(
    ("of_group", "labels"),
    [
        ([0, 1] * 2, [0, 0, 1, 1]),  # two patients, two images of a class
        ([0] * 10, [0, 1] * 5),  # one patient
        ([0] * 5 + [1] * 5 + [2] * 5, [0] * 5 + [1] * 10),  # a class of a single patient
        (range(9), [0, 1, 2] * 3),
    ],
)
def test_few_images_or_patients_can_be_ranked_by_folds_that_hold_every_class(of_group, labels):
    groups, labels = np.array(of_group), np.array(labels)
    told = np.eye(3)[labels]
    assert readout.readable(told, labels, groups, "auroc") == 1
    held = np.sort(np.concatenate([read for _, read in readout._folds(labels, groups)]))
    assert held.tolist() == list(range(len(labels)))


def test_a_ranked_search_trains_the_three_units_read_best_and_the_whole(home, monkeypatch):
    folder = asking(home, "ranked", replace(ASKED, how="ranked"))
    work(home, folder)
    record = Lab(home).cuts("ranked")
    scores = {row["unit"]: row["score"] for row in record["ranking"]}
    best = sorted(scores, key=lambda unit: (-scores[unit], unit))[:3]
    assert {p["unit"] for p in record["points"] if p["trained"]} == {9, *best}
    assert record["done"] and record["trained"] == len({9, *best})
    monkeypatch.setenv("FTLAB_HOME", str(home))
    monkeypatch.setattr(search_command, "work_on", lambda *_: "ranked")
    heading, _, *lines = CliRunner().invoke(app, ["search", "bands"]).stdout.strip().splitlines()
    assert heading.endswith("read off frozen features: balanced accuracy %")
    assert [float(line.split()[-1]) for line in lines[:9]] == pytest.approx(
        [100 * scores[unit] for unit in range(1, 10)], abs=0.051
    )
    with pytest.raises(BadInput, match="Only truncated can be ranked"):
        asking(home, "ranked2", Search("layer_wise", how="ranked"))
