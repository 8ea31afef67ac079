"""The queue: a small SQLite table of what the folders cannot say: order, owner, process, attempts.

A study stands in it under its folder's path inside the home with the queue ("checkpoints/x", or
"people/ann/checkpoints/x" where several people share one). People take turns: whoever was served
longest ago comes first, and everybody's own studies keep their order.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from . import homes
from .records import BadInput

NAME = "queue.sqlite"
TABLES = (
    "CREATE TABLE IF NOT EXISTS jobs (position INTEGER PRIMARY KEY AUTOINCREMENT,"
    " study TEXT UNIQUE, owner TEXT, pid INTEGER, pid_start REAL, run TEXT,"
    " attempts INTEGER DEFAULT 0, limit_seconds REAL)",
    "CREATE TABLE IF NOT EXISTS served (owner TEXT PRIMARY KEY, turn INTEGER)",
)
# A job that has a process is at work; then everybody's first, everybody's second, and so on.
ORDER = (
    "SELECT jobs.*, ROW_NUMBER() OVER (PARTITION BY jobs.owner ORDER BY position) AS rank"
    " FROM jobs LEFT JOIN served USING (owner)"
    " ORDER BY jobs.pid IS NULL, rank, COALESCE(served.turn, 0), position"
)
# What SQLite says of a file that is no queue; anything else passes, as a full disk or a lock does.
NO_QUEUE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Unusable(BadInput):
    """The queue cannot be opened, read or written."""

    def __init__(self, error: sqlite3.Error):
        said = f"The queue cannot be used: {error} ({NAME})."
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in NO_QUEUE:
            said += " Move that file out of the home: studies stay, only who waits is forgotten."
        super().__init__(said)


@contextlib.contextmanager
def _open(home: Path) -> Iterator[sqlite3.Connection]:
    """The tables of a home's queue, in one transaction."""
    trunk = homes.trunk(home)
    trunk.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(trunk / NAME, timeout=30, isolation_level=None)
    except sqlite3.Error as error:
        raise Unusable(error) from error
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN IMMEDIATE")
        for table in TABLES:
            connection.execute(table)
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise Unusable(error) from error
    finally:
        connection.close()


def key(home: Path, folder: Path) -> str:
    """What a study is called in the queue of a home, its own or a shared one.

    Its checkpoints may be a link to another disk: what counts is the home they are in.
    """
    own = folder.parent.parent.resolve() / folder.parent.name / folder.name
    return os.path.relpath(own, homes.trunk(home))


def add(home: Path, folder: Path, owner: str = "", limit_seconds: float | None = None) -> None:
    """Put a study at the end of the queue; one that waits already keeps its place.

    Args:
        owner: who shares the machine's time with the others.
        limit_seconds: the study fails once it has taken so much of it.
    """
    columns = "INSERT OR IGNORE INTO jobs (study, owner, limit_seconds) VALUES (?, ?, ?)"
    with _open(home) as queue:
        queue.execute(columns, (key(home, folder), owner, limit_seconds))


def remove(home: Path, folder: Path) -> None:
    """Take a study off the queue, if it is there."""
    with _open(home) as queue:
        queue.execute("DELETE FROM jobs WHERE study = ?", (key(home, folder),))


def drop(home: Path, row: dict) -> None:
    """Take one row off the queue: a study that was asked for again since stays, by another row."""
    with _open(home) as queue:
        queue.execute("DELETE FROM jobs WHERE position = ?", (row["position"],))


def listed(home: Path) -> list[dict]:
    """What waits or runs, in the order of service.

    [{position, study, owner, pid, pid_start, run, attempts, limit_seconds}]; a position
    is given once and never again.
    """
    if not (homes.trunk(home) / NAME).exists():  # looking makes no queue
        return []
    with _open(home) as queue:
        return [dict(row) for row in queue.execute(ORDER)]


def row(home: Path, folder: Path) -> dict | None:
    """The row of a study, as in `listed`; None where it neither waits nor is at work."""
    return next((row for row in listed(home) if row["study"] == key(home, folder)), None)


def note(home: Path, row: dict, **columns) -> bool:
    """Write columns of a row; whether it is (still) in the queue."""
    names = ", ".join(f"{name} = ?" for name in columns)
    change = f"UPDATE jobs SET {names} WHERE position = ?"
    with _open(home) as queue:
        return bool(queue.execute(change, (*columns.values(), row["position"])).rowcount)


def serve(home: Path, owner: str) -> None:
    """Note that it is an owner's turn now: everybody else comes before them next time."""
    turn = "INSERT OR REPLACE INTO served SELECT ?, COALESCE(MAX(turn), 0) + 1 FROM served"
    with _open(home) as queue:
        queue.execute(turn, (owner,))
