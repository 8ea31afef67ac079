"""This machine: the app, what is here and lacks, and weights for a place without network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..records import BadInput
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
    classroom: Annotated[
        Path | None, typer.Option(help="People log in; a file that `ftlab users` made.")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="For visitors, within limits.")] = False,
    limit: Annotated[
        list[str] | None, typer.Option(help="name=number of a person's limit; repeatable.")
    ] = None,
):
    """The app in the browser, for one person or for several; Ctrl-C ends it, studies go on."""
    from .. import modes
    from ..ui.launch import LOOPBACK, launch

    if classroom and public:
        raise BadInput("--classroom and --public exclude each other.")
    mode = modes.CLASSROOM if classroom else modes.PUBLIC if public else modes.ONE
    mode = mode.limited(dict(text.partition("=")[::2] for text in limit or ()))
    if mode.name == "one":
        mode = replace(mode, paths=host in LOOPBACK)
    launch(lab(), mode, host, port, classroom)


@command
def users(
    file: Annotated[Path, typer.Argument(help="The file of the class; made if there is none.")],
    names: Annotated[list[str], typer.Argument(help="Who gets a new password.")],
    json: Json = False,
):
    """Give people of a classroom their passwords, which are shown once and never again."""
    from ..passwords import give

    given = give(file, names)
    rows = [{"name": name, "password": password} for name, password in given.items()]
    if json:
        return console.emit(rows)
    return console.table(
        rows, {"name": lambda row: row["name"], "password": lambda row: row["password"]}
    )


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
