"""Sending new images through the finished runs of a study, exactly as their test images went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import backbones, files, runs, studies, train, weights
from .backbones import Network
from .datasets import read_image, resize
from .records import BadInput, Settings


def predict(images: Sequence[Path], folder: Path, cache: Path) -> dict:
    """Class probabilities of each image by each finished run; see `ftlab.lab.Lab.predict`.

    Raises:
        BadInput: no run has finished, an image cannot be read, or theta_0 is not here.
    """
    study = studies.read(folder)
    finished = [c.name for c in studies.cells(study) if c.finished(folder)]
    if not finished:
        raise BadInput(f"No run of the study {study.name} has finished, so none can predict.")
    able = [name for name in finished if (folder / name / "best.safetensors").exists()]
    if not able:
        raise BadInput(f"The study {study.name} is here without the weights of its runs.")
    pictures = [_read(path) for path in images]
    size = study.settings.size
    pixels = np.stack([resize(picture.pixels, size) for picture in pictures])
    rows = np.arange(len(pictures))
    split = train.Split(pixels, rows, np.zeros(len(rows), np.int64))
    answers = [
        {"file": path.name, "notes": list(picture.notes), "runs": []}
        for path, picture in zip(images, pictures, strict=True)
    ]
    for name in able:
        network, question = restore(folder / name, cache)
        probs = train.predict(network, split, Settings(**question["settings"]))
        kept = {key: question[key] for key in ("run", "strategy", "backbone")}
        for answer, p in zip(answers, probs, strict=True):
            answer["runs"].append({**kept, "probs": files.plain(p)})
    absent = [name for name in finished if name not in able]
    return {"classes": list(study.classes), "images": answers, "without_weights": absent}


def _read(path: Path):
    if not path.is_file():
        raise BadInput(f"There is no image file {path.name!r}.")
    try:
        return read_image(path)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}") from error


def restore(folder: Path, cache: Path) -> tuple[Network, dict]:
    """(network in eval mode on the CPU, run.json) of a finished run, from its folder and theta_0.

    Raises:
        BadInput: theta_0 is not on this machine, or the weight file is absent or damaged.
    """
    if not (folder / "best.safetensors").exists():
        raise BadInput(f"The run {folder.name} is here without its weights.")
    question = files.read_json(folder / "run.json")
    theta0 = weights.recall(question["backbone"], question["weights"], question["seed"], cache)
    plan, classes = question["plan"], len(question["data"]["classes"])
    network = backbones.build(
        question["backbone"],
        classes,
        theta0,
        plan["cut_after"],
        plan["slim_from"],
        question["seed"],
    )
    tensors, _ = runs.load_tensors(folder / "best.safetensors")
    network.load_state_dict({**network.state_dict(), **tensors})
    return network.eval(), question
