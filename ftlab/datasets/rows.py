"""The tables of labels that a source has, and their rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from ..records import BadInput
from .listing import Listing, is_table, plain_path, unread

MAX_TABLE = 50 * 2**20  # bytes
Rows = list[dict[str, str]]


def find(listing: Listing, labels: Path | None) -> dict[str, Path]:
    """The table that was named, on disk or inside the source, or else the source's own.

    Returns:
        One table under ""; several that have one of the usual names, each under its own in the
        source, since a zip's files lie unpacked under numbers.
    Raises:
        BadInput: there is none, or several that could be meant.
    """
    if labels is not None:
        if labels.is_file():
            return {"": labels}
        if labels.as_posix() in listing.files:
            return {"": listing.files[labels.as_posix()]}
        raise BadInput(f"There is no table {labels.name!r}, neither here nor inside the source.")
    tables = [name for name in listing.files if is_table(name)]
    called = {name: PurePosixPath(name).name for name in tables}
    for usual in ("labels.csv", "metadata.csv", *(called.values() if len(tables) == 1 else ())):
        found = [name for name in tables if called[name] == usual]
        if len(found) == 1:
            return {"": listing.files[found[0]]}
        if found:
            return {name: listing.files[name] for name in sorted(found)}
    found = "several CSV tables" if tables else "neither class folders nor a CSV table"
    raise BadInput(
        f"The source holds {found}: put the images in one folder per class, or name a table with "
        f"--labels FILE.csv.{unread(listing)}"
    )


def read(tables: Mapping[str, Path]) -> tuple[Rows, list[str], list[str]]:
    """The rows of all tables, the folder that each is of, and the names of their columns.

    Raises:
        BadInput: a table cannot be read, or two have other columns.
    """
    rows, folders, columns = [], [], []
    for name, table in tables.items():
        folder, _, called = name.rpartition("/")
        found, named = _rows(table)
        if rows and set(named) != set(columns):
            raise BadInput(
                f"The source holds several tables called {called}, with other columns each: "
                "make them one, beside all images, with a column split of train, val or test."
            )
        rows, folders, columns = [*rows, *found], [*folders, *[folder] * len(found)], named
    return rows, folders, columns


def inside(folder: str, cell: str, files: Collection[str]) -> str:
    """A path in a table as the source's files are named: seen from its folder, or from all."""
    path = plain_path(cell)
    return f"{folder}/{path}" if folder and path and path not in files else cell.strip()


def _rows(table: Path) -> tuple[Rows, list[str]]:
    if table.stat().st_size > MAX_TABLE:
        raise BadInput(f"The table of labels is larger than {MAX_TABLE // 2**20} MB.")
    try:
        text = table.read_text(encoding="utf-8-sig")
        text = re.sub(r'\A"?sep=.*\n', "", text)  # Excel's own first line
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
        rows = [row for row in reader if any(row[name].strip() for name in row if name)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput("The table of labels cannot be read: save it as CSV in UTF-8.") from error
    return rows, [name for name in reader.fieldnames or [] if name]
