"""What every view says alike: numbers with their units, words that explain themselves."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape as esc

from . import words

NONE = "–"  # what a table shows where there is no number


# --- numbers -----------------------------------------------------------------------------------


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as per cent: 81.4 %."""
    return NONE if fraction is None else f"{100 * fraction:.{digits}f} %"


def points(difference: float | None) -> str:
    """A difference of fractions in percentage points, signed: +1.4 points."""
    return NONE if difference is None else f"{100 * difference:+.1f} points"


def interval(estimate: Mapping | None) -> str:
    """{mean, low, high} of fractions: 81.4 % (78.2 to 84.1)."""
    if not estimate or estimate["mean"] is None:
        return NONE
    if estimate["low"] is None:
        return percent(estimate["mean"])
    low, high = 100 * estimate["low"], 100 * estimate["high"]
    return f"{percent(estimate['mean'])} ({low:.1f} to {high:.1f})"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 3 min 05 s."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def amount(n: float | None, unit: str = "") -> str:
    """A count or an amount in three digits: 2.22 M, 98 MB."""
    if n is None:
        return NONE
    for prefix in ("", "k", "M", "G"):
        if abs(n) < 1000 or prefix == "G":
            return f"{n:.3g} {prefix}{unit}".strip()
        n /= 1000
    return ""


# --- pieces of a page ----------------------------------------------------------------------------


def empty(title: str, what_to_do: str) -> str:
    """HTML of an empty state: what is missing here, and what to do next."""
    return (
        f'<div class="ft-empty"><p class="ft-empty-title">{esc(title)}</p>'
        f"<p>{esc(what_to_do)}</p></div>"
    )


def term(word: str, shown: str | None = None) -> str:
    """HTML of a word that explains itself on hover, focus or tap; words as in `words.TERMS`."""
    return (
        f'<span class="ft-term" tabindex="0">{esc(shown or word)}'
        f'<span class="ft-tip" role="tooltip">{esc(words.TERMS[word])}</span></span>'
    )
