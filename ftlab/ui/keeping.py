"""What a page to keep is made from: everything looked up for it, and the pieces of its sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape as esc
from typing import Any

import numpy as np

from ..records import Layout
from ..studies import Study
from . import board
from .charts import Cell, Chart, text_equivalent
from .still import svg


@dataclass(frozen=True)
class Hard:
    """A test image of much disagreement: its votes, and its pixels and maps where they are here."""

    votes: Mapping  # one of `disagreements` of `Lab.evidence`
    pixels: np.ndarray | None = None  # (H, W, 3) uint8
    target: str | None = None  # the class that the maps explain
    maps: Sequence[tuple] = ()  # (strategy, backbone, (H, W, 3) uint8)


@dataclass(frozen=True)
class Found:
    """Everything the page shows, as the lab's verbs gave it."""

    study: Study
    answer: Mapping
    evidence: Mapping
    diaries: Mapping
    data: Mapping | None  # `Lab.check`, None where the data set is not here
    synthetic: bool
    questions: Sequence[Mapping]  # run.json of each finished run
    layouts: Mapping[str, Layout]  # by backbone
    strategies: Mapping[str, Mapping]  # by name, as of `Lab.strategies`
    origins: Mapping[str, Mapping]  # by backbone, as of `ftlab.about.origin`
    hard: Sequence[Hard]
    cuts: Mapping | None  # `Lab.cuts` of a search
    limits: Sequence[str]
    commands: Sequence[str]
    not_a_device: str
    version: str
    cells: Sequence[Cell] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "cells", board.cells([self.answer]))


def heading(found: Found, backbone: str) -> str:
    """The name of a backbone, where there are several."""
    return f"<h3>{esc(backbone)}</h3>" if len(found.cells) > 1 else ""


def chart(shown: Chart) -> str:
    """A chart as a still picture, how to read it, and its numbers."""
    return f'<figure class="chart">{svg(shown.figure)}{text_equivalent(shown)}</figure>'


def facts(told: Mapping[str, Any]) -> str:
    """Names, and beside each what is told of it."""
    said = "".join(f"<dt>{esc(k)}</dt><dd>{esc(str(v))}</dd>" for k, v in told.items())
    return f"<dl>{said}</dl>"


def table(rows: Sequence[Mapping]) -> str:
    """Rows of the same columns."""
    heads = "".join(f'<th scope="col">{esc(str(name))}</th>' for name in rows[0])
    lines = "".join(
        "<tr>" + "".join(f"<td>{esc(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return (
        '<div class="ft-scroll"><table class="ft-table">'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
