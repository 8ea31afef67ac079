"""One image, or many, through the runs of a study: from the lab's answers to what a page shows."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..records import BadInput
from . import cards, drawing, pictures, words

REFERENCE = "reference"  # the study that the page opens with
METHOD = "gradcam"
EXAMPLES = 8  # of a study's own images
KEPT = 24  # comparisons that are at hand without asking the runs again


@dataclass(frozen=True)
class Shown:
    """The image on the page: an example or an upload, or a test image of a study by its number."""

    file: str = ""
    caption: str = ""
    label: str | None = None
    mask: str | None = None  # a file
    study: str | None = None
    index: int | None = None


@dataclass(frozen=True)
class View:
    """What the page shows of one comparison; HTML, but for the classes and the table's rows."""

    classes: Sequence[str]
    target: str  # as it was asked: "" for the class most likely on average
    original: str
    sentence: str
    cards: str
    table: str
    rows: Sequence[Mapping[str, Any]]


class Kept:
    """The last answers by their questions; two that ask the same at once wait for one answer."""

    def __init__(self, bound: int = KEPT):
        self.bound, self.answers, self.lock = bound, OrderedDict(), threading.Lock()

    def get(self, question: Hashable, answer: Callable[[], Any]) -> Any:
        """The answer kept, else a new one; an error is kept by nobody."""
        with self.lock:
            if question not in self.answers:
                self.answers[question] = answer()
            self.answers.move_to_end(question)
            while len(self.answers) > self.bound:
                self.answers.popitem(last=False)
            return self.answers[question]


_kept = Kept()


# --- what can be compared ------------------------------------------------------------------------


def able_studies(lab) -> list[str]:
    """Studies with a finished run, the reference study first."""
    able = {row["study"] for row in lab.runs() if row["state"] == "finished"}
    names = [row["study"] for row in lab.studies() if row["study"] in able]
    return sorted(names, key=lambda name: name != REFERENCE)


def finished(lab, study: str) -> list[dict]:
    """The finished runs of a study.

    Raises:
        BadInput: there is none, or no such study.
    """
    lab.study_folder(study)  # of a study that is gone there is more to say
    rows = [row for row in lab.runs() if (row["study"], row["state"]) == (study, "finished")]
    if not rows:
        raise BadInput(f"No run of the study {study} has finished yet.")
    return rows


def one_each(rows: Sequence[Mapping]) -> list[Mapping]:
    """The run of the lowest seed of each backbone and strategy."""
    chosen: dict[tuple, Mapping] = {}
    for row in rows:
        key = row["backbone"], row["strategy"]
        if key not in chosen or row["seed"] < chosen[key]["seed"]:
            chosen[key] = row
    return list(chosen.values())


def examples(lab, study: str | None) -> list[Shown]:
    """Images to try on a study: its own test images, else drawn ones, of its classes if there are.

    A study of drawings is shown others, drawn for this.
    """
    asked = next((row for row in lab.studies() if row["study"] == study), None)
    drawn = lab.examples()
    of_class = [row for row in drawn if asked and row["label"] in asked["classes"]]
    fitting = [row for row in of_class if _several(row["modality"], of_class)]
    data = asked and lab.data_of(study)
    if data and not (fitting and is_drawn(data)):
        said = f"{'Synthetic ' * is_drawn(data)}test image"
        return [  # what was trained on would flatter
            Shown(str(row["file"]), f"{said}: {row['label']}", row["label"], _path(row))
            for row in lab.sample(asked["data"], EXAMPLES, split="test")
        ]
    return [_drawn(row) for row in fitting or drawn]


def _several(modality: str, rows: Sequence[Mapping]) -> bool:
    return len({row["label"] for row in rows if row["modality"] == modality}) > 1


def is_drawn(data: Mapping | None) -> bool:
    """Whether a data set, as `lab.data_of` tells of it, is one of drawings; None is not known."""
    return bool(data) and data["source"].startswith("phantom:")


def first(rows: Sequence[Shown]) -> Shown | None:
    """The image to open with: one with something to find, if there is one."""
    return next((row for row in rows if row.mask and row.label != "normal"), next(iter(rows), None))


def _drawn(row: Mapping) -> Shown:
    caption = f"Synthetic {words.MODALITIES.get(row['modality'], row['modality'])}: {row['label']}"
    return Shown(str(row["file"]), caption, row["label"], _path(row))


def _path(row: Mapping) -> str | None:
    return str(row["mask"]) if row["mask"] else None


def gallery(lab, study: str | None) -> list[tuple[Shown, np.ndarray]]:
    """The examples that can be read, each with a small image (h, w, 3) uint8 of it."""
    found = []
    for shown in examples(lab, study):
        with contextlib.suppress(BadInput):  # one that is gone must not hide the others
            found.append((shown, pictures.small(lab.picture(Path(shown.file))["pixels"])))
    return found


# --- one image -----------------------------------------------------------------------------------


def compare(lab, shown: Shown, study: str, method: str = METHOD, target: str | None = None) -> View:
    """Send the image through one run of each strategy and put the answers into words and cards.

    Args:
        target: the class explained, or "own"; None for the one the runs prefer on average.
    Raises:
        BadInput: the image cannot be read, or the study has no run that can predict.
    """
    ended = finished(lab, study)
    runs = one_each(ended)
    trained = lab.study_folder(study), *((row["run"], row["seconds"]) for row in ended)
    board = _kept.get(trained, lambda: lab.status(study)["leaderboard"]["rows"])
    question = told_apart(lab, shown), method, target, trained
    return _kept.get(question, lambda: _compare(lab, shown, runs, board, study, method, target))


def told_apart(lab, shown: Shown) -> tuple:
    """What tells an image from all others, whoever asks: names of studies are not enough."""
    if shown.index is not None:
        return lab.study_folder(shown.study), shown.index
    return os.path.realpath(shown.file), shown.caption, shown.label


def warm(lab) -> None:
    """Answer beforehand what the first visitor will ask: the reference study on its example."""
    for study in able_studies(lab)[:1]:
        if shown := first([shown for shown, _ in gallery(lab, study)]):
            with contextlib.suppress(BadInput):
                compare(lab, shown, study)


def _compare(lab, shown: Shown, runs, board, study: str, method: str, target) -> View:
    image, pixels, mask, label = opened(lab, shown)
    outlined = lab.picture(mask)["pixels"][..., 0] > 127 if mask else None
    outlined = outlined if mask and outlined.any() else None
    options = {"method": method, "target": target, "chosen": [row["run"] for row in runs]}
    answer = lab.explain(image, study, **options, **({"mask": mask} if mask else {}))
    classes = answer["classes"]
    truth = label if label in classes else None
    rows = [_row(lab, run, classes, runs, board, method) for run in answer["runs"]]
    notes = [*answer["notes"], *_absent(answer["without_weights"])]
    return View(
        classes,
        target or "",
        cards.original(pixels, shown.caption, outlined, notes),
        cards.consensus(lab.consensus(answer, study), truth, cards.who_votes(answer["runs"])),
        cards.grid(rows, pixels, outlined, truth),
        cards.heat_table(rows),
        [record(shown.caption, label, row) for row in rows],
    )


def alone(lab, shown: Shown) -> str:
    """HTML: the image by itself, where the runs say nothing of it; none where it cannot be read."""
    with contextlib.suppress(BadInput):
        _, pixels, _, _ = opened(lab, shown)
        return cards.original(pixels, shown.caption, None, ())
    return ""


def opened(lab, shown: Shown) -> tuple[Path, np.ndarray, Path | None, str | None]:
    """(file, pixels (H, W, 3), file of its mask, label)."""
    if shown.index is not None:
        found = lab.test_image(shown.study, shown.index)
        return found["file"], found["pixels"], found["mask"], found["truth"]
    mask = Path(shown.mask) if shown.mask else None
    return Path(shown.file), lab.picture(Path(shown.file))["pixels"], mask, shown.label


def _row(lab, run: Mapping, classes, runs, board, method: str) -> dict:
    """A card's row: what the run says of the image, and what is known of the run."""
    trained = next(row for row in runs if row["run"] == run["run"])
    both = run["strategy"], run["backbone"]
    tested = next((row for row in board if (row["strategy"], row["backbone"]) == both), None)
    known = {
        row["name"]: f"{drawing.equation(row['summary'])} {row['source']}."
        for row in lab.strategies()
    }
    about = {row["name"]: row["summary"] for row in lab.methods()}
    return {
        "run": run["run"],
        "strategy": run["strategy"],
        "backbone": run["backbone"],
        "summary": known.get(run["strategy"].partition("@")[0], ""),
        "classes": classes,
        "probs": run["probs"],
        "target": classes.index(run["target"]),
        "method": method,
        "method_summary": f"{method} {about[method]}.",
        "map": run["saliency"].map,
        "peak": run["saliency"].peak,
        "native": run["native"],
        "inside": run["mask"] and run["mask"]["energy"],
        "test": tested and tested["balanced_accuracy"],
        "seconds": trained["seconds"],
    }


def _absent(names: Sequence[str]) -> list[str]:
    if not names:
        return []
    one = len(names) == 1
    return [
        f"{len(names)} run{'' if one else 's'} of this study {'is' if one else 'are'} here "
        "without weights and cannot predict"
    ]


def record(image: str, label: str | None, row: Mapping) -> dict:
    """A line of the table that can be downloaded."""
    probs = {f"probability {name}": p for name, p in zip(row["classes"], row["probs"], strict=True)}
    said = row["classes"][int(np.argmax(row["probs"]))]
    who = {key: row[key] for key in ("run", "strategy", "backbone")}
    return {"image": image, "label": label or "", **who, "predicted": said, **probs}
