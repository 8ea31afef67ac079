"""The Data tab: what data sets there are, what the checks found in them, import and delete."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ..modes import Mode
from ..records import BadInput
from . import checkup, importing, pictures
from .parts import empty, esc, told

SAMPLE = 24  # images in the grid
THUMB = 208  # pixels of their longer side: twice what a column of the grid shows
NOTHING = empty(
    "No data set yet",
    "Import labelled images with the form beside this, or choose Phantoms there to try ftlab "
    "without any.",
)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def tab(lab: Any, mode: Mode) -> SimpleNamespace:
    """Build the tab in the current layout.

    Returns:
        refresh(load, select): events on which the list is read, and read again; and
        `chosen`, the list itself, whose value is the name of the data set that is shown.
    """
    with gr.Row():
        with gr.Column(scale=2, min_width=280):
            chosen = gr.Radio([], label="Data sets", elem_classes="ft-datasets", visible=False)
            with gr.Accordion("Import a data set"):
                form = importing.build(mode)
        with gr.Column(scale=5, min_width=420):
            shown = _shown()
    _wire_choice(lab, chosen, shown)
    _wire_import(lab, mode, chosen, form, shown.report)
    _wire_delete(lab, chosen, shown)

    def refresh(load, select) -> None:
        load(told(lambda name: _choices(lab, name)), chosen, chosen, **QUIET)
        select(told(lambda name: _choices(lab, name, again=True)), chosen, chosen, **QUIET)

    return SimpleNamespace(chosen=chosen, refresh=refresh)


def _shown() -> SimpleNamespace:
    """The report, the grid under it, and delete with its question."""
    report = gr.HTML(NOTHING)
    with gr.Column(visible=False) as more:
        samples = gr.HTML()
        with gr.Row(elem_classes="ft-actions"):
            others = gr.Button("Show other images", size="sm", scale=0, min_width=170)
            delete = gr.Button("Delete this data set", size="sm", scale=0, min_width=170)
        with gr.Column(visible=False) as confirm:
            question = gr.HTML()
            with gr.Row(elem_classes="ft-actions"):
                keep = gr.Button("Keep it", size="sm", scale=0, min_width=170)
                sure = gr.Button(
                    "Delete for good", variant="stop", size="sm", scale=0, min_width=170
                )
    turn = gr.State(0)  # which sample is shown
    doomed = gr.State(None)  # the data set that the question is of
    return SimpleNamespace(
        report=report,
        more=more,
        samples=samples,
        others=others,
        delete=delete,
        confirm=confirm,
        question=question,
        keep=keep,
        sure=sure,
        turn=turn,
        doomed=doomed,
    )


# --- what is shown -------------------------------------------------------------------------------


def _choices(lab: Any, name: str | None, again: bool = False) -> gr.Radio:
    """The list of data sets, with `name` chosen where there is one, else the first.

    again: the choice is set only if it is gone, for the page may have another by now.
    """
    rows = {
        row["name"]: f"{row['name']} ({row['images']} images, {len(row['classes'])} classes)"
        for row in lab.datasets()
    }
    value = name if name in rows else next(iter(rows), None)
    chosen = {} if again and name in (None, value) else {"value": value}
    return gr.Radio([(text, row) for row, text in rows.items()], visible=bool(rows), **chosen)


def _wire_choice(lab: Any, chosen: gr.Radio, shown: SimpleNamespace) -> None:
    def show(name):
        known = bool(name)
        report = checkup.report(lab.check(name)) if known else NOTHING
        return report, gr.Column(visible=known), "", gr.Column(visible=False), 0

    def sample(name, turn):
        return checkup.samples(_sample(lab, name, turn)) if name else ""

    outputs = [shown.report, shown.more, shown.samples, shown.confirm, shown.turn]
    grid = [told(sample), [chosen, shown.turn], shown.samples]
    chosen.change(told(show), chosen, outputs, **QUIET).success(*grid, **QUIET)
    shown.others.click(lambda turn: turn + 1, shown.turn, shown.turn, **QUIET).success(
        *grid, **QUIET
    )


def _sample(lab: Any, name: str, seed: int) -> list[Mapping]:
    """Images of a data set for the grid; one that can no longer be read is left out."""
    found = []
    for row in lab.sample(name, SAMPLE, seed):
        with contextlib.suppress(BadInput):
            image = Image.fromarray(lab.picture(row["file"])["pixels"])
            image.thumbnail((THUMB, THUMB))
            found.append({**row, "uri": pictures.photo(np.asarray(image))})
    return found


# --- import and delete ---------------------------------------------------------------------------


def _wire_import(
    lab: Any, mode: Mode, chosen: gr.Radio, form: importing.Form, report: gr.HTML
) -> None:
    def run(values, progress=gr.Progress()):  # noqa: B008, because Gradio looks for it there
        name = importing.run(lab, mode, form, values, progress)
        gr.Success(f"{esc(name)} is imported and checked.")
        return _choices(lab, name), None, None, "", ""

    form.button.click(
        told(run),
        form.fields(),
        [chosen, form.file, form.table, form.path, form.name],
        show_progress_on=report,
        concurrency_id="import",
        concurrency_limit=2,
        api_visibility="private",
    )


def _wire_delete(lab: Any, chosen: gr.Radio, shown: SimpleNamespace) -> None:
    """Ask before a data set is deleted.

    What is deleted is what was asked about: another may be chosen while the question comes.
    """

    def ask(name):
        lab.deletable(name, "data set")
        said = f"Delete <strong>{esc(name)}</strong> with all its images for good?"
        return f'<p role="alert">{said}</p>', gr.Column(visible=True), name

    def sure(name, now):
        lab.delete(name, "data set")
        gr.Success(f"{esc(name)} is deleted.")
        return _choices(lab, now, again=True)

    hide = [lambda: gr.Column(visible=False), None, shown.confirm]
    asked = [shown.question, shown.confirm, shown.doomed]
    shown.delete.click(told(ask), chosen, asked, **QUIET)
    shown.keep.click(*hide, **QUIET)
    gone = shown.sure.click(told(sure), [shown.doomed, chosen], chosen, **QUIET)
    gone.success(*hide, **QUIET)
