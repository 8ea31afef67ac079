"""The doctor: each thing that can be wrong with a set-up is named, with what to do."""

from __future__ import annotations

import importlib.metadata
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from ftlab import doctor
from ftlab.lab import Lab

Usage = namedtuple("Usage", "total used free")
FLOORS = {"gradio": "6.25", "pillow": "12.3", "torch": "2.10", "pydicom": "3.0.2"}


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def finding(lab, what: str) -> dict:
    (found,) = (f for f in doctor.examine(lab) if f["what"] == what)
    return found


def test_the_floors_are_those_below_which_a_hole_is_known(lab):
    assert FLOORS.items() <= doctor.FLOORS.items()
    for name in FLOORS:
        assert doctor._package(name, FLOORS[name])["ok"], name  # of what is installed here


@pytest.mark.parametrize(
    ("name", "version"),
    [("gradio", "6.24.9"), ("pillow", "12.2.0"), ("torch", "2.9.1+cpu"), ("pydicom", "3.0.1")],
)
def test_a_version_below_its_floor_is_named(monkeypatch, name, version):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    found = doctor._package(name, doctor.FLOORS[name])
    assert found["ok"] is False and f"`pip install -U {name}`" in found["found"]


def test_what_is_absent_is_a_fault_only_where_it_is_needed(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert doctor._package("torch", "2.10")["ok"] is False
    assert doctor._package("gradio", "6.25") == {
        "what": "gradio",
        "ok": None,
        "found": "absent: needed by the app alone",
    }
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor._browser()["ok"] is None


def test_a_disk_that_is_nearly_full_and_a_home_that_cannot_be_written_are_faults(lab, monkeypatch):
    assert doctor._home(lab)["ok"]
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(1e12, 1e12, 1e9))
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    full, home = doctor._disk(lab), doctor._home(lab)
    assert full["ok"] is False and full["found"].startswith("1 GB, 5 GB is the least: delete")
    assert home["ok"] is False and "set FTLAB_HOME" in home["found"]


def test_a_home_among_temporary_files_or_here_is_not_for_several_people(tmp_path, monkeypatch):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder in (here, elsewhere, tmp_path / "tmp"):
        folder.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    said = {
        place: doctor._shared(Lab(tmp_path / place))["found"]
        for place in ("here/home", "tmp/home", "elsewhere")
    }
    assert said["elsewhere"] == "fit"
    assert said["here/home"].startswith("lies in the current folder: set FTLAB_HOME")
    assert said["tmp/home"].startswith("lies in the folder for temporary files: set FTLAB_HOME")


def test_a_gpu_that_torch_cannot_use_is_a_fault_and_none_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor, "GPU_DRIVERS", [str(tmp_path / "driver")])
    assert doctor._gpu()["ok"] is None
    Path(tmp_path / "driver").touch()
    assert doctor._gpu()["ok"] is False and "cannot use it" in doctor._gpu()["found"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert doctor._gpu() == {"what": "GPU", "ok": True, "found": "used"}


def test_few_threads_are_told_of(monkeypatch):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda _: set(range(8)))
    for threads, said in (
        (1, "1 for 8 cores: unset OMP_NUM_THREADS to use more"),
        (4, "4 for 8 cores"),
    ):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        assert doctor._threads()["found"] == said


def test_everything_is_one_finding_and_says_whose_weights_are_ready(lab):
    found = doctor.examine(lab)
    assert len({f["what"] for f in found}) == len(found)
    assert "ftlab_mini" in finding(lab, "pretrained weights")["found"]
    assert all("\n" not in f["found"] and f["found"] for f in found)
