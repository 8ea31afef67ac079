"""This machine: the app, what is here and lacks, and weights for a place without network."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import console
from . import Json, command, lab


@command
def fetch(
    backbone: Annotated[str, typer.Argument(help="A name of `ftlab backbones`, or a timm CNN.")],
    json: Json = False,
):
    """Download a backbone's ImageNet weights ahead, for a place without network."""
    size = lab().fetch(backbone).stat().st_size
    if json:
        return console.emit({"backbone": backbone, "bytes": size})
    return console.say(f"The weights of {backbone} are here ({console.amount(size)}B).")


@command
def serve(
    host: Annotated[
        str, typer.Option(help="Address; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page.", min=1, max=65535)] = 7860,
):
    """The app in the browser, for one person; Ctrl-C ends it, studies go on."""
    from ..ui.launch import launch

    launch(lab(), host=host, port=port)


@command
def doctor(json: Json = False):
    """What this machine has and lacks."""
    from ..doctor import examine

    findings = examine(lab())
    if json:
        return console.emit(findings)
    marks = {True: "ok", False: "lacks", None: "note"}
    return console.table(
        findings,
        {
            "": lambda f: marks[f["ok"]],
            "what": lambda f: f["what"],
            "found": lambda f: f["found"],
        },
    )
