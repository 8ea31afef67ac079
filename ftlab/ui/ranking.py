"""Charts that rank strategies: dots with intervals, and a heat map of strategies and cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from .charts import (
    GREY,
    ORANGE,
    TEAL,
    TINTS,
    Cell,
    Chart,
    bare,
    basis,
    grounds,
    known,
    say,
    scored,
    short,
    tuned,
)
from .text import duration, interval

UNDECIDED = "undecided"
MARKS = {  # of the paired comparison with full -> sign, colour, shape
    "above full": ("▲", TEAL, "triangle-up"),
    "below full": ("▼", ORANGE, "triangle-down"),
    UNDECIDED: ("○", GREY, "circle-open"),
    "full itself": ("◆", GREY, "diamond"),
    "ensemble": ("□", GREY, "square-open"),
}
VIEWS = {  # what the dot plot can show -> the axis
    "balanced accuracy": "balanced accuracy on test, %",
    "difference to full": "balanced accuracy minus that of full, percentage points",
    "AUROC": "AUROC on test, %",
}


def mark(row: Mapping) -> str | None:
    """What the paired comparison with full says of a row; None where there is none.

    By Holm's p where any row of its backbone has one (five seeds), else by the interval, which is
    not corrected for the number of comparisons. An ensemble is none of them.
    """
    if "strategy" not in row:
        return "ensemble"
    if row["strategy"] == "full":
        return "full itself"
    paired = row["to_full"]
    if not paired or math.isnan(paired["difference"]):
        return None
    decided = paired["seeds"] > 1 and (paired["low"] > 0 or paired["high"] < 0)
    if paired["corrected"]:
        decided = paired["p_holm"] is not None and paired["p_holm"] < 0.05
    if not decided:
        return UNDECIDED
    return "above full" if paired["difference"] > 0 else "below full"


def ensemble_name(ensemble: Mapping) -> str:
    """What stands in the place of a strategy's name."""
    return f"ensemble of {ensemble['runs']} runs"


# --- dots with intervals -------------------------------------------------------------------------


def dots(cell: Cell, view: str) -> Chart:
    """One of VIEWS: a strategy a line with its 95 % interval, best on top, paired marks told.

    The ensemble stands among them under a sign of its own.
    """
    shown = [(row, _estimate(row, view)) for row in _lines(cell)]
    shown = [(row, at) for row, at in shown if at and known(at["mean"])]
    shown.sort(key=lambda pair: pair[1]["mean"])
    paired = view != "AUROC"
    looks = [MARKS[_sign(row, paired)] for row, _ in shown]
    means = [100 * at["mean"] for _, at in shown]
    texts = [_dot_text(at, view) for _, at in shown]
    names = [row["name"] for row, _ in shown]
    figure = go.Figure(
        go.Scatter(
            x=means,
            y=names,
            mode="markers",
            marker=dict(
                color=[colour for _, colour, _ in looks],
                symbol=[shape for _, _, shape in looks],
                size=11,
            ),
            error_x=dict(
                type="data",
                symmetric=False,
                array=[100 * at["high"] - mean for (_, at), mean in zip(shown, means, strict=True)],
                arrayminus=[
                    mean - 100 * at["low"] for (_, at), mean in zip(shown, means, strict=True)
                ],
                color=GREY,
                thickness=1.2,
                width=0,
            ),
            customdata=texts,
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    )
    title = f"{view[0].upper()}{view[1:]} with 95 % intervals"
    bare(figure, title, grounds(cell), 120 + 26 * len(shown), r=156)
    figure.update_xaxes(title_text=VIEWS[view])
    figure.update_layout(
        annotations=[
            say(1.01, name, text, xref="paper") for name, text in zip(names, texts, strict=True)
        ]
    )
    if (line := _reference(shown, view)) is not None:
        figure.add_vline(x=100 * line, line=dict(color=GREY, width=1, dash="dot"))
    return Chart(figure, _dots_reading(cell, shown, view), _dots_facts(shown, view, texts))


def _lines(cell: Cell) -> list[dict]:
    """The rows of the chart, each with its name."""
    lines = [{**row, "name": row["strategy"]} for row in cell.rows]
    if cell.ensemble:
        lines.append({**cell.ensemble, "name": ensemble_name(cell.ensemble)})
    return lines


def _sign(row: Mapping, paired: bool) -> str:
    said = mark(row)
    return said if said and (paired or said == "ensemble") else UNDECIDED


def _estimate(row: Mapping, view: str) -> Mapping | None:
    if view == "difference to full":
        paired = row["to_full"]
        return paired and {**paired, "mean": paired["difference"]}
    return row["auroc" if view == "AUROC" else "balanced_accuracy"]


def _dot_text(estimate: Mapping, view: str) -> str:
    if view != "difference to full":
        return interval(estimate)
    mean, low, high = (100 * estimate[key] for key in ("mean", "low", "high"))
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _reference(shown: Sequence[tuple], view: str) -> float | None:
    """Where the dotted line stands: at full, which is 0 among differences."""
    if view == "difference to full":
        return 0.0 if shown else None
    return next((at["mean"] for row, at in shown if row["name"] == "full"), None)


def _dots_reading(cell: Cell, shown: Sequence[tuple], view: str) -> str:
    paired = view != "AUROC"
    text = _dot_and_line({at["seeds"] for row, at in shown if "strategy" in row})
    if cell.ensemble:
        text += (
            f"; □ is no strategy, but the mean of the probabilities of {cell.ensemble['runs']} "
            f"runs, which took {duration(cell.ensemble['seconds'])} together"
        )
        if view != "difference to full":  # which is paired with each seed of full
            text += ", and its line knows the test images alone"
    if all(row["strategy"] != "full" for row in cell.rows):
        return text + "."
    text += "; the dotted line is full"
    if not paired:
        return text + "."
    return (
        f"{text}. ▲ is above and ▼ below full in the paired comparison, which overlapping "
        "lines alone would not tell; ○ is undecided."
    )


def _dot_and_line(seeds: set[int]) -> str:
    """What a strategy's mean is over, and its interval; seeds: how many the strategies have."""
    if seeds == {1}:
        return "A dot is that of one seed, its line the 95 % interval over test images alone"
    over = "seeds and test images" + ", of one seed over test images alone" * (1 in seeds)
    return f"A dot is the mean over seeds, its line the 95 % interval over {over}"


def _dots_facts(shown: Sequence[tuple], view: str, texts: Sequence[str]) -> list[dict]:
    facts = [
        {
            **{"strategy": row["name"], view: text, "paired": mark(row) or ""},
            "seeds": at["seeds"] if "strategy" in row else "",
        }
        for (row, at), text in zip(shown, texts, strict=True)
    ]
    return facts[::-1]


# --- strategies x cells --------------------------------------------------------------------------


def heat_map(cells: Sequence[Cell], order: Sequence[str]) -> Chart:
    """Balanced accuracy of strategies (lines, in `order`) in cells (columns), the best marked."""
    found = [
        {row["strategy"]: row["balanced_accuracy"] for row in cell.rows if scored(row)}
        for cell in cells
    ]
    strategies = [name for name in order if any(name in column for column in found)]
    tops = [max((at["mean"] for at in column.values()), default=None) for column in found]
    behind = [
        [
            100 * (top - column[name]["mean"]) if name in column else None
            for column, top in zip(found, tops, strict=True)
        ]
        for name in strategies
    ]
    wide = len(cells) > 5  # then intervals are in the table and on hover alone
    texts = [
        [_heat_text(c.get(n), top, wide) for c, top in zip(found, tops, strict=True)]
        for n in strategies
    ]
    said = [[interval(c.get(n)) for c in found] for n in strategies]
    figure = _tiles(behind, [f"{name} " for name in strategies], texts, said)
    told = {tuned(cell.board) for cell in cells}
    subtitle = told.pop() if len(told) == 1 else "learning rates not tuned in all"
    title = "Balanced accuracy on test, %, by strategy and cell"
    bare(figure, title, subtitle, 195 + (28 if wide else 38) * len(strategies), t=150, b=8)
    heads = [f"{short(c.study)}<br>{short(c.backbone)}<br>{_small(basis(c.rows))}" for c in cells]
    places = dict(tickvals=list(range(len(cells))), ticktext=heads)
    figure.update_xaxes(side="top", showgrid=False, **places)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    reading = (
        "★ marks the best mean of each column; the fainter a cell, the further below it, faintest "
        "at 15 points. A star alone says nothing about chance: the verdicts do."
    )
    return Chart(figure, reading, _heat_facts(cells, found, strategies))


def _tiles(behind, names, texts, said) -> go.Figure:
    """Tiles stronger in colour the less they lie behind, in points; `said` on hover."""
    return go.Figure(
        go.Heatmap(
            z=behind,
            x=list(range(len(said[0]))),
            y=names,
            text=texts,
            texttemplate="%{text}",
            customdata=said,
            hovertemplate="%{y}: %{customdata}, %{z:.1f} points below the best<extra></extra>",
            hoverongaps=False,
            colorscale=TINTS,
            reversescale=True,
            zmin=0,
            zmax=15,
            showscale=False,
            xgap=3,
            ygap=3,
        )
    )


def _small(text: str) -> str:
    return f'<span style="font-size:10px">{text.replace(", ", "<br>")}</span>'


def _heat_text(estimate: Mapping | None, top: float, wide: bool) -> str:
    if estimate is None:
        return ""
    text = f"{100 * estimate['mean']:.1f}"
    text = f"<b>★ {text}</b>" if estimate["mean"] == top else text
    low, high = 100 * estimate["low"], 100 * estimate["high"]
    return text if wide else f"{text}<br>({low:.1f} to {high:.1f})"


def _heat_facts(cells, found, strategies) -> list[dict]:
    named = [cell.name for cell in cells]
    return [
        {
            "strategy": name,
            **{c: interval(column.get(name)) for c, column in zip(named, found, strict=True)},
        }
        for name in strategies
    ]
