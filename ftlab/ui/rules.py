"""What Auto-RGN and Auto-SNR made of the learning rates, by stage and epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as esc

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .charts import TEAL, Chart, bare, say, short
from .parts import NONE

RULED = "rgba(13, 148, 136, 0.25)"  # a range around its mean


def multipliers(courses: Sequence[Mapping], of: str) -> Chart | None:
    """What a rule made of the rate, by stage and epoch; None where no run has a rule.

    Args:
        courses: of `lab.courses`, of one backbone.
    """
    ruled = [c for c in courses if any(row["multipliers"] for row in c["rates"])]
    if not ruled:
        return None
    found = [row["multipliers"] or {} for course in ruled for row in course["rates"]]
    stages = list(dict.fromkeys(stage for each in found for stage in each))
    figure = make_subplots(
        len(ruled),
        len(stages),
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.015,
        vertical_spacing=0.12,
    )
    for i, course in enumerate(ruled):
        for j, stage in enumerate(stages):
            at = dict(rows=i + 1, cols=j + 1)
            figure.add_traces(_ruled(course, stage), **at)
    subtitle = f"{esc(of)} · share of the run's own rate"
    title = "What the rule made of each stage's rate, by epoch"
    bare(figure, title, subtitle, 130 + 170 * len(ruled), t=88, l=64)
    _label(figure, [c["strategy"] for c in ruled], stages)
    reading = (
        "The line is the mean over a stage's tensors, the band from the least to the largest: 1 "
        "is the full rate, 0 stands still. Auto-RGN follows the size of the gradient, Auto-SNR "
        "lets a tensor learn or not."
    )
    facts = [
        {
            "strategy": course["strategy"],
            "epoch": row["epoch"] + 1,
            **{s: _range((row["multipliers"] or {}).get(s)) for s in stages},
        }
        for course in ruled
        for row in course["rates"]
    ]
    return Chart(figure, reading, facts)


def _ruled(course: Mapping, stage: str) -> list[go.Scatter]:
    """A band and the mean in it."""
    found = [
        (row["epoch"] + 1, row["multipliers"][stage])
        for row in course["rates"]
        if stage in (row["multipliers"] or {})
    ]
    epochs = [epoch for epoch, _ in found]
    ends = [[at[end] for _, at in found] for end in ("low", "high", "mean")]
    name = f"{esc(course['strategy'])}, {esc(stage)}"
    bare_line = dict(x=epochs, mode="lines", line_width=0, hoverinfo="skip")
    return [
        go.Scatter(y=ends[0], **bare_line),
        go.Scatter(y=ends[1], fill="tonexty", fillcolor=RULED, **bare_line),
        go.Scatter(
            x=epochs,
            y=ends[2],
            mode="lines+markers",
            line=dict(color=TEAL, width=2),
            marker_size=4,
            name=name,
            hovertemplate=f"{name}, epoch %{{x}}: %{{y:.3f}}<extra></extra>",
        ),
    ]


def _label(figure: go.Figure, lines: Sequence[str], columns: Sequence[str]) -> None:
    """The names of panels: stages above the first line, epochs below the last."""
    for i, name in enumerate(lines):
        for j, stage in enumerate(columns):
            number = i * len(columns) + j
            panel = str(number + 1) if number else ""
            corner = dict(xref=f"x{panel} domain", yref=f"y{panel} domain")
            text = f"<b>{esc(name)}</b> {short(stage)}" if j == 0 else short(stage)
            figure.add_annotation(say(0, 1, text, yanchor="bottom", **corner))
            last = i == len(lines) - 1
            figure.update_xaxes(
                title_text="epoch" if last and j == 0 else None,
                showticklabels=last,
                tickformat="d",
                row=i + 1,
                col=j + 1,
            )
    figure.update_yaxes(range=[-0.03, 1.05], dtick=0.5)
    figure.add_annotation(
        say(0, 0.5, "share of the rate", xref="paper", yref="paper", textangle=-90, xshift=-52)
    )


def _range(at: Mapping | None) -> str:
    return NONE if at is None else f"{at['mean']:.3g} ({at['low']:.3g} to {at['high']:.3g})"
