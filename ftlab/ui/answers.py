"""The events of the Results tab: what is picked in, what the page shows out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import wraps

import gradio as gr

from ..records import BadInput
from . import board, costs, curves, ranking
from . import classes as by_class
from .charts import Cell, Chart, basis, text_equivalent
from .parts import csv_file, empty, esc, picture_files

NOTHING = empty(
    "No results yet", "Start a study in the Fine-tune tab; what it finds appears here run by run."
)
UNFINISHED = empty(
    "No run has finished yet", "The Fine-tune tab shows how far the study is; come back later."
)
AGREED = empty(
    "No disagreement", "The finished strategies give the same probabilities for every test image."
)
CHOOSE = (
    "Choose an image to see who votes for what, then open it in Compare to see where they look."
)
ELSEWHERE = "The images of this data set are not on this machine, so here are the votes alone."
LEFT_OUT = " Left out, since their pictures cannot be read: {} of {}."
IMAGES = 12  # of most disagreement that are shown


# --- what is picked ------------------------------------------------------------------------------


def find_studies(lab, chosen: Sequence[str] | None) -> dict:
    """The studies there are; without a choice the first that has finished is picked."""
    found = lab.studies()
    names = [row["study"] for row in found]
    kept = [name for name in chosen or () if name in names]
    if not kept:
        kept = [row["study"] for row in found if row["state"] == "finished"][:1] or names[:1]
    labels = [
        (row["study"] + ("" if row["state"] == "finished" else f" ({row['state']})"), row["study"])
        for row in found
    ]
    return gr.update(choices=labels, value=kept)


def pick(lab, studies: Sequence[str], chosen: str | None = None) -> list:
    """Verdicts, whether there is more to show, the studies' answers, and the cells among them.

    Args:
        chosen: the cell that is shown; it stays if it is still among them.
    """
    answers = [lab.status(name) for name in studies or ()]
    cells = board.cells(answers)
    says = board.verdicts(cells) + board.state(answers)
    if not cells:
        says += UNFINISHED if answers else NOTHING
    names = [cell.name for cell in cells]
    return [
        says,
        gr.update(visible=bool(cells)),
        answers,
        gr.update(choices=names, value=_stays(chosen, names), visible=len(names) > 1),
    ]


def ended(answers: Sequence[Mapping]) -> list[tuple]:
    """Every finished run of the studies: while they are the same, so is what is drawn."""
    return [
        (answer["study"], run["run"], run["seconds"])
        for answer in answers
        for run in answer["runs"]
        if run["state"] == "finished"
    ]


def _stays(chosen: str | None, names: Sequence[str], first: str | None = None) -> str | None:
    """What is chosen, if it is still among the names; else `first`, or the first of them."""
    return chosen if chosen in names else first or next(iter(names), None)


def tables(answers: Sequence[Mapping]) -> list:
    """Leaderboard, its caption, its file; and the heat map where there are several cells."""
    cells = board.cells(answers)
    if not cells:
        return [gr.skip()] * 6
    numbers = board.rows(cells)
    several = len(cells) > 1
    strategies = dict.fromkeys(row["strategy"] for answer in answers for row in answer["runs"])
    heat = shown(ranking.heat_map(cells, list(strategies))) if several else [None, ""]
    name = "-".join(dict.fromkeys(cell.study for cell in cells))[:80]
    return [
        board.table(numbers),
        board.caption(cells),
        csv_file(numbers, f"leaderboard-{name}"),
        gr.update(visible=several),
        *heat,
    ]


def drawn(function: Callable, outputs: int) -> Callable:
    """An event on (lab, answers, cell's name, ...) of a function on (lab, cell, ...)."""

    @wraps(function)
    def run(lab, answers, name, *rest):
        cells = {cell.name: (cell, answer) for answer in answers for cell in board.cells([answer])}
        return function(lab, *cells[name], *rest) if name in cells else [gr.skip()] * outputs

    return run


def choices(lab, cell: Cell, answer: Mapping, a=None, b=None, label=None) -> list:
    """Strategies A and B and the class: those chosen where the cell has them, else a beginning."""
    found = _evidence(lab, cell)
    names = [row["strategy"] for row in found]
    first, *second = board.pair(answer, cell.backbone, names)
    labels = [curve["class"] for curve in found[0]["roc"]]
    return [
        gr.update(choices=names, value=_stays(a, names, first)),
        gr.update(choices=names, value=_stays(b, names, (second or [first])[0])),
        gr.update(choices=labels, value=_stays(label, labels, next(iter(labels[::-1]), None))),
    ]


# --- charts --------------------------------------------------------------------------------------


def shown(*charts: Chart) -> list:
    """Figure and text equivalent of each chart in turn, for the outputs of an event."""
    return [part for chart in charts for part in (chart.figure, text_equivalent(chart))]


def dots(lab, cell: Cell, answer: Mapping, view: str) -> list:
    """Every strategy's mean with its 95 % interval."""
    return shown(ranking.dots(cell, view))


def learning(lab, cell: Cell, answer: Mapping, view: str) -> list:
    """A validation value by epoch, a panel for each strategy."""
    runs = [run for run in answer["runs"] if run["backbone"] == cell.backbone]
    return shown(curves.learning(lab.diaries(cell.study), runs, cell.name, view))


def cost(lab, cell: Cell, answer: Mapping, axis: str) -> list:
    """Balanced accuracy against seconds, trained parameters or stored bytes."""
    return shown(costs.cost(cell, axis))


def classes(lab, cell: Cell, answer: Mapping, a: str, b: str) -> list:
    """Sensitivity and specificity of each class, and the confusion of strategies a and b."""
    rows = _evidence(lab, cell)
    names = lab.evidence(cell.study)["classes"]
    of = {row["strategy"]: row for row in rows}
    pooled = _pooled(cell)
    return shown(
        by_class.per_class(rows, _pair(a, b), names, f"{cell.name} · {pooled}"),
        *(by_class.confusion(of[name], names, pooled) for name in (a, b)),
    )


def thresholds(lab, cell: Cell, answer: Mapping, a: str, b: str, label: str) -> list:
    """ROC and precision-recall of one class against the rest, and reliability."""
    rows, of, pair = _evidence(lab, cell), _pooled(cell), _pair(a, b)
    return shown(
        curves.roc(rows, pair, label, of),
        curves.precision_recall(rows, pair, label, of),
        curves.reliability(rows, pair, of),
    )


def two(lab, cell: Cell, answer: Mapping, a: str, b: str, label: str) -> list:
    """All that is drawn of strategies a and b: as `classes`, then as `thresholds`."""
    return [
        *classes(lab, cell, answer, a, b),
        *thresholds(lab, cell, answer, a, b, label),
    ]


def _evidence(lab, cell: Cell) -> list[dict]:
    rows = lab.evidence(cell.study)["per_strategy"]
    return [row for row in rows if row["backbone"] == cell.backbone]


def _pooled(cell: Cell) -> str:
    return basis(cell.rows).replace("seeds", "seeds pooled")


def _pair(a: str, b: str) -> list[str]:
    return list(dict.fromkeys((a, b)))


# --- disagreements -------------------------------------------------------------------------------


def disagreements(lab, cell: Cell, answer: Mapping) -> list:
    """Images of most disagreement: as a list, as a gallery, as votes; none is chosen yet.

    An image that cannot be read is in none of them, as long as one can.
    """
    found = lab.evidence(cell.study)["disagreements_of"][cell.backbone]
    images = [image for image in found if image["disagreement"] > 0][:IMAGES]
    nobody = [gr.update(visible=False), None]
    if not images:
        return [[], gr.update(value=[], visible=False), AGREED, "", *nobody]
    seen, pixels = [], []
    for image in images:
        with contextlib.suppress(BadInput):
            pixels.append(lab.test_image(cell.study, image["index"])["pixels"])
            seen.append(image)
    if not seen:
        votes = board.votes(images)
        return [[], gr.update(value=[], visible=False), votes, _note(ELSEWHERE), *nobody]
    lost = len(images) - len(seen)
    note = _note(CHOOSE + LEFT_OUT.format(lost, len(images)) * bool(lost))
    gallery = list(zip(picture_files(pixels), map(board.headline, seen), strict=True))
    nobody = [gr.update(interactive=False, visible=True), None]
    return [seen, gr.update(value=gallery, visible=True), board.votes(seen), note, *nobody]


def choose(answers, name: str, images: Sequence[Mapping], event: gr.SelectData) -> list:
    """One of the gallery: its votes set off, and what Compare is asked to open."""
    image = images[event.index]
    study = next(cell.study for cell in board.cells(answers) if cell.name == name)
    note = f"Test image {image['index']}: {image['truth']}, {board.headline(image)}."
    return [
        board.votes(images, image["index"]),
        _note(note),
        gr.update(interactive=True),
        (study, image["index"]),
    ]


def _note(text: str) -> str:
    return f'<p class="ft-muted">{esc(text)}</p>'
