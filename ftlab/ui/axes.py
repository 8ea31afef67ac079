"""The axes of a still picture: where they lie in pixels, and what they show. See `still`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape as esc
from typing import Any

from .strokes import LETTER, plain

WIDTH = 680  # pixels: the text of a page of A4 between its margins
PREFIXES = {9: "G", 6: "M", 3: "k", 0: "", -3: "m"}
NAMED = re.compile(r"(x|y)axis(\d*)")


@dataclass
class Axis:
    """One axis: where it lies in pixels, and what of it is shown."""

    record: Mapping
    start: float  # pixel of `low`
    end: float
    names: list[str] = field(default_factory=list)  # of an axis of names
    low: float = 0.0
    high: float = 1.0

    def number(self, value: Any) -> float:
        """A value of a trace as a number on this axis."""
        if isinstance(value, str):
            return float(self.names.index(value))
        return math.log10(value) if self.record.get("type") == "log" else float(value)

    def at(self, number: float) -> float:
        """The pixel of a number on this axis."""
        share = (number - self.low) / ((self.high - self.low) or 1)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        if "tickvals" in self.record:
            values = self.record["tickvals"]
            return list(zip(values, self.record.get("ticktext", map(str, values)), strict=True))
        if self.names:
            return [(float(n), esc(name)) for n, name in enumerate(self.names)]
        step = self.record.get("dtick") or _step(abs(self.high - self.low))
        first, last = sorted((self.low, self.high))
        places = [n * step for n in range(math.ceil(first / step), math.floor(last / step) + 1)]
        log = self.record.get("type") == "log"
        return [(place, _said(10**place if log else place, self.record)) for place in places]


def axes_of(layout: Mapping, traces: Sequence[Mapping]) -> dict[str, Axis]:
    """The axes by Plotly's short names: x, y, x2 ..."""
    records = {m[1] + m[2]: layout[m[0]] for key in layout if (m := NAMED.fullmatch(key))}
    box = _box(layout, records, traces)
    axes = {}
    for name, record in records.items():
        start, end = (box["l"], box["r"]) if name[0] == "x" else (box["b"], box["t"])
        low, high = (start + share * (end - start) for share in record.get("domain", (0, 1)))
        axes[name] = Axis(record, low, high)
    for name, axis in axes.items():
        values = [v for t in traces if _on(t, name) for v in t[name[0]]]
        axis.names = list(dict.fromkeys(v for v in values if isinstance(v, str)))
    for name, axis in axes.items():
        leader = axis.record.get("matches", name)
        same = [n for n, a in axes.items() if a.record.get("matches", n) == leader]
        axis.low, axis.high = _range(same, axes, traces)
    return axes


def _on(trace: Mapping, name: str) -> bool:
    return trace.get(f"{name[0]}axis", name[0]) == name


def _box(layout: Mapping, records: Mapping, traces: Sequence[Mapping]) -> dict[str, float]:
    """Pixels of the ends of the drawing area, with room for what stands at the axes."""
    margin = layout["margin"]
    labels = [esc(v) for t in traces for v in t["y"] if isinstance(v, str)]
    labels += [text for n, r in records.items() if n[0] == "y" for text in r.get("ticktext", ())]
    widest = max([len(line) for text in labels for line in plain(text)], default=4)
    titled = any("text" in r.get("title", {}) for n, r in records.items() if n[0] == "y")
    left = max(margin["l"], 12 + LETTER * widest + 22 * titled)
    lower = 36 if any("text" in r.get("title", {}) for r in records.values()) else 20
    below = max(margin["b"], lower + 6)
    return {
        "l": left,
        "r": WIDTH - margin["r"],
        "t": margin["t"],
        "b": layout["height"] - below,
    }


def _range(names: Sequence[str], axes: Mapping[str, Axis], traces) -> tuple[float, float]:
    """What axes that go together show, from low to high; turned over where they are reversed."""
    record, letter = axes[names[0]].record, names[0][0]
    given = next((axes[n].record["range"] for n in names if "range" in axes[n].record), None)
    if given is not None:
        return tuple(given)
    ends, tiles = [], False
    for name in names:
        for trace in (t for t in traces if _on(t, name)):
            tiles |= trace["type"] == "heatmap"
            numbers = [axes[name].number(v) for v in trace[letter] if v is not None]
            error = trace.get(f"error_{letter}", {})
            more, less = (error.get(k) or [0] * len(numbers) for k in ("array", "arrayminus"))
            ends += [n + e for n, e in zip(numbers, more, strict=False)]
            ends += [n - e for n, e in zip(numbers, less, strict=False)]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    apart = 0.5 if tiles or axes[names[0]].names else 0.06 * ((high - low) or 1)
    low, high = low - apart, high + apart
    return (high, low) if record.get("autorange") == "reversed" else (low, high)


def _step(span: float) -> float:
    """A round step that parts a span into four to eight."""
    rough = span / 6 or 1
    power = 10 ** math.floor(math.log10(rough))
    return next(power * k for k in (1, 2, 5, 10) if power * k >= rough)


def _said(value: float, record: Mapping) -> str:
    if record.get("tickformat") != "~s":
        return f"{value:.6g}"
    power = next((p for p in PREFIXES if abs(value) >= 10**p), 0)
    return f"{value / 10**power:.3g}{PREFIXES[power]}"
