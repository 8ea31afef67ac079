"""The Compare tab: one image through every strategy of a study; the page opens on an answer."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gradio as gr

from ..modes import Mode
from ..records import BadInput
from . import blending, cards, comparison, many
from .comparison import Shown
from .parts import csv_file, empty, picture_files, spoken, told

LAST = {"api_visibility": "private", "trigger_mode": "always_last"}  # what is chosen last counts
QUIET = {"show_progress": "hidden", **LAST}
ASK = {"concurrency_id": "networks", "concurrency_limit": 1, **LAST}
EXPLAINED = [("most likely on average", ""), ("each strategy's own", "own")]
NO_STUDY = (
    "Start a study in the Fine-tune tab: as soon as a run of it has finished, its strategies can "
    "be compared here on any image."
)
DEMO = " Or make one from nothing: type ftlab demo in a terminal."

# The drop zone takes no paste of its own.
PASTE = """() => document.addEventListener('paste', event => {
    const drop = document.querySelector('#ft-drop'), files = event.clipboardData?.files;
    const input = drop?.querySelector('input[type=file]');
    if (!input || !drop.offsetParent || !files?.length) return;
    input.files = files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
})"""


def tab(lab, mode: Mode) -> SimpleNamespace:
    """Build the tab in the current layout.

    Returns:
        load: `load(demo)` fills the tab when a page opens.
        refresh: `refresh(event)` looks up which studies there are after an event.
        follow: `follow(event, picked)` shows a study's test image after an event; picked is a
        gr.State with (study, index).
    """
    ui = _layout()
    asked = [ui.shown, ui.study, ui.method, ui.target]
    blend = [ui.blend.run, ui.blend.button, ui.blend.said, ui.blend.result]
    view = [ui.original, ui.sentence, ui.cards, ui.table, *blend, ui.csv, ui.target]
    show = told(partial(_show, lab, mode))
    shows = dict(fn=show, inputs=[*asked, ui.blend.run], outputs=view, **ASK)
    shows["show_progress_on"] = ui.cards
    table = [ui.many, ui.many_csv]
    chosen = [ui.shown, *table]

    @told
    def pick_line(lines: list[Shown], event: gr.SelectData) -> Shown:
        return _pick_line(lab, lines, event)

    for component in (ui.method, ui.target):
        component.input(**shows)
    turned = [ui.examples, ui.rows, ui.shown, ui.target, *table]
    for event in (ui.study.input, ui.gone.change):
        event(told(partial(_turn, lab)), [ui.study, ui.shown], turned, **QUIET).success(**shows)
    ui.examples.select(told(_pick), ui.rows, chosen, **QUIET).success(**shows)
    ui.many.select(pick_line, ui.lines, ui.shown, **QUIET).success(**shows)
    ui.drop.upload(told(_sent), ui.drop, [ui.sent, ui.drop], **QUIET).success(
        told(partial(_take, lab, mode)),
        [ui.sent, ui.study, ui.shown],
        [*chosen, ui.lines],
        show_progress_on=ui.original,
        **ASK,
    ).success(**shows)
    blending.wire(lab, ui.blend, asked, **ASK)

    def follow(event, picked: gr.State) -> None:
        opened = [*chosen, ui.examples, ui.rows, ui.study, ui.target]
        event(told(partial(_open, lab)), picked, opened, **QUIET).success(**shows)

    def refresh(event) -> None:
        known = [ui.study, ui.opened, ui.gone]
        event(told(partial(_studies, lab)), known, [ui.study, ui.gone], **QUIET)

    def load(demo: gr.Blocks) -> None:
        demo.load(None, None, None, js=PASTE, **QUIET)
        filled = [ui.study, ui.opened, ui.method, ui.examples, ui.rows, ui.shown]
        demo.load(told(partial(_first, lab)), None, filled, **QUIET).success(**shows)

    return SimpleNamespace(load=load, refresh=refresh, follow=follow)


def _layout() -> SimpleNamespace:
    ui = SimpleNamespace(shown=gr.State(), rows=gr.State([]), lines=gr.State([]))
    ui.sent = gr.State([])  # the files that came last
    ui.opened = gr.State()  # the study that the page opened with, "" for none; None until it has
    ui.gone = gr.State(0)  # how often the study that was chosen was gone
    with gr.Row(elem_classes="ft-compare"):
        with gr.Column(scale=1, min_width=230, elem_classes="ft-left"):
            ui.original = gr.HTML(min_height=220)
            ui.drop = gr.File(
                label="Your own: PNG, JPEG, TIFF, DICOM, several or a zip; drop, paste or choose",
                file_count="multiple",
                height=64,
                elem_id="ft-drop",
            )
            ui.examples = gr.Gallery(
                label="Examples, true label below",
                columns=2,
                allow_preview=False,
                object_fit="cover",
                interactive=False,
                buttons=[],
                elem_classes="ft-examples",
            )
        with gr.Column(scale=4, min_width=500):
            ui.many = gr.HTML(visible=False, js_on_load=cards.PICKED)
            csv = {"size": "sm", "visible": False, "elem_classes": "ft-csv"}
            ui.many_csv = gr.DownloadButton("This table as CSV", **csv)
            ui.sentence = gr.HTML(min_height=36)
            _controls(ui)
            ui.cards = gr.HTML(min_height=420)
            ui.table = gr.HTML()
            ui.csv = gr.DownloadButton("Probabilities as CSV", **csv)
            ui.blend = blending.build()
    return ui


def _controls(ui: SimpleNamespace) -> None:
    with gr.Row(elem_classes="ft-controls"):
        ui.study = gr.Dropdown([], label="Study", min_width=150)
        usual = comparison.METHOD  # from the start: an early event would send none otherwise
        ui.method = gr.Dropdown([usual], value=usual, label="Saliency map by", min_width=150)
        ui.target = gr.Dropdown(EXPLAINED, value="", label="Class the maps explain", min_width=150)
    gr.HTML(cards.toolbar())


# --- events --------------------------------------------------------------------------------------


def _first(lab) -> tuple:
    """What a page that opens starts with: choices, the reference study, and an example."""
    studies = comparison.able_studies(lab)
    methods = [
        (f"{row['name']} (slow)" if row["slow"] else row["name"], row["name"])
        for row in lab.methods()
    ]
    study = studies[0] if studies else None
    gallery, rows = _examples(lab, study)
    return (
        gr.Dropdown(studies, value=study),
        study or "",
        gr.Dropdown(methods, value=comparison.METHOD),
        gallery,
        rows,
        comparison.first(rows),
    )


def _studies(lab, chosen: str | None, opened: str | None, gone: int) -> tuple[dict, int]:
    """The studies that have a finished run by now; what is chosen stays while it is one of them."""
    if opened is None:  # the tab is selected as its page opens, and would be compared twice
        return gr.update(), gone
    able = comparison.able_studies(lab)
    if (chosen or opened) in able:
        return gr.update(choices=able), gone
    return gr.update(choices=able, value=next(iter(able), None)), gone + 1


def _examples(lab, study: str | None) -> tuple:
    found = comparison.gallery(lab, study)
    rows = [row for row, _ in found]
    files = picture_files(small for _, small in found)
    captions = (row.caption for row in rows)
    return gr.Gallery(list(zip(files, captions, strict=True)), selected_index=None), rows


def _turn(lab, study: str, shown: Shown | None) -> tuple:
    """Another study: its examples; an example gives way to one of them, an upload stays."""
    gallery, rows = _examples(lab, study)
    stays = shown is not None and shown.label is None and shown.study is None
    return gallery, rows, shown if stays else comparison.first(rows), "", *_no_table()


def _pick(rows: list[Shown], event: gr.SelectData) -> tuple:
    return rows[event.index], *_no_table()


def _pick_line(lab, lines: list[Shown], event: gr.SelectData) -> Shown:
    """An image of the table; its file may be gone by now."""
    shown = lines[event.index]
    try:
        lab.picture(Path(shown.file))
    except BadInput:
        raise BadInput(f"{shown.caption} is no longer kept here: send it once more.") from None
    return shown


def _open(lab, picked: tuple[str, int] | None) -> tuple:
    if not picked:
        raise BadInput("Choose one of the images first.")
    study, index = picked
    what = "Synthetic test image" if comparison.is_drawn(lab.data_of(study)) else "Test image"
    shown = Shown(caption=f"{what} {index} of {study}", study=study, index=index)
    studies = gr.Dropdown(comparison.able_studies(lab), value=study)
    return shown, *_no_table(), *_examples(lab, study), studies, ""


def _show(
    lab,
    mode: Mode,
    shown: Shown | None,
    study: str | None,
    method: str,
    target: str,
    blended: str | None = None,
) -> tuple:
    """The comparison, for all parts of the page that show it; what was blended is another's now.

    Where there is none a sentence says so: what stood there answered another question.
    """
    if not study:
        what_to_do = NO_STUDY + DEMO * (mode.name == "one")
        return _nothing(sentence=empty("There is nothing to compare with yet", what_to_do))
    if not shown:
        said = empty("No image is chosen yet", "Send one, or choose an example.")
        return _nothing(sentence=said)
    try:
        view = comparison.compare(lab, shown, study, method, target or None)
        blends = blending.choices(lab, study, blended)
    except BadInput as error:
        said = empty("This cannot be compared", spoken(str(error)))
        return _nothing(comparison.alone(lab, shown), made=said)
    choices = [*EXPLAINED, *((name, name) for name in view.classes)]
    return (
        view.original,
        view.sentence,
        view.cards,
        view.table,
        *blends,
        gr.DownloadButton(value=csv_file(view.rows, f"{study}-probabilities"), visible=True),
        gr.Dropdown(choices, value=view.target),
    )


def _nothing(original: str = "", sentence: str = "", made: str = "") -> tuple:
    """The outputs of `_show` without a comparison; `made` stands in place of the cards."""
    hidden = gr.update(visible=False)
    blend = [hidden, hidden, "", hidden]
    return original, sentence, made, "", *blend, hidden, gr.skip()


def _sent(files: list[str]) -> tuple:
    """The files, and an empty drop zone: what it still holds would come again with the next."""
    return files, None


def _take(lab, mode: Mode, files: list[str], study: str | None, shown: Shown | None) -> tuple:
    """Uploads: one image is shown; several, or a zip, make a table.

    Raises:
        BadInput: none of them can be compared; what is shown stays.
    """
    if not study:
        raise BadInput("There is no study with a finished run yet: start one in Fine-tune first.")
    if len(files) == 1 and not files[0].lower().endswith(".zip"):
        file = Path(files[0])
        lab.picture(file)
        return Shown(str(file), file.name), *_no_table(), []
    with tempfile.TemporaryDirectory() as work:
        images, skipped = many.unpacked([Path(file) for file in files], Path(work))
        if len(images) > mode.batch_images:
            raise BadInput(
                f"{len(images)} images are more than the {mode.batch_images} that can be compared "
                "at once: send them in parts."
            )
        images = many.kept(images, Path(work))
    table, rows, lines = many.batch(lab, images, study, skipped)
    button = gr.DownloadButton(value=csv_file(rows, f"{study}-images"), visible=True)
    return shown, gr.HTML(table, visible=True), button, lines


def _no_table() -> tuple:
    return gr.HTML("", visible=False), gr.DownloadButton(visible=False)
