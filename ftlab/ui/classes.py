"""Class by class: confusion matrices, sensitivity and specificity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as esc

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .charts import GREY, TINTS, Chart, bare, say, short
from .curves import A_AND_B
from .text import interval, percent

MEASURES = ("sensitivity", "specificity")


def confusion(row: Mapping, classes: Sequence[str], of: str) -> Chart:
    """Counts of (true, predicted) with the share of the true class; one of `per_strategy`."""
    counts = row["confusion"]
    shares = [[100 * n / max(sum(line), 1) for n in line] for line in counts]
    roomy = len(classes) <= 4
    texts = [
        [f"{n}<br>{share:.0f} %" if roomy else f"{n}" for n, share in zip(*pair, strict=True)]
        for pair in zip(counts, shares, strict=True)
    ]
    places = list(range(len(classes)))
    names = [short(name, 14) for name in classes]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=places,
            y=places,
            text=texts,
            texttemplate="%{text}",
            customdata=[[(esc(t), esc(p)) for p in classes] for t in classes],
            hovertemplate="%{customdata[0]} called %{customdata[1]}: %{z:.1f} %<extra></extra>",
            colorscale=TINTS,
            zmin=0,
            zmax=100,
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )
    bare(figure, f"Confusion of {esc(row['strategy'])}", esc(of), 380, b=48)
    ticks = dict(tickvals=places, ticktext=names, showgrid=False)
    figure.update_xaxes(title_text="predicted class", **ticks)
    figure.update_yaxes(title_text="true class", autorange="reversed", **ticks)
    reading = (
        "A line is a true class, a column what it was called; the diagonal is right. The "
        "stronger the colour, the larger the share of the true class."
    )
    facts = [
        {"true class": name, **dict(zip(classes, line, strict=True)), "found": percent(right)}
        for i, (name, line) in enumerate(zip(classes, counts, strict=True))
        for right in [shares[i][i] / 100]
    ]
    return Chart(figure, reading, facts)


def per_class(
    rows: Sequence[Mapping], pair: Sequence[str], classes: Sequence[str], of: str
) -> Chart:
    """Sensitivity and specificity of each class: A and B with intervals, others as grey ticks."""
    found = {row["strategy"]: {c["class"]: c for c in row["per_class"]} for row in rows}
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04)
    for column, measure in enumerate(MEASURES, 1):
        _others(figure, column, found, classes, measure)
        for lane, (name, look) in enumerate(zip(pair, A_AND_B, strict=False)):
            offset = (lane - (len(pair) - 1) / 2) * 0.3
            estimates = [found[name][label][measure] for label in classes]
            figure.add_trace(_dots(name, estimates, offset, look), row=1, col=column)
        figure.update_xaxes(title_text=f"{measure}, %", row=1, col=column)
    who = "   ".join(
        f'<span style="color:{colour}">{symbol}</span> {esc(name)}'
        for name, (colour, _, symbol) in zip(pair, A_AND_B, strict=False)
    )
    title = "Sensitivity and specificity of each class, with 95 % intervals"
    bare(figure, title, esc(of), 150 + 46 * len(classes), t=96)
    figure.add_annotation(
        say(0, 1, f"{who}   | the others", xref="paper", yref="paper", yanchor="bottom", yshift=6)
    )
    figure.update_yaxes(
        tickvals=list(range(len(classes))),
        ticktext=[short(name) for name in classes],
        range=[len(classes) - 0.5, -0.5],
    )
    reading = (
        "Further right is better: sensitivity is the share of a class that is found, specificity "
        "the share of the other classes that is rightly not given it."
    )
    facts = [
        {"class": label, "strategy": name, **{m: interval(of_class[label][m]) for m in MEASURES}}
        for label in classes
        for name, of_class in found.items()
    ]
    return Chart(figure, reading, facts)


def _others(figure: go.Figure, column: int, found: Mapping, classes, measure: str) -> None:
    ticks = [
        (100 * by_class[label][measure]["mean"], y, name)
        for name, by_class in found.items()
        for y, label in enumerate(classes)
        if by_class[label][measure]
    ]
    figure.add_trace(
        go.Scatter(
            x=[x for x, _, _ in ticks],
            y=[y for _, y, _ in ticks],
            text=[name for _, _, name in ticks],
            mode="markers",
            marker=dict(symbol="line-ns", size=26, line=dict(color=GREY, width=1), opacity=0.45),
            hovertemplate="%{text}: %{x:.1f} %<extra></extra>",
        ),
        row=1,
        col=column,
    )


def _dots(name: str, estimates: Sequence[Mapping], offset: float, look: tuple) -> go.Scatter:
    colour, _, symbol = look
    places = [
        (y + offset, *(100 * e[key] for key in ("mean", "low", "high")), interval(e))
        for y, e in enumerate(estimates)
        if e
    ]
    return go.Scatter(
        x=[mean for _, mean, _, _, _ in places],
        y=[y for y, _, _, _, _ in places],
        mode="markers",
        marker=dict(color=colour, symbol="diamond" if symbol == "◆" else "circle", size=10),
        error_x=dict(
            type="data",
            symmetric=False,
            array=[high - mean for _, mean, _, high, _ in places],
            arrayminus=[mean - low for _, mean, low, _, _ in places],
            color=colour,
            thickness=1.5,
            width=0,
        ),
        customdata=[text for *_, text in places],
        hovertemplate=f"{esc(name)}: %{{customdata}}<extra></extra>",
    )
