"""The Fine-tune tab: ask for a study, see its plans and its time, start it, watch it, stop it.

Nothing trains in an event: a study is put in the queue and everything shown of it is read off its
folder, so a page that is opened later, or elsewhere, shows the same.

No field's change asks the server for two things: where two wait for each other, Gradio asks for
both again and again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import gradio as gr

from ..modes import Mode
from ..records import BadInput
from . import drawing, parts, progress, question, searching, watching
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
    for started in _wire_start(lab, asking, studies, pages):
        started.success(look, studies.inputs, studies.outputs, **QUIET, **watching.AS_IT_COMES)

    def load(demo: gr.Blocks) -> None:
        form = asking.form
        filled = [form.data, form.backbones, asking.about_data]
        demo.load(told(lambda: _choices(lab)), None, filled, **QUIET)
        gr.on(  # one for all: of several the last to answer would be seen, whatever it was asked
            [demo.load, *(component.change for component in form.drawn())],
            told(lambda values: _follow(lab, form, values)),
            form.fields(),
            [asking.plans, asking.fetch, *form.rows.values()],
            trigger_mode="always_last",
            **QUIET,
        )
        demo.load(told(lambda: watching.arrive(lab)), None, pages, **QUIET)
        demo.load(look, studies.inputs, studies.outputs, **QUIET, **watching.AS_IT_COMES)

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
    search_time: gr.HTML
    search_how_long: gr.Button
    search_start: gr.Button


def _new_study(lab) -> Asking:
    strategies = lab.strategies()
    with gr.Row():
        with gr.Column(scale=5, min_width=360):
            form = question.build(strategies, *_backbones(_states(lab)))
        with gr.Column(scale=7, min_width=360):
            about = gr.HTML(elem_classes="ft-about-data")
            fetch = gr.Button("Download weights", size="sm", visible=False)
            with gr.Row(elem_classes="ft-start"):
                time = gr.HTML(READY, min_height=24)
                how_long = gr.Button("How long?", scale=0, min_width=120)
                start = gr.Button("Start", variant="primary", scale=0, min_width=140)
            plans = gr.HTML(elem_classes="ft-drawing")
    question.build_more(form, strategies)
    return Asking(form, about, fetch, plans, time, how_long, start, *searching.build(form))


def _wire_asking(lab, asking: Asking) -> None:
    form = asking.form
    form.data.focus(told(lambda: gr.Dropdown(_data_names(lab))), None, form.data, **QUIET)
    form.data.change(
        told(lambda name: _about_data(lab, name)), form.data, asking.about_data, **QUIET
    )
    asking.fetch.click(
        told(lambda chosen: _fetch(lab, chosen)),
        form.backbones,
        [form.backbones, asking.fetch],
        api_visibility="private",
    )
    gr.on(  # a time that was told is another's now
        [component.change for component in form.fields() - {form.name}],
        None,
        None,
        [asking.time, asking.search_time],
        js=f"() => {json.dumps([READY, ''])}",
        **QUIET,
    )
    for button, time, search in (
        (asking.how_long, asking.time, False),
        (asking.search_how_long, asking.search_time, True),
    ):
        button.click(
            told(lambda values, search=search: _estimate(lab, form, values, search)),
            form.fields(),
            time,
            concurrency_id="estimate",
            api_visibility="private",
        )


def _data_names(lab) -> list[str]:
    return [row["name"] for row in lab.datasets()]


def _choices(lab) -> tuple:
    """Data sets, of which the first is chosen, what each backbone needs, and what is missing.

    Nobody can have chosen a data set before; a backbone they can, so the choice is left as it is.
    """
    names = _data_names(lab)
    data = gr.Dropdown(names, value=names[0] if names else None, interactive=True)
    about = gr.skip() if names else _about_data(lab, None)  # the choice brings its own
    return data, gr.Dropdown(_backbones(_states(lab))[0]), about


def _states(lab) -> dict[str, dict]:
    return {row["name"]: lab.weights_state(row["name"]) for row in lab.backbones()}


def _backbones(states: Mapping[str, Mapping]) -> tuple[list[tuple[str, str]], list[str]]:
    """Backbones as choices, with what each needs; and the first that can be used now."""
    ready = [name for name, state in states.items() if state["ready"]]
    return [(f"{name} ({_needs(state)})", name) for name, state in states.items()], ready[:1]


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
    return gr.Dropdown(_backbones(_states(lab))[0]), _fetch_button(lab, chosen)


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


def _follow(lab, form: question.Form, values: Mapping) -> list:
    """What follows from the fields: the plans, the button for weights, the rows of knobs."""
    rows = question.visible(form, values[form.strategies])
    return [_draw(lab, form, values), _fetch_button(lab, values[form.backbones]), *rows]


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


def _estimate(lab, form: question.Form, values: Mapping, search: bool = False) -> str:
    """HTML: how long the study would take on this machine; it trains a few steps to find out."""
    asked = form.question(values, search)
    found = lab.estimate(asked)
    runs = len(asked.backbones) * len(asked.strategies) * len(asked.seeds)
    what = "a search at its longest" if search else f"{runs} run{'s' * (runs > 1)}"
    how = "measured" if found["measured"] else "judged by smaller batches"
    return (
        f'<p><b class="ft-time">about {parts.duration(found["seconds"])}</b> '
        f'<span class="ft-muted">for {what}, {how} on this machine</span></p>'
    )


# --- starting ----------------------------------------------------------------------------------


def _wire_start(lab, asking: Asking, studies: Watching, pages: gr.Tabs) -> Iterator:
    form = asking.form

    @told
    def start(values: Mapping, search: bool):
        study = lab.enqueue(form.question(values, search))
        choices = progress.listed(lab.studies())
        return gr.Tabs(selected="studies"), gr.Radio(choices, value=study)

    shown = [pages, studies.study]
    for button, search in ((asking.start, False), (asking.search_start, True)):
        act = partial(start, search=search)
        yield button.click(act, form.fields(), shown, api_visibility="private")
