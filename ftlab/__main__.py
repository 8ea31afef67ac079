"""The command line: `python -m ftlab COMMAND`, or `ftlab COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from . import console
from .records import BadInput, Settings

app = typer.Typer(
    help="Which fine-tuning strategy should I use, and what does it change? Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Backbone = Annotated[str, typer.Option(help="A name of `ftlab backbones`, or a timm CNN.")]
Weights = Annotated[str, typer.Option(help="imagenet, random, or a .safetensors or .pth file.")]
Epochs = Annotated[int, typer.Option(help="Epochs of every run.")]
Data = Annotated[str, typer.Argument(help="A data set of `ftlab datasets`.")]
Study = Annotated[str, typer.Argument(help="A study of `ftlab studies`.")]


def lab():
    from .lab import Lab

    return Lab.at_home()


def command(function: Callable) -> Callable:
    """Register a command; bad input ends it with its sentence and exit code 2."""

    @wraps(function)
    def run(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except BadInput as error:
            console.say(str(error), err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None

    return app.command(name=function.__name__.rstrip("_"))(run)


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
def datasets(json: Json = False):
    """The imported data sets."""
    rows = lab().datasets()
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
    return console.emit(rows) if json else _runs_table(rows)


def _runs_table(rows: list[dict]) -> None:
    def accuracy(row):
        return f"{100 * row['test']['balanced_accuracy']:.1f}" if "test" in row else ""

    console.table(
        rows,
        {
            **({"study": lambda r: r["study"]} if rows and "study" in rows[0] else {}),
            "run": lambda r: r["run"],
            "state": lambda r: r["state"],
            "test balanced accuracy %": accuracy,
            "seconds": lambda r: f"{r['seconds']:.0f}" if "seconds" in r else "",
        },
    )


@command
def plan(
    strategy: str,
    backbone: Backbone = "resnet50",
    epochs: Epochs = 10,
    knob: Annotated[list[str] | None, typer.Option("--set", help="knob=value")] = None,
    json: Json = False,
):
    """What a strategy will do: who learns when, and at which rate."""
    given = _knobs([f"{strategy}.{text}" for text in knob or []]).get(strategy, {})
    written = lab().plan(strategy, backbone, epochs, **given)
    if json:
        return console.emit(written)
    stages = lab().layout(backbone).cut(written["cut_after"]).names
    return console.say(console.plan_text({**written, "stages": stages}))


@command
def import_(
    source: Annotated[str, typer.Argument(help="Folder, zip, .npz, or hub:owner/name.")],
    name: Annotated[str, typer.Argument(help="What to call the data set.")],
    labels: Annotated[Path | None, typer.Option(help="CSV with a row per image.")] = None,
    path_column: str | None = None,
    label_column: str | None = None,
    group_column: Annotated[str | None, typer.Option(help="Patient, lesion, video.")] = None,
    split_column: str | None = None,
    fractions: Annotated[str, typer.Option(help="train,val,test")] = "0.64,0.16,0.2",
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 0,
    json: Json = False,
):
    """Make a checked data set with splits from labelled images."""
    try:
        shares = tuple(float(part) for part in fractions.split(","))
    except ValueError:
        raise BadInput("--fractions takes three numbers such as 0.64,0.16,0.2.") from None
    report = lab().import_data(
        source,
        name,
        labels=labels,
        path_column=path_column,
        label_column=label_column,
        group_column=group_column,
        split_column=split_column,
        fractions=shares,
        seed=seed,
        progress=_counter("read"),
    )
    return console.emit(report) if json else _report(report)


def _counter(what: str) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else "\r"
            print(f"{what} {done} of {total}", end=end, file=sys.stderr, flush=True)

    return show


def _report(report: dict) -> None:
    console.say(f"{report['name']}: {report['images']} images")
    for name, count in report["classes"].items():
        console.say(f"  {name}  {count}")
    console.say("  " + ", ".join(f"{split} {n}" for split, n in report["splits"].items()))
    for note in report["warnings"]:
        console.say(f"Warning: {note}")
    for skipped in report["skipped"]:
        console.say(f"Skipped {skipped['file']}: {skipped['reason']}")


@command
def check(name: Data, json: Json = False):
    """Classes, groups, duplicates, unreadable files and warnings of a data set."""
    report = lab().check(name)
    return console.emit(report) if json else _report(report)


@command
def compare(
    data: Data,
    backbone: Annotated[str, typer.Option(help="One or several, comma-separated.")] = "resnet50",
    strategies: Annotated[str, typer.Option(help="all, davila, or names with commas.")] = "davila",
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 3,
    epochs: Epochs = 10,
    name: Annotated[str | None, typer.Option(help="Of the study.")] = None,
    lr: Annotated[str | None, typer.Option(help="A value, or auto: one grid for all.")] = None,
    size: Annotated[int, typer.Option(help="Pixels, both sides.")] = 224,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 32,
    optimizer: Annotated[str, typer.Option(help="adam, adamw or sgd.")] = "adam",
    schedule: Annotated[str, typer.Option(help="cosine or constant, in each phase.")] = "cosine",
    augment: Annotated[str, typer.Option(help="none, light or ttl.")] = "none",
    flips: Annotated[bool, typer.Option(help="Mirror images too.")] = False,
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    class_weights: Annotated[bool, typer.Option(help="Weigh rare classes up.")] = False,
    patience: Annotated[int | None, typer.Option(help="Stop the last phase early.")] = None,
    select: Annotated[
        str, typer.Option(help="balanced_accuracy, average_precision or loss, on validation.")
    ] = "balanced_accuracy",
    train_per_class: Annotated[int | None, typer.Option(help="At most so many images.")] = None,
    weights: Weights = "imagenet",
    knob: Annotated[list[str] | None, typer.Option("--set", help="strategy.knob=value")] = None,
    queue: Annotated[bool, typer.Option(help="Leave the work to `ftlab worker`.")] = False,
    json: Json = False,
):
    """Train strategies side by side and say whether they differ; the same command resumes."""
    settings = Settings(
        *(epochs, size, batch, _lr(lr), optimizer, schedule, augment, flips, precision),
        *(class_weights, patience, select, train_per_class),
    )
    if seeds < 1:
        raise BadInput(f"--seeds is at least 1, not {seeds}.")
    names, several = strategies.split(","), backbone.split(",")
    knobs = _knobs(knob or [])
    _study(data, several, names, range(seeds), settings, weights, knobs, name, queue, json)


@command
def train(
    data: Data,
    strategy: Annotated[str, typer.Option(help="A name of `ftlab strategies`.")] = "full",
    backbone: Backbone = "resnet50",
    epochs: Epochs = 10,
    seed: int = 0,
    name: Annotated[str | None, typer.Option(help="Of the study.")] = None,
    lr: Annotated[str | None, typer.Option(help="A value, or auto.")] = None,
    size: Annotated[int, typer.Option(help="Pixels, both sides.")] = 224,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 32,
    weights: Weights = "imagenet",
    knob: Annotated[list[str] | None, typer.Option("--set", help="knob=value")] = None,
    json: Json = False,
):
    """A study of one run."""
    settings = Settings(epochs=epochs, size=size, batch=batch, lr=_lr(lr))
    knobs = _knobs([f"{strategy}.{text}" for text in knob or []])
    _study(data, [backbone], [strategy], [seed], settings, weights, knobs, name, False, json)


def _lr(text: str | None) -> float | str | None:
    if text in (None, "auto"):
        return text
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"--lr takes a number or auto, not {text!r}.") from None


def _knobs(texts: list[str]) -> dict[str, dict]:
    """strategy.knob=value, with the value as Python would read it where it is a number or flag."""
    knobs: dict[str, dict] = {}
    for text in texts:
        where, equals, value = text.partition("=")
        strategy, dot, name = where.partition(".")
        if not (equals and dot and name and value):
            raise BadInput(f"--set takes strategy.knob=value, not {text!r}.")
        knobs.setdefault(strategy, {})[name] = _value(value)
    return knobs


def _value(text: str):
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _study(data, backbones, strategies, seeds, settings, weights, knobs, name, queue, json) -> None:
    """Ask, work, show; shared by compare and train."""
    from . import studies, worker

    ours = lab()
    folder = ours.ask(data, backbones, strategies, seeds, settings, weights, knobs, name)
    if queue:
        worker.enqueue(ours.home, folder.name)
        console.say(f"The study {folder.name} waits for `ftlab worker`.", err=True)
        return
    stop = worker.StopFlag()
    console.say(f"Study {folder.name}", err=True)

    def look():
        return studies.progress(folder, studies.read(folder))

    with console.progress(look) as show:
        for event in ours.work(folder, stop):
            if json:
                console.emit({**event, **look()})
            else:
                show(event)
    answer = ours.answer(folder)
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
def status(study: Study, json: Json = False):
    """How far a study is and what it says so far."""
    answer = lab().status(study)
    if json:
        return console.emit(answer)
    _runs_table(answer["runs"])
    done, total = answer["epochs_done"], answer["epochs"]
    console.say(f"{answer['state']}, {done} of {total} epochs")
    if answer["state"] == "running":
        console.say(f"about {console.duration(answer['seconds_left'])} left")
    return console.leaderboard(answer)


@command
def stop(study: Study, json: Json = False):
    """Ask a study to stop at its next step; what is done is kept."""
    worked = lab().stop(study)
    if json:
        return console.emit({"study": study, "stopped": worked})
    return console.say("Stopped." if worked else "Nobody was working on it; it stays stopped.")


@command
def delete(
    name: Annotated[str, typer.Argument(help="A study or a data set of your own.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
):
    """Delete a study with its checkpoints, or a data set. Asks first."""
    if not yes and not typer.confirm(f"Delete {name} for good?", err=True):
        raise typer.Exit(1)
    kind = lab().delete(name)
    return console.emit({"deleted": name}) if json else console.say(f"Deleted the {kind} {name}.")


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
    return console.say("Not a medical device.")


@command
def fetch(backbone: str, json: Json = False):
    """Download a backbone's ImageNet weights ahead, for a place without network."""
    path = lab().fetch(backbone)
    size = path.stat().st_size
    if json:
        return console.emit({"backbone": backbone, "bytes": size})
    return console.say(f"The weights of {backbone} are here ({console.amount(size)}B).")


@command
def worker(
    until_empty: Annotated[bool, typer.Option(help="End when nothing waits.")] = False,
):
    """Work through the queue, each study in an interpreter of its own."""
    from .worker import StopFlag, serve

    ours = lab()
    for line in serve(ours.home, ours.checkpoints, until_empty, StopFlag()):
        console.say(line, err=True)


@command
def doctor(json: Json = False):
    """What this machine has and lacks."""
    from .doctor import examine

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


def main() -> None:
    app()


if __name__ == "__main__":
    main()
