"""Studies: compare and train, look at them, stop and delete them, and the worker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_type_hints

import typer

from .. import console
from ..records import BadInput, Question, Settings
from . import Backbone, Data, Json, Knobs, Study, command, counter, lab, parse_knobs

if TYPE_CHECKING:
    from ..worker import StopFlag

SETTINGS = {  # an option for each field of Settings, with what its help says
    "epochs": "Epochs of every run.",
    "size": "Pixels, both sides.",
    "batch": "Images a step.",
    "lr": "A value, or auto: one grid for all, chosen on validation.",
    "optimizer": "adam, adamw or sgd.",
    "schedule": "cosine or constant, in each phase.",
    "augment": "none, light or ttl.",
    "flips": "Mirror images too.",
    "views": "So many augmented views of each image, in turn; else a new one every epoch.",
    "precision": "auto: the faster one here; or float32, or bfloat16.",
    "class_weights": "Weigh rare classes up.",
    "patience": "Epochs without a better one after which the last phase stops.",
    "select": "balanced_accuracy, average_precision or loss, on validation.",
    "train_per_class": "At most so many training images of each class.",
}
Name = Annotated[str, typer.Option(help="Of the study.", show_default="made from its question")]
Weights = Annotated[
    str,
    typer.Option(
        help="imagenet (bundled for ftlab_mini), random, or a .safetensors or .pth file.",
        show_default="the backbone's own",
    ),
]
Queue = Annotated[bool, typer.Option("--queue", help="Leave the work to `ftlab worker`.")]


def with_settings(function: Callable) -> Callable:
    """Give a command an option for each field of Settings, and hand it the Settings they make."""

    @wraps(function)
    def run(**given):
        chosen = {name: given.pop(name) for name in SETTINGS}
        return function(settings=Settings(**{**chosen, "lr": _lr(chosen["lr"])}), **given)

    parameters = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        parameters += _options() if parameter.name == "settings" else [parameter]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    run.__signature__ = inspect.Signature(parameters)
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _options() -> Iterator[inspect.Parameter]:
    kinds = {**get_type_hints(Settings), "lr": str | None}
    for field in fields(Settings):
        kind = Annotated[kinds[field.name], typer.Option(help=SETTINGS[field.name])]
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kind
        )


def _lr(text: str | None) -> float | str | None:
    if text in (None, "auto"):
        return text
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"--lr takes a number or auto, not {text!r}.") from None


@command
@with_settings
def compare(
    data: Data,
    *,
    backbone: Annotated[str, typer.Option(help="One or several, comma-separated.")] = "resnet50",
    strategies: Annotated[str, typer.Option(help="all, davila, or names with commas.")] = "davila",
    seeds: Annotated[int, typer.Option(help="How many seeds: 0, 1, ...")] = 3,
    settings: Settings,
    name: Name = "",
    weights: Weights = "pretrained",
    knob: Knobs = None,
    queue: Queue = False,
    json: Json = False,
):
    """Train strategies side by side and say whether they differ; the same command resumes."""
    question = Question(
        data=data,
        backbones=[part.strip() for part in backbone.split(",")],
        strategies=[part.strip() for part in strategies.split(",")],
        seeds=range(seeds),
        settings=settings,
        weights=weights,
        knobs=parse_knobs(knob or []),
        name=name,
    )
    work_on(question, queue, json)


@command
@with_settings
def train(
    data: Data,
    *,
    strategy: Annotated[str, typer.Option(help="A name of `ftlab strategies`.")] = "full",
    backbone: Backbone = "resnet50",
    seed: Annotated[int, typer.Option(help="Of head, order and augmentation.")] = 0,
    settings: Settings,
    name: Name = "",
    weights: Weights = "pretrained",
    knob: Knobs = None,
    queue: Queue = False,
    json: Json = False,
):
    """A study of one run; the same command resumes."""
    knobs = parse_knobs(knob or [], strategy)
    question = Question(data, [backbone], [strategy], [seed], settings, weights, knobs, name)
    work_on(question, queue, json)


def work_on(question: Question, queue: bool, json: bool) -> str | None:
    """Ask, work and show; the study's name. Or ask and queue; None."""
    from .. import queue as waiting
    from .. import worker

    ours = lab()
    folder = ours.ask(question, alone=not queue)
    if queue:
        waiting.add(ours.home, folder)
        console.say(f"The study {folder.name} waits for `ftlab worker`.", err=True)
        return console.emit({"study": folder.name, "queued": True}) if json else None
    stop = worker.StopFlag()
    _show(folder, ours.work(folder, stop), stop, json)
    return folder.name


def _show(folder: Path, events: Iterator[dict], stop: StopFlag, json: bool) -> None:
    """Follow the work on a study to its end, then show what it says."""
    from .. import schedule, studies

    def look():
        return schedule.progress(folder, studies.read(folder))

    console.opening(folder.name, look())
    with console.progress(look, quiet=json) as show:
        for event in events:
            if json:
                console.emit({**event, **look()})
            show(event)
    answer = lab().answer(folder)
    if json:
        console.emit(answer)
    else:
        console.leaderboard(answer)
    if stop():
        console.say("Stopped; what is done is kept, and the same command goes on.", err=True)
        raise typer.Exit(128 + stop.signal)
    if not any(row["state"] == "finished" for row in answer["runs"]):
        raise BadInput("Every run failed; the reasons stand above.")


@command
def demo(json: Json = False):
    """Draw chest X-ray phantoms and train every strategy on them, as the reference study was."""
    from .. import demo
    from ..worker import StopFlag

    ours, stop = lab(), StopFlag()
    folder = demo.ask(ours, "demo", counter("drew"))
    _show(folder, ours.work(folder, stop), stop, json)


@command
def status(study: Study, json: Json = False):
    """How far a study is and what it says so far."""
    answer = lab().status(study)
    if json:
        return console.emit(answer)
    console.runs_table(answer["runs"])
    done, total = answer["epochs_done"], answer["epochs"]
    console.say(f"{answer['state']}, {done} of {total} epochs")
    if answer["reason"]:
        console.say(answer["reason"])
    if answer["state"] == "running" and answer["seconds_left"] is not None:
        console.say(f"about {console.duration(answer['seconds_left'])} left")
    return console.leaderboard(answer)


@command
def stop(study: Study, json: Json = False):
    """Ask a study to stop at its next step; what is done is kept."""
    worked = lab().stop(study)
    if json:
        return console.emit({"study": study, "stopped": worked})
    return console.say("Stopped." if worked else f"{study} was neither at work nor waiting.")


@command
def delete(
    name: Annotated[str, typer.Argument(help="A study or a data set of your own.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
):
    """Delete a study with its checkpoints, or a data set. Asks first."""
    kind = lab().deletable(name)
    if not yes and not typer.confirm(f"Delete the {kind} {name} for good?", err=True):
        raise typer.Exit(1)
    lab().delete(name)
    return console.emit({"deleted": name}) if json else console.say(f"Deleted the {kind} {name}.")


@command
def worker(
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End when none waits.")
    ] = False,
    json: Json = False,
):
    """Work through the queue, each study in an interpreter of its own."""
    from ..worker import StopFlag, serve

    ours = lab()
    for event in serve(ours.home, until_empty, StopFlag()):
        if json:
            console.emit(event)
        else:
            console.say(f"{event['study']}: {event['event']}", err=True)
