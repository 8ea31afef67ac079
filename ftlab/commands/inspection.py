"""What fine-tuning changed: how alike networks see, and how far their weights moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from .. import console
from . import Json, command, counter, lab
from .images import NAMED, OfStudy

Runs = Annotated[list[str] | None, typer.Argument(help="Runs of `ftlab runs`; all unless told.")]
ENOUGH = 5  # samples a feature that canonical correlations want


@command
def similarity(
    study: OfStudy,
    runs: Runs = None,
    to: Annotated[
        str | None, typer.Option(help="A run, instead of the pretrained network.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    images: Annotated[int, typer.Option(help="At most so many of the split.")] = 1000,
    keep: Annotated[float, typer.Option(help="Share of the variance kept before CCA.")] = 0.99,
    across: Annotated[
        bool, typer.Option("--across", help="Every stage against every one.")
    ] = False,
    json: Json = False,
):
    """How alike runs and the pretrained network see the study's images, stage by stage.

    SVCCA (area above unrelated features) and CKA (1: the same up to rotation and scale).
    """
    answer = lab().similarity(
        study,
        runs or (),
        to=to,
        split=split,
        images=images,
        keep=keep,
        across=across,
        progress=counter("saw"),
    )
    if json:
        return console.emit(answer)
    show = _matrices if across else _stages
    show(answer["runs"], "SVCCA, area above random", lambda row: _score(row["svcca"]["area"]))
    unpaired = "The same where each image meets another"
    show(answer["runs"], unpaired, lambda row: _score(row["svcca"]["unpaired"]))
    show(answer["runs"], "CKA, unbiased", lambda row: _score(row["cka"]))
    to_what = "the pretrained network" if answer["to"] == "theta_0" else answer["to"]
    console.say(f"Against {to_what}, on {answer['images']} images of {answer['split']}.")
    for stage in _thin(answer["runs"]):
        console.say(f"{stage}: fewer than {ENOUGH} samples a feature; more images would tell more.")
    return say_absent(answer)


def _stages(runs: Sequence[Mapping], title: str, value: Callable[[Mapping], str]) -> None:
    """A line for each run, a column for each stage; a table for each backbone."""
    for backbone in dict.fromkeys(run["backbone"] for run in runs):
        own = [run for run in runs if run["backbone"] == backbone]
        names = max(([row["stage"] for row in run["rows"]] for run in own), key=len)
        _title(title, backbone)
        columns = {"run": lambda run: run["run"]}
        for name in names:
            columns[name] = lambda run, name=name: _at(run["rows"], "stage", name, value)
        console.table(own, columns)


def _matrices(
    runs: Sequence[Mapping], title: str, value: Callable[[Mapping], float | None]
) -> None:
    """A table for each run: its stages down, the other's across."""
    for run in runs:
        _title(title, run["run"])
        columns = {"stage": lambda rows: rows[0]["stage"]}
        for name in dict.fromkeys(row["against"] for row in run["rows"]):
            columns[name] = lambda rows, name=name: _at(rows, "against", name, value)
        stages = dict.fromkeys(row["stage"] for row in run["rows"])
        console.table([[r for r in run["rows"] if r["stage"] == s] for s in stages], columns)


def _at(rows: Sequence[Mapping], key: str, name: str, value: Callable[[Mapping], str]) -> str:
    return next((value(row) for row in rows if row[key] == name), "-")


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _title(text: str, of: str) -> None:
    console.say(f"{text}: {of}")


def _thin(runs: Sequence[Mapping]) -> list[str]:
    """The stages with too few samples for as many features, in any run."""
    thin = (
        row["stage"]
        for run in runs
        for row in run["rows"]
        if row["svcca"]["samples"] < ENOUGH * max(row["svcca"]["features"])
    )
    return list(dict.fromkeys(thin))


def say_absent(answer: Mapping) -> None:
    """Name the runs that were left out because their weights are not here."""
    if absent := answer["without_weights"]:
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        console.say(f"Without weights here: {', '.join(absent[:NAMED])}{more}.")


# --- drift ----------------------------------------------------------------------------------------

KINDS = {
    "kernels": "convolutions and linear layers",
    "norm": "scale and shift of normalisation",
    "statistics": "BatchNorm's running statistics",
}


@command
def drift(
    study: OfStudy,
    runs: Runs = None,
    json: Json = False,
):
    """How far runs moved their weights, at which rates, and whose predictions flip.

    With runs named, also their rates epoch by epoch and their gradients, which need the data set.
    """
    answer = lab().drift(study, runs or (), gradient=bool(runs))
    if json:
        return console.emit(answer)
    changed = [{**run, "rows": run["change"]} for run in answer["runs"] if run["change"]]
    for kind, what in KINDS.items() if changed else ():
        _stages(changed, f"Relative change of {what}, %", lambda row, k=kind: _percent(row[k]))
    _notes(changed)
    for run in answer["runs"] if runs else ():
        _rates(run)
        _gradients(run)
    _flips(answer, {run["strategy"] for run in answer["runs"]} if runs else None)
    return say_absent(answer)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3g}"


def _notes(changed: Sequence[Mapping]) -> None:
    if changed:
        console.say("|w - w0| / |w0|; the head, and what was made slimmer, against its first draw.")
    if any(run["rounded"] for run in changed):
        console.say("Stored in half precision: 0.02 % or so of what learned is rounding.")


def _rates(run: Mapping) -> None:
    """Epochs down, stages across: the rate in each epoch's first step, then what scaled it."""
    _title("Learning rate in the first step of each epoch", run["run"])
    columns = {"epoch": lambda e: f"{e['epoch'] + 1}{' *' * (e['epoch'] == run['best_epoch'])}"}
    names = dict.fromkeys(name for epoch in run["rates"] for name in epoch["lrs"])
    for name in names:
        columns[name] = lambda e, n=name: f"{e['lrs'][n]:.3g}" if n in e["lrs"] else "-"
    console.table(run["rates"], columns)
    console.say("* the epoch whose weights were kept. 0: frozen.")
    ruled = [epoch for epoch in run["rates"] if epoch["multipliers"]]
    if ruled:
        _title("Multiplier of the rate, mean (least to most) over a stage's tensors", run["run"])
        columns = {"epoch": lambda e: e["epoch"] + 1}
        for name in dict.fromkeys(n for epoch in ruled for n in epoch["multipliers"]):
            columns[name] = lambda e, n=name: _range(e["multipliers"].get(n))
        console.table(ruled, columns)


def _range(found: Mapping | None) -> str:
    return "-" if not found else f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _gradients(run: Mapping) -> None:
    if not (found := run["gradients"]):
        return
    _title("Gradient of one batch's loss, before and after", run["run"])
    columns = {"stage": lambda name: name}
    for part, heading in (("norm", "norm"), ("relative", "to the weights' norm")):
        for when in ("before", "after"):
            columns[f"{heading}, {when}"] = lambda name, p=part, w=when: _short(
                found[w]["stages"][name][p]
            )
    console.table(list(found["before"]["stages"]), columns)
    losses = (f"{when} {found[when]['loss']:.3f}" for when in ("before", "after"))
    console.say(f"Mean cross-entropy of that batch of training images: {', '.join(losses)}.")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _flips(answer: Mapping, strategies: set[str] | None) -> None:
    """Two strategies a line: all pairs with one of those, by default with the first strategy."""
    pairs = answer["flips"]
    wanted = strategies or {pair["before"] for pair in pairs[:1]}
    shown = [pair for pair in pairs if wanted & {pair["before"], pair["after"]}]
    if strategies:
        shown = [pair if pair["after"] in wanted else _turned(pair) for pair in shown]
    if not shown:
        return

    def mean(key: str) -> Callable[[Mapping], str]:
        return lambda pair: f"{sum(pair[key]) / len(pair[key]):.1f}"

    columns = {
        "from": lambda pair: pair["before"],
        "to": lambda pair: pair["after"],
        "corrected": mean("corrected"),
        "broken": mean("broken"),
        "another mistake": mean("changed"),
        "seeds": lambda pair: len(pair["seeds"]),
    }
    if len({pair["backbone"] for pair in shown}) > 1:
        columns = {"backbone": lambda pair: pair["backbone"], **columns}
    console.say(f"Test images, of {shown[0]['images']}, whose prediction flips; means over seeds")
    console.table(shown, columns)


def _turned(pair: Mapping) -> dict:
    return {
        **pair,
        **{"before": pair["after"], "after": pair["before"]},
        **{"corrected": pair["broken"], "broken": pair["corrected"]},
    }
