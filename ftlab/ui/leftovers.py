"""Uploads and downloads that nobody will ask for any more, also those of a process that died."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

# What Gradio and the app put into their cache: folders named by a digest, uploads on their way.
OURS = re.compile(r"[0-9a-f]{16,64}|tmp\w+")


def sweep(cache: Path, seconds: float) -> int:
    """Delete what has lain in the app's cache for so long; how many files that were.

    Anything else that lies there is left alone: the folder may be the user's choice.
    """
    gone = 0
    for entry in _entries(cache):
        with contextlib.suppress(OSError):  # what is in a folder may go while it is walked
            for file in (entry, *entry.rglob("*")):
                gone += _old(file, seconds)
        with contextlib.suppress(OSError):  # a file, or not empty
            entry.rmdir()
    return gone


def _entries(cache: Path) -> Iterator[Path]:
    for folder in (cache, cache / "downloads"):
        if folder.is_dir():
            found = (entry for entry in folder.iterdir() if OURS.fullmatch(entry.name))
            yield from (entry for entry in found if not entry.is_symlink())


def _old(file: Path, seconds: float) -> bool:
    """Whether a file was old, and is deleted; a copy is as old as itself, not as what it copies."""
    with contextlib.suppress(OSError):  # somebody else may delete it first
        if not file.is_dir() and time.time() - file.lstat().st_ctime > seconds:
            file.unlink()
            return True
    return False
