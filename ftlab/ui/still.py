"""A chart as a still picture: SVG made from a Plotly figure, for pages that run no script.

It knows what this app's charts are made of (lines, markers, error bars, tiles, rules, notes; plain,
logarithmic and named axes) and raises ValueError at anything else, so that nothing goes missing
unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape as esc
from typing import Any

import plotly.graph_objects as go

from .axes import WIDTH, Axis, axes_of
from .charts import FAINT, GREY
from .strokes import dashed, marker, plain, rule, text_at


def svg(figure: go.Figure) -> str:
    """The figure as an SVG element; its title is what it is called aloud."""
    drawing = figure.to_plotly_json()
    layout, traces = drawing["layout"], drawing["data"]
    axes = axes_of(layout, traces)
    parts = [part for axis in axes if axis[0] == "x" for part in _frame(axes, axis, layout)]
    parts += [_shape(shape, axes, layout) for shape in layout.get("shapes", ())]
    for trace in traces:
        if trace["type"] not in DRAWN:
            raise ValueError(f"No still picture of a {trace['type']}.")
        x, y = axes[trace.get("xaxis", "x")], axes[trace.get("yaxis", "y")]
        parts += DRAWN[trace["type"]](trace, x, y)
    parts += [_note(note, axes, layout) for note in layout.get("annotations", ())]
    title = layout["title"]
    parts.append(text_at(title["text"], 8, 22, size=15, weight=600))
    parts.append(text_at(title["subtitle"]["text"], 8, 42, colour=GREY))
    height, name = layout["height"], esc("".join(plain(title["text"])))
    return (
        f'<svg class="still" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}">{"".join(parts)}</svg>'
    )


def _frame(axes: Mapping[str, Axis], name: str, layout: Mapping) -> Iterator[str]:
    """Grid, ticks and titles of an x axis and the y axis of the same number."""
    x, y = axes[name], axes[f"y{name[1:]}"]
    for across, along, letter in ((x, y, "x"), (y, x, "y")):
        record = across.record
        if record.get("visible") is False:
            continue
        shown = record.get("showticklabels") is not False
        top = record.get("side") == "top"
        for number, text in across.ticks():
            at = across.at(number)
            if record.get("showgrid") is not False:
                ends = (at, along.start, at, along.end)
                yield rule(*(ends if letter == "x" else (along.start, at, along.end, at)), FAINT)
            if shown and letter == "x":
                lift = along.end - 8 if top else along.start + 16
                yield text_at(text, at, lift, anchor="middle", bottom=top)
            elif shown:
                yield text_at(text, along.start - 7, at + 4, anchor="end", middle=True)
        if title := record.get("title", {}).get("text"):
            if letter == "x":
                yield text_at(title, (x.start + x.end) / 2, y.start + 34, anchor="middle")
            else:
                yield text_at(title, 14, (y.start + y.end) / 2, anchor="middle", turn=True)


def _scatter(trace: Mapping, x: Axis, y: Axis) -> Iterator[str]:
    points = [
        None if a is None or b is None else (x.at(x.number(a)), y.at(y.number(b)), a, b)
        for a, b in zip(trace["x"], trace["y"], strict=True)
    ]
    mode = trace.get("mode", "lines")
    if "lines" in mode:
        yield _path(points, trace["line"])
    for axis, along in ((x, "error_x"), (y, "error_y")):
        if bars := trace.get(along):
            for i, point in enumerate(points):
                value = axis.number(point[2 if along == "error_x" else 3])
                low, high = (axis.at(value + d) for d in (-bars["arrayminus"][i], bars["array"][i]))
                ends = (low, point[1], high, point[1])
                ends = ends if along == "error_x" else (point[0], low, point[0], high)
                yield rule(*ends, bars["color"], bars["thickness"])
    if "markers" in mode:
        for i, point in enumerate(points):
            if point:
                yield marker(trace, i, *point[:2])


def _path(points: Sequence[tuple | None], line: Mapping) -> str:
    steps, pen = [], None
    for point in points:
        if point is None:
            pen = None
            continue
        px, py = point[:2]
        shape = line.get("shape", "linear")
        if pen and shape in ("hv", "vh"):
            steps.append(f"L{px:.1f} {pen[1]:.1f}" if shape == "hv" else f"L{pen[0]:.1f} {py:.1f}")
        steps.append(f"{'L' if pen else 'M'}{px:.1f} {py:.1f}")
        pen = (px, py)
    return (
        f'<path d="{"".join(steps)}" fill="none" stroke="{esc(line["color"])}" '
        f'stroke-width="{line["width"]}"{dashed(line)}/>'
    )


def _heatmap(trace: Mapping, x: Axis, y: Axis) -> Iterator[str]:
    gaps = trace["xgap"], trace["ygap"]
    for row, values, texts in zip(trace["y"], trace["z"], trace["text"], strict=True):
        for column, z, text in zip(trace["x"], values, texts, strict=True):
            if z is None:
                continue
            across, down = x.number(column), y.number(row)
            left, right = sorted(x.at(across + d) for d in (-0.5, 0.5))
            top, bottom = sorted(y.at(down + d) for d in (-0.5, 0.5))
            yield (
                f'<rect x="{left + gaps[0] / 2:.1f}" y="{top + gaps[1] / 2:.1f}" '
                f'width="{right - left - gaps[0]:.1f}" height="{bottom - top - gaps[1]:.1f}" '
                f'fill="{_tint(z, trace)}"/>'
            )
            yield text_at(
                text, (left + right) / 2, (top + bottom) / 2 + 4, anchor="middle", middle=True
            )


def _tint(z: float, trace: Mapping) -> str:
    """The colour of a value between the two ends of a scale."""
    share = min(max((z - trace["zmin"]) / (trace["zmax"] - trace["zmin"]), 0), 1)
    share = 1 - share if trace.get("reversescale") else share
    ends = ([float(n) for n in re.findall(r"[\d.]+", end)] for _, end in trace["colorscale"])
    red, green, blue, alpha = (a + share * (b - a) for a, b in zip(*ends, strict=True))
    return f"rgba({red:.0f},{green:.0f},{blue:.0f},{alpha:.3f})"


DRAWN = {"scatter": _scatter, "heatmap": _heatmap}


# --- rules and notes -----------------------------------------------------------------------------


def _place(value: Any, ref: str, axes: Mapping[str, Axis], letter: str) -> float:
    """The pixel of a coordinate of a shape or note; on a logarithmic axis it is one already."""
    name, _, domain = ref.partition(" ")
    if name == "paper":
        every = [a for n, a in axes.items() if n[0] == letter]
        first, last = (f(e for a in every for e in (a.start, a.end)) for f in (min, max))
        first, last = (first, last) if letter == "x" else (last, first)
        return first + value * (last - first)
    axis = axes[name]
    if domain:
        return axis.start + value * (axis.end - axis.start)
    return axis.at(axis.number(value) if isinstance(value, str) else value)


def _shape(shape: Mapping, axes: Mapping[str, Axis], layout: Mapping) -> str:
    if shape["type"] != "line":
        raise ValueError(f"No still picture of a {shape['type']}.")
    ends = [
        _place(shape[key], shape.get(f"{key[0]}ref", key[0]), axes, key[0])
        for key in ("x0", "y0", "x1", "y1")
    ]
    return rule(*ends, shape["line"]["color"], shape["line"]["width"], dashed(shape["line"]))


def _note(note: Mapping, axes: Mapping[str, Axis], layout: Mapping) -> str:
    px, py = (_place(note[k], note.get(f"{k}ref", k), axes, k) for k in "xy")
    px, py, lead = px + note.get("xshift", 0), py - note.get("yshift", 0), ""
    if note.get("showarrow") is not False:
        to = (px + note["ax"], py + note["ay"])
        if note["arrowcolor"] != "rgba(0,0,0,0)":
            lead = rule(px, py, *to, note["arrowcolor"], note["arrowwidth"])
        px, py = to
    anchor = {"left": "start", "right": "end"}.get(note.get("xanchor"), "middle")
    ends = note.get("yanchor", "middle")
    return lead + text_at(
        note["text"],
        px,
        py + {"top": 12, "bottom": -3}.get(ends, 4),
        anchor=anchor,
        turn=bool(note.get("textangle")),
        middle=ends == "middle",
        bottom=ends == "bottom",
    )
