"""Phantoms as a source: one command, one seed, and a data set like anybody's."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ftlab import phantoms
from ftlab.__main__ import app
from ftlab.datasets import import_dataset, open_dataset, report
from ftlab.records import BadInput

ROOT = Path(__file__).parent.parent
PER_CLASS = 12  # three patients a class, so that each split can have one
SIZE = 56  # pixels; the real 224 take eight times as long


def imported(root, name="x", seed=1, per_class=PER_CLASS, **options):
    source = "phantom:dermoscopy"
    return import_dataset(root, source, name, per_class=per_class, seed=seed, **options)


@pytest.fixture(scope="module", autouse=True)
def small():
    draw = phantoms.phantom
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phantoms, "phantom", lambda *which: draw(*which[:3], SIZE))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data folder with one set of phantoms, x."""
    data = tmp_path_factory.mktemp("data")
    imported(data)
    return data


def test_a_phantom_becomes_a_data_set_that_says_what_it_is(root):
    told = report(open_dataset(root, "x"))
    assert told["classes"] == dict.fromkeys(("keratosis", "melanoma", "naevus"), PER_CLASS)
    assert told["source"] == "phantom:dermoscopy" and told["masks"] == told["images"] == 36
    assert told["notes"] == {"synthetic: drawn by ftlab from seed 1, no patient": 36}
    assert (
        told["groups"] == 9 and told["skipped"] == [] and "No groups" not in str(told["warnings"])
    )
    assert sorted(p.name for p in (root / "x").iterdir()) == [
        *("images", "items.csv", "manifest.json", "masks")
    ]


def test_the_same_command_gives_the_same_data_set_and_another_seed_another(root):
    first, again, other = (
        open_dataset(root, "x"),
        imported(root, "again"),
        imported(root, "other", seed=2),
    )
    assert first.hash == again.hash != other.hash
    assert (root / "x/items.csv").read_bytes() == (root / "again/items.csv").read_bytes()
    with open(root / "x/items.csv") as a, open(root / "other/items.csv") as b:
        ours, theirs = ({row["pixels"] for row in csv.DictReader(file)} for file in (a, b))
    assert not ours & theirs


ROUNDS_OTHERWISE = """
import sys
from pathlib import Path
from ftlab import phantoms
from ftlab.datasets import import_dataset

draw = phantoms.phantom
phantoms.phantom = lambda *which: draw(*which[:3], 56)
import_dataset(Path(sys.argv[1]), "phantom:dermoscopy", "x", per_class=12, seed=1)
"""


def test_another_processor_draws_the_same_data_set_but_for_a_level_here_and_there(root, tmp_path):
    """numpy without its vector instructions rounds sines as an older processor does."""
    env = os.environ | {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_SKX X86_V3 AVX2 FMA3"}
    command = [sys.executable, "-c", ROUNDS_OTHERWISE, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stderr=subprocess.DEVNULL)
    here, there = open_dataset(root, "x"), open_dataset(tmp_path, "x")
    assert here.hash == there.hash
    apart = np.abs(here.array(SIZE).astype(int) - there.array(SIZE))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01


def test_no_patient_straddles_splits(root):
    ds = open_dataset(root, "x")
    of_group = {group: set(ds.splits[ds.groups == group]) for group in ds.groups}
    assert ds.grouped and len(of_group) == 9
    assert all(len(splits) == 1 for splits in of_group.values())


def test_the_masks_are_those_of_the_images(root):
    """An image and its mask, as drawn: found again by the pixels."""
    ds = open_dataset(root, "x")
    drawn = {i.pixels.tobytes(): i for i in phantoms.draw("dermoscopy", PER_CLASS, 1)}
    pixels = ds.array(SIZE)
    for index in range(len(ds.files)):
        image = drawn[pixels[index].tobytes()]
        assert np.array_equal(ds.mask(index), image.mask)
        assert ds.classes[ds.labels[index]] == image.label


def test_drawing_and_reading_are_both_counted(tmp_path):
    drawn, read = [], []
    imported(tmp_path, progress=lambda *at: read.append(at), drawing=lambda *at: drawn.append(at))
    assert drawn == read == [(n, 36) for n in range(1, 37)]


@pytest.mark.parametrize(
    "source, options, match",
    [
        (
            "phantom:ultrasound",
            {},
            "no phantom 'ultrasound'; there are chest_xray, brain_mri, hist",
        ),
        ("phantom:dermoscopy", {"per_class": 0}, "at least 1, not 0"),
        ("phantom:dermoscopy", {"per_class": 1}, "each split needs at least 2"),
        ("phantom:dermoscopy", {"group_column": "marked"}, "--group-pattern and all --…-column"),
        ("phantom:dermoscopy", {"group_pattern": "p"}, "leave out --labels, --group-pattern and"),
        ("phantom:dermoscopy", {"labels": "labels.csv"}, "leave out --labels"),
        (".", {"per_class": 5}, "--per-class is for phantoms"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(tmp_path, source, options, match):
    with pytest.raises(BadInput, match=match):
        import_dataset(tmp_path, source, "x", **options)
    assert list(tmp_path.iterdir()) == []


def test_whoever_stops_the_drawing_finds_nothing_left(tmp_path):
    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path, drawing=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_stop_does_not_wait_for_what_processes_have_still_to_draw(tmp_path):
    """Of 400 images a process holds 8 at a time, and a few such chunks wait at its door."""

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        phantoms.write("dermoscopy", tmp_path, 400 // 3, 1, interrupt, processes=2)
    assert len(list(tmp_path.glob("[!m]*/*.png"))) < 100


def test_the_command_line_imports_phantoms(home):
    answer = CliRunner().invoke(
        app, ["import", "phantom:dermoscopy", "skin", "--per-class", "12", "--seed", "1", "--json"]
    )
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["images"] == 36 and told["source"] == "phantom:dermoscopy"
    refused = CliRunner().invoke(app, ["import", str(home), "other", "--per-class", "12"])
    assert refused.exit_code == 2 and refused.output.count("\n") == 1


def test_data_sets_start_without_the_phantoms_scipy():
    code = "import sys, ftlab.datasets; print({'scipy', 'ftlab.phantoms'} & set(sys.modules))"
    told = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    assert told == "set()\n"
