"""A plan beside what became of it: a diary is a plan of phases that last an epoch each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as esc

from ..records import Layout
from . import drawing
from .parts import NONE


def as_plan(course: Mapping) -> dict:
    """The rates that applied, as a plan record; what had none in an epoch is frozen in it."""
    planned = course["plan"]
    phases = [
        {
            **planned["phases"][row["phase"]],
            **{"epochs": 1, "rates": None},
            "lrs": {name: lr for name, lr in row["lrs"].items() if lr},
        }
        for row in course["rates"]
    ]
    return {**planned, "phases": phases}


def gallery(courses: Sequence[Mapping], layout: Layout) -> str:
    """HTML: for each course of `lab.courses` its plan and, beside it, how it went."""
    pairs = [(course["plan"], as_plan(course)) for course in courses]
    plans = [plan for pair in pairs for plan in pair]
    scale = drawing.Scale(plans)
    cards = "".join(
        _card(course, *pair, layout, scale) for course, pair in zip(courses, pairs, strict=True)
    )
    return (
        f'{drawing.legend(plans, scale)}<div class="ft-plans ft-courses">{cards}</div>'
        '<p class="ft-muted">Left as planned, right as it happened: a column an epoch, with the '
        "rate its first step had; the schedule goes on within it. A rate rule's is the mean over "
        "a stage's layers.</p>"
    )


def _card(course: Mapping, planned: Mapping, went: Mapping, layout: Layout, scale) -> str:
    drawn = "".join(
        f"<div><h4>{head}</h4>{drawing.picture(plan, layout, scale)}</div>"
        for head, plan in (("as planned", planned), ("as it happened", went))
        if plan["phases"]
    )
    return (
        f'<figure class="ft-plan"><figcaption>{esc(course["strategy"])}</figcaption>'
        f'<div class="ft-course">{drawn}</div><p class="ft-plan-note">{esc(said(course))}</p>'
        "</figure>"
    )


def said(course: Mapping) -> str:
    """Which epoch validation chose, how many there were, and when phases began."""
    planned = sum(phase["epochs"] for phase in course["plan"]["phases"])
    rates = course["rates"]
    if not rates:
        return "An average of other runs: it trained no epoch of its own."
    best, done = course["best_epoch"] + 1, len(rates)
    text = f"Best on validation: epoch {best} of {done}"
    if done < planned:
        text += f"; {planned} were planned, no better one came"
    phases = [row["phase"] for row in rates]
    turns = [i + 1 for i in range(1, done) if phases[i] != phases[i - 1]]
    if turns:
        text += f"; a new phase from epoch {', '.join(map(str, turns))}"
    rule = next((phase["rates"] for phase in course["plan"]["phases"] if phase["rates"]), None)
    if rule:
        text += f"; {drawing.RULES.get(rule['name'], rule['name'])}"
    return text + "."


def facts(courses: Sequence[Mapping]) -> list[dict]:
    """A line for each epoch: its phase, whether it is the best, and the rate of each stage."""
    stages = list(dict.fromkeys(s for c in courses for row in c["rates"] for s in row["lrs"]))
    return [
        {
            "strategy": course["strategy"],
            "seed": course["seed"],
            "epoch": row["epoch"] + 1,
            "phase": row["phase"] + 1,
            "best": "yes" if row["epoch"] == course["best_epoch"] else "",
            **{s: _rate(row["lrs"].get(s)) for s in stages},
        }
        for course in courses
        for row in course["rates"]
    ]


def _rate(lr: float | None) -> str:
    return NONE if lr is None else drawing.rate(lr) if lr else "frozen"
