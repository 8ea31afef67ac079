"""Looking through a study's runs at a sample of its test images: what their maps.json hold."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from . import device as devices
from . import explain, files, inspection, looks, maps, prediction, studies
from .backbones import Network
from .datasets import Dataset
from .folding import folded
from .records import BadInput

BATCH = 32  # images at once


class Sample(NamedTuple):
    """The images looked at.

    index: (n,) places in the data set; pixels: (n, S, S, 3) uint8; labels: (n,) int;
    lesions: (n, S, S) bool, None where no image of the test split has a mask; road: (m,) places
    in this sample.
    """

    index: np.ndarray
    pixels: np.ndarray
    labels: np.ndarray
    lesions: np.ndarray | None
    road: np.ndarray


def lacking(folder: Path, asked: Mapping) -> list[str]:
    """The runs whose maps have still to be looked at, of those whose weights are here.

    Raises:
        BadInput: no run has finished, or none has its weights or these maps here.
    """
    study = studies.read(folder)
    have = {cell.name for cell in looks.read(folder, study, asked)}
    find = studies.finished if have else studies.with_weights
    return [name for name in find(folder, study)[0] if name not in have]


def look(
    folder: Path,
    home: Path,
    asked: Mapping,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the maps.json of every run that lacks it; what is written is not done again.

    Args:
        asked: {method: of `ftlab.explain.methods`, images: at most so many of the test split,
            taken evenly of those with a lesion or, where the data set has no masks, of all;
            road: of those, how many are scored by removing pixels, which is slow}.
        progress: called with (images looked at, images in all), of all runs together.
    Raises:
        BadInput: there is no such method, too few images are asked for, or the data are not here.
    """
    if asked["method"] not in explain.METHODS:
        raise BadInput(f"--method takes {', '.join(explain.METHODS)}, not {asked['method']!r}.")
    if asked["images"] < 2 or asked["road"] < 0:
        raise BadInput("--images is at least 2, and --road at least 0.")
    study, names = studies.read(folder), lacking(folder, asked)
    data = inspection.data_of(home, study)
    sample = _sample(data, study.settings.size, asked["images"], asked["road"])
    total = len(names) * len(sample.index)
    for number, name in enumerate(names):
        network, question = prediction.restore(folder / name, home / "cache")
        network = folded(network).to(devices.pick(), memory_format=torch.channels_last)
        before = number * len(sample.index)
        scored = _scores(
            *(network, question["settings"]["precision"], sample, asked["method"]),
            lambda seen, before=before: progress(before + seen, total),
        )
        files.write_json(folder / name / looks.FILE, {"asked": dict(asked), **scored})


def _sample(data: Dataset, size: int, images: int, road: int) -> Sample:
    test = data.indices("test")
    ill = np.array([i for i in test if _lesion(data, i, size) is not None])
    index = ill if len(ill) else test
    index = index[_evenly(images, len(index))]
    if len(np.unique(data.groups[index])) < 2:
        raise BadInput(f"{data.name} has too few test images: maps of two groups are needed.")
    lesions = np.stack([_lesion(data, i, size) for i in index]) if len(ill) else None
    pixels = data.array(size)[index]
    return Sample(index, pixels, data.labels[index], lesions, _evenly(road, len(index)))


def _lesion(data: Dataset, index: int, size: int) -> np.ndarray | None:
    """The mask (size, size) of an image in which there is something to see."""
    mask = data.mask(index)
    lesion = None if mask is None else prediction.at_size(mask, size)
    return lesion if lesion is not None and lesion.any() else None


def _evenly(n: int, of: int) -> np.ndarray:
    """n places, or all, that lie evenly in a row of so many."""
    n = min(n, of)
    return np.arange(n) * of // max(n, 1)


def _scores(
    network: Network, precision: str, sample: Sample, method: str, tell: Callable[[int], None]
) -> dict:
    """What maps.json holds of one run, but for what was asked; see `ftlab.runs`."""
    found, removed = [], []
    places, device = np.arange(len(sample.index)), network.head.weight.device
    for part in np.array_split(places, math.ceil(len(places) / BATCH)):
        x = network.prepare(torch.from_numpy(sample.pixels[part]).to(device))
        seen = explain.look(network, x, None, precision)
        found += explain.saliency(network, x, sample.labels[part].tolist(), method, seen)
        for at in np.intersect1d(part, sample.road):
            one = slice(at - part[0], at - part[0] + 1)
            removed.append(round(explain.road(network, x[one], found[at])["road"], 4))
        tell(int(part[-1]) + 1)
    lesions = sample.lesions
    inside = {} if lesions is None else _inside(found, lesions)
    return {
        "size": found[0].raw.shape,
        "index": sample.index,
        "share": None if lesions is None else [round(m.mean(), 4) for m in lesions],
        "energy": inside.get("energy"),
        "pointing": inside.get("pointing"),
        "road": {"index": sample.index[sample.road], "score": removed if removed else None},
        "maps": [_text(each) for each in found],
    }


def _inside(found: Sequence[explain.Saliency], lesions: np.ndarray) -> dict[str, list]:
    scores = [maps.mask_scores(each.map, m) for each, m in zip(found, lesions, strict=True)]
    energy = [round(score["energy"] or 0.0, 4) for score in scores]
    return {"energy": energy, "pointing": [int(score["pointing"]) for score in scores]}


def _text(found: explain.Saliency) -> str:
    """The evidence for the class, row by row, a byte a place: 255 is the most in this map."""
    share = np.maximum(found.raw, 0) / (found.peak or 1)
    return b64encode(np.uint8(255 * share + 0.5).tobytes()).decode()
