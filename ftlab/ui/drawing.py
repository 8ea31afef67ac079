"""Plans as pictures: stages x epochs, colour = learning rate, as the papers draw their strategies.

Everything is SVG and words made from plan records; the colours are in finetune.css, so that a
picture follows the page from light to dark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape as esc
from itertools import groupby

from ..records import Layout, Stage, unit_name

WIDTH, LEFT, RIGHT = 204, 54, 198  # of a picture; the epochs lie between LEFT and RIGHT
ROW, GAP = 13, 2
GREEK = {"theta_0": "θ₀", "w_0": "w₀", "theta": "θ", "alpha": "α", "beta": "β"}
SIGNS = {
    "<-": "←",
    " . ": " · ",
    ">=": "≥",
    "dL/d": "∂L/∂",
    "_i": "ᵢ",
    "|_1": "|₁",
    "|^2": "|²",
}
RULES = {"l1_sp": "L1 pull to the start", "l2_sp": "L2 pull to the start"}
RULES |= {"auto_rgn": "rates by gradient norm", "auto_snr": "small gradients wait"}

# A page holds these once, where it always shows: what is hidden lends no pattern.
PATTERNS = """<svg class="ft-patterns" aria-hidden="true" width="0" height="0"><defs>
<pattern id="ft-hatch" width="5" height="5" patternUnits="userSpaceOnUse"
 patternTransform="rotate(45)"><rect class="ft-frozen-ground" width="5" height="5"/>
<line class="ft-frozen-line" x1="0" y1="0" x2="0" y2="5"/></pattern>
<pattern id="ft-dots" width="4" height="4" patternUnits="userSpaceOnUse">
<circle class="ft-dot" cx="2" cy="2" r="0.8"/></pattern></defs></svg>"""


def gallery(plans: Sequence[Mapping], layout: Layout, about: Mapping[str, Mapping]) -> str:
    """HTML of a picture for each plan, with their legend, and the same in words beneath.

    Args:
        plans: as `lab.plan`; layout: of their backbone.
        about: strategy -> {summary, equation, source}, shown one click away.
    """
    scale = Scale(plans)
    names = (plan["strategy"].partition("@")[0] for plan in plans)  # a unit may stand behind it
    cards = "".join(
        _card(plan, layout, scale, about[name]) for plan, name in zip(plans, names, strict=True)
    )
    said = "".join(
        f"<li><b>{esc(plan['strategy'])}</b>: {esc(words(plan, layout))}</li>" for plan in plans
    )
    return (
        f'{legend(plans, scale)}<div class="ft-plans">{cards}</div>'
        '<details class="ft-plan-words"><summary>The same in words</summary>'
        f"<ul>{said}</ul></details>"
    )


class Scale:
    """Learning rate -> share of the darker end of the colour scale, logarithmic, over all plans."""

    def __init__(self, plans: Sequence[Mapping]):
        self.rates = sorted({lr for p in plans for ph in p["phases"] for lr in ph["lrs"].values()})

    def __call__(self, lr: float) -> float:
        low, high = self.rates[0], self.rates[-1]
        if low == high:
            return 0.7
        return 0.1 + 0.9 * math.log(lr / low) / math.log(high / low)

    def colour(self, lr: float) -> str:
        share = round(100 * self(lr))
        return f"fill:color-mix(in oklab,var(--ft-lr-low),var(--ft-lr-high) {share}%)"


def rate(lr: float) -> str:
    """A learning rate as people write it: 1e-4, 3e-5, 0.02."""
    digits, _, power = f"{lr:.2e}".partition("e")
    digits = digits.rstrip("0").rstrip(".")
    return f"{digits}e{int(power)}" if lr < 0.01 or lr >= 1000 else f"{lr:g}"


def equation(text: str) -> str:
    """A docstring's equation with the letters and signs it stands for."""
    for plain, sign in {**GREEK, **SIGNS}.items():
        text = text.replace(plain, sign)
    return text


def sentence(summary: str) -> str:
    """A strategy's summary without equation and citation: "Every weight learns"."""
    said = summary.partition(":  ")[0].replace("`", "")
    return re.sub(r" \([^()]*(et al\.|\d{4})[^()]*\)", "", said).rstrip(".")


# --- one picture -------------------------------------------------------------------------------


def _card(plan: Mapping, layout: Layout, scale: Scale, about: Mapping) -> str:
    formula = about["equation"] and f"<p><code>{esc(equation(about['equation']))}</code></p>"
    return (
        f'<figure class="ft-plan"><figcaption>{esc(plan["strategy"])}</figcaption>'
        f"{picture(plan, layout, scale)}"
        f'<p class="ft-plan-note">{esc(note(plan))}</p>'
        f"<details><summary>what it does</summary><p>{esc(sentence(about['summary']))}.</p>"
        f"{formula or ''}<p>{esc(about['source'])}</p></details></figure>"
    )


def picture(plan: Mapping, layout: Layout, scale: Scale) -> str:
    """SVG of one plan: a row a stage, the head on top, a column an epoch."""
    rows = layout.stages[::-1]
    base = len(rows) * (ROW + GAP)
    total = sum(phase["epochs"] for phase in plan["phases"])
    parts = []
    for number, stage in enumerate(rows):
        top = number * (ROW + GAP)
        gone = _gone(stage, plan)
        kind = "ft-gone" if gone else "ft-stage"
        fit = f' textLength="{LEFT - 8}" lengthAdjust="spacingAndGlyphs"' * (len(stage.name) > 9)
        place = f'x="{LEFT - 6}" y="{top + 10}"{fit}'
        parts.append(f'<text class="{kind}" {place}>{esc(stage.name)}</text>')
        if gone:
            middle = top + ROW / 2
            parts.append(
                f'<line class="ft-cut" x1="{LEFT}" x2="{RIGHT}" y1="{middle}" y2="{middle}"/>'
            )
            continue
        parts += _row(stage, top, plan, total, scale)
    parts += _axis(plan, total, base)
    spoken = esc(f"{plan['strategy']}: {words(plan, layout)}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {base + 25}" class="ft-drawn" role="img" aria-label="{spoken}">'
        f"{''.join(parts)}</svg>"
    )


def _row(stage: Stage, top: float, plan: Mapping, total: int, scale: Scale) -> Iterator[str]:
    """A stage through all phases; where only some of its units learn, each unit its own strip."""
    for phase, first in _phases(plan):
        x, width = _span(first, phase["epochs"], total)
        states = [_state(stage, unit, phase, plan) for unit in stage.units or (None,)]
        height, done = ROW / len(states), 0
        for (lr, slim, gone), same in groupby(states):
            strips = len(list(same))
            tall, bottom = strips * height, top + ROW - done * height
            done += strips
            if gone:
                continue
            if slim:
                tall, bottom = tall / 2, bottom - tall / 4
            box = f'x="{x:.1f}" y="{bottom - tall:.2f}" width="{width:.1f}" height="{tall:.2f}"'
            if lr is None:
                yield f'<rect class="ft-frozen" {box}/>'
                continue
            yield f'<rect rx="1.5" style="{scale.colour(lr)}" {box}/>'
            if _ruled(stage, phase):
                yield f'<rect class="ft-ruled" {box}/>'


def _ruled(stage: Stage, phase: Mapping) -> bool:
    """Whether a rate rule rescales the stage's rate; the practical modes leave the head alone."""
    rule = phase["rates"]
    return bool(rule) and not (stage.name == "head" and rule.get("mode") == "practical")


def _state(stage: Stage, unit: int | None, phase: Mapping, plan: Mapping):
    """(learning rate or None, half as wide and new, cut away) of one unit in a phase."""
    lr = phase["lrs"].get(stage.name)
    if unit is None:
        return lr, False, False
    lr = phase["lrs"].get(unit_name(unit), lr)
    slim, cut = plan["slim_from"], plan["cut_after"]
    slimmed = slim is not None and unit >= slim
    return lr, slimmed, cut is not None and unit > cut


def _gone(stage: Stage, plan: Mapping) -> bool:
    cut = plan["cut_after"]
    return cut is not None and bool(stage.units) and stage.units[0] > cut


def _phases(plan: Mapping) -> Iterator[tuple[Mapping, int]]:
    """(phase, epochs before it)"""
    first = 0
    for phase in plan["phases"]:
        yield phase, first
        first += phase["epochs"]


def _span(first: int, epochs: int, total: int) -> tuple[float, float]:
    """(x, width) of epochs; phases stand a little apart."""
    scale = (RIGHT - LEFT) / total
    return LEFT + first * scale + 0.75, max(epochs * scale - 1.5, 0.5)


def _axis(plan: Mapping, total: int, base: float) -> Iterator[str]:
    """Where phases begin and end, in epochs, and above it each new learning rate."""
    before, last_x, last_end = None, -99.0, -99.0
    for phase, first in _phases(plan):
        x = LEFT + first * (RIGHT - LEFT) / total
        top = max(phase["lrs"].values())
        text = ("≤ " if phase["rates"] else "") + rate(top)
        if top != before and x - last_end > 2 and x + 5.3 * len(text) < WIDTH:
            yield f'<text class="ft-rate" x="{x + 1:.1f}" y="{base + 9}">{text}</text>'
            before, last_end = top, x + 6 * len(text)
        if x - last_x > 13 and RIGHT - x > 13:
            yield f'<text class="ft-tick" x="{x:.1f}" y="{base + 20}">{first}</text>'
            last_x = x
    yield f'<text class="ft-tick" x="{RIGHT}" y="{base + 20}">{total}</text>'
    yield f'<text class="ft-unit" x="{LEFT - 6}" y="{base + 9}">rate</text>'
    yield f'<text class="ft-unit" x="{LEFT - 6}" y="{base + 20}">epochs</text>'


def legend(plans: Sequence[Mapping], scale: Scale) -> str:
    """What the colours and patterns of these plans stand for; those that do not occur are left."""
    rates = scale.rates if len(scale.rates) <= 6 else [scale.rates[0], scale.rates[-1]]
    keys = [
        (f'<rect width="18" height="10" style="{scale.colour(lr)}"/>', rate(lr)) for lr in rates
    ]
    whole = '<rect width="18" height="10" '
    keys.append((f'{whole}class="ft-frozen"/>', "frozen"))
    if any(phase["rates"] for plan in plans for phase in plan["phases"]):
        dots = f'{whole}style="{scale.colour(rates[-1])}"/>{whole}class="ft-ruled"/>'
        keys.append((dots, "up to that rate, by its gradients"))
    if any(plan["cut_after"] for plan in plans):
        keys.append(('<line class="ft-cut" x1="0" x2="18" y1="5" y2="5"/>', "cut away"))
    if any(plan["slim_from"] for plan in plans):
        slim = f'<rect y="2.5" width="18" height="5" style="{scale.colour(rates[-1])}"/>'
        keys.append((slim, "half as wide and new"))
    items = "".join(
        f'<li><svg viewBox="0 0 18 10" width="18" height="10" aria-hidden="true">{mark}</svg>'
        f"{esc(text)}</li>"
        for mark, text in keys
    )
    label = "What colours and patterns mean"
    return f'<ul class="ft-plan-legend" aria-label="{label}"><li>learning rate</li>{items}</ul>'


# --- the same in words -------------------------------------------------------------------------


def note(plan: Mapping) -> str:
    """What the picture cannot show: penalty, rate rule, cut, slimming, stored BatchNorm."""
    notes = [_rules(phase) for phase in plan["phases"]]
    notes = list(dict.fromkeys(text for text in notes if text))
    if plan["cut_after"]:
        notes.append(f"cut after unit {plan['cut_after']}")
    if plan["slim_from"]:
        notes.append(f"half as wide and new from unit {plan['slim_from']}")
    return "; ".join(notes)


def _rules(phase: Mapping) -> str:
    texts = []
    for rule in filter(None, (phase["penalty"], phase["rates"])):
        knobs = ", ".join(
            f"{GREEK.get(name, name)} {rate(value)}" if isinstance(value, float) else str(value)
            for name, value in rule.items()
            if name not in ("name", "batches")
        )
        texts.append(f"{RULES.get(rule['name'], rule['name'])} ({knobs})")
    if phase["weight_decay"]:
        texts.append(f"weight decay {phase['weight_decay']:g}")
    return ", ".join(texts + ["BatchNorm as stored"] * phase["eval_batchnorm"])


def words(plan: Mapping, layout: Layout) -> str:
    """A plan as a sentence: "epochs 1 to 5: head learns at 1e-3; epochs 6 to 10: ..."."""
    everything, before, told = set(layout.cut(plan["cut_after"]).names), set(), []
    for phase, first in _phases(plan):
        names, last = set(phase["lrs"]), first + phase["epochs"]
        when = f"epoch {last}" if phase["epochs"] == 1 else f"epochs {first + 1} to {last}"
        if names == everything:
            who = "everything learns"
        elif before and before < names:
            who = f"{_listed([n for n in phase['lrs'] if n not in before])} joins"
        else:
            who = f"{_listed(list(phase['lrs']))} {'learns' if len(names) == 1 else 'learn'}"
        rates = sorted({rate(lr) for lr in phase["lrs"].values()})
        told.append(f"{when}: {who} at {'up to ' * bool(phase['rates'])}{', '.join(rates)}")
        before = names
    return "; ".join(told + [note(plan)] * bool(note(plan))) + "."


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
