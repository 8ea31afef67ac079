"""Charts of what fine-tuning changed: weights, what stages see, and who gets what right."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape as esc
from statistics import fmean
from typing import NamedTuple

import plotly.graph_objects as go

from .charts import FAINT, TINTS, Chart, bare, known, short
from .parts import NONE

DRIFTS = {  # what the drift can be of -> kind in the lab's answer
    "kernels": "kernels",
    "normalisation": "norm",
    "running statistics": "statistics",
}
ALIKE: dict[str, tuple[Callable[[Mapping], float | None], str]] = {  # measure -> value, reading
    "SVCCA": (
        lambda row: row["svcca"]["area"],
        "SVCCA is how far a stage agrees with the pretrained one, up to a linear map, above what "
        "two unrelated ones would: 0 is no more than that, and an unchanged stage falls short of 1 "
        "by what they would. Images have much in common: see SVCCA, unpaired.",
    ),
    "SVCCA, unpaired": (
        lambda row: row["svcca"]["unpaired"],
        "The SVCCA that is left where each image meets another: so much comes from what all images "
        "share, and only what SVCCA is above it comes from seeing the same in the same image.",
    ),
    "CKA": (
        lambda row: row["cka"],
        "CKA is 1 where a stage sees as before up to rotation and scale, and about 0 where the two "
        "have nothing in common.",
    ),
}
FROZEN = [[0, FAINT], [1, FAINT]]


class Tile(NamedTuple):
    """What a cell of a heat map says: its text, how strong its colour is, and more on hover."""

    text: str
    strength: float | None  # from 0 to 1; None: grey
    said: str


# --- stages x strategies --------------------------------------------------------------------------


def drift(runs: Sequence[Mapping], view: str, of: str) -> Chart:
    """How far each stage of each run moved: one of DRIFTS.

    Args:
        runs: of `lab.drift`, with their weights, of one backbone. of: what they are, in words.
    """
    kind = DRIFTS[view]
    values = {
        run["strategy"]: {row["stage"]: (row[kind], row["new"]) for row in run["change"]}
        for run in runs
    }
    stages = max(([row["stage"] for row in run["change"]] for run in runs), key=len)
    moved = [v for stage in values.values() for v, _ in stage.values() if v]
    low, high = (math.log(end(moved)) if moved else 0.0 for end in (min, max))

    def tile(strategy: str, stage: str) -> Tile | None:
        if stage not in values[strategy]:
            return None
        value, new = values[strategy][stage]
        if value is None:
            return None
        text = _percent(value)
        if value == 0:
            return Tile("0", None, "did not move")
        strength = (math.log(value) - low) / (high - low) if high > low else 1.0
        drawn = ", measured from its random start" if new else ""
        return Tile(text, strength, f"moved by {text} %{drawn}")

    figure = _tiles(list(values), stages, tile)
    title = f"Relative change of {_what(view)}, %, by stage"
    bare(figure, title, esc(of), 130 + 30 * len(values))
    reading = (
        "A number is |w - w₀| / |w₀| of the stage in per cent, the stronger the colour the larger; "
        "grey 0 is exactly as before: frozen. New parts, such as the head, are measured from "
        "their random start."
    )
    if any(run["rounded"] for run in runs):
        reading += " These weights were stored in half precision, which alone is 0.02 %."
    facts = [
        {
            "strategy": strategy,
            **{s: _percent(row[s][0]) if s in row else NONE for s in stages},
        }
        for strategy, row in values.items()
    ]
    return Chart(figure, reading, facts)


def _what(view: str) -> str:
    return {
        "kernels": "kernels and linear layers",
        "normalisation": "normalisation's scale and shift",
    }.get(view, "BatchNorm's running statistics")


def _percent(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.3g}"


def similarity(answer: Mapping, view: str, of: str) -> Chart:
    """How alike each stage of each run and of theta_0 see: one of ALIKE; answer of `similarity`."""
    value, how = ALIKE[view]
    runs = answer["runs"]
    found = {r["strategy"]: {row["stage"]: value(row) for row in r["rows"]} for r in runs}
    stages = max((list(row) for row in found.values()), key=len)

    def tile(strategy: str, stage: str) -> Tile | None:
        alike = found[strategy].get(stage)
        if not known(alike):
            return None
        return Tile(f"{alike:.2f}", min(max(alike, 0.0), 1.0), f"{view} {alike:.3f}")

    figure = _tiles(list(found), stages, tile)
    seen = f"{esc(of)} · {answer['images']} images of {esc(answer['data'])}, {answer['split']}"
    bare(figure, f"{view} with the pretrained network, by stage", seen, 130 + 30 * len(found))
    facts = [
        {
            "strategy": strategy,
            **{s: f"{row[s]:.3f}" if known(row.get(s)) else NONE for s in stages},
        }
        for strategy, row in found.items()
    ]
    return Chart(figure, f"{how} The stronger the colour, the more alike.", facts)


def _tiles(
    rows: Sequence[str], columns: Sequence[str], tile: Callable[[str, str], Tile | None]
) -> go.Figure:
    """A heat map of `tile(row, column)`, first row on top; grey tiles are a trace of their own."""
    tiles = [[tile(row, column) for column in columns] for row in rows]
    coloured = [[t.strength if t else None for t in line] for line in tiles]
    grey = [[0.0 if t and t.strength is None else None for t in line] for line in tiles]
    looks = dict(
        x=list(range(len(columns))),
        y=list(range(len(rows))),
        text=[[t.text if t else "" for t in line] for line in tiles],
        customdata=[
            [f"{esc(row)}, {esc(column)}: {esc(t.said) if t else ''}" for column, t in pairs]
            for row, line in zip(rows, tiles, strict=True)
            for pairs in [list(zip(columns, line, strict=True))]
        ],
        texttemplate="%{text}",
        hovertemplate="%{customdata}<extra></extra>",
        hoverongaps=False,
        showscale=False,
        zmin=0,
        zmax=1,
        xgap=3,
        ygap=3,
    )
    figure = go.Figure(
        [
            go.Heatmap(z=coloured, colorscale=TINTS, **looks),
            go.Heatmap(z=grey, colorscale=FROZEN, **looks),
        ]
    )
    figure.update_xaxes(
        side="bottom",
        tickvals=looks["x"],
        ticktext=[short(c, 20) for c in columns],
        showgrid=False,
    )
    figure.update_yaxes(
        autorange="reversed",
        tickvals=looks["y"],
        ticktext=[f"{short(r, 24)} " for r in rows],
        showgrid=False,
    )
    return figure


# --- flips ----------------------------------------------------------------------------------------


def flips(pairs: Sequence[Mapping], strategies: Sequence[str], of: str) -> Chart | None:
    """Who gets right what another gets wrong, in per cent of the test images; None without two.

    Args:
        pairs: of `lab.flips`, of one backbone; strategies: in the order of lines and columns.
    """
    shown = [p for p in pairs if p["before"] in strategies and p["after"] in strategies]
    if not shown:
        return None
    mended = {(p["before"], p["after"]): fmean(p["corrected"]) / p["images"] for p in shown}
    mended |= {(p["after"], p["before"]): fmean(p["broken"]) / p["images"] for p in shown}
    names = [s for s in strategies if any(s in pair for pair in mended)]
    most = max(mended.values()) or 1.0

    def tile(wrong: str, right: str) -> Tile | None:
        if (wrong, right) not in mended:
            return None
        share = mended[wrong, right]
        said = f"{100 * share:.1f} % of the images are wrong by {wrong} and right by {right}"
        return Tile(f"{100 * share:.0f}", share / most, said)

    figure = _tiles(names, names, tile)
    seeds = len(shown[0]["seeds"])
    many = f"{shown[0]['images']} test images, mean over {seeds} seed{'s' * (seeds > 1)}"
    title = "Wrong by the line, right by the column, % of test images"
    bare(figure, title, f"{esc(of)} · {many}", 210 + 30 * len(names), b=110)
    figure.update_xaxes(title_text="right", tickangle=-40)
    figure.update_yaxes(title_text="wrong")
    reading = (
        "Read a line for what others would correct of a strategy, and its column for what it "
        "corrects of others: strategies of equal accuracy may be right about different images."
    )
    return Chart(figure, reading, [_flipped(pair) for pair in shown])


def _flipped(pair: Mapping) -> dict:
    worst = max(pair["per_class"], key=lambda each: each["corrected"] + each["broken"])
    return {
        "before": pair["before"],
        "after": pair["after"],
        "corrected": f"{fmean(pair['corrected']):.1f}",
        "broken": f"{fmean(pair['broken']):.1f}",
        "wrong otherwise": f"{fmean(pair['changed']):.1f}",
        "test images": pair["images"],
        "seeds": len(pair["seeds"]),
        "most in class": worst["class"],
    }
