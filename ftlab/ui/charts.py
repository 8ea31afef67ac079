"""The look every chart shares, and its text equivalent.

Grounds are transparent. Teal and orange are told apart in every common kind of colour blindness and
differ in shape as well; they and the grey keep 3 : 1 on light and on dark, and charts.css gives all
text the ink of the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape as esc
from typing import NamedTuple

import plotly.graph_objects as go

TEAL, ORANGE, GREY = "#0d9488", "#d55e00", "#64748b"
FAINT = "rgba(100, 116, 139, 0.25)"
TINTS = [[0, "rgba(13, 148, 136, 0.04)"], [1, "rgba(13, 148, 136, 0.55)"]]  # ink stays readable
AXIS = dict(gridcolor=FAINT, linecolor=FAINT, zeroline=False, automargin=True, title_standoff=8)
BUTTONS = "zoom pan select lasso zoomin zoomout autoscale resetscale".split()


class Chart(NamedTuple):
    """A figure with its text equivalent: how to read it, and the numbers it shows as a table."""

    figure: go.Figure
    reading: str
    facts: list[dict]


class Cell(NamedTuple):
    """One study on one backbone, with its leaderboard and the rows of it that are the cell's.

    ensemble: the mean of all its runs, which is no strategy and so no row; None for a single run.
    """

    study: str
    backbone: str
    board: Mapping
    rows: list[Mapping]
    ensemble: Mapping | None = None

    @property
    def name(self) -> str:
        return f"{self.study}, {self.backbone}"


def text_equivalent(chart: Chart) -> str:
    """HTML: how to read the chart, and behind one click its numbers."""
    heads = "".join(f'<th scope="col">{esc(name)}</th>' for name in (chart.facts or [{}])[0])
    rows = "".join(
        "<tr>" + "".join(f"<td>{esc(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in chart.facts
    )
    return (
        f'<div class="ft-chart-text ft-muted"><p>{esc(chart.reading)}</p><details>'
        f'<summary>The numbers as a table</summary><div class="ft-scroll" tabindex="0">'
        f'<table class="ft-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></details></div>"
    )


def bare(figure: go.Figure, title: str, subtitle: str, height: int, **margin: int) -> go.Figure:
    """A figure in the house's look; titles must already be escaped."""
    figure.update_layout(
        template=go.layout.Template(),
        title=dict(
            text=title,
            font_size=15,
            subtitle=dict(text=subtitle, font_size=12),
            x=0,
            y=1,
            yref="container",
            yanchor="top",
            pad=dict(t=10, l=8),
        ),
        height=height,
        margin=dict(l=8, r=16, t=66, b=40) | margin,
        font=dict(family="var(--font), system-ui, sans-serif", size=12, color=GREY),
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=False,
        dragmode=False,
        hoverlabel=dict(font_size=12),
        modebar=dict(remove=BUTTONS, bgcolor="rgba(0,0,0,0)"),
    )
    figure.update_xaxes(**AXIS)
    figure.update_yaxes(**AXIS)
    return figure


def say(x: float, y: float, text: str, **more) -> dict:
    """An annotation without an arrow, to the right of (x, y) unless told otherwise."""
    return dict(x=x, y=y, text=text, showarrow=False, xanchor="left", align="left") | more


def short(name: str, most: int = 18) -> str:
    """A name for an axis, escaped: cut where it would crowd the chart out."""
    return esc(name if len(name) <= most else name[: most - 1] + "…")


def basis(rows: Sequence[Mapping]) -> str:
    """What the numbers of rows of a leaderboard rest on: `280 test images, 3 seeds`."""
    seeds = sorted({len(row["seeds"]) for row in rows})
    word = "seed" if seeds == [1] else "seeds"
    n_images = rows[0]["balanced_accuracy"]["images"]
    least_to_most = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    return f"{n_images} test images, {least_to_most} {word}"


def rates(board: Mapping) -> str:
    """Whether a leaderboard's learning rates were tuned, in words."""
    return f"learning rates {board['rates']}"


def tuned(board: Mapping) -> str:
    """The same without its caution, which a chart has no room for: it stands with the table."""
    return f"learning rates {board['tuned']}"


def grounds(cell: Cell) -> str:
    """What the numbers of a cell rest on, for a subtitle."""
    return f"{esc(cell.name)} · {basis(cell.rows)} · {tuned(cell.board)}"


def known(value: float | None) -> bool:
    """Whether there is a number to show: not None, not NaN."""
    return value is not None and not math.isnan(value)


def scored(row: Mapping) -> bool:
    """Whether a row of a leaderboard has a balanced accuracy to show."""
    return known(row["balanced_accuracy"]["mean"])
