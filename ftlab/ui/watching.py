"""Studies at work, in the Fine-tune tab: which there are, and how far the chosen one is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial

import gradio as gr

from . import charts, parts, progress
from .parts import told

TICK_SECONDS = 2.0
# Answers may overtake each other. Gradio's server would then keep the list of an older one and
# refuse, for good, what was chosen from a newer; so what a page says it shows is taken as it comes.
AS_IT_COMES = {"preprocess": False}
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
NOTHING = ("No study yet", "Ask for one under “New study”; it can be watched here.")


@dataclass
class Watching:
    """The components that show studies.

    `doomed` names the study that the question is of; `seen` holds digests of what is shown, on the
    page itself: it changes with what it tells of, whichever answer comes last.
    """

    study: gr.Radio
    head: gr.HTML
    stop: gr.Button
    resume: gr.Button
    plot: gr.Plot
    table: gr.HTML
    delete: gr.Button
    confirm: gr.Column
    question: gr.HTML
    keep: gr.Button
    sure: gr.Button
    doomed: gr.State
    seen: gr.JSON

    @property
    def inputs(self) -> list:
        return [self.study, self.seen]

    @property
    def outputs(self) -> list:
        shown = [self.study, self.head, self.stop, self.resume, self.plot, self.table]
        return [*shown, self.delete, self.seen]


def build() -> Watching:
    """Lay out the list of studies and, beside it, how the chosen one is getting on."""
    with gr.Row():
        with gr.Column(scale=3, min_width=240):
            study = gr.Radio([], label="Studies", elem_classes="ft-studies")
        with gr.Column(scale=9, min_width=520):
            head = gr.HTML(parts.empty(*NOTHING))
            with gr.Row():
                stop = gr.Button("Stop", size="sm", visible=False, scale=0, min_width=120)
                resume = gr.Button("Resume", size="sm", visible=False, scale=0, min_width=120)
                delete = gr.Button("Delete", size="sm", visible=False, scale=0, min_width=120)
            with gr.Column(visible=False) as confirm:
                question = gr.HTML()
                with gr.Row():
                    keep = gr.Button("Keep it", size="sm", scale=0, min_width=170)
                    sure = gr.Button(
                        "Delete for good", size="sm", variant="stop", scale=0, min_width=170
                    )
            plot = gr.Plot(show_label=False, visible=False, elem_classes="ft-plot")
            table = gr.HTML()
    sureness = delete, confirm, question, keep, sure, gr.State(None)
    return Watching(study, head, stop, resume, plot, table, *sureness, gr.JSON({}, visible=False))


def wire(lab, watching: Watching):
    """Look at the chosen study on every tick, on every choice and after every button."""

    @told
    def look(chosen: str | None, seen: dict):
        return _look(lab, chosen, seen)

    @told
    def stop(chosen: str, seen: dict):
        lab.stop(_name(chosen))
        return _look(lab, chosen, seen)

    @told
    def resume(chosen: str, seen: dict):
        lab.resume(_name(chosen))
        return _look(lab, chosen, seen)

    gr.Timer(TICK_SECONDS).tick(look, watching.inputs, watching.outputs, **QUIET, **AS_IT_COMES)
    watching.study.input(look, watching.inputs, watching.outputs, **QUIET, **AS_IT_COMES)
    for button, act in ((watching.stop, stop), (watching.resume, resume)):
        asked = watching.inputs, watching.outputs
        button.click(act, *asked, api_visibility="private", **AS_IT_COMES)
    _wire_delete(lab, watching)
    return look


def _wire_delete(lab, watching: Watching) -> None:
    """Ask before a study is deleted; another choice takes the question away.

    What is deleted is what was asked about: the list may have moved to another study by itself.
    """
    hide = [lambda: gr.Column(visible=False), None, watching.confirm]
    asked = [watching.question, watching.confirm, watching.doomed]
    watching.delete.click(told(partial(_ask, lab)), watching.study, asked, **QUIET, **AS_IT_COMES)
    for event in (watching.keep.click, watching.study.input):
        event(*hide, **QUIET)
    gone = watching.sure.click(
        told(partial(_delete, lab)),
        [watching.doomed, watching.seen],
        watching.outputs,
        api_visibility="private",
        **AS_IT_COMES,
    )
    gone.success(*hide, **QUIET)


def _name(chosen) -> str:
    """The study that a page says it chose, which may say anything."""
    return chosen if isinstance(chosen, str) else ""


def _ask(lab, chosen: str) -> tuple:
    name = _name(chosen)
    lab.deletable(name, "study")
    said = f"Delete <strong>{parts.esc(name)}</strong> with all its runs for good?"
    return f'<p role="alert">{said}</p>', gr.Column(visible=True), name


def _delete(lab, name: str, seen: dict) -> list:
    lab.delete(name, "study")
    gr.Success(f"{parts.esc(name)} is deleted.")
    return _look(lab, None, seen)


def arrive(lab):
    """A new page opens on the studies if one is at work, else where it stands."""
    at_work = any(row["state"] in ("running", "queued") for row in lab.studies())
    return gr.Tabs(selected="studies") if at_work else gr.skip()


def _look(lab, chosen: str | None, seen: dict) -> list:
    """The whole state of the chosen study, skipping what this page says it shows already.

    Where none is chosen, or the chosen one is gone, the first of the list is: one at work.
    """
    seen = seen if isinstance(seen, dict) else {}
    listed = progress.listed(lab.studies())
    names = [name for _, name in listed]
    picked = chosen if chosen in names else next(iter(names), None)
    watched = lab.watch(picked) if picked else None
    now = {"list": _digest([listed, picked]), "watched": _digest([picked, watched])}
    if now == seen:
        return [gr.skip()] * 8
    # A value is set only where it has to change: it may be newer on the page than here.
    value = {} if picked == chosen else {"value": picked}
    radio = gr.skip() if now["list"] == seen.get("list") else gr.Radio(listed, **value)
    if now["watched"] == seen.get("watched"):
        return [radio, *[gr.skip()] * 6, now]
    if not watched:
        hidden = gr.Button(visible=False)
        nothing = [parts.empty(*NOTHING), hidden, hidden, gr.Plot(visible=False), "", hidden]
        return [radio, *nothing, now]
    diaries, state = lab.diaries(picked), watched["state"]
    at_work = state in ("running", "queued")
    chart = progress.learning(watched, diaries)
    read = charts.text_equivalent(chart) if chart else ""
    return [
        radio,
        progress.head(watched),
        gr.Button(visible=at_work),
        gr.Button(visible=progress.resumable(watched)),
        gr.Plot(chart and chart.figure, visible=chart is not None),
        read + progress.table(watched, diaries),
        gr.Button(visible=not at_work),
        now,
    ]


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
