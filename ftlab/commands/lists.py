"""What there is: strategies, backbones, data sets, studies, runs; and what a plan says."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import console
from ..records import BadInput
from . import Backbone, Json, Knobs, command, lab, parse_knobs


@command
def strategies(json: Json = False):
    """The fine-tuning strategies, each with its equation and paper."""
    rows = lab().strategies()
    if json:
        return console.emit(rows)
    columns = {n: (lambda r, n=n: r[n]) for n in ("name", "summary", "source")}
    return console.table(rows, columns)


@command
def backbones(json: Json = False):
    """The backbones with their stages and the units they can be cut after."""
    rows = lab().backbones()
    if json:
        return console.emit(rows)
    return console.table(
        rows,
        {
            "name": lambda r: r["name"],
            "weights": lambda r: r["tag"],
            "parameters": lambda r: console.amount(sum(s["parameters"] for s in r["stages"])),
            "cuts": lambda r: len(r["cuts"]),
            "stages": lambda r: " ".join(s["name"] for s in r["stages"]),
        },
    )


@command
def plan(
    strategy: Annotated[str, typer.Argument(help="A name of `ftlab strategies`.")],
    backbone: Backbone = "resnet50",
    epochs: Annotated[int, typer.Option(help="Over all phases.")] = 10,
    knob: Knobs = None,
    json: Json = False,
):
    """What a strategy will do: who learns when, and at which rate."""
    given = parse_knobs(knob or [], strategy)
    if others := sorted(given.keys() - {strategy}):
        raise BadInput(f"A plan is of one strategy: --set takes no knob of {', '.join(others)}.")
    written = lab().plan(strategy, backbone, epochs, **given.get(strategy, {}))
    if json:
        return console.emit(written)
    stages = lab().layout(backbone).cut(written["cut_after"]).names
    return console.say(console.plan_text({**written, "stages": stages}))


@command
def datasets(json: Json = False):
    """The imported data sets."""
    rows = lab().datasets()
    _left_out()
    if json:
        return console.emit(rows)
    if not rows:
        return console.say("No data set yet: `ftlab import SOURCE NAME` makes one.")
    return console.table(
        rows,
        {
            "name": lambda r: r["name"],
            "images": lambda r: r["images"],
            "classes": lambda r: ", ".join(f"{c} {n}" for c, n in r["classes"].items()),
            "train/val/test": lambda r: "/".join(map(str, r["splits"].values())),
            "warnings": lambda r: len(r["warnings"]),
        },
    )


@command
def studies(json: Json = False):
    """The studies, shipped and your own."""
    rows = lab().studies()
    _left_out()
    if json:
        return console.emit(rows)
    if not rows:
        return console.say("No study yet: `ftlab compare DATA --backbone B` makes one.")
    return console.table(
        rows,
        {
            "study": lambda r: r["study"],
            "data": lambda r: r["data"],
            "backbones": lambda r: ",".join(r["backbones"]),
            "strategies": lambda r: len(r["strategies"]),
            "seeds": lambda r: len(r["seeds"]),
            "state": lambda r: r["state"],
        },
    )


@command
def runs(json: Json = False):
    """Every run of every study."""
    rows = lab().runs()
    _left_out()
    return console.emit(rows) if json else console.runs_table(rows)


def _left_out() -> None:
    for why in lab().damaged():
        console.say(f"Left out: {why}", err=True)
