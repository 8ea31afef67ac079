"""The Fine-tune tab: ask for a study, see its plans and its time, start it, watch it, stop it.

Nothing trains in an event: a study is put in the queue and everything shown of it is read off its
folder, so a page that is opened later, or elsewhere, shows the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import gradio as gr

from ..records import BadInput
from . import drawing, parts, progress, question, watching
from ..modes import Mode
from .parts import esc, told
from .watching import QUIET, Watching

NO_DATA = "There is no data set yet: the Data tab imports one, or makes a synthetic one."
READY = '<p class="ft-muted">Nothing starts before you press Start.</p>'


def tab(lab, mode: Mode) -> SimpleNamespace:
    """Build the tab in the current layout; `load(demo)` fills it when a page opens."""
    with gr.Tabs() as pages:
        with gr.Tab("New study", id="new"):
            asking = _new_study(lab)
        with gr.Tab("Studies", id="studies"):
            studies = watching.build()
    _wire_asking(lab, asking)
    look = watching.wire(lab, studies)
    started = _wire_start(lab, asking, studies, pages)
    started.success(look, studies.inputs, studies.outputs, **QUIET)

    def load(demo: gr.Blocks) -> None:
        form = asking.form
        demo.load(told(lambda: _choices(lab)), None, [form.data, form.backbones], **QUIET).then(
            told(lambda values: _draw(lab, form, values)), form.fields(), asking.plans, **QUIET
        )
        demo.load(told(lambda: watching.arrive(lab)), None, pages, **QUIET)
        demo.load(look, studies.inputs, studies.outputs, **QUIET)

    return SimpleNamespace(load=load, study=studies.study)


# --- a new study -------------------------------------------------------------------------------


@dataclass
class Asking:
    """The components of a new study."""

    form: question.Form
    about_data: gr.HTML
    fetch: gr.Button
    plans: gr.HTML
    time: gr.HTML
    how_long: gr.Button
    start: gr.Button


def _new_study(lab) -> Asking:
    strategies = lab.strategies()
    with gr.Row():
        with gr.Column(scale=5, min_width=360):
            form = question.build(strategies, [b["name"] for b in lab.backbones()])
        with gr.Column(scale=7, min_width=360):
            about = gr.HTML(elem_classes="ft-about-data")
            fetch = gr.Button("Download weights", size="sm", visible=False)
            with gr.Row(elem_classes="ft-start"):
                time = gr.HTML(READY, min_height=24)
                how_long = gr.Button("How long?", scale=0, min_width=120)
                start = gr.Button("Start", variant="primary", scale=0, min_width=140)
            plans = gr.HTML(elem_classes="ft-drawing")
    question.build_more(form, strategies)
    return Asking(form, about, fetch, plans, time, how_long, start)


def _wire_asking(lab, asking: Asking) -> None:
    form = asking.form
    form.data.focus(told(lambda: gr.Dropdown(_data_names(lab))), None, form.data, **QUIET)
    form.data.change(
        told(lambda name: _about_data(lab, name)), form.data, asking.about_data, **QUIET
    )
    form.strategies.change(
        lambda chosen: list(question.visible(form, chosen)),
        form.strategies,
        list(form.rows.values()),
        **QUIET,
    )
    form.backbones.change(
        told(lambda chosen: _fetch_button(lab, chosen)), form.backbones, asking.fetch, **QUIET
    )
    asking.fetch.click(
        told(lambda chosen: _fetch(lab, chosen)),
        form.backbones,
        [form.backbones, asking.fetch],
        api_visibility="private",
    )
    gr.on(
        [component.change for component in form.drawn()],
        told(lambda values: _draw(lab, form, values)),
        form.fields(),
        asking.plans,
        trigger_mode="always_last",
        **QUIET,
    )
    gr.on(  # a time that was told is another's now
        [component.change for component in form.fields() - {form.name}],
        lambda: READY,
        None,
        asking.time,
        trigger_mode="always_last",
        **QUIET,
    )
    asking.how_long.click(
        told(lambda values: _estimate(lab, form, values)),
        form.fields(),
        asking.time,
        concurrency_id="estimate",
        api_visibility="private",
    )


def _data_names(lab) -> list[str]:
    return [row["name"] for row in lab.datasets()]


def _choices(lab) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Data sets, and backbones with what each needs; the first of each that can be used now."""
    names, states = _data_names(lab), _states(lab)
    ready = [name for name, state in states.items() if state["ready"]]
    first = (ready or list(states))[:1]
    return gr.Dropdown(names, value=names[0] if names else None), _backbones(states, first)


def _states(lab) -> dict[str, dict]:
    return {row["name"]: lab.weights_state(row["name"]) for row in lab.backbones()}


def _backbones(states: Mapping[str, Mapping], chosen: list[str]) -> gr.Dropdown:
    labelled = [(f"{name} ({_needs(state)})", name) for name, state in states.items()]
    return gr.Dropdown(labelled, value=chosen, multiselect=True)


def _needs(state: Mapping) -> str:
    if state["ready"]:
        return "ready"
    size = state["download_bytes"]
    return f"needs a download of {parts.amount(size, 'B')}" if size else "needs a download"


def _fetch_button(lab, chosen: list[str]) -> gr.Button:
    """Shown while a chosen backbone's weights are not on this machine."""
    missing = [name for name in chosen if not lab.weights_state(name)["ready"]]
    return gr.Button(f"Download the weights of {', '.join(missing)}", visible=bool(missing))


def _fetch(lab, chosen: list[str]) -> tuple[gr.Dropdown, gr.Button]:
    for name in chosen:
        if not lab.weights_state(name)["ready"]:
            lab.fetch(name)
    return _backbones(_states(lab), chosen), _fetch_button(lab, chosen)


def _about_data(lab, name: str | None) -> str:
    """HTML: what a data set holds, in a line."""
    if not name:
        return parts.empty("No data set", NO_DATA)
    report = lab.check(name)
    splits = ", ".join(f"{n} {split}" for split, n in report["splits"].items())
    known = "split by patient or group" if report["groups"] else "groups unknown"
    warned = len(report["warnings"])
    more = f"; {warned} warning{'s' * (warned > 1)}, see the Data tab" if warned else ""
    return (
        f'<p class="ft-muted"><b>{esc(name)}</b>: {report["images"]} images, '
        f"{len(report['classes'])} classes ({esc(', '.join(report['classes']))}); {splits}; "
        f"{known}{more}.</p>"
    )


def _draw(lab, form: question.Form, values: Mapping) -> str:
    """HTML of the plans; what cannot be drawn is said in their place."""
    try:
        plans, layout, problems = form.plans(lab, values)
    except BadInput as error:
        plans, layout, problems = [], None, [str(error)]
    said = "".join(f'<p class="ft-bad">{esc(problem)}</p>' for problem in problems)
    if not plans:
        return said or parts.empty("No strategy chosen", "Tick one to see who learns when.")
    notes = []
    if values[form.settings["lr"]] == "auto":
        notes.append("Rates are drawn at their defaults; auto searches each strategy's own.")
    if len(values[form.backbones]) > 1:
        notes.append(f"Drawn for {values[form.backbones][0]}; the others' stages differ.")
    noted = "".join(f'<p class="ft-muted">{esc(note)}</p>' for note in notes)
    about = {record["name"]: record for record in lab.strategies()}
    return said + noted + drawing.gallery(plans, layout, about)


def _estimate(lab, form: question.Form, values: Mapping) -> str:
    """HTML: how long the study would take on this machine; it trains a few steps to find out."""
    asked = form.question(values)
    found = lab.estimate(asked)
    runs = len(asked.backbones) * len(asked.strategies) * len(asked.seeds)
    how = "measured on this machine" if found["measured"] else "a rough guess"
    return (
        f'<p><b class="ft-time">about {parts.duration(found["seconds"])}</b> '
        f'<span class="ft-muted">for {runs} run{"s" * (runs > 1)}, {how}</span></p>'
    )


# --- starting ----------------------------------------------------------------------------------


def _wire_start(lab, asking: Asking, studies: Watching, pages: gr.Tabs):
    form = asking.form

    @told
    def start(values: Mapping):
        study = lab.enqueue(form.question(values))
        choices = progress.listed(lab.studies())
        return gr.Tabs(selected="studies"), gr.Radio(choices, value=study)

    shown = [pages, studies.study]
    return asking.start.click(start, form.fields(), shown, api_visibility="private")
