"""The form that imports a data set: an upload, phantoms, or where one person sits, a path."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..modes import Mode
from ..records import BadInput
from .checkup import on_page

UPLOAD, PHANTOM, PATH = "Upload", "Phantoms", "Path on this machine"
NONE = '""'  # typed for a column: none, even where one has a usual name
GONE = "The upload is no longer on this machine: choose the file again."
LAYOUTS = """
<ul>
<li>a zip with <b>one folder per class</b>: <code>nevus/1.png</code>, <code>melanoma/2.png</code>;
<code>train</code>, <code>val</code> and <code>test</code> folders around or within them stay
splits, and the images of a patient’s folder, <code>nevus/p07/1.png</code>, stay together</li>
<li>a zip of images with a <b>CSV</b>, inside it or beside it: a row per image with its file, its
class (in one column, or a column of 0 and 1 for each) and, if known, its patient and its split</li>
<li>a zip of <b>DICOM</b> files in either form; of each only the picture is kept</li>
<li>an <b>.npz</b> like those of MedMNIST: <code>train_images</code>, <code>train_labels</code>, …
</li></ul>
<p>PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM. Every image is read once; what cannot be read is
named with the reason.</p>
"""
COLUMNS = {  # of a table of labels, with what they are often called
    "path": "file, …",
    "label": "label, dx, …",
    "group": "patient_id, …",
    "split": "split",
    "mask": "mask, …",
}


@dataclass
class Form:
    """The fields of an import."""

    kind: gr.Radio
    file: gr.File
    path: gr.Textbox
    modality: gr.Dropdown
    per_class: gr.Number
    seed: gr.Number
    name: gr.Textbox
    table: gr.File
    columns: dict[str, gr.Textbox]
    pattern: gr.Textbox
    button: gr.Button

    def fields(self) -> set:
        """What an import reads."""
        own = {field for name, field in vars(self).items() if name not in ("columns", "button")}
        return own | set(self.columns.values())


def build(mode: Mode) -> Form:
    """Build the form in the current layout."""
    kinds = [UPLOAD, PHANTOM, *([PATH] if mode.paths else [])]
    kind = gr.Radio(kinds, value=UPLOAD, label="Source")
    with gr.Column() as upload:
        file = gr.File(label="Zip or .npz", file_types=[".zip", ".npz"], height=132)
    with gr.Column(visible=False) as phantom:
        drawn = _phantom()
    with gr.Column(visible=False) as by_path:
        path = gr.Textbox(label="Path", info="Of a folder, a .zip or an .npz.")
    with gr.Accordion("Labels and groups", open=False) as tables:
        table = gr.File(label="Table of labels", file_types=[".csv"], height=132)
        with gr.Row():
            columns = {
                what: gr.Textbox(
                    label=f"{what.capitalize()} column", placeholder=usual, min_width=120
                )
                for what, usual in COLUMNS.items()
            }
        pattern = gr.Textbox(
            label="Group pattern",
            info="What in a file’s or folder’s name tells its patient, as a regular expression.",
            placeholder="patient_[0-9]+",
            visible=mode.paths,  # an expression can take for ever: on one's own machine only
        )
    name = gr.Textbox(
        label="Name",
        info="Letters, digits, - and _. Left empty, it is made from the source’s.",
        max_length=80,
    )
    button = gr.Button("Import", variant="primary")
    with gr.Accordion("What can be imported?", open=False):
        gr.HTML(LAYOUTS, elem_classes="ft-layouts")
    kind.change(
        lambda kind: [
            gr.Column(visible=kind == UPLOAD),
            gr.Column(visible=kind == PHANTOM),
            gr.Column(visible=kind == PATH),
            gr.Accordion(visible=kind != PHANTOM),
        ],
        kind,
        [upload, phantom, by_path, tables],
        show_progress="hidden",
        api_visibility="private",
    )
    return Form(kind, file, path, *drawn, name, table, columns, pattern, button)


def _phantom() -> tuple[gr.Dropdown, gr.Number, gr.Number]:
    from ..phantoms import MODALITIES  # here, because scipy is slow to load

    modality = gr.Dropdown(
        [(kind.description.split(":")[0], name) for name, kind in MODALITIES.items()],
        label="Modality",
        info="Synthetic images, drawn by ftlab: no patient, and every lesion is known.",
    )
    with gr.Row():
        per_class = gr.Number(100, label="Images per class", precision=0, minimum=1, min_width=120)
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=120)
    return modality, per_class, seed


def run(lab: Any, mode: Mode, form: Form, values: Mapping, progress: Callable) -> str:
    """Import what the form says; the name of the new data set.

    Args:
        values: of the form's fields.
        progress: a gr.Progress.
    Raises:
        BadInput: it cannot be imported.
    """
    kind, table = values[form.kind], values[form.table]
    options: dict[str, Any] = {
        "progress": lambda done, total: progress((done, total), "Reading", unit="images"),
        "drawing": lambda done, total: progress((done, total), "Preparing", unit="images"),
    }
    if kind == PHANTOM:
        source = f"phantom:{values[form.modality]}"
        options |= {"per_class": values[form.per_class], "seed": values[form.seed] or 0}
    else:
        source = _file(values[form.file]) if kind == UPLOAD else _path(mode, values[form.path])
        options["labels"] = table and Path(_file(table))
        for what, field in form.columns.items():
            typed = _typed(values[field])
            options[f"{what}_column"] = "" if typed == NONE else typed or None
        if mode.paths:
            options["group_pattern"] = _typed(values[form.pattern]) or None
    name = _typed(values[form.name]) or _name(source)
    try:
        lab.import_data(source, name, **options)
    except BadInput as error:
        raise BadInput(on_page(str(error))) from error
    if kind != PHANTOM and mode.name == "one":
        _forget(source if kind == UPLOAD else None, table)
    return name


def _typed(text: str | None) -> str:
    """What stands in a field; one in a part of the form that was never opened holds None."""
    return (text or "").strip()


def _file(upload: str | None) -> str:
    if not upload:
        raise BadInput("Choose a .zip or .npz file first.")
    if not Path(upload).is_file():
        raise BadInput(GONE)
    return upload


def _path(mode: Mode, typed: str | None) -> str:
    """A path on this machine, absolute, so that it is never taken for a hub's or a phantom's."""
    if not mode.paths:
        raise BadInput("Paths are read only where the app runs for one person: upload a zip.")
    if not _typed(typed):
        raise BadInput("Type the path of a folder, a .zip or an .npz first.")
    try:
        return str(Path(_typed(typed)).expanduser().absolute())
    except RuntimeError:  # a ~name that nobody has
        raise BadInput(
            "There is no such home folder on this machine: type the whole path."
        ) from None


def _name(source: str) -> str:
    """A data set's name from its source: "ISIC 2019.zip" is ISIC-2019."""
    stem = source.partition(":")[2] or Path(source).stem
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-")[:80]
    if not name:
        raise BadInput("Give the data set a name of letters, digits, - and _.")
    return name


def _forget(*uploads: str | None) -> None:
    """Delete uploads from the app's cache: the data set holds its own copy.

    For one person only. Equal uploads are one file there, so where several people share the app
    it may be another's too, and goes when it is old: `leftovers.sweep`.
    """
    for upload in filter(None, uploads):
        Path(upload).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another upload lies beside it
            Path(upload).parent.rmdir()
