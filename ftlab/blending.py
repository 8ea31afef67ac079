"""One image through the networks between a linear probe and a fine-tuned run: WiSE-FT, live.

(1 - a) w_LP + a w_FT (Wortsman et al. 2022, CVPR): from theta_0 under the linear probe's head, at
a = 0, to the fine-tuned network, at a = 1. BatchNorm's statistics are computed anew for each blend,
as in `ftlab.averaging`, from a part of the training images; where those are not here they are
averaged like weights, and the answer says so. Nothing is written, and the networks that are kept
in memory stay as they are: a copy takes each blend's weights in turn.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import averaging, files, prediction, studies, train
from . import explain as explaining
from .backbones import Network
from .batches import Split
from .batchnorm import STATISTICS, refreshed
from .datasets import resize
from .inspection import pictures_of, who
from .records import BadInput, Settings

MOST = 101  # alphas at once
IMAGES = 256  # training images that give a blend its BatchNorm statistics, drawn once and for all
KEPT = 64  # blends whose statistics stay in memory

_kept: OrderedDict[tuple, dict[str, Tensor]] = OrderedDict()  # least lately used first


def pairs(folder: Path) -> list[dict]:
    """[{run, probe, strategy, backbone, seed}] of finished runs that have a linear probe to match.

    Same backbone and seed, both with their weights here, neither cut nor made slimmer than the
    other, and both from the same theta_0.
    """
    study = studies.read(folder)
    cells = [cell for cell in studies.cells(study) if cell.finished(folder)]
    here = [cell for cell in cells if (folder / cell.name / "best.safetensors").exists()]
    asked = {cell: files.read_json(folder / cell.name / "run.json") for cell in here}
    probes = {
        (cell.backbone, cell.seed): (cell.name, averaging.shape(question))
        for cell, question in asked.items()
        if cell.strategy == averaging.PROBE
    }
    found = []
    for cell, question in asked.items():
        probe, shape = probes.get((cell.backbone, cell.seed), (None, None))
        if probe not in (None, cell.name) and shape == averaging.shape(question):
            found.append({**who(question), "probe": probe})
    return found


def blend(
    image: Path,
    folder: Path,
    home: Path,
    run: str,
    alphas: Sequence[float],
    *,
    method: str | None = None,
    target: str | None = None,
) -> dict:
    """What an image is at each share of a fine-tuned run in the blend with its linear probe.

    Args:
        run: the fine-tuned one, of `pairs`.
        alphas: shares from 0 (the probe, as it predicts alone) to 1 (the run), at most MOST.
        method: also a saliency map of each blend, by this one of `ftlab.explain.methods`.
        target: the class explained; default: each blend's own.
    Returns:
        {classes, run, probe, strategy, backbone, seed, statistics: how many training images gave
        BatchNorm's, 0 where they were averaged, points: [{alpha, probs: [p], target, saliency:
        `ftlab.explain.Saliency` or None}]}
    Raises:
        BadInput: the image cannot be read, the run is none of `pairs`, or there is no such alpha,
            class or method.
    """
    study = studies.read(folder)
    pair = next((row for row in pairs(folder) if row["run"] == run), None)
    if pair is None:
        raise BadInput(
            f"{run} cannot be blended: that takes a finished linear probe of the same backbone, "
            "seed and start, and the weights of both."
        )
    _check(alphas, target, study.classes)
    pixels = resize(prediction.read(image).pixels, study.settings.size)[None]
    split = train.Split(pixels, np.arange(1), np.zeros(1, np.int64))
    probe, _ = prediction.recall(folder / pair["probe"], home / "cache")
    tuned, question = prediction.recall(folder / run, home / "cache")
    settings = Settings(**question["settings"])
    parts, network = [probe.state_dict(), tuned.state_dict()], copy.deepcopy(tuned)
    images, points = _training_images(home, study), []
    for alpha in alphas:
        network.load_state_dict(averaging.mix(parts, [1 - alpha, alpha]))
        if images and 0 < alpha < 1:
            which = (folder / run / "best.safetensors").stat().st_mtime_ns, str(folder), run, alpha
            network.load_state_dict(_statistics(which, network, parts, images, settings), False)
        (probs,) = train.predict(network, split, settings)
        said = study.classes.index(target) if target else int(probs.argmax())
        map = None
        if method:
            x = network.prepare(torch.from_numpy(pixels.copy()))
            seen = explaining.look(network, x, precision=settings.precision)
            (map,) = explaining.saliency(network, x, said, method, seen)
        about = {"alpha": alpha, "probs": files.plain(probs), "target": study.classes[said]}
        points.append({**about, "saliency": map})
    told = {"statistics": len(images) if images else 0, "points": points}
    return {"classes": list(study.classes), **pair, **told}


def _training_images(home: Path, study: studies.Study) -> Split | None:
    """At most IMAGES of those that the study trained on; None where they are not here."""
    try:
        images = pictures_of(home, study)["train"]
    except BadInput:
        return None
    places = np.sort(np.random.default_rng(0).permutation(len(images))[:IMAGES])
    return replace(images, rows=images.rows[places], labels=images.labels[places], key="")


def _statistics(
    which: tuple, network: Network, parts: Sequence[Mapping], images: Split, settings: Settings
) -> dict[str, Tensor]:
    """BatchNorm's statistics of a blend: a pass over the images, the first time it is asked for."""
    if which not in _kept:
        tensors = refreshed(network, parts, images, settings)
        own = {name: t for name, t in tensors.items() if name.rpartition(".")[2] in STATISTICS}
        _kept[which] = own
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(which)
    return _kept[which]


def _check(alphas: Sequence[float], target: str | None, classes: Sequence[str]) -> None:
    if not alphas or len(alphas) > MOST or not all(0 <= alpha <= 1 for alpha in alphas):
        raise BadInput(f"A blend takes 1 to {MOST} shares from 0 to 1.")
    if target not in (None, *classes):
        raise BadInput(f"There is no class {target!r}; there are {', '.join(classes)}.")
