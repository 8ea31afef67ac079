"""The fields that ask for a search: of which strategy, in which way, by what."""

from __future__ import annotations

import gradio as gr

from ..records import Search
from .question import Form

ABOUT = (
    '<p class="ft-muted">Which unit is best to cut, freeze or slim at? Of one backbone, with the '
    "data, epochs, seeds and settings of this page. The study grows while it looks; validation "
    "chooses.</p>"
)
# What a search takes -> label, {what is shown: value}; as `ftlab.search.check` knows them.
FIELDS = {
    "strategy": (
        "Of which strategy",
        {
            "truncated: where to cut": "truncated",
            "layer_wise: how much to freeze": "layer_wise",
            "transfusion: where it gets slim": "transfusion",
        },
    ),
    "how": (
        "How",
        {
            "in two stages (Peng et al.)": "two-stage",
            "the three that read best, and the whole": "ranked",
            "every unit": "exhaustive",
        },
    ),
    "metric": (
        "Chosen by, on validation",
        {
            "average precision": "average_precision",
            "balanced accuracy": "balanced_accuracy",
            "accuracy": "accuracy",
        },
    ),
}


def build(form: Form) -> tuple[gr.HTML, gr.Button, gr.Button]:
    """Make the fields, folded, in the current layout: the time, and what asks for it and starts."""
    with gr.Accordion("Search a unit instead", open=False):
        gr.HTML(ABOUT)
        with gr.Row():
            for name, (label, choices) in FIELDS.items():
                default = getattr(Search, name)
                form.search[name] = gr.Radio(
                    list(choices.items()), value=default, label=label, min_width=220
                )
        with gr.Row(elem_classes="ft-start"):
            time = gr.HTML(min_height=24)
            how_long = gr.Button("How long?", scale=0, min_width=120)
            start = gr.Button("Start the search", variant="primary", scale=0, min_width=160)
    return time, how_long, start
