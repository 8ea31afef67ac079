"""The strokes of a still picture: texts, rules and marks as SVG. See `still`."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape as esc
from html.parser import HTMLParser
from typing import Any

INK, FONT, LINE = "#334155", 12, 15  # of texts; pixels
LETTER = 6.3  # pixels of an average letter at that size
DASHES = {"solid": "", "dash": "7 5", "dot": "2 3"}
CORNERS = {  # of a mark, in halves of its size
    "triangle-up": ((0, -1), (1, 0.75), (-1, 0.75)),
    "triangle-down": ((0, 1), (1, -0.75), (-1, -0.75)),
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1), (1, 0), (0, 1), (-1, 0)),
}


def rule(x0, y0, x1, y1, colour: str, width: float = 1, dashed: str = "") -> str:
    """A straight line between two pixels; dashed: as of `dashed`."""
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" '
        f'stroke="{esc(colour)}" stroke-width="{width}"{dashed}/>'
    )


def dashed(line: Mapping) -> str:
    """The attribute that breaks a line as a Plotly line's dash does; nothing for a solid one."""
    dashes = DASHES[line.get("dash", "solid")]
    return f' stroke-dasharray="{dashes}"' if dashes else ""


def marker(trace: Mapping, i: int, px: float, py: float) -> str:
    """The mark of a trace's point number i, at a pixel.

    Raises:
        ValueError: a symbol that is not drawn here.
    """
    look = trace.get("marker", {})
    colour, symbol, size = (
        _each(look.get(key, default), i)
        for key, default in (
            ("color", trace.get("line", {}).get("color")),
            ("symbol", "circle"),
            ("size", 7),
        )
    )
    if symbol == "line-ns":
        return (
            f'<g opacity="{look.get("opacity", 1)}">'
            f"{rule(px, py - size / 2, px, py + size / 2, look['line']['color'])}</g>"
        )
    r = size / 2
    shape = symbol.removesuffix("-open")
    paint = f'fill="{esc(colour) if shape == symbol else "#fff"}" stroke="{esc(colour)}"'
    if shape == "circle":
        return f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{r:.1f}" {paint}/>'
    if shape not in CORNERS:
        raise ValueError(f"No still picture of a {symbol}.")
    places = " ".join(f"{px + r * dx:.1f},{py + r * dy:.1f}" for dx, dy in CORNERS[shape])
    return f'<polygon points="{places}" {paint}/>'


def _each(value: Any, i: int) -> Any:
    return value if isinstance(value, str | int | float) or value is None else value[i]


class _Rich(HTMLParser):
    """Plotly's little HTML as lines of (text, bold, style)."""

    def __init__(self, text: str):
        super().__init__()
        self.lines, self.bold, self.styles = [[]], 0, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "br":
            self.lines.append([])
        self.bold += tag == "b"
        if tag == "span":
            self.styles.append(dict(attributes).get("style", "").replace("color:", "fill:"))

    def handle_endtag(self, tag):
        self.bold -= tag == "b"
        if tag == "span" and self.styles:
            self.styles.pop()

    def handle_data(self, data):
        self.lines[-1].append((data, self.bold > 0, ";".join(self.styles)))


def plain(text: str) -> list[str]:
    """The lines of a text without what is around them."""
    return ["".join(part for part, *_ in line) for line in _Rich(text).lines]


def text_at(
    text: str,
    px: float,
    py: float,
    anchor: str = "start",
    size: float = FONT,
    colour: str = INK,
    weight: int = 400,
    turn: bool = False,
    middle: bool = False,
    bottom: bool = False,
) -> str:
    """A text at a pixel; of several lines the first stands there, the middle or the last."""
    lines = _Rich(text).lines
    up = LINE * (len(lines) - 1)
    py -= up / 2 if middle else up if bottom else 0
    said = "".join(
        f'<tspan x="{px:.1f}" y="{py + LINE * n:.1f}">'
        + "".join(
            f'<tspan font-weight="{600 if bold else weight}" style="{esc(style)}">'
            f"{esc(part)}</tspan>"
            for part, bold, style in line
        )
        + "</tspan>"
        for n, line in enumerate(lines)
    )
    turned = f' transform="rotate(-90 {px:.1f} {py:.1f})"' if turn else ""
    return f'<text text-anchor="{anchor}" font-size="{size}" fill="{colour}"{turned}>{said}</text>'
