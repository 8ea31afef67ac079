"""What fine-tuning changed in what a network sees: SVCCA and CKA of activations, stage by stage.

Activations are those at a stage's end, (C, h, w) an image, in eval mode and in float32.

SVCCA   Raghu et al. 2017, as Peng et al. 2023 (Figure 4) use it: every position of every image is a
        sample of C features; where two stages differ in size, the larger map is averaged down to
        the smaller. Images have their layout in common, and positions of one image are alike, so
        networks come out above a random baseline for that alone. `unpaired` says how far: the same
        score where each image meets the other network's activations of another image.
CKA     Kornblith et al. 2019, linear, by minibatches and without bias (Nguyen et al. 2021,
        equations 2 to 4): an image is a sample of C h w features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor

from . import backbones, datasets, files, prediction, studies, weights
from . import device as devices
from .backbones import Network
from .batches import Split, batches
from .context import splits
from .records import BadInput
from .similarity import KEEP, LEAST, Kernels, Moments, gram, svcca
from .studies import Study

BATCH = 32  # images at once; also CKA's minibatch
IMAGES = 1000
THETA0 = "theta_0"
KEPT_AS = 2  # to be raised whenever the same question has another answer


def activations(network: Network, x: Tensor, ends: Mapping[str, int]) -> dict[str, Tensor]:
    """Stage -> its output (B, C, h, w), after `ends` of its units, for x (B, 3, H, W)."""
    found = {}
    for name, stage in network.stages.items():
        for number, unit in enumerate(stage, 1):
            x = unit(x)
            if number == ends.get(name, len(stage)):
                found[name] = x
    return found


@torch.inference_mode()
def compare(
    first: Network,
    second: Network,
    split: Split,
    order: np.ndarray,
    keep: float = KEEP,
    across: bool = False,
    progress: Callable[[int], None] = lambda seen: None,
) -> list[dict]:
    """[{stage, against, svcca, cka}] of two networks in eval mode; see `similarity`.

    A stage that one of them was cut within ends there for both: deeper is not changed.

    Args:
        order: (n,) places in the split; in random order, or a minibatch would hold one class.
        across: every stage of one against every stage of the other, not only against its own.
        progress: called with how many images have been seen.
    """
    device = first.head.weight.device
    ends = {
        name: min(len(stage), len(second.stages[name]))
        for name, stage in first.stages.items()
        if name in second.stages
    }
    sums: dict[tuple[str, str], tuple[Moments, Kernels]] = {}
    seen = 0
    for pixels, _ in batches(split, order, BATCH):
        pixels = pixels.to(device)
        left, right = (activations(n, n.prepare(pixels), ends) for n in (first, second))
        grams = [{name: gram(x) for name, x in side.items()} for side in (left, right)]
        for pair in product(left, right):
            if across or pair[0] == pair[1]:
                x, y = _columns(left[pair[0]], right[pair[1]])
                if pair not in sums:
                    sums[pair] = Moments(len(x), len(y), device), Kernels()
                sums[pair][0].add(x, y, shift=x.shape[1] // len(pixels))
                sums[pair][1].add(grams[0][pair[0]], grams[1][pair[1]])
        seen += len(pixels)
        progress(seen)
    return [_row(pair, *of, keep) for pair, of in sums.items()]


def _columns(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two stages' (B, C, h, w) as (C, samples), both at the smaller of their two sizes."""
    size = tuple(map(min, x.shape[2:], y.shape[2:]))
    pooled = (z if z.shape[2:] == size else F.adaptive_avg_pool2d(z, size) for z in (x, y))
    x, y = (z.transpose(0, 1).flatten(1) for z in pooled)
    return x, y


def _row(pair: tuple[str, str], moments: Moments, kernels: Kernels, keep: float) -> dict:
    found = svcca(moments, keep)
    found.pop("coefficients")
    return {"stage": pair[0], "against": pair[1], "svcca": found, "cka": kernels.cka()}


# --- a study's runs -------------------------------------------------------------------------------


def similarity(
    folder: Path,
    home: Path,
    chosen: Sequence[str] = (),
    *,
    data: str | None = None,
    to: str | None = None,
    split: str = "test",
    images: int = IMAGES,
    keep: float = KEEP,
    across: bool = False,
    known: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """How alike finished runs and theta_0 (or another run) see a study's images, by stage.

    theta_0 is the whole pretrained network, also for a run that was cut or made slimmer. What was
    worked out is kept in the home's cache, by the weights, the images and what was asked.

    Args:
        chosen: names of runs; default: every finished one whose weights are here.
        data: another data set, of any classes, to look at instead of the study's own.
        to: the name of a run to compare with instead of theta_0.
        split: train, val or test. images: at most so many of them, drawn once and for all.
        keep: see `svcca`. across: see `compare`.
        known: only what is kept already, which takes no time and no images.
        progress: called with (images done, images in all), of all runs together.
    Returns:
        {study, data, split, images, keep, to, runs: [{run, strategy, backbone, seed, rows:
        [{stage, against, svcca: see `svcca`, without the coefficients, cka}]}], without_weights}
    Raises:
        BadInput: no such run or split, no run with weights, theta_0 or the data are not here.
    """
    study = studies.read(folder)
    able, absent = studies.with_weights(folder, study, chosen)
    if to:
        studies.with_weights(folder, study, [to])
    _check(split, images, keep)
    asked = {"split": split, "images": images, "keep": keep, "across": across}
    seen = data_hash(home, study, data), study.settings.size, study.settings.train_per_class
    paths = {name: _kept_at(home, folder, name, to, [*seen, asked]) for name in able}
    found = {name: files.read_json(path) for name, path in paths.items()}
    lacking = [name for name in able if not found[name] and not known]
    if lacking:
        pictures, order = _images(home, study, data, split, images)
    for number, name in enumerate(lacking):

        def tell(seen: int, before=number) -> None:
            if progress:
                progress(before * len(order) + seen, len(lacking) * len(order))

        first, second, about = _two(folder, home, name, to)
        rows = compare(first, second, pictures, order, keep, across, tell)
        if not rows:
            raise BadInput(f"{name} and {to} have no stage of one name: compare them --across.")
        found[name] = files.plain({**about, "images": len(order), "rows": rows})
        paths[name].parent.mkdir(parents=True, exist_ok=True)
        files.write_json(paths[name], found[name])
    counts = [row.pop("images") for row in found.values() if row]
    asked = {"split": split, "images": max(counts, default=0), "keep": keep, "to": to or THETA0}
    about = {"study": study.name, "data": data or study.data, **asked}
    return {**about, "runs": list(filter(None, found.values())), "without_weights": absent}


def _images(home: Path, study: Study, data: str | None, split: str, images: int):
    """(pictures, (n,) places of those that are looked at)"""
    pictures = pictures_of(home, study, data)[split]
    order = np.random.default_rng(0).permutation(len(pictures))[:images]
    if len(order) < LEAST:
        raise BadInput(f"The {split} split of {data or study.data} has fewer than {LEAST} images.")
    return pictures, order


def _kept_at(home: Path, folder: Path, name: str, to: str | None, asked: Sequence) -> Path:
    """Where in the cache a run's answer is kept: by all that decides it."""
    marks = [_mark(folder / each) for each in (name, *([to] if to else []))]
    said = json.dumps([KEPT_AS, marks, asked])
    return home / "cache" / "similarity" / f"{sha256(said.encode()).hexdigest()}.json"


def _mark(folder: Path) -> list:
    """A run's name, what it began with, and the checksum in the header of its weights."""
    question = files.read_json(folder / "run.json")
    with safe_open(folder / "best.safetensors", framework="pt") as file:
        checksum = (file.metadata() or {}).get("sha256")
    return [folder.name, question["weights"]["checksum"], checksum]


def _two(folder: Path, home: Path, name: str, to: str | None) -> tuple[Network, Network, dict]:
    """A run's network, the one it is compared with, and who the run is."""
    first, question = prediction.restore(folder / name, home / "cache")
    second = prediction.restore(folder / to, home / "cache")[0] if to else theta0(question, home)
    for each in (first, second):
        each.to(devices.pick(), memory_format=torch.channels_last)
    return first, second, who(question)


def theta0(question: Mapping, home: Path) -> Network:
    """The whole pretrained network a run began with, under a head that says nothing."""
    found = weights.recall(
        question["backbone"], question["weights"], question["seed"], home / "cache"
    )
    return backbones.build(question["backbone"], len(question["data"]["classes"]), found).eval()


def who(question: Mapping) -> dict:
    """{run, strategy, backbone, seed} of a run.json."""
    return {key: question[key] for key in ("run", "strategy", "backbone", "seed")}


def data_hash(home: Path, study: Study, data: str | None = None) -> str:
    """Of a study's own data set, here or not, or of another one."""
    return datasets.open_dataset(home / "data", data).hash if data else study.data_hash


def pictures_of(home: Path, study: Study, data: str | None = None) -> dict[str, Split]:
    """train, val and test of a study as its runs saw them, or of another data set as they would.

    Raises:
        BadInput: the data set is not on this machine, or the study's own has changed.
    """
    return splits(data_of(home, study, data), study.settings)


def data_of(home: Path, study: Study, data: str | None = None) -> datasets.Dataset:
    """A study's data set, or another one. Raises as `pictures_of`."""
    root = home / "data"
    name = data or study.data
    here = name in datasets.dataset_names(root)
    found = datasets.open_dataset(root, name) if here else None
    if found is None or (data is None and found.hash != study.data_hash):
        state = "has changed since it was trained" if here else "is not on this machine"
        raise BadInput(f"The data set {name} of the study {study.name} {state}.")
    return found


def _check(split: str, images: int, keep: float) -> None:
    if split not in ("train", "val", "test"):
        raise BadInput(f"--split takes train, val or test, not {split!r}.")
    if images < LEAST:
        raise BadInput(f"--images is at least {LEAST}, not {images}.")
    if not 0 < keep <= 1:
        raise BadInput(f"--keep is a share above 0 and up to 1, not {keep:g}.")
