"""What the weights did: change against arithmetic, rates and flips against what was saved."""

from __future__ import annotations

import copy
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, split, tiny_network
from tiny import QUICK, bands, trained
from typer.testing import CliRunner

from ftlab import backbones, drift, files, flips, runs
from ftlab.__main__ import app
from ftlab.lab import Lab
from ftlab.records import BadInput, Epoch, Settings
from ftlab.strategies import STRATEGIES, write_plan
from ftlab.train import fit

SOME = ("full", "linear_probe", "auto_rgn", "auto_snr", "truncated", "layer_wise", "transfusion")
KINDS = ("kernels", "norm", "statistics")
SETTINGS = Settings(epochs=4, batch=8, precision="float32")


def rows_of(start, end, slim_from=None) -> dict:
    return {row["stage"]: row for row in drift.change(start, end, slim_from)}


# --- change of the weights ---


def test_change_is_the_norm_of_the_difference_over_the_norm_of_the_start():
    start = tiny_network()
    end = copy.deepcopy(start)
    with torch.no_grad():
        end.stages["stem"][0][0].weight *= 1.5
        end.stages["stem"][0][0].bias *= 1.5
        end.stages["stage1"][1][1].weight += 3  # BatchNorm's scale, 1 at the start; its shift is 0
        end.stages["stage2"][0][1].running_mean += 2  # 0 at the start, the variance 1
    found = rows_of(start, end)
    assert found["stem"]["kernels"] == pytest.approx(0.5)
    assert (found["stem"]["norm"], found["stem"]["statistics"]) == (0, 0)
    first, second = found["stage1"]["units"]
    assert [first[kind] for kind in KINDS] == [0, 0, 0]
    assert (second["unit"], second["norm"], second["kernels"]) == (3, pytest.approx(3), 0)
    assert found["stage1"]["norm"] == pytest.approx(3 / math.sqrt(2)), "of both units together"
    assert found["stage2"]["statistics"] == pytest.approx(2)
    assert found["neck"] == {
        **{"stage": "neck", "new": False, "kernels": 0, "norm": None, "statistics": None},
        "units": [{"unit": 5, "new": False, "kernels": 0, "norm": None, "statistics": None}],
    }
    assert found["head"]["new"] and not found["head"]["units"]


def test_what_began_at_0_has_no_relative_change_unless_it_stayed_there():
    start = tiny_network()
    torch.nn.init.zeros_(start.head.weight)
    torch.nn.init.zeros_(start.head.bias)
    end = copy.deepcopy(start)
    assert rows_of(start, end)["head"]["kernels"] == 0
    torch.nn.init.ones_(end.head.bias)
    assert rows_of(start, end)["head"]["kernels"] is None


@pytest.mark.parametrize("strategy", [s for s in STRATEGIES if s != "transfusion"])
def test_what_a_plan_never_lets_learn_has_moved_by_exactly_0(strategy):
    network = tiny_network()
    plan = write_plan(strategy, network.layout(), 4)
    if plan.cut_after:
        network = backbones.cut(network, plan.cut_after)
    start = copy.deepcopy(network)
    for _ in fit(network, plan, split(24, seed=1), split(12), SETTINGS, seed=0):
        pass
    assert not plan.slim_from, "slimming knows timm's blocks alone: the study below has such a run"
    ever = {name for phase in plan.phases for name in phase.lrs}
    found = rows_of(start, network)
    for stage in start.layout().stages:
        row = found[stage.name]
        if stage.name in ever:
            waits = strategy == "auto_snr"  # whose gate may stay closed to a stage
            assert row["kernels"] > 0 or waits
            assert row["statistics"] is None or row["statistics"] > 0
        else:
            assert {row[kind] for kind in KINDS} <= {0, None}
            assert row["kernels"] == 0


# --- rates ---


def epoch(phase, number, lrs, multipliers=None):
    values = {"train_loss": 1.0, "val": {}, "seconds": 1.0}
    return Epoch(phase, number, lrs, **values, rates=multipliers or {})


def test_rates_are_those_of_each_epochs_first_step_and_0_where_a_stage_is_frozen():
    layout = tiny_network().layout()
    question = {
        "plan": {"phases": [{"epochs": 1}, {"epochs": 2}]},
        "settings": {"schedule": "cosine"},
    }
    diary = [
        epoch(0, 0, {"head": 0.1}),
        epoch(1, 1, {"unit3": 0.01, "stage2": 0.02, "head": 0.04}),
        epoch(1, 2, {"unit3": 0.01, "stage2": 0.02, "head": 0.04}),
    ]
    probe, full, half = (row["lrs"] for row in drift.rates(question, diary, layout))
    assert probe == {"stem": 0, "stage1": 0, "stage2": 0, "neck": 0, "head": 0.1}
    units = {"unit2": 0, "unit3": 0.01}
    assert full == {"stem": 0, **units, "stage2": 0.02, "neck": 0, "head": 0.04}
    assert half == pytest.approx({name: lr / 2 for name, lr in full.items()})


def test_rates_are_those_the_optimizer_had_at_the_first_step(monkeypatch):
    from ftlab import train

    seen, network = [], tiny_network()
    settings = replace(SETTINGS, optimizer="spy")

    class Spy(torch.optim.SGD):
        fresh = True

        def step(self):
            if self.fresh:
                seen.append({g["lr"] for g in self.param_groups})
            self.fresh = False
            super().step()

    monkeypatch.setitem(train.OPTIMIZERS, "spy", Spy)
    plan = write_plan("lp_ft", network.layout(), 4, lr=0.01)
    diary = list(fit(network, plan, split(24, seed=1), split(12), settings, seed=0))
    question = {
        "plan": {"phases": [{"epochs": phase.epochs} for phase in plan.phases]},
        "settings": {"schedule": settings.schedule},
    }
    for row, used in zip(drift.rates(question, diary, network.layout()), seen, strict=True):
        assert sorted({lr for lr in row["lrs"].values() if lr}) == pytest.approx(sorted(used))


def test_multipliers_are_told_by_stage_only_where_a_rule_ran():
    names = {
        "stages.stem.0.0.weight": 1.0,
        "stages.stem.0.1.weight": 0.5,
        "stages.neck.0.1.bias": 0,
    }
    assert drift._multipliers(names) == {
        "stem": {"mean": 0.75, "low": 0.5, "high": 1.0},
        "neck": {"mean": 0, "low": 0, "high": 0},
    }


# --- gradients ---


def test_gradients_are_those_of_the_mean_cross_entropy():
    network = tiny_network().eval()
    x, labels = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 1, 0, 0, 1])
    found = drift.gradients(network, x, labels)
    probs = network(x).softmax(1).detach()
    error = (probs - torch.eye(2)[labels]) / 6  # dL / d logits
    features = network.run(x).mean((2, 3)).detach()
    by_hand = math.sqrt(float((error.T @ features).square().sum() + error.sum(0).square().sum()))
    size = math.sqrt(float(sum(p.detach().square().sum() for p in network.head.parameters())))
    assert found["stages"]["head"]["norm"] == pytest.approx(by_hand, rel=1e-4)
    assert found["stages"]["head"]["relative"] == pytest.approx(by_hand / size, rel=1e-4)
    assert found["loss"] == pytest.approx(float(-probs[range(6), labels].log().mean()), rel=1e-4)
    assert list(found["stages"]) == list(network.layout().names)


# --- flips ---


def test_flips_count_who_corrected_and_who_broke_what():
    study = type("Study", (), {"classes": ("a", "b", "c")})
    truth, index = np.array([0, 0, 1, 2]), np.array([7, 8, 9, 11])

    def test(*calls):
        return {"y_true": truth, "index": index, "probs": np.eye(3)[list(calls)]}

    tests = {
        ("net", "old", 0): test(0, 1, 2, 2),
        ("net", "new", 0): test(1, 0, 0, 2),  # breaks 7, corrects 8, errs otherwise on 9
        ("net", "old", 1): test(0, 1, 1, 0),
        ("net", "new", 1): test(0, 0, 1, 1),  # corrects 8, errs otherwise on 11
    }
    found = flips._pair(study, tests, "net", "old", "new", [0, 1])
    assert (found["corrected"], found["broken"], found["changed"]) == ([1, 1], [1, 0], [1, 1])
    assert found["per_class"][0] == {"class": "a", "images": 2, "corrected": 1.0, "broken": 0.5}
    assert (found["corrected_images"], found["broken_images"]) == ([8], [])
    assert found["images"] == 4


# --- a study ---


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(home, folder) of a study of some strategies, one seed, one epoch."""
    home = tmp_path_factory.mktemp("drift") / "home"
    home.mkdir()
    bands(home, n=60)
    return home, trained(home, SOME, settings=replace(QUICK, epochs=1), name="told")


@pytest.fixture(scope="module")
def found(study):
    return Lab(study[0]).drift("told")


def test_every_run_of_a_study_is_told_of_in_json(study, found):
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [run["strategy"] for run in found["runs"]] == list(SOME)
    assert found["without_weights"] == []
    assert not any(run["rounded"] or run["gradients"] for run in found["runs"])


def test_on_a_study_what_moved_is_what_the_weight_files_hold(study, found):
    for run in found["runs"]:
        stored, _ = runs.load_tensors(study[1] / run["run"] / "best.safetensors")
        moved = {
            name.split(".")[1] if name.startswith("stages.") else "head"
            for name in stored
            if not name.endswith("num_batches_tracked")
        }
        shown = {row["stage"] for row in run["change"] if any(row[kind] for kind in KINDS)}
        assert shown <= moved
        for row in run["change"]:
            if row["stage"] not in moved:
                assert {row[kind] for kind in KINDS} <= {0, None}, (run["run"], row["stage"])


def test_new_parts_are_marked_as_new(found):
    new = {
        run["strategy"]: [row["stage"] for row in run["change"] if row["new"]]
        for run in found["runs"]
    }
    assert new.pop("transfusion") == ["layer4", "head"]
    assert set(map(tuple, new.values())) == {("head",)}


def test_a_rate_rules_multipliers_are_those_of_the_diary(study, found):
    for run in found["runs"]:
        diary = runs.diary(study[1] / run["run"])
        assert len(run["rates"]) == len(diary) == 1
        for row, written in zip(run["rates"], diary, strict=True):
            assert bool(row["multipliers"]) == bool(written.rates)
            if written.rates:
                ruled = [m for n, m in written.rates.items() if n.startswith("stages.layer2.")]
                assert row["multipliers"]["layer2"]["high"] == max(ruled)
                assert row["multipliers"]["layer2"]["mean"] == pytest.approx(np.mean(ruled))
    with_rule = {run["strategy"] for run in found["runs"] if run["rates"][0]["multipliers"]}
    assert with_rule == {"auto_rgn", "auto_snr"}


def test_gradients_are_measured_where_they_are_asked_for(study):
    answer = Lab(study[0]).drift("told", ["linear_probe-test_resnet-s0"], gradient=True)
    (run,) = answer["runs"]
    before, after = (run["gradients"][when] for when in ("before", "after"))
    assert list(before["stages"]) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    assert before["loss"] != after["loss"]
    assert all(stage["norm"] > 0 for stage in before["stages"].values())


def test_flips_of_a_study_are_those_of_its_saved_predictions(study, found):
    pairs = {(pair["before"], pair["after"]): pair for pair in found["flips"]}
    assert len(pairs) == len(SOME) * (len(SOME) - 1) / 2
    first, second = (
        runs.predictions(study[1] / f"{name}-{TINY}-s0") for name in ("full", "linear_probe")
    )
    right = [test["probs"].argmax(1) == test["y_true"] for test in (first, second)]
    pair = pairs["full", "linear_probe"]
    assert pair["corrected"] == [int((~right[0] & right[1]).sum())]
    assert pair["broken"] == [int((right[0] & ~right[1]).sum())]
    assert pair["corrected"][0] - pair["broken"][0] == right[1].sum() - right[0].sum()
    assert sum(row["images"] for row in pair["per_class"]) == pair["images"] == 12


def test_runs_without_weights_or_data_tell_what_is_left(study, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(study[0], home)
    shutil.rmtree(home / "data" / "bands")
    name = "full-test_resnet-s0"
    (home / "checkpoints" / "told" / name / "best.safetensors").unlink()
    answer = Lab(home).drift("told")
    assert answer["without_weights"] == [name]
    assert answer["runs"][0]["change"] is None and answer["runs"][0]["rates"]
    assert answer["runs"][1]["change"] and answer["flips"]
    with pytest.raises(BadInput, match="bands of the study told is not on this machine"):
        Lab(home).drift("told", ["linear_probe-test_resnet-s0"], gradient=True)
    with pytest.raises(BadInput, match="no finished run 'absent'"):
        Lab(home).drift("told", ["absent"])


def test_weights_in_half_precision_are_known_as_rounded(study, tmp_path):
    home, name = tmp_path / "home", "full-test_resnet-s0"
    shutil.copytree(study[0], home)
    run = home / "checkpoints" / "told" / name
    tensors, _ = runs.load_tensors(run / "best.safetensors")
    halved = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    runs.save_best(run, halved)
    assert Lab(home).drift("told", [name])["runs"][0]["rounded"] is True


# --- the command ---


def said(home, monkeypatch, *arguments) -> str:
    monkeypatch.setenv("FTLAB_HOME", str(home))
    done = CliRunner().invoke(app, ["drift", "--study", "told", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_shows_frozen_stages_as_0(study, found, monkeypatch):
    tables = said(study[0], monkeypatch)
    probe = next(line for line in tables.splitlines() if line.startswith("linear_probe"))
    assert probe.split()[1:6] == ["0"] * 5 and float(probe.split()[6]) > 0
    assert "half precision" not in tables
    assert json.loads(said(study[0], monkeypatch, "--json")) == found


def test_of_named_runs_the_command_shows_rates_gradients_and_flips(study, monkeypatch):
    name = "auto_rgn-test_resnet-s0"
    tables = said(study[0], monkeypatch, name)
    assert f"Learning rate in the first step of each epoch: {name}" in tables
    assert f"Multiplier of the rate, mean (least to most) over a stage's tensors: {name}" in tables
    assert f"Gradient of one batch's loss, before and after: {name}" in tables
    kept = files.read_json(study[1] / name / "result.json")["best_epoch"] + 1
    assert f"\n{kept} *" in tables
    turned = [line.split() for line in tables.splitlines() if line.split()[1:2] == ["auto_rgn"]]
    assert len(turned) == len(SOME) - 1, "every other strategy against this one"
