"""Real images, where FTLAB_REAL_DATA names a folder that holds data/."""

import os
from pathlib import Path

import numpy as np
import pytest

from ftlab.datasets import import_dataset, report

HOME = os.environ.get("FTLAB_REAL_DATA")
pytestmark = pytest.mark.skipif(not HOME, reason="FTLAB_REAL_DATA names no folder of real images")


@pytest.mark.parametrize(
    "source, images, options",
    [
        ("chest_xray", 1401, {"group_column": "group"}),
        ("dermoscopy", 2508, {"group_column": "group"}),
        ("histology", 993, {}),
    ],
)
def test_a_real_set_is_split_as_asked_and_its_groups_stay_whole(tmp_path, source, images, options):
    ds = import_dataset(tmp_path, str(Path(HOME) / "data" / source), "x", **options)
    told = report(ds)
    assert told["images"] == images
    for split, fraction in (("train", 0.64), ("val", 0.16), ("test", 0.20)):
        assert abs(told["splits"][split] / images - fraction) < 0.01
        for name, n in told["classes"].items():
            assert abs(told["classes_by_split"][split][name] / n - fraction) < 0.02
    assert all(len(np.unique(ds.splits[ds.groups == g])) == 1 for g in np.unique(ds.groups))
    assert told["duplicates"]["largest_cluster"] <= 3  # look-alikes do not chain
    assert told["duplicates"]["across_splits"] == 0


def test_the_npz_keeps_its_own_splits(tmp_path):
    ds = import_dataset(tmp_path, str(Path(HOME) / "data/medmnist/pneumonia_28.npz"), "x")
    assert report(ds)["splits"] == {"train": 3882, "val": 524, "test": 624}
