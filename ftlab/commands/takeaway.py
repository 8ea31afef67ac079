"""What a study found, to take away: a report, a model card, a network as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..records import BadInput
from . import Json, Study, command, lab
from .images import OfStudy


@command
def report(
    study: Study,
    out: Annotated[Path, typer.Option(help="The .html file to write.")],
    json: Json = False,
):
    """A study as one page to attach or hand on, which needs no network. Not a medical device."""
    return _write(lab().report, (study,), out, json, {"study": study})


@command
def card(
    study: Study,
    out: Annotated[Path, typer.Option(help="The .md file to write.")],
    run: Annotated[
        str | None, typer.Option(help="A finished run.", show_default="of the best on validation")
    ] = None,
    json: Json = False,
):
    """A model card of a run, as the Hugging Face hub reads it. Not a medical device."""
    return _write(lab().card, (study, run), out, json, {"study": study})


def _write(make: Callable[..., str], asked: tuple, out: Path, json: bool, about: dict) -> None:
    from .. import files

    _can_write(out)
    text = make(*asked)
    files.write_text(out, text)
    size = len(text.encode())
    if json:
        return console.emit({**about, "file": str(out), "bytes": size})
    return console.say(f"Wrote {out} ({console.amount(size)}B).")


def _can_write(out: Path) -> None:
    """Refuse before the work, not after it."""
    taken = out.exists() and not out.is_file()  # a folder, a device, a pipe
    if taken or not out.parent.is_dir():
        raise BadInput(f"--out takes a file in a folder that there is; {out} is none.")


@command
def export(
    run: Annotated[str, typer.Argument(help="A finished run of `ftlab runs`.")],
    study: OfStudy,
    out: Annotated[Path, typer.Option(help="The file to write; its facts go beside it as .json.")],
    format: Annotated[str, typer.Option(help="onnx, or safetensors for timm.")] = "onnx",
    json: Json = False,
):
    """A run as one file that works without ftlab, checked against the run before it is kept."""
    _can_write(out)
    record = lab().export(study, run, format, out)
    if json:
        return console.emit(record)
    check = record["check"]
    console.say(f"Wrote {out} and {out.name}.json.")
    return console.say(
        f"Checked on {check['images']} images ({check['of']}): probabilities differ by at most "
        f"{check['largest_difference']:.1g}, {100 * check['same_class']:.0f} % get the same class."
    )
