"""The part of the Results tab in which a study is taken away: report, model card, network."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gradio as gr

from ..records import BadInput
from .parts import cache_folder, esc, told

QUIET = dict(api_visibility="private", show_progress="hidden", trigger_mode="always_last")
WORK = dict(
    api_visibility="private",
    show_progress="minimal",
    trigger_mode="always_last",
    concurrency_id="networks",
    concurrency_limit=1,
)
FORMATS = [
    ("ONNX: any run, pixels in, probabilities out", "onnx"),
    ("safetensors: for timm, neither cut nor slimmed", "safetensors"),
]
KINDS = {  # what is made -> what its two buttons say
    "report": ("Make the report", "Save the report (HTML)"),
    "card": ("Make the model card", "Save the model card (Markdown)"),
    "network": ("Make the network's file", "Save the network (zip)"),
}
HIDDEN = gr.update(value=None, visible=False)  # nothing made yet
ABOUT = (
    '<p class="ft-muted">The report is one page of the study, to read without network or to '
    "print. A network's file works without ftlab, and is checked against its run before you get "
    "it. Neither is a medical device.</p>"
)


def layout() -> SimpleNamespace:
    """Build the part in the current tab."""
    ui = SimpleNamespace(make={}, save={})
    gr.HTML(ABOUT)
    with gr.Row():
        ui.study = gr.Dropdown([], label="Study", info="One of those picked above.")
        ui.run = gr.Dropdown([], label="Run", info="Of the model card and of the network.")
        ui.format = gr.Radio(FORMATS, value="onnx", label="The network as")
    with gr.Row():
        for kind, (make, save) in KINDS.items():
            with gr.Column(min_width=200):
                ui.make[kind] = gr.Button(make)
                ui.save[kind] = gr.DownloadButton(save, variant="primary", visible=False)
    ui.note = gr.HTML()
    return ui


def wire(lab, ui: SimpleNamespace, answers: gr.State) -> Callable:
    """Wire the buttons.

    Returns:
        follow: `follow(event)` fills the choices after an event that leaves the picked studies'
        answers in the state `answers`.
    """
    choices = [ui.study, ui.run, *ui.save.values(), ui.note]
    ui.study.input(told(partial(_turn, lab)), ui.study, choices[1:], **QUIET)
    of_run = [ui.save["card"], ui.save["network"], ui.note]
    gr.on([ui.run.input, ui.format.input], lambda: [*[HIDDEN] * 2, ""], None, of_run, **QUIET)
    for kind, making in (("report", _report), ("card", _card), ("network", _network)):
        outputs = [ui.save[kind], ui.note]
        asked = [ui.study, ui.run, ui.format]
        ui.make[kind].click(told(partial(making, lab)), asked, outputs, **WORK)

    def follow(event) -> None:
        event.then(told(partial(_choices, lab)), [answers, ui.study], choices, **QUIET)

    return follow


def _choices(lab, answers: Sequence[Mapping], chosen: str | None = None) -> list:
    """The studies to choose from, and what there is of the first of them.

    One that is chosen already stays, with what was made of it.
    """
    names = [answer["study"] for answer in answers]
    if chosen in names:
        able = gr.update(choices=lab.exportable(chosen))
        return [gr.update(choices=names), able, *[gr.skip()] * (len(KINDS) + 1)]
    first = names[0] if names else None
    return [gr.update(choices=names, value=first), *_turn(lab, first)]


def _turn(lab, study: str | None) -> list:
    """Another study: its runs, and nothing made yet."""
    able = lab.exportable(study) if study else []
    chosen = able[0] if able else None
    return [gr.update(choices=able, value=chosen), *[HIDDEN] * len(KINDS), ""]


def _report(lab, study: str, run: str | None, form: str) -> list:
    text = lab.report(_known(study))
    return _made(_text(text, f"ftlab-{study}.html"), f"The report of {study} is ready.")


def _card(lab, study: str, run: str | None, form: str) -> list:
    text = lab.card(_known(study), run)
    return _made(_text(text, "README.md"), f"The model card of {run or study} is ready.")


def _network(lab, study: str, run: str | None, form: str) -> list:
    """A zip of the network's file, its facts and its card."""
    if not run:
        raise BadInput("The weights of this study's runs are not here, so no network can be made.")
    with tempfile.TemporaryDirectory() as work:
        model = Path(work) / f"model.{form}"
        check = lab.export(_known(study), run, form, model)["check"]
        (Path(work) / "README.md").write_text(lab.card(study, run, form), encoding="utf-8")
        target = cache_folder() / f"{run}-{form}.zip"
        with zipfile.ZipFile(target, "w") as archive:
            for file in sorted(Path(work).iterdir()):
                archive.write(file, file.name)
    return _made(
        target,
        f"{run} is ready, and checked on {check['images']} images ({check['of']}): its "
        f"probabilities differ from the run's by at most {check['largest_difference']:.1g}.",
    )


def _known(study: str | None) -> str:
    if not study:
        raise BadInput("Pick a study first.")
    return study


def _text(text: str, name: str) -> Path:
    path = cache_folder() / name
    path.write_text(text, encoding="utf-8")
    return path


def _made(path: Path, said: str) -> list:
    return [gr.update(value=str(path), visible=True), f'<p class="ft-muted">{esc(said)}</p>']
