"""Curves: how validation went, ROC, precision and recall, reliability; two strategies picked out.

A curve chart shows every strategy in grey and two of them, A and B, in colour: thirteen colours
cannot be told apart, two can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape as esc
from statistics import fmean

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .charts import FAINT, GREY, ORANGE, TEAL, Chart, bare, known, say
from .text import percent

LEARNING = {  # what the learning curves can show -> of an epoch, the axis, factor to the axis' unit
    "validation balanced accuracy": (
        lambda e: e["val"]["balanced_accuracy"],
        "balanced accuracy on validation, %",
        100,
    ),
    "validation loss": (lambda e: e["val"]["loss"], "loss on validation, nats", 1),
    "training loss": (lambda e: e["train_loss"], "training loss, nats", 1),
}
COLUMNS = 4  # panels side by side
POINTS = 120  # of a grey curve
A_AND_B = ((TEAL, "solid", "●"), (ORANGE, "dash", "◆"))


def learning(diaries: Mapping, runs: Sequence[Mapping], of: str, view: str) -> Chart:
    """A panel a strategy: its seeds thin, their mean bold, the means of the others grey.

    Args:
        diaries: run -> its epochs, as `lab.diaries`.
        runs: of one cell, {run, strategy, seed} each, in the order of the panels.
        view: one of LEARNING.
    """
    value, axis, factor = LEARNING[view]
    seeds: dict[str, list[list[float]]] = {}
    phases: dict[str, list[int]] = {}
    for run in runs:
        if epochs := diaries.get(run["run"]):
            seeds.setdefault(run["strategy"], []).append([factor * value(e) for e in epochs])
            longest = max(phases.get(run["strategy"], []), [e["phase"] for e in epochs], key=len)
            phases[run["strategy"]] = longest
    means = {name: _mean(curves) for name, curves in seeds.items()}
    columns = min(COLUMNS, len(seeds))
    rows = -(-len(seeds) // columns)
    figure = make_subplots(
        rows,
        columns,
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.02,
        vertical_spacing=0.34 / max(rows, 2),
    )
    for i, name in enumerate(seeds):
        at = dict(row=i // columns + 1, col=i % columns + 1)
        figure.add_traces(
            [_line(*_joined(curve for other, curve in means.items() if other != name), FAINT, 1)]
            + [_line(*_joined(seeds[name]), "rgba(13, 148, 136, 0.45)", 1)]
            + [_line(_epochs(means[name]), means[name], TEAL, 2.5, name)],
            rows=at["row"],
            cols=at["col"],
        )
        for start in _starts(phases[name]):
            figure.add_vline(x=start + 0.5, line=dict(color=FAINT, width=1.5), **at)
    title = f"{view[0].upper()}{view[1:]} by epoch, one panel a strategy"
    subtitle = f"{esc(of)} · {_counted(seeds)}"
    bare(figure, title, subtitle, 110 + 150 * rows, t=88, l=64)
    _name_panels(figure, list(seeds), rows, columns, axis)
    reading = (
        "Bold is the mean over seeds, thin lines are the seeds, grey lines the other strategies; "
        "an upright line is where the next phase begins and other stages learn. "
        "Validation chose the epoch; it does not rank strategies, test does."
    )
    return Chart(figure, reading, _learning_facts(seeds, means, view, factor))


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    """Epoch by epoch over the seeds that got so far."""
    longest = max(map(len, curves))
    return [fmean(c[i] for c in curves if i < len(c)) for i in range(longest)]


def _epochs(curve: Sequence) -> list[int]:
    return list(range(1, len(curve) + 1))


def _joined(curves) -> tuple[list, list]:
    """Several curves as one trace, with gaps between."""
    x, y = [], []
    for curve in curves:
        x += [*_epochs(curve), None]
        y += [*curve, None]
    return x, y


def _line(x, y, colour: str, width: float, name: str = "") -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines+markers" if name and len(y) == 1 else "lines",
        line=dict(color=colour, width=width),
        name=name,
        hovertemplate=f"{esc(name)}, epoch %{{x}}: %{{y:.3~g}}<extra></extra>" if name else None,
        hoverinfo=None if name else "skip",
    )


def _starts(phases: Sequence[int]) -> list[int]:
    """Epochs, counted from 1, after which another phase begins."""
    return [i for i in range(1, len(phases)) if phases[i] != phases[i - 1]]


def _counted(seeds: Mapping[str, Sequence]) -> str:
    counts = sorted({len(curves) for curves in seeds.values()})
    ends = " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    return f"{ends} seed{'' if counts == [1] else 's'}"


def _name_panels(figure: go.Figure, names: Sequence[str], rows: int, columns: int, axis: str):
    last = max((x for trace in figure.data for x in trace.x if x is not None), default=1)
    figure.update_xaxes(tick0=0, dtick=math.ceil(last / 5), tickformat="d")  # whole epochs only
    for i, name in enumerate(names):
        panel = "" if i == 0 else str(i + 1)
        corner = dict(xref=f"x{panel} domain", yref=f"y{panel} domain")
        figure.add_annotation(say(0, 1, f"<b>{esc(name)}</b>", yanchor="bottom", **corner))
        last = i + columns >= len(names)
        figure.update_xaxes(
            showticklabels=last,
            title_text="epoch" if last else None,
            row=i // columns + 1,
            col=i % columns + 1,
        )
    figure.add_annotation(
        say(0, 0.5, axis, xref="paper", yref="paper", textangle=-90, xshift=-56, xanchor="center")
    )
    for i in range(len(names), rows * columns):  # the last line may have panels to spare
        at = dict(row=i // columns + 1, col=i % columns + 1)
        figure.update_xaxes(visible=False, **at)
        figure.update_yaxes(visible=False, **at)


def _learning_facts(seeds, means, view, factor) -> list[dict]:
    unit = ".1f" if factor == 100 else ".3g"
    best = min if factor == 1 else max
    return [
        {
            "strategy": name,
            "seeds": len(seeds[name]),
            f"{view}, first epoch": f"{curve[0]:{unit}}",
            "best epoch": best(range(len(curve)), key=curve.__getitem__) + 1,
            "at the best epoch": f"{best(curve):{unit}}",
            "last epoch": f"{curve[-1]:{unit}}",
        }
        for name, curve in means.items()
    ]


# --- curves over thresholds; `rows` are `per_strategy` of lab.evidence, of one cell ---------------


def roc(rows: Sequence[Mapping], pair: Sequence[str], label: str, of: str) -> Chart:
    """Sensitivity over 1 - specificity for one class."""
    found = {row["strategy"]: _of_class(row["roc"], label) for row in rows}
    figure = _square([_xy(curve, "fpr", "tpr") for curve in found.values()])
    _diagonal(figure)
    _picked(figure, {n: _xy(found[n], "fpr", "tpr") for n in pair})
    areas = {name: curve["auroc"] for name, curve in found.items()}
    _legend(figure, {n: f"AUROC {percent(areas[n])}" for n in pair}, 0.03)
    _titled(figure, f"ROC of {esc(label)}", of, "1 - specificity, %", "sensitivity, %")
    reading = (
        "Each point is a threshold; nearer the upper left is better, the dotted diagonal is chance."
    )
    return Chart(figure, reading, _areas(areas, "AUROC"))


def precision_recall(rows: Sequence[Mapping], pair: Sequence[str], label: str, of: str) -> Chart:
    """Precision over recall for one class."""
    found = {row["strategy"]: _of_class(row["precision_recall"], label) for row in rows}
    figure = _square([_xy(curve, "recall", "precision") for curve in found.values()])
    share = _prevalence(rows[0], label)
    figure.add_hline(y=100 * share, line=dict(color=GREY, width=1, dash="dot"))
    _picked(figure, {n: _xy(found[n], "recall", "precision") for n in pair}, shape="vh")
    areas = {name: curve["average_precision"] for name, curve in found.items()}
    _legend(figure, {n: f"AP {percent(areas[n])}" for n in pair}, 0.03)
    _titled(figure, f"Precision and recall of {esc(label)}", of, "recall, %", "precision, %")
    reading = (
        "Each point is a threshold; towards the upper right is better, the dotted line is chance: "
        f"{percent(share)} of the test images are of this class."
    )
    return Chart(figure, reading, _areas(areas, "average precision"))


def reliability(rows: Sequence[Mapping], pair: Sequence[str], of: str) -> Chart:
    """Share of right predictions over the probability they were made with."""
    found = {row["strategy"]: row for row in rows}
    figure = _square([])
    _diagonal(figure)
    bins = {name: [b for b in found[name]["reliability"] if b["n"]] for name in pair}
    drawn = {n: [[100 * b[k] for b in bins[n]] for k in ("confidence", "accuracy")] for n in pair}
    _picked(figure, drawn, "lines+markers")
    for name, trace in zip(pair, figure.data[1:], strict=True):
        most = max((b["n"] for b in bins[name]), default=1)
        trace.marker.size = [5 + 11 * (b["n"] / most) ** 0.5 for b in bins[name]]
    _legend(figure, {n: f"ECE {percent(found[n]['ece'])}" for n in pair}, 0.97, "top")
    _titled(figure, "Reliability", of, "stated probability, %", "predictions that were right, %")
    reading = (
        "On the diagonal a stated probability is kept; below it the strategy is surer than right. "
        "A larger dot holds more predictions; ECE is the mean gap over them."
    )
    errors = {name: row["ece"] for name, row in found.items()}
    return Chart(figure, reading, _areas(errors, "ECE", ascending=True))


def _of_class(curves: Sequence[Mapping], label: str) -> Mapping:
    return next(curve for curve in curves if curve["class"] == label)


def _prevalence(row: Mapping, label: str) -> float:
    """The share of the test images that are of a class."""
    n_images = [sum(line) for line in row["confusion"]]
    names = [each["class"] for each in row["per_class"]]
    return n_images[names.index(label)] / sum(n_images)


def _xy(curve: Mapping, x: str, y: str) -> list[list[float]]:
    return [[round(100 * value, 2) for value in curve[axis]] for axis in (x, y)]


def _square(context: Sequence[Sequence]) -> go.Figure:
    """A figure of per cent by per cent with all curves in grey behind."""
    x, y = [], []
    for curve_x, curve_y in context:
        step = max(1, len(curve_x) // POINTS)
        x += [*curve_x[::step], curve_x[-1], None]
        y += [*curve_y[::step], curve_y[-1], None]
    return go.Figure(_line(x, y, FAINT, 1))


def _diagonal(figure: go.Figure) -> None:
    ends = dict(x0=0, y0=0, x1=100, y1=100)
    figure.add_shape(type="line", line=dict(color=GREY, width=1, dash="dot"), **ends)


def _picked(
    figure: go.Figure, curves: Mapping[str, Sequence], mode: str = "lines", shape: str = "linear"
) -> None:
    for (name, (x, y)), (colour, dash, symbol) in zip(curves.items(), A_AND_B, strict=False):
        figure.add_scatter(
            x=x,
            y=y,
            mode=mode,
            line=dict(color=colour, width=2.5, dash=dash, shape=shape),
            marker=dict(symbol="diamond" if symbol == "◆" else "circle", size=8, line_width=0),
            hovertemplate=f"{esc(name)}: %{{x:.1f}}, %{{y:.1f}}<extra></extra>",
        )


def _legend(figure: go.Figure, texts: Mapping[str, str], y: float, anchor: str = "bottom") -> None:
    """Who the coloured curves are, inside the chart where no good curve goes."""
    lines = [
        f'<span style="color:{colour}">{symbol}</span> {esc(name)}, {text}'
        for (name, text), (colour, _, symbol) in zip(texts.items(), A_AND_B, strict=False)
    ]
    left = anchor == "top"
    figure.add_annotation(
        say(
            0.03 if left else 0.97,
            y,
            "<br>".join(lines),
            xref="paper",
            yref="paper",
            xanchor="left" if left else "right",
            yanchor=anchor,
        )
    )


def _titled(figure: go.Figure, title: str, of: str, x: str, y: str) -> None:
    bare(figure, title, esc(of), 380, b=48)
    figure.update_xaxes(title_text=x, range=[-2, 102], dtick=25)
    figure.update_yaxes(title_text=y, range=[-2, 102], dtick=25)


def _areas(values: Mapping[str, float | None], name: str, ascending: bool = False) -> list[dict]:
    have = {strategy: value for strategy, value in values.items() if known(value)}
    order = sorted(have, key=have.get, reverse=not ascending)
    return [{"strategy": strategy, name: percent(have[strategy])} for strategy in order]
