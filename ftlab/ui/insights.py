"""The events of the Inspect tab: what is picked in, what the page shows out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from ..modes import Mode
from ..records import BadInput
from . import changes, cuts, happened, rules
from .charts import Chart, text_equivalent
from .comparison import Kept, able_studies, finished
from .parts import csv_file, empty, esc

OWN = ""  # the study's own data set, among those whose images can be looked at
IMAGES = 200  # of the data set, through both networks; a mode may allow fewer
NOTHING = empty(
    "No study to look into yet",
    "Start one in the Fine-tune tab: as soon as a run has finished, this page shows what it "
    "changed.",
)
NO_WEIGHTS = (
    "None of these runs has its weights on this machine, so how far they moved cannot be seen; "
    "choose another seed or other strategies."
)
NO_RULE = (
    "None of these strategies rescales its rates while it trains: auto_rgn and auto_snr do. Choose "
    "one of them above, or a study that has them."
)
NO_PAIR = "Flips need two strategies: choose another one above."
NOT_YET = "Not looked at yet: {n} of {of} runs are known. Press Compare; it takes seconds a run."
ELSEWHERE = (
    "The images of {data} are not on this machine. Choose another data set, whatever its classes; "
    "the Data tab draws one of phantoms (for the study that comes with ftlab, chest X-rays)."
)

_kept = Kept()


class Picked(NamedTuple):
    """What is looked into: runs of one backbone and seed, in the study's order."""

    study: str
    backbone: str
    seed: int
    runs: tuple[str, ...]

    @property
    def of(self) -> str:
        return f"{self.study}, {self.backbone}, seed {self.seed}"


# --- what is picked -------------------------------------------------------------------------------


def find(lab, chosen: str | None) -> dict:
    """The studies with a finished run; without a choice the reference study."""
    names = able_studies(lab)
    first = names[0] if names else None
    return gr.update(choices=names, value=chosen if chosen in names else first)


def pick(lab, study: str | None, seen: tuple | None = None, *chosen) -> list:
    """What there is to choose of a study.

    Args:
        seen: what was picked of before, as returned; where it is the same study, its backbone,
        seed, strategies and data that are `chosen` stay.
    Returns:
        {empty state, body, backbone, seed, strategies, data, search, (study, its finished runs)};
        the last changes only where the drawings have to.
    """
    if not study:
        return [NOTHING, gr.update(visible=False), *[gr.skip()] * 5, None]
    try:
        rows = finished(lab, study)
    except BadInput as error:  # it was deleted since, say; what stands below is another's
        said = empty("Nothing to look into", str(error))
        return [said, gr.update(visible=False), *[gr.skip()] * 5, None]
    backbones = list(dict.fromkeys(row["backbone"] for row in rows))
    seeds = sorted({row["seed"] for row in rows})
    again = seen is not None and seen[0] == study
    backbone, seed, strategies, data = chosen if again else (None, None, (), None)
    known = {strategy for _, strategy, _ in seen[1]} if again else ()
    return [
        "",
        gr.update(visible=True),
        _among(backbones, backbone, visible=len(backbones) > 1),
        _among(seeds, seed, visible=len(seeds) > 1),
        _strategies(rows, strategies, known),
        _data(lab, study, data),
        gr.update(visible=_cuts(lab, study) is not None),
        (study, tuple((r["run"], r["strategy"], r["seconds"]) for r in rows)),
    ]


def _among(choices: list, chosen, **more) -> dict:
    """What is chosen, if it is still among the choices, else the first of them."""
    return gr.update(choices=choices, value=chosen if chosen in choices else choices[0], **more)


def _finished(lab, study: str) -> list[dict]:
    return [r for r in lab.runs() if r["study"] == study and r["state"] == "finished"]


def _strategies(rows: Sequence[Mapping], chosen: Sequence[str], known: Collection[str]) -> dict:
    """Those that are ticked, and those that nobody could tick before."""
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    ticked = [name for name in names if name in chosen or name not in known]
    return gr.update(choices=names, value=ticked)


def _data(lab, study: str, chosen: str | None) -> dict:
    """The study's own data set as it was trained on, then all that are on this machine now."""
    names = [row["name"] for row in lab.datasets()]
    choices = [(f"{_own_data(lab, study)}, as trained on", OWN), *((name, name) for name in names)]
    return gr.update(choices=choices, value=chosen if chosen in names else OWN)


def _own_data(lab, study: str) -> str:
    return next(row["data"] for row in lab.studies() if row["study"] == study)


def drawn(function: Callable, outputs: int) -> Callable:
    """An event on (lab, study, backbone, seed, strategies, ...) of one on (lab, Picked, ...)."""

    def run(lab, study, backbone, seed, strategies, *rest):
        if not study:
            return [gr.skip()] * outputs
        found = _finished(lab, study)
        runs = [
            r["run"]
            for r in found
            if (r["backbone"], r["seed"]) == (backbone, seed) and r["strategy"] in strategies
        ]
        if not runs:
            said = "No run of this choice has finished: tick a strategy, or choose another seed."
            return said_alone(said, outputs)
        return function(lab, Picked(study, backbone, seed, tuple(runs)), *rest)

    run.__name__ = function.__name__  # for the log; it takes other arguments, so it is not wrapped
    return run


# --- what is shown --------------------------------------------------------------------------------


def shown(chart: Chart | None, name: str, without: str = "") -> list:
    """Figure, text equivalent and CSV of a chart; without one, the sentence that says why."""
    if chart is None:
        return said_alone(without, 3)
    file = gr.update(value=csv_file(chart.facts, name), visible=True)
    return [gr.update(value=chart.figure, visible=True), text_equivalent(chart), file]


def said_alone(sentence: str, outputs: int) -> list:
    """A sentence where a chart would be; outputs are as of `shown`, or as of `plans`."""
    said = f'<p class="ft-muted">{esc(sentence)}</p>'
    hidden = gr.update(visible=False)
    return [hidden, said, hidden] if outputs == 3 else [said, hidden]


def plans(lab, picked: Picked) -> list:
    """Each run's plan, and beside it what became of it."""
    courses = _courses(lab, picked)
    html = happened.gallery(courses, lab.layout(picked.backbone))
    file = csv_file(happened.facts(courses), f"rates-{picked.study}")
    return [html, gr.update(value=file, visible=True)]


def drift(lab, picked: Picked, view: str) -> list:
    """How far the weights moved."""
    answer = _once(lab, picked, "drift", lambda: lab.drift(picked.study, picked.runs))
    runs = [run for run in answer["runs"] if run["change"]]
    if not runs:
        return said_alone(NO_WEIGHTS, 3)
    figure, text, file = shown(changes.drift(runs, view, picked.of), f"drift-{picked.study}")
    return [figure, text + _absent(answer), file]


def alike(lab, picked: Picked, data: str, view: str, mode: Mode) -> list:
    """How alike the runs and theta_0 see, as far as it is known already."""
    try:
        answer = _similarity(lab, picked, data, mode, known=True)
    except BadInput as error:
        return said_alone(str(error), 3)
    own = _own_data(lab, picked.study)
    if not (answer["runs"] or data) and own not in (row["name"] for row in lab.datasets()):
        return said_alone(ELSEWHERE.format(data=own), 3)
    return _alike(lab, picked, answer, view)


def look(lab, picked: Picked, data: str, view: str, mode: Mode, progress: Callable) -> list:
    """The same, of all runs, which takes the images and seconds to minutes."""
    try:
        answer = _similarity(lab, picked, data, mode, progress=progress)
    except BadInput as error:
        if data == OWN:
            raise BadInput(f"{error} Choose another data set beside the button.") from None
        raise
    return _alike(lab, picked, answer, view)


def _similarity(lab, picked: Picked, data: str, mode: Mode, **options) -> dict:
    images = min(IMAGES, mode.inspected_images or IMAGES)
    return lab.similarity(picked.study, picked.runs, data=data or None, images=images, **options)


def _alike(lab, picked: Picked, answer: Mapping, view: str) -> list:
    able = len(picked.runs) - len(answer["without_weights"])
    have = len(answer["runs"])
    lacking = NOT_YET.format(n=have, of=able) if have < able else ""
    if not have:
        return said_alone(lacking, 3)
    chart = changes.similarity(answer, view, picked.of)
    figure, text, file = shown(chart, f"similarity-{picked.study}")
    note = f'<p class="ft-muted">{esc(lacking)}</p>' if lacking else ""
    return [figure, note + text + _absent(answer), file]


def multipliers(lab, picked: Picked) -> list:
    """What Auto-RGN and Auto-SNR made of the rates."""
    chart = rules.multipliers(_courses(lab, picked), picked.of)
    return shown(chart, f"multipliers-{picked.study}", NO_RULE)


def flips(lab, picked: Picked) -> list:
    """Who is right where another is wrong, over all seeds."""
    pairs = _once(lab, picked, "flips", lambda: lab.flips(picked.study))
    own = [pair for pair in pairs if pair["backbone"] == picked.backbone]
    chosen = {row["run"]: row["strategy"] for row in _finished(lab, picked.study)}
    strategies = [chosen[run] for run in picked.runs]
    of = f"{picked.study}, {picked.backbone}"
    return shown(changes.flips(own, strategies, of), f"flips-{picked.study}", NO_PAIR)


def cut_curve(lab, picked: Picked) -> list:
    """Where a search would cut; nothing where the study is none."""
    record = _cuts(lab, picked.study)
    return shown(record and cuts.curve(record), f"cuts-{picked.study}", "This study is no search.")


def _cuts(lab, study: str) -> Mapping | None:
    """What a search found; None where the study is no search."""
    try:
        return lab.cuts(study)
    except BadInput:
        return None


def _courses(lab, picked: Picked) -> list[dict]:
    return _once(lab, picked, "courses", lambda: lab.courses(picked.study, picked.runs))


def _once(lab, picked: Picked, what: str, ask: Callable[[], Any]) -> Any:
    """An answer of the lab, kept until a run ends."""
    ended = tuple((r["run"], r["seconds"]) for r in _finished(lab, picked.study))
    return _kept.get((what, lab.study_folder(picked.study), picked, ended), ask)


def _absent(answer: Mapping) -> str:
    """HTML: the runs that are here without weights."""
    names = answer["without_weights"]
    if not names:
        return ""
    return f'<p class="ft-muted">Here without weights, so left out: {esc(", ".join(names))}.</p>'
