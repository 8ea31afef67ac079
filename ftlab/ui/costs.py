"""What a strategy costs in seconds, parameters or bytes, against how accurate it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape as esc
from itertools import product

import plotly.graph_objects as go

from .charts import FAINT, GREY, TEAL, Cell, Chart, bare, grounds, scored
from .text import amount, duration, interval

COSTS = {  # what accuracy can be held against -> key of a row, axis, how a value is said
    "training time": ("seconds", "training time of a run, seconds", duration),
    "trained parameters": ("trained_parameters", "parameters that learned", amount),
    "stored size": ("stored_bytes", "stored size of a run, bytes", lambda n: amount(n, "B")),
}
AREA = (560, 380)  # pixels of the smallest drawing area that labels must have room in
LINE = 15  # pixels from one label to the next


def cost(cell: Cell, axis: str) -> Chart:
    """Balanced accuracy over one of COSTS; what nothing else beats in both is joined and filled."""
    key, title, spoken = COSTS[axis]
    rows = sorted((row for row in cell.rows if scored(row)), key=lambda row: row[key])
    costs = [row[key] for row in rows]
    means = [100 * row["balanced_accuracy"]["mean"] for row in rows]
    best = _frontier(costs, means)
    texts = [
        f"{row['strategy']}: {interval(row['balanced_accuracy'])}, {spoken(row[key])}"
        for row in rows
    ]
    figure = go.Figure(
        [
            go.Scatter(
                x=[costs[i] for i in best],
                y=[means[i] for i in best],
                mode="lines",
                line=dict(color=TEAL, width=1.5, dash="dot", shape="hv"),
                hoverinfo="skip",
            ),
            _cost_dots(rows, costs, means, best, texts),
        ]
    )
    logarithmic = min(costs) > 0 and max(costs) / min(costs) > 20
    places = [math.log10(c) for c in costs] if logarithmic else costs
    spans = [100 * row["balanced_accuracy"][end] for row in rows for end in ("low", "high")]
    x_range, y_range = _room(places, 0.06, 0.24), _room(spans, 0.05, 0.05)
    bare(figure, f"Balanced accuracy against {axis}", grounds(cell), AREA[1] + 120)
    figure.update_xaxes(
        title_text=title + (", log scale" if logarithmic else ""),
        type="log" if logarithmic else "linear",
        range=x_range,
        dtick=1 if logarithmic else None,
        tickformat="~s",
    )
    figure.update_yaxes(title_text="balanced accuracy on test, %", range=y_range)
    pixels = [
        (_pixel(x, x_range, AREA[0]), _pixel(y, y_range, AREA[1]))
        for x, y in zip(places, means, strict=True)
    ]
    names = [row["strategy"] for row in rows]
    figure.update_layout(annotations=_labels(names, places, means, pixels, best))
    return Chart(figure, _cost_reading(rows, best, spoken, key), _cost_facts(rows, axis, best))


def _cost_dots(rows, costs, means, best, texts) -> go.Scatter:
    spans = [row["balanced_accuracy"] for row in rows]
    filled = [TEAL if i in best else GREY for i in range(len(rows))]
    return go.Scatter(
        x=costs,
        y=means,
        mode="markers",
        marker=dict(
            color=filled,
            size=10,
            symbol=["circle" if i in best else "circle-open" for i in range(len(rows))],
        ),
        error_y=dict(
            type="data",
            symmetric=False,
            array=[100 * s["high"] - m for s, m in zip(spans, means, strict=True)],
            arrayminus=[m - 100 * s["low"] for s, m in zip(spans, means, strict=True)],
            color=FAINT,
            thickness=1.5,
            width=0,
        ),
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )


def _frontier(costs: Sequence[float], means: Sequence[float]) -> list[int]:
    """Indices, cheapest first, of what no other beats or equals in both."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -means[i]))
    best: list[int] = []
    for i in order:
        if not best or means[i] > means[best[-1]]:
            best.append(i)
    return best


def _room(values: Sequence[float], before: float, after: float) -> list[float]:
    """An axis range with room around the values, as shares of their span."""
    span = (max(values) - min(values)) or abs(values[0]) or 1.0
    return [min(values) - before * span, max(values) + after * span]


def _pixel(value: float, ends: Sequence[float], size: float) -> float:
    return size * (value - ends[0]) / (ends[1] - ends[0])


def _labels(names, places, means, pixels, best) -> list[dict]:
    """Annotations beside the dots, moved (and then tied to them by a line) where they would meet.

    Worked out for the smallest drawing area: on a wider page dots only move apart.
    """
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in pixels]
    shifts = sorted(product((1, -1), range(-14, 15)), key=lambda s: (abs(s[1]), -s[0]))
    taken += _treads(pixels, best)
    labels = []
    for name, x, y, (px, py) in sorted(
        zip(names, places, means, pixels, strict=True), key=lambda label: -label[2]
    ):
        width = 6.6 * len(name)
        for side, steps in shifts:
            left = px + 12 if side > 0 else px - 12 - width
            middle = py + LINE * steps
            box = (left, middle - LINE / 2, left + width, middle + LINE / 2)
            inside = 0 <= box[0] and box[2] <= AREA[0] and 0 <= box[1] and box[3] <= AREA[1]
            if inside and not any(_meet(box, other) for other in taken):
                break
        taken.append(box)
        labels.append(
            dict(
                x=x,
                y=y,
                text=esc(name),
                ax=12 * side,
                ay=-LINE * steps,
                xanchor="left" if side > 0 else "right",
                arrowcolor=GREY if steps else "rgba(0,0,0,0)",
                arrowwidth=0.8,
                arrowhead=0,
                standoff=6,
            )
        )
    return labels


def _treads(pixels: Sequence, best: Sequence[int]) -> list[tuple]:
    """Boxes around the level parts of the line that joins the best."""
    steps = zip(best, best[1:], strict=False)
    return [(pixels[i][0], pixels[i][1] - 2, pixels[j][0], pixels[i][1] + 2) for i, j in steps]


def _meet(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _cost_reading(rows, best, spoken, key) -> str:
    chain = ", ".join(f"{rows[i]['strategy']} ({spoken(rows[i][key])})" for i in best)
    return (
        "Up is better, left is cheaper; a faint line is the 95 % interval. "
        f"Filled: no other mean is both as high and as cheap: {chain}."
    )


def _cost_facts(rows, axis, best) -> list[dict]:
    key, _, spoken = COSTS[axis]
    return [
        {
            "strategy": row["strategy"],
            axis: spoken(row[key]),
            "balanced accuracy": interval(row["balanced_accuracy"]),
            "seeds": len(row["seeds"]),
            "not beaten in both": "yes" if i in best else "",
        }
        for i, row in enumerate(rows)
    ]
