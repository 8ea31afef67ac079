"""The Results tab: what studies found, the verdict first."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import gradio as gr

from ..modes import Mode
from . import answers, costs, curves, ranking, takeaway
from .parts import PRIVATE, empty, radio, told

OPENING = empty("Reading the study", "Its intervals take some seconds the first time.")


def tab(lab, mode: Mode) -> SimpleNamespace:
    """Build the tab in the current Blocks context.

    Returns:
        refresh: call it with the events after which studies are looked up again, such as
        `results_tab.select`; the first of them also picks a study.
        open: the button that sends a test image to Compare, and picked: a State with that image
        as (study, index), None before one is chosen. Whoever knows both tabs wires `open.click`.
    """
    ui = _layout()
    asked = [ui.answers, ui.cell]
    drawings = _drawings(lab, ui)
    take = takeaway.wire(lab, ui.away, ui.answers)

    def redraw(event) -> None:
        """What depends on the cell: first who can be chosen in it, then every chart."""
        chosen = event.then(
            partial(told(answers.drawn(answers.choices, 3)), lab),
            [*asked, ui.a, ui.b, ui.label],
            [ui.a, ui.b, ui.label],
            **PRIVATE,
        )
        for function, controls, outputs in drawings:
            chosen.then(function, [*asked, *controls], outputs, **PRIVATE)

    def look(event) -> None:
        picked = event(
            partial(told(answers.pick), lab),
            [ui.studies, ui.cell],
            [ui.verdict, ui.body, ui.answers, ui.cell],
            **PRIVATE,
        )
        picked.then(told(answers.ended), ui.answers, ui.seen, **PRIVATE)
        take(picked)

    look(ui.studies.input)
    changed = ui.seen.change(told(answers.tables), ui.answers, ui.tables, **PRIVATE)
    redraw(changed)
    redraw(ui.cell.input(None, **PRIVATE))
    for function, controls, outputs in drawings:
        if controls:
            chosen = [control.input for control in controls]
            gr.on(chosen, function, [*asked, *controls], outputs, **PRIVATE)
    ui.gallery.select(told(answers.choose), [*asked, ui.images], [ui.votes, *ui.choice], **PRIVATE)

    def refresh(*events) -> None:
        find = partial(told(answers.find_studies), lab)
        found = gr.on(list(events), find, ui.studies, ui.studies, **PRIVATE)
        look(found.then)

    return SimpleNamespace(refresh=refresh, picked=ui.picked, open=ui.open)


def _drawings(lab, ui: SimpleNamespace) -> list[tuple]:
    """(event, the controls that change what it draws, its outputs), all of one cell."""
    hard = [ui.images, ui.gallery, ui.votes, *ui.choice]
    drawings = [
        (answers.dots, [ui.view], ui.dots),
        (answers.learning, [ui.epochs], ui.learning),
        (answers.two, [ui.a, ui.b, ui.label], [*ui.classes, *ui.thresholds]),
        (answers.cost, [ui.axis], ui.cost),
        (answers.disagreements, [], hard),
    ]
    return [
        (partial(told(answers.drawn(function, len(outputs))), lab), controls, outputs)
        for function, controls, outputs in drawings
    ]


# --- layout --------------------------------------------------------------------------------------


def _layout() -> SimpleNamespace:
    ui = SimpleNamespace(answers=gr.State([]), images=gr.State([]), picked=gr.State(None))
    ui.seen = gr.State([])  # the finished runs that the drawings show
    with gr.Row():
        ui.studies = gr.Dropdown(
            [], multiselect=True, label="Studies", info="One, or several to hold side by side."
        )
        ui.cell = gr.Dropdown(
            [], label="Charts of", info="Study and backbone that the charts show.", visible=False
        )
    ui.verdict = gr.HTML(OPENING)
    with gr.Column(visible=False) as ui.body, gr.Tabs():
        with gr.Tab("Leaderboard"):
            _leaderboard(ui)
        with gr.Tab("Learning curves"):
            ui.epochs = radio(curves.LEARNING, "What the curves show")
            ui.learning = _chart()
        with gr.Tab("Classes and curves"):
            _two_strategies(ui)
        with gr.Tab("Cost"):
            ui.axis = radio(costs.COSTS, "Cost")
            ui.cost = _chart()
        with gr.Tab("Disagreements"):
            _hard_images(ui)
        with gr.Tab("Take away"):
            ui.away = takeaway.layout()
    return ui


def _chart() -> list:
    """A plot and its text equivalent."""
    return [gr.Plot(show_label=False, container=False), gr.HTML()]


def _leaderboard(ui: SimpleNamespace) -> None:
    with gr.Column(visible=False) as heat_part:
        heat = _chart()
    table = gr.Dataframe(
        interactive=False,
        label="Leaderboard",
        show_label=False,
        pinned_columns=1,
        max_height=620,
        buttons=[],
        elem_classes="ft-board",
    )
    with gr.Row():
        caption = gr.HTML()
        file = gr.DownloadButton("Download (CSV)", size="sm", scale=0, min_width=150)
    ui.view = radio(ranking.VIEWS, "What the dots show")
    ui.dots = _chart()
    ui.tables = [table, caption, file, heat_part, *heat]


def _two_strategies(ui: SimpleNamespace) -> None:
    with gr.Row():
        ui.a = gr.Dropdown([], label="Strategy A", info="Teal, first.")
        ui.b = gr.Dropdown([], label="Strategy B", info="Orange, second.")
        ui.label = gr.Dropdown([], label="Class", info="Of the ROC and precision-recall curves.")
    ui.classes = _chart()
    with gr.Row():
        for _ in "ab":
            with gr.Column(min_width=300):
                ui.classes += _chart()
    ui.thresholds = []
    with gr.Row():
        for _ in ("ROC", "precision and recall", "reliability"):
            with gr.Column(min_width=300):
                ui.thresholds += _chart()


def _hard_images(ui: SimpleNamespace) -> None:
    gr.HTML("<h3>Test images on which the strategies disagree most</h3>")
    ui.gallery = gr.Gallery(
        label="Test images on which the strategies disagree most",
        show_label=False,
        columns=6,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
    )
    with gr.Row():
        note = gr.HTML()
        ui.open = gr.Button(
            "Open in Compare", variant="primary", visible=False, scale=0, min_width=190
        )
    ui.votes = gr.HTML()
    ui.choice = [note, ui.open, ui.picked]
