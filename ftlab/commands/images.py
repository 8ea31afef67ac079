"""Sending new images through the runs of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..records import BadInput
from . import Json, command, counter, lab

Images = Annotated[list[Path], typer.Argument(help="Image files.")]
OfStudy = Annotated[str, typer.Option("--study", help="A study of `ftlab studies`.")]
NAMED = 3  # runs that could not be asked, of which a study may have many


@command
def predict(images: Images, study: OfStudy, json: Json = False):
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
    return _closing(answer)


@command
def explain(
    images: Images,
    study: OfStudy,
    out: Annotated[Path, typer.Option(help="A folder for overlays (.png) and maps (.npz).")],
    method: Annotated[
        str,
        typer.Option(
            help="gradcam, gradcam++, hirescam, layercam, eigencam, scorecam or ablationcam."
        ),
    ] = "gradcam",
    target: Annotated[
        str | None,
        typer.Option(help="The class explained, or own: each run's own prediction."),
    ] = None,
    scale: Annotated[str, typer.Option(help="own, or shared by the runs.")] = "own",
    mask: Annotated[list[Path] | None, typer.Option(help="A lesion's mask, one per image.")] = None,
    road: Annotated[bool, typer.Option("--road", help="Score by removing pixels; slow.")] = False,
    run: Annotated[list[str] | None, typer.Option(help="Only this run; repeatable.")] = None,
    layer: Annotated[
        str | None, typer.Option(help="A stage or unit, such as layer3 or unit7.")
    ] = None,
    json: Json = False,
):
    """Where each finished run looks: saliency maps over images. Not a medical device.

    All runs explain the same class, the one they prefer on average, unless --target says otherwise.
    """
    masks = _one_each(images, mask)
    _check_names(images, out)
    ours = lab()
    if any(m["name"] == method and m["slow"] for m in ours.methods()):
        console.say(f"{method} sees an image once for each channel; this takes long.", err=True)
    wish = dict(method=method, target=target, scale=scale, road=road, chosen=run or (), layer=layer)
    pairs = zip(images, masks, strict=True)
    return _tell((ours.explain(i, study, mask=lesion, **wish) for i, lesion in pairs), out, json)


def _tell(answers: Iterator[dict], out: Path, json: bool) -> None:
    """Keep and show each image's answer as it comes."""
    told = []
    for answer in answers:
        _keep(answer, out)
        told.append(answer)
        if not json:
            _show(answer)
    if json:
        return console.emit(_document(told))
    console.say(f"Overlays and maps are in {out}.")
    return _closing(told[0])


def _document(answers: list[dict]) -> dict:
    shared = {key: answers[0][key] for key in ("classes", "without_weights")}
    rows = [{k: v for k, v in answer.items() if k not in shared} for answer in answers]
    return {**shared, "images": rows}


def _one_each(images: list[Path], masks: list[Path] | None) -> list[Path | None]:
    if masks and len(masks) != len(images):
        raise BadInput(f"--mask is given once for each image: {len(images)} times or never.")
    return masks or [None] * len(images)


def _check_names(images: list[Path], out: Path) -> None:
    if twice := [stem for stem, n in Counter(i.stem for i in images).items() if n > 1]:
        raise BadInput(f"Two images are called {twice[0]}: explain them into different folders.")
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out takes a folder; {out.name} is a file.")


def _keep(answer: dict, out: Path) -> None:
    """Write each run's overlay and map, and leave their paths in the answer."""
    import numpy as np
    from PIL import Image

    from .. import files

    out.mkdir(parents=True, exist_ok=True)
    for run in answer["runs"]:
        found, overlay = run.pop("saliency"), Image.fromarray(run.pop("overlay"))
        name = f"{Path(answer['file']).stem}-{run['run']}"
        run["overlay"], run["map"] = str(out / f"{name}.png"), str(out / f"{name}.npz")
        files.write(Path(run["overlay"]), lambda path, o=overlay: o.save(path, format="PNG"))

        def save(path: Path, found=found) -> None:
            with open(path, "wb") as file:
                np.savez_compressed(file, map=found.map, raw=found.raw)

        files.write(Path(run["map"]), save)


def _show(answer: dict) -> None:
    console.say(answer["file"])
    for note in answer["notes"]:
        console.say(f"  {note}")

    def probability(run: dict) -> str:
        return f"{100 * run['probs'][answer['classes'].index(run['target'])]:.1f}"

    columns = {
        "run": lambda r: r["run"],
        "class explained": lambda r: r["target"],
        "its %": probability,
        "raw map": lambda r: f"{r['raw'][0]:.3g} .. {r['raw'][1]:.3g}",
        "places": lambda r: f"{r['native'][0]} x {r['native'][1]}",
    }
    if answer["runs"][0]["mask"]:
        columns["energy in mask %"] = lambda r: _percent(r["mask"]["energy"])
        columns["peak in mask"] = lambda r: "yes" if r["mask"]["pointing"] else "no"
        columns["best IoU %"] = lambda r: _percent(r["mask"]["iou"])
    if answer["runs"][0]["road"]:
        columns["ROAD, points"] = lambda r: f"{100 * r['road']['road']:+.1f}"
    console.table(answer["runs"], columns)
    for run in answer["runs"]:
        if run["raw"][1] <= 0:
            console.say(f"{run['run']}: no positive evidence for {run['target']}.")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


@command
def evaluate(
    study: Annotated[str, typer.Argument(help="A study of `ftlab studies`.")],
    data: Annotated[str, typer.Option(help="A data set of `ftlab datasets`, of the same classes.")],
    split: Annotated[str, typer.Option(help="all, train, val or test of it.")] = "all",
    json: Json = False,
):
    """External validation: a study's runs on another data set, beside their own test images."""
    answer = lab().evaluate(study, data, split=split, progress=counter("asked run"))
    if json:
        return console.emit(answer)
    columns = {
        "strategy": lambda row: row["strategy"],
        "backbone": lambda row: row["backbone"],
        "seeds": lambda row: len(row["seeds"]),
        "its own test, %": lambda row: console.percent(row["internal"]["balanced_accuracy"]),
        f"{data}, %": lambda row: console.percent(row["external"]["balanced_accuracy"]),
        "AUROC there, %": lambda row: console.percent(row["external"]["auroc"]),
        **{
            f"{name} found, %": lambda row, i=i: _percent(row["per_class"][i]["recall"])
            for i, name in enumerate(answer["classes"])
        },
    }
    console.table(answer["rows"], columns)
    console.say(
        "Balanced accuracy, mean over seeds with 95 % intervals: on the test images of the study's "
        f"own data, and on {_external(answer)}"
    )
    return _closing(answer)


def _external(answer: dict) -> str:
    """How many images there were, and what was left out: `90 images of x in 30 groups.`"""
    groups = f" in {answer['groups']} groups" if answer["groups"] else ""
    said = f"{answer['images']} images of {answer['data']}{groups}."
    if answer["unknown"]:
        said += f" Left out: {answer['unknown']} of classes that the study does not know."
    if answer["shared"]:
        said += f" Left out: {answer['shared']} that are in the study's own data, too."
    if answer["shared"] is None:
        said += " Whether some are in the study's own data cannot be told: it is not here."
    return said


def _closing(answer: dict) -> None:
    if absent := answer["without_weights"]:
        more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
        console.say(f"Not asked, being here without weights: {', '.join(absent[:NAMED])}{more}.")
    console.say("Not a medical device.")
