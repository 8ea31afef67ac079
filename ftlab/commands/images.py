"""Sending new images through the runs of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console
from . import Json, command, lab


@command
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    study: Annotated[str, typer.Option(help="A study of `ftlab studies`.")],
    json: Json = False,
):
    """Every finished run's class probabilities for images. Not a medical device."""
    answer = lab().predict(images, study)
    if json:
        return console.emit(answer)
    for image in answer["images"]:
        console.say(image["file"])
        for note in image["notes"]:
            console.say(f"  {note}")
        columns = {"run": lambda r: r["run"]}
        for i, name in enumerate(answer["classes"]):
            columns[f"{name} %"] = lambda r, i=i: f"{100 * r['probs'][i]:.1f}"
        console.table(image["runs"], columns)
    for run in answer["without_weights"]:
        console.say(f"{run} is here without its weights.")
    return console.say("Not a medical device.")
