"""Where the runs of a study look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from .. import console
from . import Json, Study, command, counter, lab
from .inspection import say_absent


@command
def maps(
    study: Study,
    images: Annotated[
        int, typer.Option(help="At most so many test images, with a lesion where any has a mask.")
    ] = 120,
    road: Annotated[int, typer.Option(help="Of those, scored by removing pixels; slow.")] = 20,
    method: Annotated[str, typer.Option(help="As of `ftlab explain`.")] = "gradcam",
    json: Json = False,
):
    """Whether runs look at the lesion, and whether those that score alike look alike.

    Scores are kept with the runs, so that the same command goes on, and `status` shows them.
    """
    from ..looks import SCORES

    answer = lab().maps(study, images, road, method, progress=counter("looked at"))
    if json:
        return console.emit(answer)
    several = len(answer["alike"]) > 1
    columns = {"backbone": lambda r: r["backbone"]} if several else {}
    columns |= {
        "strategy": lambda r: r["strategy"],
        "seeds": lambda r: len(r["seeds"]),
        "map": lambda r: " x ".join(map(str, r["size"])),
        "balanced accuracy %": lambda r: f"{100 * r['balanced_accuracy']:.1f}",
        "evidence inside %": lambda r: console.percent(r["energy"]),
        "peak inside %": lambda r: console.percent(r["pointing"]),
        "ROAD, points": lambda r: console.percent(r["road"]),
    }
    for head, score in zip(list(columns)[-3:], SCORES, strict=True):
        if not any(row[score] for row in answer["rows"]):
            del columns[head]
    console.table(answer["rows"], columns)
    console.say(_basis(answer))
    _agreement(answer)
    return say_absent(answer)


def _basis(answer: Mapping) -> str:
    with_lesion = answer["share"] is not None
    text = f"{answer['method']} of the true class on {answer['images']} test images"
    text += " with a lesion" * with_lesion
    if answer["road_images"]:
        text += f", ROAD on {answer['road_images']} of them"
    alone = all(len(row["seeds"]) == 1 for row in answer["rows"])
    known = "of one seed, so they know the images alone" if alone else "over seeds and images"
    text += f"; means with 95 % intervals {known}."
    if with_lesion:
        share = f"{100 * answer['share']:.1f} %"
        text += f" A map of nothing in particular has {share} inside, the lesion's share."
    return text


def _agreement(answer: Mapping) -> None:
    """A line a strategy: whose maps are most and least like its own."""
    for backbone, rho in answer["alike"].items():
        pairs = [pair for pair in answer["agreement"] if pair["backbone"] == backbone]
        own = {pair["a"]: pair for pair in pairs if pair["a"] == pair["b"]}
        pairs = [pair for pair in pairs if pair["a"] != pair["b"]]
        names = [row["strategy"] for row in answer["rows"] if row["backbone"] == backbone]
        columns = {
            "strategy": lambda name: name,
            "most like": lambda name, of=pairs: _other(_of(of, name)[:1], name),
            "least like": lambda name, of=pairs: _other(_of(of, name)[-1:], name),
        }
        if own:
            columns["itself with another seed"] = lambda name, of=own: _r(of.get(name))
        if not pairs and not own:
            continue
        console.say(f"How alike maps of one image are, correlation: {backbone}")
        console.table(names, columns)
        off = sum(pair["unpaired"] for pair in [*pairs, *own.values()]) / (len(pairs) + len(own))
        console.say(f"Maps of two different images correlate by {off:.2f}.")
        if rho is not None:
            console.say(
                "Rank correlation of how far two strategies' balanced accuracies lie apart with "
                f"how alike their maps are: {rho:.2f} over {len(pairs)} pairs, which share "
                "strategies."
            )


def _of(pairs: Sequence[Mapping], name: str) -> list[Mapping]:
    return [pair for pair in pairs if name in (pair["a"], pair["b"])]


def _other(pairs: Sequence[Mapping], name: str) -> str:
    return "".join(f"{p['b'] if p['a'] == name else p['a']} {_r(p)}" for p in pairs)


def _r(pair: Mapping | None) -> str:
    if not pair:
        return "-"
    mean, low, high = (pair["agreement"][key] for key in ("mean", "low", "high"))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"
