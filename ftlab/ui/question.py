"""The form that asks for a study, and the question that its fields make."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import gradio as gr

from ..records import BadInput, Layout, Question, Search, Settings
from . import drawing

DEFAULT = Settings()
CHOICES = {  # of settings that take one of a few names, as `ftlab.train.check` knows them
    "augment": ("none", "light", "ttl"),
    "precision": ("auto", "float32", "bfloat16"),
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("cosine", "constant"),
    "select": ("balanced_accuracy", "average_precision", "loss"),
}
ABOUT = {  # setting -> label, what it means
    "lr": ("Learning rate", "A number for all; or auto: one grid for all, chosen on validation."),
    "size": ("Image size, pixels", "Both sides; every image is resized to this square."),
    "batch": ("Batch, images", "Images a training step."),
    "augment": ("Augmentation", "light: small turns and shifts; ttl: random crops (Peng et al.)."),
    "precision": ("Precision", "auto tries a few steps of both and takes the faster one here."),
    "optimizer": ("Optimizer", "Default rates are meant for Adam."),
    "schedule": ("Schedule", "How the rate falls within each phase."),
    "select": ("Best epoch by", "The validation value that picks the epoch to keep."),
    "train_per_class": ("Training images a class", "At most so many; empty: all."),
    "views": ("Augmented views", "So many of each image, in turn; empty: a new one every epoch."),
    "patience": ("Patience, epochs", "Without a better epoch the last phase stops; empty: never."),
    "weights": ("Starting weights", "random: from scratch, to see what pretraining is worth."),
    "flips": ("Mirror images, too", "Left and right differ in a chest: off by default."),
    "class_weights": ("Weigh rare classes up", "In the loss."),
}
OPTIONAL = ("patience", "train_per_class", "views")  # whole numbers that may be left empty
RATES = [("each strategy's default", ""), ("auto", "auto"), "1e-5", "1e-4", "1e-3", "1e-2"]


@dataclass
class Form:
    """The fields of the form; `knobs` are those of single strategies, by (strategy, knob)."""

    data: gr.Dropdown
    backbones: gr.Dropdown
    strategies: gr.CheckboxGroup
    epochs: gr.Number
    seeds: gr.Number
    name: gr.Textbox
    weights: gr.Radio | None = None
    settings: dict[str, gr.components.Component] = field(default_factory=dict)
    knobs: dict[tuple[str, str], gr.components.Component] = field(default_factory=dict)
    records: dict[tuple[str, str], Mapping] = field(default_factory=dict)  # of knobs
    rows: dict[str, gr.Row] = field(default_factory=dict)  # of each strategy's knobs
    search: dict[str, gr.Radio] = field(default_factory=dict)

    def fields(self) -> set[gr.components.Component]:
        own = (self.data, self.backbones, self.strategies, self.epochs, self.seeds)
        more = (*self.settings.values(), *self.knobs.values(), *self.search.values())
        return {*own, self.name, self.weights, *more}

    def drawn(self) -> list[gr.components.Component]:
        """The fields that a plan depends on."""
        own = (self.backbones, self.strategies, self.epochs, self.settings["lr"])
        return [*own, *self.knobs.values()]

    def question(self, values: Mapping, search: bool = False) -> Question:
        """What the fields ask. Every study that starts from the page is made and refused here.

        Args:
            search: for the unit of a strategy, instead of comparing those that are chosen.
        Raises:
            BadInput: a field is empty or no number, in one sentence.
        """
        if not values[self.data]:
            raise BadInput("Choose a data set first; the Data tab imports one.")
        if not values[self.backbones]:
            raise BadInput("Choose a backbone.")
        sought = {name: values[field] for name, field in self.search.items()}
        chosen = [] if search else values[self.strategies]
        if not (chosen or search):
            raise BadInput("Choose at least one strategy.")
        settings = {name: values[component] for name, component in self.settings.items()}
        whole = {
            name: _whole(settings[name], ABOUT[name][0])
            for name in ("size", "batch", *OPTIONAL)
            if settings[name] != "" or name not in OPTIONAL
        }
        settings |= dict.fromkeys(OPTIONAL)
        lr = _rate(settings["lr"])
        epochs = _whole(values[self.epochs], "Epochs")
        return Question(
            data=values[self.data],
            backbones=values[self.backbones],
            strategies=chosen,
            seeds=range(_whole(values[self.seeds], "Seeds")),
            settings=replace(DEFAULT, **{**settings, **whole, "lr": lr, "epochs": epochs}),
            weights=values[self.weights],
            knobs={
                name: own
                for name in chosen or [sought["strategy"]]
                if (own := self.given(values, name))
            },
            name=(values[self.name] or "").strip(),
            search=Search(**sought) if search else None,
        )

    def given(self, values: Mapping, strategy: str) -> dict:
        """The knobs of a strategy that were given a value of their own."""
        own = {}
        for (name, knob), record in self.records.items():
            value = values[self.knobs[name, knob]]
            if name != strategy or value in (None, ""):
                continue
            if record["kind"] == "unit":
                value = _whole(value, f"{strategy}'s {knob}")
            elif record["kind"] == "number":
                value = _number(value, f"{strategy}'s {knob}")
            if value != record["default"]:
                own[knob] = value
        return own

    def plans(self, lab, values: Mapping) -> tuple[list[dict], Layout, list[str]]:
        """(plans of the chosen strategies, layout, sentences why others cannot be drawn).

        Drawn for the first backbone. With a rate of "auto" or none, at each strategy's default.

        Raises:
            BadInput: no backbone, or epochs or rate are no number.
        """
        if not values[self.backbones]:
            raise BadInput("Choose a backbone to see the plans.")
        backbone, epochs = values[self.backbones][0], _whole(values[self.epochs], "Epochs")
        lr, plans, problems = _rate(values[self.settings["lr"]]), [], []
        for strategy in values[self.strategies]:
            knobs = {"lr": lr} if isinstance(lr, float) else {}
            try:
                knobs |= self.given(values, strategy)
                plans.append(lab.plan(strategy, backbone, epochs, **knobs))
            except BadInput as error:
                problems.append(str(error))
        return plans, lab.layout(backbone), problems


def _rate(text: str | None) -> float | str | None:
    """None: each strategy's default; "auto"; or a number."""
    return text or None if text in (None, "", "auto") else _number(text, "Learning rate")


def _number(text: str | float, label: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{label} takes a number such as 1e-4, not {text!r}.") from None


def _whole(value: str | float | None, label: str) -> int:
    number = None if value in (None, "") else _number(value, label)
    if number is None or not number.is_integer():
        raise BadInput(f"{label} takes a whole number.")
    return int(number)


# --- the fields --------------------------------------------------------------------------------


def build(
    strategies: list[Mapping], backbones: list[tuple[str, str]], chosen: Sequence[str] = ()
) -> Form:
    """Make the fields that every study needs, in the current layout.

    Args:
        backbones: (what is shown, name), of which some are chosen. Data sets come later.
    """
    with gr.Row():
        data = gr.Dropdown(
            [],
            label="Data set",
            info="Made in the Data tab.",
            interactive=False,
            scale=2,
            min_width=140,
        )
        networks = gr.Dropdown(
            backbones,
            value=list(chosen),
            multiselect=True,
            label="Backbone",
            info="One or more pretrained networks.",
            scale=3,
            min_width=220,
        )
    labelled = [(f"{s['name']}: {drawing.sentence(s['summary'])}", s["name"]) for s in strategies]
    which = gr.CheckboxGroup(
        labelled,
        value=[s["name"] for s in strategies if s["source"].startswith("Davila")],
        label="Strategies",
        elem_classes="ft-strategies",
    )
    _presets(which, strategies)
    with gr.Row():
        epochs = gr.Number(10, precision=0, label="Epochs", info="Of each run.", min_width=120)
        seeds = gr.Number(3, precision=0, label="Seeds", info="5 give p-values.", min_width=120)
        name = gr.Textbox(label="Name", info="Empty: made for you.", max_length=100, min_width=120)
    return Form(data, networks, which, epochs, seeds, name)


def build_more(form: Form, strategies: list[Mapping]) -> None:
    """Make the folded fields: how runs train, and the knobs of single strategies."""
    with gr.Accordion("More settings", open=False):
        _settings(form)
    with gr.Accordion("Knobs of single strategies", open=False):
        gr.HTML('<p class="ft-muted">Of the chosen strategies. Empty: the default.</p>')
        for strategy in strategies:
            chosen = strategy["name"] in form.strategies.value
            with gr.Row(visible=chosen, elem_classes="ft-knobs") as row:
                _knobs(form, strategy)
            form.rows[strategy["name"]] = row


def _presets(which: gr.CheckboxGroup, strategies: list[Mapping]) -> None:
    """Buttons that choose several strategies at once, in the browser: what is ticked next stays."""
    papers = {"All": "", "Davila et al.'s eight": "Davila", "Peng et al.'s three": "Peng"}
    with gr.Row(elem_classes="ft-presets"):
        for label, source in {**papers, "None": None}.items():
            names = [s["name"] for s in strategies if source is not None and source in s["source"]]
            gr.Button(label, size="sm", min_width=60).click(
                None, outputs=which, js=f"() => {json.dumps([names])}", api_visibility="private"
            )


def _settings(form: Form) -> None:
    def about(name: str) -> dict:
        return dict(zip(("label", "info"), ABOUT[name], strict=True), min_width=220)

    flags = ("flips", "class_weights")
    with gr.Row():
        for name in (name for name in ABOUT if name not in (*flags, "weights")):
            if name == "lr":
                field = gr.Dropdown(RATES, value="", allow_custom_value=True, **about(name))
            elif name in CHOICES:
                field = gr.Dropdown(CHOICES[name], value=getattr(DEFAULT, name), **about(name))
            elif name in OPTIONAL:
                field = gr.Textbox("", max_length=12, **about(name))
            else:
                field = gr.Number(getattr(DEFAULT, name), precision=0, **about(name))
            form.settings[name] = field
    with gr.Row():
        form.weights = gr.Radio(["pretrained", "random"], value="pretrained", **about("weights"))
        for name in flags:
            form.settings[name] = gr.Checkbox(False, **about(name))


def _knobs(form: Form, strategy: Mapping) -> None:
    """The fields of one strategy's knobs, from what its function says of them."""
    name = strategy["name"]
    gr.HTML(f"<p>{drawing.esc(name)}</p>", padding=True)
    for knob in strategy["knobs"]:
        form.records[name, knob["name"]] = knob
        form.knobs[name, knob["name"]] = _knob(knob)


def _knob(knob: Mapping) -> gr.components.Component:
    """A field of a knob's kind; numbers are typed as text, since an empty one is the default."""
    text = {"label": knob["name"], "info": knob["help"], "min_width": 170}
    default = knob["default"]
    if knob["kind"] == "flag":
        return gr.Checkbox(default, **text)
    if knob["kind"] == "choice":
        return gr.Dropdown(knob["choices"], value=default, **text)
    placeholder = drawing.rate(default) if knob["kind"] == "number" else "default"
    return gr.Textbox("", placeholder=placeholder, max_length=40, **text)


def visible(form: Form, strategies: list[str]) -> Iterator[gr.Row]:
    """The rows of knobs, in order, shown where their strategy is chosen."""
    return (gr.Row(visible=name in strategies) for name in form.rows)
