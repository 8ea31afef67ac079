"""Sending new images through the finished runs of a study, exactly as their test images went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import runs, studies, train, training
from .datasets import read_image, resize
from .records import BadInput, Settings


def predict(images: Sequence[Path], folder: Path, cache: Path) -> dict:
    """Class probabilities of each image by each finished run; see `ftlab.lab.Lab.predict`.

    Raises:
        BadInput: no run has finished, an image cannot be read, or theta_0 is not here.
    """
    study = studies.read(folder)
    finished = [c for c in studies.cells(study) if (folder / c.name / "result.json").exists()]
    if not finished:
        raise BadInput(f"No run of the study {study.name} has finished, so none can predict.")
    pictures = [_read(path) for path in images]
    size = study.settings.size
    pixels = np.stack([resize(picture.pixels, size) for picture in pictures])
    rows = np.arange(len(pictures))
    split = train.Split(pixels, rows, np.zeros(len(rows), np.int64))
    answers = [
        {"file": path.name, "notes": list(picture.notes), "runs": []}
        for path, picture in zip(images, pictures, strict=True)
    ]
    for cell in finished:
        network, question = training.restore(folder / cell.name, cache)
        probs = train.predict(network, split, Settings(**question["settings"]))
        for answer, p in zip(answers, probs, strict=True):
            run = {"run": cell.name, "strategy": cell.strategy, "backbone": cell.backbone}
            answer["runs"].append({**run, "probs": runs.plain(p)})
    return {"classes": list(study.classes), "images": answers}


def _read(path: Path):
    if not path.is_file():
        raise BadInput(f"There is no image file {path.name!r}.")
    try:
        return read_image(path)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}") from error
