"""Pictures to look at: an upload, some of a data set, one that a study was tested on."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np

from . import datasets, studies
from .records import BadInput


def picture(path: Path) -> dict:
    """{pixels: (H, W, 3) uint8, notes: [what was done to it]} of any image file ftlab reads.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise BadInput(f"There is no image file {path.name!r}.")
    try:
        found = datasets.read_image(path)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}.") from error
    return {"pixels": found.pixels, "notes": list(found.notes)}


def sample(root: Path, name: str, n: int, seed: int = 0, split: str | None = None) -> list[dict]:
    """[{file: Path, label, split, mask: Path or None}], n images of a data set, class by class.

    Drawn from the seed, as many of each class as there are, as nearly as n allows.

    Args:
        split: train, val or test; None: of all.

    Raises:
        BadInput: there is no such data set.
    """
    data = datasets.open_dataset(root, name)
    of_all = np.arange(len(data.files)) if split is None else data.indices(split)
    shuffled = np.random.default_rng((seed, 1)).permutation(of_all)  # not as splits are drawn
    of_class = [shuffled[data.labels[shuffled] == c] for c in range(len(data.classes))]
    rounds = (i for each in zip_longest(*of_class) for i in each if i is not None)
    return [
        {
            "file": data.folder / data.files[i],
            "label": data.classes[data.labels[i]],
            "split": str(data.splits[i]),
            "mask": _mask(data, i),
        }
        for i, _ in zip(rounds, range(n), strict=False)
    ]


def test_image(folder: Path, root: Path, index: int) -> dict:
    """{pixels: (H, W, 3) uint8, truth, file: Path, mask: Path or None} of a test image.

    Args:
        index: its place in the data set, as in test.npz.
    Raises:
        BadInput: the study's data set is not on this machine or has changed, or the image is none
            of its test images.
    """
    study = studies.read(folder)
    data = datasets.open_dataset(root, study.data) if _has(root, study.data) else None
    if data is None or data.hash != study.data_hash:
        state = "is not on this machine" if data is None else "has changed since it was trained"
        raise BadInput(f"The data set {study.data} of the study {study.name} {state}.")
    if index not in data.indices("test"):
        raise BadInput(f"{study.data} has no test image {index}.")
    file = data.folder / data.files[index]
    truth = data.classes[data.labels[index]]
    return {
        "pixels": picture(file)["pixels"],
        "truth": truth,
        "file": file,
        "mask": _mask(data, index),
    }


test_image.__test__ = False  # no test, whatever its name says to pytest


def _mask(data: datasets.Dataset, index: int) -> Path | None:
    """The file of an image's mask, if it has one."""
    return data.folder / data.masks[index] if data.masks[index] else None


def _has(root: Path, name: str) -> bool:
    return name in datasets.dataset_names(root)
