"""Files that are whole or not there, and what to say where one cannot be written or read."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .records import BadInput


def write(path: Path, save: Callable[[Path], None]) -> None:
    """Let `save` fill a temporary file beside `path`, then put it in place, synced."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        save(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_text(path: Path, text: str) -> None:
    """`write` of a text, UTF-8."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, record: Mapping) -> None:
    """`write` of a record as strict JSON; see `plain`."""
    write_text(path, json.dumps(plain(record), indent=1, allow_nan=False) + "\n")


def plain(value):
    """A value as strict JSON can hold it: NumPy's numbers as Python's, a missing number as null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict | None:
    """The record, or None where there is no such file.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise BadInput(f"{path.parent.name}/{path.name} is damaged: it holds no JSON.") from error


def sweep(folder: Path) -> None:
    """Remove what a kill in the middle of `write` left behind."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)


def disk_full(error: BaseException) -> bool:
    """Whether an error says that nothing more fits, on the disk or in the quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def in_words(error: BaseException) -> str:
    """An unexpected error in one line: its kind and what it says, but not where things lie."""
    if disk_full(error):
        return "The disk is full: free some space, and the same command goes on."
    if isinstance(error, OSError) and error.strerror:
        where = Path(os.fsdecode(error.filename)).name if error.filename else ""
        return f"{error.strerror}{where and f': {where}'}."
    first_line = str(error).strip().partition("\n")[0]
    folders = r"(?<![\w.])/(?:[^\s/'\"]+/)+"
    return f"{type(error).__name__}: {re.sub(folders, '', first_line)}".rstrip(": ")
