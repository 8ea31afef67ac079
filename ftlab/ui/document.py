"""A study as a page to keep: its sections in order, charts as still pictures beside their numbers.

A section is a function that gives the HTML of what was looked up for the page (`keeping.Found`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape as esc

import numpy as np

from .. import about
from . import board, chapters, checkup, drawing, words
from .charts import rates
from .keeping import Found, facts, heading, table

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
WORDS = (
    *("balanced accuracy", "AUROC", "confidence interval", "seed", "learning rate", "strategy"),
    *("calibration", "disagreement"),
)


def page(found: Found, style: str) -> str:
    """The page, which asks for nothing and runs nothing; style: what it looks like, as CSS."""
    written = {title: "".join(write(found)) for title, write in SECTIONS.items()}
    sections = "".join(
        f'<section id="{title.lower().replace(" ", "-")}"><h2>{title}</h2>{text}</section>'
        for title, text in written.items()
        if text
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
    yield facts(
        {
            "data": f"{study.data}{kind}; hash {study.data_hash[:16]}",
            "classes": ", ".join(study.classes),
            "backbones": ", ".join(study.backbones),
            "strategies": ", ".join(study.strategies),
            "seeds": ", ".join(map(str, study.seeds)),
            "learning rates": rates(board_).removeprefix("learning rates "),
            "settings": about.settings_text(asdict(study.settings)),
            "computed in": board_["precision"],
            **{
                f"knobs of {strategy}": ", ".join(f"{k} {v}" for k, v in knobs.items())
                for strategy, knobs in study.knobs.items()
            },
        }
    )
    sums = {q["backbone"]: q["weights"]["checksum"] for q in found.questions}
    yield facts(
        {
            f"{name} began with": f"{origin['text']}; checksum (SHA-256) {sums[name]}"
            for name, origin in found.origins.items()
        }
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
        yield table(
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
            if question["backbone"] == backbone and _plain(question) in found.strategies:
                plan = {"strategy": question["strategy"], "backbone": backbone, **question["plan"]}
                firsts.setdefault(question["strategy"], plan)
        yield heading(found, backbone)
        yield (
            "<p>A row is a stage of the network, the head on top; a column is an epoch; the "
            "stronger the colour, the higher the learning rate. Hatched is frozen.</p>"
        )
        yield drawing.gallery(list(firsts.values()), layout, found.strategies)


def _plain(question: Mapping) -> str:
    """The name of its strategy, without a unit that it may carry."""
    return question["strategy"].partition("@")[0]


# --- what it rests on ----------------------------------------------------------------------------


def _environment(found: Found) -> Iterator[str]:
    seen: dict[tuple, int] = {}
    for question in found.questions:
        where = tuple(sorted(question["environment"].items()))
        seen[where] = seen.get(where, 0) + 1
    yield table([{**dict(where), "runs": n} for where, n in seen.items()])
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
    yield "<p>On the same machine and versions the same bits come out, elsewhere nearly so.</p>"


def _words(found: Found) -> Iterator[str]:
    yield facts({word: words.TERMS[word] for word in WORDS})


SECTIONS = {  # in the order of the page
    "The question": _question,
    "Data": _data,
    "Plans": _plans,
    "Leaderboard": chapters.leaderboard,
    "Which unit": chapters.which_unit,
    "Learning curves": chapters.learning,
    "Confusion": chapters.confusion,
    "Rates by class": chapters.by_class,
    "Calibration": chapters.calibration,
    "Disagreements": chapters.disagreements,
    "Cost": chapters.cost,
    "Environment": _environment,
    "Read with care": _limits,
    "How to repeat it": _repeat,
    "Words": _words,
}
