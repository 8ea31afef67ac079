"""A study as a page to keep: every section in order, charts as still pictures beside their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from html import escape as esc
from typing import Any

import numpy as np

from ..records import Layout
from ..studies import Study
from . import board, checkup, classes, costs, curves, drawing, pictures, ranking, words
from .charts import Cell, Chart, basis, rates, text_equivalent
from .still import svg

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PHOTO, MAP = 240, 128  # pixels of the longer side
WORDS = (
    *("balanced accuracy", "AUROC", "confidence interval", "seed", "learning rate", "strategy"),
    *("calibration", "disagreement"),
)


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
    limits: Sequence[str]
    commands: Sequence[str]
    not_a_device: str
    version: str
    cells: Sequence[Cell] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "cells", board.cells([self.answer]))


def page(found: Found, style: str) -> str:
    """The page, which asks for nothing and runs nothing; style: what it looks like, as CSS."""
    sections = "".join(
        f'<section id="{title.lower().replace(" ", "-")}"><h2>{title}</h2>{"".join(write(found))}'
        "</section>"
        for title, write in SECTIONS.items()
    )
    name = esc(found.study.name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{esc(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>ftlab: {name}</title><style>{style}</style></head><body>{drawing.PATTERNS}"
        f"<header><h1>Fine-tuning strategies compared: {name}</h1>"
        f"{board.verdicts(found.cells)}{board.state([found.answer])}</header>"
        f"<main>{sections}</main>"
        f"<footer><p>{esc(found.not_a_device)}</p><p>Written by ftlab {esc(found.version)}.</p>"
        "</footer></body></html>\n"
    )


# --- what was asked ------------------------------------------------------------------------------


def _question(found: Found) -> Iterator[str]:
    study, board_ = found.study, found.answer["leaderboard"]
    kind = " (synthetic: drawn by ftlab, no patient)" if found.synthetic else ""
    yield _facts(
        {
            "data": f"{study.data}{kind}; hash {study.data_hash[:16]}",
            "classes": ", ".join(study.classes),
            "backbones": ", ".join(study.backbones),
            "strategies": ", ".join(study.strategies),
            "seeds": ", ".join(map(str, study.seeds)),
            "learning rates": rates(board_).removeprefix("learning rates "),
            "settings": _settings(study),
            **{
                f"knobs of {strategy}": ", ".join(f"{k} {v}" for k, v in knobs.items())
                for strategy, knobs in study.knobs.items()
            },
        }
    )
    sums = {q["backbone"]: q["weights"]["checksum"] for q in found.questions}
    yield _table(
        [
            {"backbone": name, "began with": origin["text"], "checksum (SHA-256)": sums[name]}
            for name, origin in found.origins.items()
        ]
    )


def _settings(study: Study) -> str:
    given = {k: v for k, v in asdict(study.settings).items() if v is not None and k != "lr"}
    said = {True: "on", False: "off"}
    return ", ".join(
        f"{name.replace('_', ' ')} {said[value] if isinstance(value, bool) else value}"
        for name, value in given.items()
    )


def _data(found: Found) -> Iterator[str]:
    if found.data is None:
        yield (
            f"<p>The data set {esc(found.study.data)} is not on the machine that wrote this page, "
            "or is another by now, so its counts and checks are not here. The test images that "
            "results rest on were:</p>"
        )
        counts = np.sum(found.evidence["per_strategy"][0]["confusion"], axis=1)
        seeds = len(found.evidence["per_strategy"][0]["seeds"])
        yield _table(
            [
                {"class": name, "test images": int(n) // seeds}
                for name, n in zip(found.study.classes, counts, strict=True)
            ]
        )
        return
    yield checkup.report(found.data)


def _plans(found: Found) -> Iterator[str]:
    for backbone, layout in found.layouts.items():
        firsts: dict[str, dict] = {}
        for question in found.questions:
            if question["backbone"] == backbone and question["strategy"] in found.strategies:
                plan = {"strategy": question["strategy"], "backbone": backbone, **question["plan"]}
                firsts.setdefault(question["strategy"], plan)
        yield _heading(found, backbone)
        yield (
            "<p>A row is a stage of the network, the head on top; a column is an epoch; the "
            "stronger the colour, the higher the learning rate. Hatched is frozen.</p>"
        )
        yield drawing.gallery(list(firsts.values()), layout, found.strategies)


# --- what was found ------------------------------------------------------------------------------


def _leaderboard(found: Found) -> Iterator[str]:
    numbers = board.rows(found.cells)
    table = board.table(numbers)
    shown = table["metadata"]["display_value"]
    rests = "; ".join(dict.fromkeys(f"{basis(c.rows)}, {rates(c.board)}" for c in found.cells))
    paired = [row["to_full"] for c in found.cells for row in c.rows if row["to_full"]]
    few = all(row["p"] is None for row in paired)
    tests = f"; {board.FEW_SEEDS if few else board.CORRECTED}" if paired else ""
    yield (
        f"<p>Mean over seeds on the test set with 95 % intervals ({esc(rests)}); differences to "
        f"full are paired, seed by seed on the same images{esc(tests)}.</p>"
    )
    yield _table([dict(zip(table["headers"], line, strict=True)) for line in shown])
    for cell in found.cells:
        yield _chart(ranking.dots(cell, "balanced accuracy"))
        if any(row["to_full"] for row in cell.rows):
            yield _chart(ranking.dots(cell, "difference to full"))
    if len(found.cells) > 1:
        yield _chart(ranking.heat_map(found.cells, found.study.strategies))


def _learning(found: Found) -> Iterator[str]:
    view = next(iter(curves.LEARNING))
    for cell in found.cells:
        runs = [run for run in found.answer["runs"] if run["backbone"] == cell.backbone]
        if any(found.diaries.get(run["run"]) for run in runs):
            yield _chart(curves.learning(found.diaries, runs, cell.name, view))


def _confusion(found: Found) -> Iterator[str]:
    yield (
        "<p>A line is a true class, a column what it was called, of all seeds together; the "
        "diagonal is right. The stronger the colour, the larger the share of the true class.</p>"
    )
    names = found.study.classes
    heads = "".join(f'<th scope="col">{esc(name)}</th>' for name in names)
    for cell in found.cells:
        yield f'{_heading(found, cell.backbone)}<div class="grid">'
        for row in _of(found, cell):
            lines = "".join(
                f'<tr><th scope="row">{esc(name)}</th>{"".join(_tiles(line))}</tr>'
                for name, line in zip(names, row["confusion"], strict=True)
            )
            yield (
                f'<table class="confusion"><caption>{esc(row["strategy"])}</caption>'
                f"<thead><tr><th>true</th>{heads}</tr></thead><tbody>{lines}</tbody></table>"
            )
        yield "</div>"


def _tiles(line: Sequence[int]) -> Iterator[str]:
    for n in line:
        share = n / max(sum(line), 1)
        yield f'<td style="background:rgba(13,148,136,{0.04 + 0.5 * share:.2f})">{n}</td>'


def _rates(found: Found) -> Iterator[str]:
    for cell, rows, pair in _pairs(found):
        names = found.study.classes
        yield _chart(classes.per_class(rows, pair, names, f"{cell.name} · {_pooled(cell)}"))


def _calibration(found: Found) -> Iterator[str]:
    for cell, rows, pair in _pairs(found):
        yield _chart(curves.reliability(rows, pair, f"{cell.name} · {_pooled(cell)}"))


def _pairs(found: Found) -> Iterator[tuple[Cell, list, list[str]]]:
    """Each cell with its evidence, and the two strategies picked out in it."""
    for cell in found.cells:
        rows = _of(found, cell)
        names = [row["strategy"] for row in rows]
        yield cell, rows, board.pair(found.answer, cell.backbone, names)


def _of(found: Found, cell: Cell) -> list[Mapping]:
    return [r for r in found.evidence["per_strategy"] if r["backbone"] == cell.backbone]


def _pooled(cell: Cell) -> str:
    return basis(cell.rows).replace("seeds", "seeds pooled")


def _disagreements(found: Found) -> Iterator[str]:
    if not found.hard:
        yield "<p>The strategies give the same probabilities for every test image, or one alone."
        yield " has finished.</p>"
        return
    yield board.votes([hard.votes for hard in found.hard])
    if found.hard[0].pixels is None:
        yield "<p>The images are not on the machine that wrote this page.</p>"
        return
    if any(hard.maps for hard in found.hard):
        yield (
            "<p>The images themselves, and where each strategy's first run with weights looks "
            "(Grad-CAM, each map by its own largest evidence; a place without colour is no "
            "evidence that nothing is there).</p>"
        )
    yield from map(_hard, found.hard)


def _hard(hard: Hard) -> str:
    index, truth = hard.votes["index"], hard.votes["truth"]
    title = f"Test image {index}: {truth}; {board.headline(hard.votes)}"
    title += f"; maps explain {hard.target}" * bool(hard.target)
    several = len({backbone for _, backbone, _ in hard.maps}) > 1
    tiles = [("the image", hard.pixels, PHOTO)]
    tiles += [
        (f"{strategy} ({backbone})" if several else strategy, overlay, MAP)
        for strategy, backbone, overlay in hard.maps
    ]
    drawn = "".join(
        f'<figure><img alt="{esc(name)}" src="{pictures.photo(pictures.small(pixels, side))}">'
        f"<figcaption>{esc(name)}</figcaption></figure>"
        for name, pixels, side in tiles
    )
    return f'<div class="hard"><h3>{esc(title)}</h3><div class="maps">{drawn}</div></div>'


def _cost(found: Found) -> Iterator[str]:
    for cell in found.cells:
        if any(row["balanced_accuracy"]["mean"] is not None for row in cell.rows):
            yield from (_chart(costs.cost(cell, axis)) for axis in costs.COSTS)


# --- what it rests on ----------------------------------------------------------------------------


def _environment(found: Found) -> Iterator[str]:
    seen: dict[tuple, int] = {}
    for question in found.questions:
        where = tuple(sorted(question["environment"].items()))
        seen[where] = seen.get(where, 0) + 1
    yield _table([{**dict(where), "runs": n} for where, n in seen.items()])
    days = sorted(
        datetime.fromtimestamp(question["started"], UTC).date() for question in found.questions
    )
    ends = " to ".join(dict.fromkeys(map(str, (days[0], days[-1]))))
    yield f"<p>The runs were begun on {ends} (UTC).</p>"


def _limits(found: Found) -> Iterator[str]:
    yield f"<ul>{''.join(f'<li>{esc(line)}</li>' for line in found.limits)}</ul>"


def _repeat(found: Found) -> Iterator[str]:
    yield "<p>With ftlab and the same data set, these commands ask the same again:</p>"
    yield f"<pre>{esc(chr(10).join(found.commands))}</pre>"
    yield "<p>A run's bits are the same on the same machine and versions, and nearly so elsewhere.</p>"


def _words(found: Found) -> Iterator[str]:
    yield _facts({word: words.TERMS[word] for word in WORDS})


SECTIONS = {  # in the order of the page
    "The question": _question,
    "Data": _data,
    "Plans": _plans,
    "Leaderboard": _leaderboard,
    "Learning curves": _learning,
    "Confusion": _confusion,
    "Rates by class": _rates,
    "Calibration": _calibration,
    "Disagreements": _disagreements,
    "Cost": _cost,
    "Environment": _environment,
    "Read with care": _limits,
    "How to repeat it": _repeat,
    "Words": _words,
}


# --- pieces --------------------------------------------------------------------------------------


def _heading(found: Found, backbone: str) -> str:
    return f"<h3>{esc(backbone)}</h3>" if len(found.cells) > 1 else ""


def _chart(chart: Chart) -> str:
    return f'<figure class="chart">{svg(chart.figure)}{text_equivalent(chart)}</figure>'


def _facts(facts: Mapping[str, Any]) -> str:
    said = "".join(f"<dt>{esc(k)}</dt><dd>{esc(str(v))}</dd>" for k, v in facts.items())
    return f"<dl>{said}</dl>"


def _table(rows: Sequence[Mapping]) -> str:
    heads = "".join(f'<th scope="col">{esc(str(name))}</th>' for name in rows[0])
    lines = "".join(
        "<tr>" + "".join(f"<td>{esc(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f'<table class="ft-table"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'
