"""What the tabs share: sentences for errors, files to download, and what `text` holds."""

from __future__ import annotations

import contextlib
import csv
import logging
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from ..records import BadInput
from . import words
from .checkup import on_page
from .text import NONE, amount, duration, empty, esc, interval, percent, points, term  # noqa: F401

KEPT_SECONDS = 86_400  # a file made for a download, or unpacked from an upload, stays so long
# What is chosen last is what is shown in the end. No choice may ask the server for two things:
# where two wait for each other, Gradio asks for both again and again.
PRIVATE = dict(api_visibility="private", show_progress="minimal", trigger_mode="always_last")
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
            log.exception("%s failed", getattr(function, "func", function).__name__)
            raise refusal(words.FAILED) from None

    return run


def refusal(sentence: str) -> gr.Error:
    """The error to raise; the page renders its text as HTML, and names in it are strangers'."""
    return gr.Error(esc(spoken(sentence)), title="This did not work", print_exception=False)


def spoken(sentence: str) -> str:
    """A sentence that names an option of the command line, as whoever has none should read it."""
    return re.sub(r"(?<!\w)--(?=[a-z])", "", on_page(sentence))


def radio(options: Sequence[str] | Mapping, label: str) -> gr.Radio:
    """A choice of views, the first one chosen."""
    return gr.Radio(list(options), value=next(iter(options)), label=label)


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
        with contextlib.suppress(FileNotFoundError):  # another event empties it, too
            if time.time() - old.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(old, ignore_errors=True)
    folder = home / secrets.token_hex(8)
    folder.mkdir()
    return folder


def picture_files(pictures: Iterable[np.ndarray]) -> list[str]:
    """Pictures (H, W, 3) uint8 as PNG files in the app's cache, for a gallery; their paths.

    Files of their own: given pixels, Gradio writes a picture that it has written before into the
    same file again, while somebody else is reading it.
    """
    folder = cache_folder()
    paths = []
    for number, pixels in enumerate(pictures):
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths
