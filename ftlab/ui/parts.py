"""What the tabs share: sentences for errors, numbers with their units, files to download."""

from __future__ import annotations

import csv
import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from html import escape as esc
from pathlib import Path
from typing import Any

import gradio as gr

from ..records import BadInput
from . import words

NONE = "–"  # what a table shows where there is no number
KEPT_SECONDS = 3600  # a file made for a download, or unpacked from an upload, stays so long
log = logging.getLogger("ftlab.ui")


def told(function: Callable) -> Callable:
    """Let an event end in a sentence: bad input in its own, anything else in one for all.

    The trace of what nobody foresaw goes to the log; neither it nor a path reaches the page.
    """

    @wraps(function)
    def run(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except gr.Error:
            raise
        except BadInput as error:
            raise refusal(str(error)) from None
        except Exception:
            log.exception("%s failed", function.__name__)
            raise refusal(words.FAILED) from None

    return run


def refusal(sentence: str) -> gr.Error:
    """The error to raise; the page renders its text as HTML, and names in it are strangers'."""
    return gr.Error(esc(spoken(sentence)), title="This did not work", print_exception=False)


def spoken(sentence: str) -> str:
    """A sentence that names an option of the command line, as whoever has none should read it."""
    return re.sub(r"(?<!\w)--(?=[a-z])", "", sentence)


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


# --- downloads -----------------------------------------------------------------------------------


def csv_file(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Write rows (of the same columns) as `name`.csv in a folder of its own; its path."""
    path = cache_folder() / f"{name}.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_cell(name) for name in (rows[0] if rows else []))
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return str(path)


def _cell(value: Any) -> Any:
    """A value as a spreadsheet should read it: a text that looks like a formula stays a text."""
    formula = isinstance(value, str) and value[:1] in "=+-@\t\r\n＝＋－＠" and value != ""
    return f"'{value}" if formula else value


def cache_folder() -> Path:
    """A new folder for files in the app's cache; those made long ago are emptied on the way."""
    home = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
    home = home / "downloads"
    home.mkdir(parents=True, exist_ok=True)
    for old in home.iterdir():
        if time.time() - old.stat().st_mtime > KEPT_SECONDS:
            for file in old.iterdir():
                file.unlink(missing_ok=True)
            old.rmdir()
    folder = home / secrets.token_hex(8)
    folder.mkdir()
    return folder
