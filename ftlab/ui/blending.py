"""WiSE-FT in the Compare tab: one image, from the pretrained network to a fine-tuned one.

Everything that the slider shows but the map comes at once; the map of a place is made when the
slider rests there. The slider is the browser's own, so that keys move it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape as esc
from types import SimpleNamespace

import gradio as gr
import plotly.graph_objects as go

from ..records import BadInput
from . import comparison, pictures
from .charts import FAINT, ORANGE, TEAL, Chart, bare, say, short, text_equivalent
from .comparison import Kept, Shown
from .parts import csv_file, percent, term, told

ALPHAS = tuple(step / 10 for step in range(11))
START = 0.5  # where the slider stands first
ABOUT = (
    '<p class="ft-muted">{} of two networks: at α = 0 the pretrained one under the linear probe\'s '
    "head, at α = 1 the fine-tuned one, between them (1 - α) of the one and α of the other. It "
    "often is as good on the data trained on and better on others.</p>"
)
NO_PAIR = (
    "Here no run of this study can be blended: that takes a finished linear_probe and another "
    "finished run of the same backbone, seed and cut, with the weights of both."
)
RENEWED = "BatchNorm's statistics between the ends come from {} training images."
AVERAGED = (
    "The training images are not on this machine, so BatchNorm's statistics between the ends are "
    "averaged, too: networks computed with their own would be better there."
)
MOVED = """
const panel = () => element.querySelector('.ft-blend');
element.addEventListener('input', event => {
    for (const part of panel().querySelectorAll('[data-alpha]'))
        part.hidden = part.dataset.alpha !== event.target.value;
    event.target.setAttribute('aria-valuetext', 'alpha ' + event.target.value / 10);
});
let resting;
element.addEventListener('change', event => {
    clearTimeout(resting);
    const index = Number(event.target.value);
    resting = setTimeout(() => trigger('select', {index, value: null}), 250);
})"""

_kept = Kept()


def build() -> SimpleNamespace:
    """The folded part of the tab, in the current layout."""
    ui = SimpleNamespace(place=gr.State(ALPHAS.index(START)))
    with gr.Accordion("Between the pretrained network and a fine-tuned one (WiSE-FT)", open=False):
        gr.HTML(ABOUT.format(term("WiSE-FT", "The average")))
        with gr.Row():
            ui.run = gr.Dropdown([], label="Fine-tuned by", scale=0, min_width=300)
            ui.button = gr.Button("Blend this image", variant="primary", scale=0, min_width=180)
        ui.said = gr.HTML()
        with gr.Row(visible=False) as ui.result:
            with gr.Column(min_width=300):
                ui.plot = gr.Plot(show_label=False, container=False)
                ui.text = gr.HTML()
                ui.csv = gr.DownloadButton("These as CSV", size="sm", elem_classes="ft-csv")
            with gr.Column(min_width=300):
                ui.slider = gr.HTML(js_on_load=MOVED)
                ui.map = gr.HTML(min_height=260)
    return ui


def wire(lab, ui: SimpleNamespace, asked: Sequence, **networks) -> None:
    """What blends, and what maps a blend; asked: the image, study, method and class of the tab."""
    drawn = [ui.result, ui.plot, ui.text, ui.csv, ui.slider, ui.map]
    gr.on(
        [ui.button.click, ui.run.input],
        told(partial(_blend, lab)),
        [*asked, ui.run],
        drawn,
        show_progress_on=ui.said,
        **networks,
    )

    @told
    def look(shown, study, method, target, run, place: int) -> str:
        return _look(lab, shown, study, method, target, run, ALPHAS[place])

    def rest(event: gr.SelectData) -> int:
        return event.index

    # In two steps: an event that waits for another one comes without what it was told.
    rests = ui.slider.select(rest, None, ui.place, show_progress="hidden", api_visibility="private")
    rests.success(look, [*asked, ui.run, ui.place], ui.map, **networks)


def choices(lab, study: str, chosen: str | None) -> tuple:
    """The runs that can be blended, what to say where there is none, and no result yet."""
    runs = [(_name(row), row["run"]) for row in _first_seeds(lab.blends(study))]
    names = [run for _, run in runs]
    value = chosen if chosen in names else next(iter(names), None)
    said = "" if runs else f'<p class="ft-muted">{NO_PAIR}</p>'
    return (
        gr.Dropdown(runs, value=value, visible=bool(runs)),
        gr.Button(visible=bool(runs)),
        said,
        gr.Row(visible=False),
    )


def _first_seeds(pairs: Sequence[Mapping]) -> list[Mapping]:
    """Of each backbone and strategy the lowest seed, as the cards have it."""
    first: dict[tuple, Mapping] = {}
    for row in sorted(pairs, key=lambda row: row["seed"]):
        first.setdefault((row["backbone"], row["strategy"]), row)
    return [row for row in pairs if row in first.values()]


def _name(row: Mapping) -> str:
    return f"{row['strategy']}, {row['backbone']}"


# --- events ---------------------------------------------------------------------------------------


def _blend(lab, shown: Shown | None, study: str, method: str, target: str, run: str | None) -> list:
    """The curve, its words and file, the slider with what it shows, and the map where it stands."""
    if not shown or not run:
        raise BadInput("Choose an image and a fine-tuned run first.")
    answer = _answer(lab, shown, study, run, ALPHAS)
    chart = curve(answer, shown.caption)
    file = csv_file(chart.facts, f"{study}-wise-ft")
    found = _look(lab, shown, study, method, target, run, START)
    shown_parts = [chart.figure, text_equivalent(chart), gr.DownloadButton(value=file)]
    return [gr.Row(visible=True), *shown_parts, slider(answer), found]


def _look(lab, shown: Shown, study: str, method: str, target: str, run: str, alpha: float) -> str:
    """HTML: where the blend looks."""
    named = target if target not in ("", "own") else None
    answer = _answer(lab, shown, study, run, [alpha], method=method, target=named)
    _, pixels, _, _ = comparison.opened(lab, shown)
    return looks(answer["points"][0], pixels, method)


def _answer(lab, shown: Shown, study: str, run: str, alphas: Sequence[float], **options) -> dict:
    """The lab's, kept: the same image, run and shares are asked once."""
    image, *_ = comparison.opened(lab, shown)
    trained = [row["seconds"] for row in lab.runs() if (row["study"], row["run"]) == (study, run)]
    which = comparison.told_apart(lab, shown), lab.study_folder(study), run, *trained
    question = which, tuple(alphas), *options.values()
    return _kept.get(question, lambda: lab.blend(image, study, run, alphas, **options))


# --- pieces of the page ---------------------------------------------------------------------------


def curve(answer: Mapping, caption: str) -> Chart:
    """The probability of each class over alpha; in colour the class at 1 and, if another, at 0."""
    points, classes = answer["points"], answer["classes"]
    alphas = [point["alpha"] for point in points]
    last, first = (_top(point["probs"]) for point in (points[-1], points[0]))
    looks = {first: (ORANGE, "dash", 2.5), last: (TEAL, "solid", 2.5)}
    figure = go.Figure()
    for place, name in enumerate(classes):
        colour, dash, width = looks.get(place, (FAINT, "solid", 1.5))
        figure.add_scatter(
            x=alphas,
            y=[100 * point["probs"][place] for point in points],
            mode="lines+markers",
            marker_size=5,
            line=dict(color=colour, dash=dash, width=width),
            name=esc(name),
            hovertemplate=f"{esc(name)}, α %{{x}}: %{{y:.1f}} %<extra></extra>",
        )
    title = f"From pretrained to {esc(answer['strategy'])}: probabilities over α"
    bare(figure, title, f"{esc(caption)} · {esc(answer['backbone'])}, seed {answer['seed']}", 340)
    figure.update_layout(margin_r=100)
    figure.update_xaxes(title_text="α, the fine-tuned share of the weights", range=[-0.03, 1.03])
    figure.update_yaxes(title_text="probability, %", range=[-3, 103])
    for place in dict.fromkeys((last, first)):
        y = 100 * points[-1]["probs"][place]
        name = short(classes[place], 14)
        figure.add_annotation(say(1.02, y, name, xref="paper", yanchor="middle"))
    reading = (
        "A line is a class: on the left what the linear probe says, on the right the fine-tuned "
        "run; a line that turns early says that a little fine-tuning is enough. "
        + (RENEWED if answer["statistics"] else AVERAGED).format(answer["statistics"])
    )
    facts = [
        {
            "α": f"{point['alpha']:g}",
            "predicted": classes[_top(point["probs"])],
            **{f"probability {name}": percent(p) for name, p in _named(classes, point)},
        }
        for point in points
    ]
    return Chart(figure, reading, facts)


def _named(classes: Sequence[str], point: Mapping) -> list[tuple[str, float]]:
    return list(zip(classes, point["probs"], strict=True))


def _top(probs: Sequence[float]) -> int:
    return max(range(len(probs)), key=probs.__getitem__)


def slider(answer: Mapping) -> str:
    """HTML: the slider, and for each of its places the classes with their probabilities."""
    at = ALPHAS.index(START)
    places = "".join(
        f'<div data-alpha="{number}"{"" if number == at else " hidden"}>'
        f"<p>α = <b>{point['alpha']:g}</b></p>{_bars(_named(answer['classes'], point))}</div>"
        for number, point in enumerate(answer["points"])
    )
    return (
        '<div class="ft-blend"><label>Pretrained <input type="range" min="0" '
        f'max="{len(ALPHAS) - 1}" step="1" value="{at}" aria-label="Share of the fine-tuned '
        f'network" aria-valuetext="alpha {START:g}"> {esc(answer["strategy"])}</label>'
        f"{places}</div>"
    )


def _bars(named: Sequence[tuple[str, float]]) -> str:
    lines = "".join(
        f'<li><p class="ft-predicted"><span>{esc(name)}</span><b>{percent(p)}</b></p>'
        f'<div class="ft-bar"><span style="width:{100 * p:.1f}%"></span></div></li>'
        for name, p in named
    )
    return f"<ul>{lines}</ul>"


def looks(point: Mapping, pixels, method: str) -> str:
    """HTML: the image under the map of one blend."""
    found, target = point["saliency"], point["target"]
    where = f"strongest {pictures.place(found.map)}" if found.peak else "no evidence anywhere"
    said = f"{method} at α = {point['alpha']:g} for {target}"
    height, width = pixels.shape[:2]
    return (
        f'<figure class="ft-original ft-blended"><div class="ft-picture" style="--ft-photo:url('
        f'{pictures.photo(pixels)});--ft-ratio:{width}/{height}"><img class="ft-own" '
        f'src="{pictures.layer(found.map)}" alt="{esc(said)}: {where}"></div>'
        f"<figcaption>{esc(said)}: {where}</figcaption></figure>"
    )
