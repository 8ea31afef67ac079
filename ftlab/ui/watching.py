"""Studies at work, in the Fine-tune tab: which there are, and how far the chosen one is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import gradio as gr

from . import charts, parts, progress
from .parts import told

TICK_SECONDS = 2.0
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
NOTHING = ("No study yet", "Ask for one under “New study”; it can be watched here.")


@dataclass
class Watching:
    """The components that show studies; `seen` holds digests of what this page shows already."""

    study: gr.Radio
    head: gr.HTML
    stop: gr.Button
    resume: gr.Button
    plot: gr.Plot
    table: gr.HTML
    seen: gr.State

    @property
    def inputs(self) -> list:
        return [self.study, self.seen]

    @property
    def outputs(self) -> list:
        shown = [self.study, self.head, self.stop, self.resume, self.plot, self.table]
        return [*shown, self.seen]


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
            plot = gr.Plot(show_label=False, visible=False, elem_classes="ft-plot")
            table = gr.HTML()
    return Watching(study, head, stop, resume, plot, table, gr.State({}))


def wire(lab, watching: Watching):
    """Look at the chosen study on every tick, on every choice and after every button."""

    @told
    def look(chosen: str | None, seen: dict):
        return _look(lab, chosen, seen)

    @told
    def stop(chosen: str, seen: dict):
        lab.stop(chosen)
        return _look(lab, chosen, seen)

    @told
    def resume(chosen: str, seen: dict):
        lab.resume(chosen)
        return _look(lab, chosen, seen)

    gr.Timer(TICK_SECONDS).tick(look, watching.inputs, watching.outputs, **QUIET)
    watching.study.input(look, watching.inputs, watching.outputs, **QUIET)
    for button, act in ((watching.stop, stop), (watching.resume, resume)):
        button.click(act, watching.inputs, watching.outputs, api_visibility="private")
    return look


def arrive(lab):
    """A new page opens on the studies if one is at work, else where it stands."""
    at_work = any(row["state"] in ("running", "queued") for row in lab.studies())
    return gr.Tabs(selected="studies") if at_work else gr.skip()


def _look(lab, chosen: str | None, seen: dict) -> list:
    """The whole state of the chosen study, skipping what this page shows already.

    Where none is chosen, or the chosen one is gone, the first of the list is: one at work.
    """
    listed = progress.listed(lab.studies())
    names = [name for _, name in listed]
    picked = chosen if chosen in names else next(iter(names), None)
    watched = lab.watch(picked) if picked else None
    now = {"list": _digest([listed, picked]), "watched": _digest([picked, watched])}
    if now == seen:
        return [gr.skip()] * 7
    # A value is set only where it has to change: it may be newer on the page than here.
    value = {} if picked == chosen else {"value": picked}
    radio = gr.skip() if now["list"] == seen.get("list") else gr.Radio(listed, **value)
    if now["watched"] == seen.get("watched"):
        return [radio, *[gr.skip()] * 5, now]
    if not watched:
        hidden = gr.Button(visible=False)
        return [radio, parts.empty(*NOTHING), hidden, hidden, gr.Plot(visible=False), "", now]
    diaries, state = lab.diaries(picked), watched["state"]
    chart = progress.learning(watched, diaries)
    read = charts.text_equivalent(chart) if chart else ""
    return [
        radio,
        progress.head(watched),
        gr.Button(visible=state in ("running", "queued")),
        gr.Button(visible=state in ("stopped", "interrupted", "failed")),
        gr.Plot(chart and chart.figure, visible=chart is not None),
        read + progress.table(watched, diaries),
        now,
    ]


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
