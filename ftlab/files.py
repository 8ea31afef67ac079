"""Files that are whole or not there, and what to say where one cannot be written or read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from .records import BadInput

MOMENT_SECONDS = 60.0  # in which whoever makes a temporary file surely holds it


def write(path: Path, save: Callable[[Path], None]) -> None:
    """Let `save` fill a temporary file beside `path`, then put it in place, synced.

    Where `path` is a link, what it leads to is replaced.
    """
    path = path.resolve()
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


@contextlib.contextmanager
def unfinished(path: Path, make: Callable[[Path], None] = Path.touch) -> Iterator[Path]:
    """A temporary file, or folder with `Path.mkdir`, beside `path`: to be filled and renamed.

    What has its name in the end goes. It is locked as long as this lasts: what a kill leaves
    behind is held by nobody, and goes when somebody next makes one in that folder.
    """
    for left in path.parent.glob(".*.tmp"):
        with contextlib.suppress(OSError), _held(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
            if time.time() - left.stat().st_ctime > MOMENT_SECONDS:
                _remove(left)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    make(temporary)
    try:
        with _held(temporary, fcntl.LOCK_EX):
            yield temporary
    finally:
        _remove(temporary)


@contextlib.contextmanager
def _held(path: Path, how: int) -> Iterator[None]:
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, how)
        yield
    finally:
        os.close(file)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def new_array(path: Path, dtype, shape: tuple[int, ...]) -> np.ndarray:
    """An .npy file to be filled, memory-mapped, all of its bytes on the disk.

    Raises:
        OSError: the disk has no room for it, which while it is filled would be a bus error.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def disk_full(error: BaseException) -> bool:
    """Whether an error says that nothing more fits, on the disk or in the quota.

    Part of the hub's client is no Python: its error is no OSError and has the number in words.
    """
    numbers = (errno.ENOSPC, errno.EDQUOT)
    known = isinstance(error, OSError) and error.errno in numbers
    return known or any(f"(os error {number})" in str(error) for number in numbers)


def in_words(error: BaseException) -> str:
    """An error in one line: what it says, if unexpected its kind, but not where things lie."""
    if isinstance(error, BadInput):
        return str(error)
    if disk_full(error):
        return "The disk is full: free some space, and the same command goes on."
    if isinstance(error, OSError) and error.strerror:
        where = Path(os.fsdecode(error.filename)).name if error.filename else ""
        return f"{error.strerror}{where and f': {where}'}."
    first_line = str(error).strip().partition("\n")[0]
    folders = r"(?<![\w.])/(?:[^\s/'\"]+/)+"
    return f"{type(error).__name__}: {re.sub(folders, '', first_line)}".rstrip(": ")
