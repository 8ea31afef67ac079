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

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import backbones, datasets, files, prediction, studies, training, weights
from . import device as devices
from .backbones import Network
from .batches import Split, batches
from .records import BadInput
from .similarity import KEEP, LEAST, Kernels, Moments, gram, svcca
from .studies import Study

BATCH = 32  # images at once; also CKA's minibatch
IMAGES = 1000
THETA0 = "theta_0"


def activations(network: Network, x: Tensor) -> dict[str, Tensor]:
    """Stage -> its output (B, C, h, w) for x (B, 3, H, W)."""
    found = {}
    for name, stage in network.stages.items():
        found[name] = x = stage(x)
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

    Args:
        order: (n,) places in the split; in random order, or a minibatch would hold one class.
        across: every stage of one against every stage of the other, not only against its own.
        progress: called with how many images have been seen.
    """
    device = first.head.weight.device
    sums: dict[tuple[str, str], tuple[Moments, Kernels]] = {}
    seen = 0
    for pixels, _ in batches(split, order, BATCH):
        pixels = pixels.to(device)
        left, right = (activations(n, n.prepare(pixels)) for n in (first, second))
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
    to: str | None = None,
    split: str = "test",
    images: int = IMAGES,
    keep: float = KEEP,
    across: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """How alike finished runs and theta_0 (or another run) see a study's images, by stage.

    theta_0 is the whole pretrained network, also for a run that was cut or made slimmer.

    Args:
        chosen: names of runs; default: every finished one whose weights are here.
        to: the name of a run to compare with instead of theta_0.
        split: train, val or test. images: at most so many of them, drawn once and for all.
        keep: see `svcca`. across: see `compare`.
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
    pictures = pictures_of(home, study)[split]
    order = np.random.default_rng(0).permutation(len(pictures))[:images]
    if len(order) < LEAST:
        raise BadInput(f"The {split} split of {study.data} has fewer than {LEAST} images.")
    total, answers = len(able) * len(order), []
    for number, name in enumerate(able):
        network, question = prediction.restore(folder / name, home / "cache")
        other = prediction.restore(folder / to, home / "cache")[0] if to else theta0(question, home)
        for each in (network, other):
            each.to(devices.pick(), memory_format=torch.channels_last)
        before = number * len(order)

        def tell(seen: int, before=before) -> None:
            if progress:
                progress(before + seen, total)

        rows = compare(network, other, pictures, order, keep, across, tell)
        if not rows:
            raise BadInput(f"{name} and {to} have no stage of one name: compare them --across.")
        answers.append({**who(question), "rows": rows})
    asked = {"split": split, "images": len(order), "keep": keep, "to": to or THETA0}
    about = {"study": study.name, "data": study.data, **asked}
    return files.plain({**about, "runs": answers, "without_weights": absent})


def theta0(question: Mapping, home: Path) -> Network:
    """The whole pretrained network a run began with, under a head that says nothing."""
    found = weights.recall(
        question["backbone"], question["weights"], question["seed"], home / "cache"
    )
    return backbones.build(question["backbone"], len(question["data"]["classes"]), found).eval()


def who(question: Mapping) -> dict:
    """{run, strategy, backbone, seed} of a run.json."""
    return {key: question[key] for key in ("run", "strategy", "backbone", "seed")}


def pictures_of(home: Path, study: Study) -> dict[str, Split]:
    """train, val and test of a study, as its runs saw them.

    Raises:
        BadInput: the data set is not on this machine, or it has changed.
    """
    return training.splits(data_of(home, study), study.settings)


def data_of(home: Path, study: Study) -> datasets.Dataset:
    """A study's data set. Raises as `pictures_of`."""
    root = home / "data"
    here = study.data in datasets.dataset_names(root)
    data = datasets.open_dataset(root, study.data) if here else None
    if data is None or data.hash != study.data_hash:
        state = "has changed since it was trained" if here else "is not on this machine"
        raise BadInput(f"The data set {study.data} of the study {study.name} {state}.")
    return data


def _check(split: str, images: int, keep: float) -> None:
    if split not in ("train", "val", "test"):
        raise BadInput(f"--split takes train, val or test, not {split!r}.")
    if images < LEAST:
        raise BadInput(f"--images is at least {LEAST}, not {images}.")
    if not 0 < keep <= 1:
        raise BadInput(f"--keep is a share above 0 and up to 1, not {keep:g}.")
