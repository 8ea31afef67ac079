"""This machine: what it has and lacks, and weights for a place without network."""

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
