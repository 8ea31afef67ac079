"""The app: five tabs on the lab's verbs. Everything here may go, and the science still runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gradio as gr

    from ..modes import Mode


def build(lab, mode: Mode) -> gr.Blocks:
    """The page: header, five tabs, footer; `lab` is a Lab, or whatever has its verbs."""
    import gradio as gr

    from . import compare, data, endpoints, finetune, inspect, results, words

    kept = (600, int(3600 * (mode.idle_hours or 24)))  # uploads and downloads: seconds
    with gr.Blocks(title="ftlab", analytics_enabled=False, delete_cache=kept) as demo:
        gr.HTML(words.header(mode))
        with gr.Tabs() as tabs:
            with gr.Tab("Compare", id="compare") as at_compare:
                comparing = compare.tab(lab, mode)
            with gr.Tab("Fine-tune", id="finetune"):
                tuning = finetune.tab(lab, mode)
            with gr.Tab("Results", id="results") as at_results:
                found = results.tab(lab, mode)
            with gr.Tab("Inspect", id="inspect") as at_inspect:
                looking = inspect.tab(lab, mode)
            with gr.Tab("Data", id="data") as at_data:
                holding = data.tab(lab, mode)
        gr.HTML(words.footer(lab.strategies()))
        comparing.load(demo)
        comparing.refresh(at_compare.select)
        tuning.load(demo)
        found.refresh(at_results.select)
        looking.refresh(at_inspect.select)
        holding.refresh(demo.load, at_data.select)
        comparing.follow(found.open.click, found.picked)
        found.open.click(lambda: gr.Tabs(selected="compare"), None, tabs)
        endpoints.publish(demo, lab)
    return demo
