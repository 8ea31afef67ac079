"""Precision "auto": the clearly faster one is taken, remembered, recorded, and kept by a run."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from tiny import QUICK, ask, bands, trained, work

from ftlab import arithmetic, device, files, runs
from ftlab.records import BadInput, Settings

ASKED = replace(QUICK, precision="auto")


class Step:
    """A step that takes no time; what it is said to take stands in `SECONDS`."""

    tried: list = []

    def __init__(self, backbone, precision, settings, images):
        self.precision = precision
        Step.tried.append((backbone, precision, settings.size, images))

    def __call__(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    """Seconds of a step by precision; a test may change them."""
    seconds = {"float32": 1.0, "bfloat16": 0.5}
    monkeypatch.setattr(Step, "tried", [])
    monkeypatch.setattr(device, "imitates_bfloat16", lambda on: False)
    monkeypatch.setattr(arithmetic, "_step", Step)
    monkeypatch.setattr(arithmetic, "_timed", lambda step: seconds[step.precision])
    return seconds


@pytest.mark.parametrize(
    ("bfloat16", "taken"),
    [(0.5, "bfloat16"), (0.89, "bfloat16"), (0.95, "float32"), (3, "float32")],
)
def test_float32_stays_unless_another_is_clearly_faster(clock, tmp_path, bfloat16, taken):
    clock["bfloat16"] = bfloat16
    assert arithmetic.settled(ASKED, TINY, tmp_path) == replace(ASKED, precision=taken)


def test_what_was_found_is_remembered_for_the_same_work_only(clock, tmp_path):
    for size in (32, 32, 64, 64):
        arithmetic.settled(replace(ASKED, size=size), TINY, tmp_path)
    assert [size for _, name, size, _ in Step.tried if name == "float32"] == [32, 32, 64, 64]
    kept = files.read_json(tmp_path / arithmetic.NAME)
    assert [row["precision"] for row in kept.values()] == ["bfloat16"] * 2
    assert all(f"{TINY} at" in key and "batch 8" in key and "torch" in key for key in kept)


def test_slow_steps_are_tried_with_fewer_images(clock, tmp_path):
    clock.update(float32=100.0, bfloat16=60.0)
    assert arithmetic.settled(replace(ASKED, batch=64), TINY, tmp_path).precision == "bfloat16"
    assert [images for *_, images in Step.tried] == [arithmetic.FEW] * 4


def test_nothing_is_tried_where_a_processor_only_imitates_bfloat16(clock, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "imitates_bfloat16", lambda on: True)
    assert arithmetic.settled(ASKED, TINY, tmp_path) == QUICK
    assert Step.tried == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("capability", "imitates"), [("AVX2", True), ("AVX512", False)])
def test_processors_without_long_vectors_imitate_bfloat16(monkeypatch, capability, imitates):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert device.imitates_bfloat16(torch.device("cpu")) is imitates
    assert not device.imitates_bfloat16(torch.device("cuda"))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_precision_that_is_asked_for_is_not_tried(clock, tmp_path, precision):
    asked = Settings(precision=precision)
    assert arithmetic.settled(asked, TINY, tmp_path) is asked
    assert Step.tried == [] and list(tmp_path.iterdir()) == []


def test_real_steps_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "imitates_bfloat16", lambda on: False)
    chosen = arithmetic.settled(ASKED, TINY, tmp_path)
    (kept,) = files.read_json(tmp_path / arithmetic.NAME).values()
    assert chosen.precision == kept["precision"] in ("float32", "bfloat16")
    assert kept["images"] == ASKED.batch and all(s > 0 for s in kept["seconds"].values())


def test_a_backbone_that_is_not_there_is_bad_input(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "imitates_bfloat16", lambda on: False)
    with pytest.raises(BadInput):
        arithmetic.settled(ASKED, "nothing", tmp_path)


def test_a_run_records_its_precision_and_keeps_it_when_it_is_resumed(clock, tmp_path):
    bands(tmp_path)
    folder = ask(tmp_path, settings=replace(ASKED, epochs=3))
    run = folder / "full-test_resnet-s0"

    def one_epoch() -> bool:
        return len(runs.diary(run)) > 0

    work(tmp_path, folder, stop=one_epoch)
    assert 0 < len(runs.diary(run)) < 3
    clock["bfloat16"] = 2.0
    (tmp_path / "cache" / arithmetic.NAME).unlink()
    work(tmp_path, folder)
    assert files.read_json(run / "run.json")["settings"]["precision"] == "bfloat16"
    assert runs.state(run, None, False) == "finished" and len(runs.diary(run)) == 3
    assert files.read_json(folder / "study.json")["settings"]["precision"] == "auto"
    work(tmp_path, ask(tmp_path, seeds=(0, 1), settings=replace(ASKED, epochs=3)))
    later = files.read_json(folder / "full-test_resnet-s1" / "run.json")
    assert later["settings"]["precision"] == "bfloat16", "paired runs compute alike"


def test_auto_asked_of_a_study_is_what_that_computes_in(clock, tmp_path):
    bands(tmp_path)
    folder = trained(tmp_path, name="told")
    assert ask(tmp_path, seeds=(0, 1), settings=ASKED, name="told") == folder
    work(tmp_path, folder)
    found = [files.read_json(run)["settings"]["precision"] for run in folder.glob("*/run.json")]
    assert found == ["float32"] * 2 and Step.tried == []
    with pytest.raises(BadInput, match="asks something else"):
        ask(tmp_path, settings=replace(QUICK, precision="bfloat16"), name="told")


def test_what_candidates_of_a_rate_computed_in_holds_for_all_runs(clock, tmp_path):
    bands(tmp_path)
    folder = ask(tmp_path, settings=replace(ASKED, lr="auto"))
    work(tmp_path, folder, stop=lambda: any(folder.glob("tuning/*/result.json")))
    assert not any(folder.glob("*-s0/run.json"))
    clock["bfloat16"] = 2.0
    (tmp_path / "cache" / arithmetic.NAME).unlink()
    work(tmp_path, folder)
    found = [files.read_json(run)["settings"]["precision"] for run in folder.glob("**/run.json")]
    assert found == ["bfloat16"] * 4
