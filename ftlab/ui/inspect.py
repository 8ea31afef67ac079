"""The Inspect tab: what fine-tuning changed in rates, weights, what stages see, predictions."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import gradio as gr

from ..modes import Mode
from . import changes, insights
from .parts import PRIVATE, radio, term, told

WORDS = ("drift", "SVCCA", "CKA", "flip", "rate rule", "frozen")


def tab(lab, mode: Mode) -> SimpleNamespace:
    """Build the tab in the current Blocks context.

    Returns:
        refresh: call it with the events after which studies are looked up again, such as
        `inspect_tab.select`; the first of them also picks the reference study.
    """
    ui = _layout()
    asked = [ui.study, ui.backbone, ui.seed, ui.strategies]
    drawings = _drawings(lab, mode, ui)

    def redraw(event) -> None:
        """Every drawing of what is picked, one after the other."""
        for function, controls, outputs in drawings:
            event = event.then(function, [*asked, *controls], outputs, **PRIVATE)

    def look(event) -> None:
        own = [ui.backbone, ui.seed, ui.strategies, ui.data]
        choices = [ui.empty, ui.body, *own, ui.searched, ui.seen]
        event(partial(told(insights.pick), lab), [ui.study, ui.seen, *own], choices, **PRIVATE)

    look(ui.study.input)
    redraw(ui.seen.change(None, **PRIVATE))
    for control in (ui.backbone, ui.seed, ui.strategies):
        redraw(control.input(None, **PRIVATE))
    for function, controls, outputs in drawings:
        if controls:
            chosen = [control.input for control in controls]
            gr.on(chosen, function, [*asked, *controls], outputs, **PRIVATE)
    _wire_button(lab, mode, ui, asked)

    def refresh(*events) -> None:
        find = partial(told(insights.find), lab)
        look(gr.on(list(events), find, ui.study, ui.study, **PRIVATE).then)

    return SimpleNamespace(refresh=refresh)


def _drawings(lab, mode: Mode, ui: SimpleNamespace) -> list[tuple]:
    """(event, the controls that change what it draws, its outputs)."""

    def alike(*values) -> list:
        return insights.alike(*values, mode)

    drawings = [
        (insights.plans, [], ui.plans),
        (insights.drift, [ui.kind], ui.drift),
        (alike, [ui.data, ui.measure], ui.alike),
        (insights.multipliers, [], ui.rates),
        (insights.flips, [], ui.flips),
        (insights.cut_curve, [], ui.cuts),
    ]
    return [
        (partial(told(insights.drawn(function, len(outputs))), lab), controls, outputs)
        for function, controls, outputs in drawings
    ]


def _wire_button(lab, mode: Mode, ui: SimpleNamespace, asked: list) -> None:
    """What takes seconds a run: one person at a time, and with a bar."""

    def compare(*values, progress=gr.Progress()):  # noqa: B008, because Gradio looks for it there
        def tell(done: int, of: int) -> None:
            progress((done, of), desc="Images through both networks", unit="images")

        def look(*picked) -> list:
            return insights.look(*picked, mode, tell)

        return insights.drawn(look, len(ui.alike))(lab, *values)

    ui.compare.click(
        told(compare),
        [*asked, ui.data, ui.measure],
        ui.alike,
        show_progress_on=ui.alike[1],
        concurrency_id="similarity",
        concurrency_limit=1,
        api_visibility="private",
    )


# --- layout --------------------------------------------------------------------------------------


def _layout() -> SimpleNamespace:
    ui = SimpleNamespace(seen=gr.State())  # the study that the page shows, and its finished runs
    with gr.Row():
        ui.study = gr.Dropdown([], label="Study", min_width=150)
        ui.backbone = gr.Dropdown([], label="Backbone", visible=False, min_width=150)
        ui.seed = gr.Dropdown([], label="Seed", visible=False, min_width=90, scale=0)
        ui.strategies = gr.Dropdown(
            [], multiselect=True, label="Strategies", scale=4, min_width=300
        )
    ui.empty = gr.HTML(insights.NOTHING)
    with gr.Column(visible=False) as ui.body:
        with gr.Tabs():
            with gr.Tab("Plan and course"):
                ui.plans = [gr.HTML(), _file()]
            with gr.Tab("Weights"):
                ui.kind = radio(changes.DRIFTS, "Of")
                ui.drift = _chart()
            with gr.Tab("What stages see"):
                _similarity(ui)
            with gr.Tab("Rates by rule"):
                ui.rates = _chart()
            with gr.Tab("Flips"):
                ui.flips = _chart()
            with gr.Tab("Which unit", visible=False) as ui.searched:
                ui.cuts = _chart()
        gr.HTML(f'<p class="ft-muted">What the words mean: {" · ".join(map(term, WORDS))}.</p>')
    return ui


def _similarity(ui: SimpleNamespace) -> None:
    with gr.Row():
        ui.measure = radio(changes.ALIKE, "How alike each stage and the pretrained one see")
        ui.data = gr.Dropdown(
            [],
            label="Images of",
            info="Its own test images; where they are not here, those of another data set.",
        )
        ui.compare = gr.Button("Compare", variant="primary", scale=0, min_width=130)
    ui.alike = _chart()


def _chart() -> list:
    """A plot, its text equivalent, and its numbers as a file."""
    return [gr.Plot(show_label=False, container=False), gr.HTML(), _file()]


def _file() -> gr.DownloadButton:
    return gr.DownloadButton("Download (CSV)", size="sm", visible=False, elem_classes="ft-csv")
