"""Which unit to cut, freeze or slim at: a study that grows while it looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from .. import console
from ..records import Question, Search, Settings
from . import Backbone, Data, Json, Knobs, command, lab, parse_knobs
from .study import Name, Queue, Weights, with_settings, work_on

Searched = Annotated[str, typer.Option(help="truncated, layer_wise or transfusion.")]
Metric = Annotated[str, typer.Option(help="On validation, which alone chooses.")]
How = Annotated[str, typer.Option(help="two-stage, ranked (of truncated) or exhaustive.")]


@command
@with_settings
def search(
    data: Data,
    *,
    backbone: Backbone = "resnet50",
    strategy: Searched = Search.strategy,
    metric: Metric = Search.metric,
    how: How = Search.how,
    seeds: Annotated[int, typer.Option(help="How many seeds: 0, 1, ...")] = 3,
    settings: Settings,
    name: Name = "",
    weights: Weights = "pretrained",
    knob: Knobs = None,
    queue: Queue = False,
    json: Json = False,
):
    """Find the unit at which to cut, freeze or slim a backbone; the same command resumes."""
    question = Question(
        data=data,
        backbones=[backbone],
        strategies=[],
        seeds=range(seeds),
        settings=settings,
        weights=weights,
        knobs=parse_knobs(knob or []),
        name=name,
        search=Search(strategy, metric, how),
    )
    study = work_on(question, queue, json)
    if study is None:
        return
    found = lab().cuts(study, latency=True)
    return console.emit(found) if json else _curve(found)


def _curve(found: Mapping) -> None:
    """The search as a table, and the chosen unit in a sentence."""
    learned = found["pareto_by"] == "trained_parameters"
    columns = {
        "unit": lambda p: p["unit"],
        "stage": lambda p: p["stage"],
        "tried": lambda p: p["step"] or "",
        f"validation {_words(found['metric'])} %": lambda p: _percent(p["val"]),
        "test balanced accuracy %": lambda p: (
            p["test"] and console.percent(p["test"]["balanced_accuracy"])
        ),
        "learned" if learned else "parameters": lambda p: console.amount(p[found["pareto_by"]]),
        "MACs": lambda p: console.amount(p["macs"]),
        "stored": lambda p: p["trained"] and console.amount(p["stored_bytes"]) + "B",
        "ms, 1 image": lambda p: p["latency"] and f"{p['latency']['1']:.1f}",
        "ms, 32 images": lambda p: p["latency"] and f"{p['latency']['32']:.0f}",
        "": lambda p: ("front " if p["pareto"] else "") + "chosen" * (p["unit"] == found["chosen"]),
    }
    if found["ranking"]:
        read = {row["unit"]: row["score"] for row in found["ranking"]}
        columns[f"read off frozen features: {_words(found['metric'])} %"] = lambda p: (
            f"{100 * read[p['unit']]:.1f}"
        )
    shown = {head: lambda p, cell=cell: cell(p) or "" for head, cell in columns.items()}
    console.say()
    console.table(found["points"], shown)
    console.say(_sentence(found))


def _sentence(found: Mapping) -> str:
    """What was chosen, and what it costs beside the whole network."""
    if found["chosen"] is None:
        return "Nothing could be chosen: no unit was trained to its end."
    chosen = next(p for p in found["points"] if p["unit"] == found["chosen"])
    whole, by = found["whole"], found["pareto_by"]
    what = "learned parameters" if by == "trained_parameters" else "parameters"
    return (
        f"Chosen: {chosen['label']}, {_percent(chosen['val'])} % {_words(found['metric'])} on "
        f"validation (seeds: {len(chosen['runs'])}), with {console.amount(chosen[by])} {what} "
        f"instead of {console.amount(whole[by])}, {console.amount(chosen['macs'])} MACs instead of "
        f"{console.amount(whole['macs'])}, {chosen['latency']['1']:.1f} ms an image here instead "
        f"of {whole['latency']['1']:.1f}; {found['trained']} of {found['of']} units were trained, "
        f"for {100 * found['share_of_cost']:.0f} % of what training all would cost."
    )


def _percent(val: Mapping | None) -> str:
    if val is None:
        return ""
    return console.percent(val) if val["low"] is not None else f"{100 * val['mean']:.1f}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")
