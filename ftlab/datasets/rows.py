"""The tables of labels that a source has, and their rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from ..records import BadInput
from .columns import Rows, known
from .listing import NEARLY_ALL, Listing, endings, is_table, places, plain_path, unread
from .masks import mask_names

MAX_TABLE = 50 * 2**20  # bytes
UNREADABLE = "The table of labels cannot be read: save it as CSV in UTF-8."
USUAL = ("labels.csv", "metadata.csv")  # what tables are called, the likelier first


def find(listing: Listing, labels: Path | None, path: str | None) -> dict[str, Path]:
    """The table that was named, on disk or inside the source, or else the source's own.

    path: the column of paths, None where nobody named it.

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
    if found := own(listing, path):
        return found
    tables = any(map(is_table, listing.files))
    found = "several CSV tables" if tables else "neither class folders nor a CSV table"
    raise BadInput(
        f"The source holds {found}: put the images in one folder per class, or name a table with "
        f"--labels FILE.csv.{unread(listing)}"
    )


def own(listing: Listing, path: str | None) -> dict[str, Path]:
    """The source's own table, or several of one usual name, as `find` has them; {} without one.

    Of several tables it is the only one that names nearly all images, else that of a usual name.
    """
    tables = sorted(filter(is_table, listing.files))
    usual = [[n for n in tables if PurePosixPath(n).name == called] for called in USUAL]
    found = next(filter(None, usual), tables if len(tables) == 1 else [])
    if len(tables) > 1 and len(found) < 2:
        nearly = [n for n in tables if names_nearly_all(listing, {"": listing.files[n]}, path)]
        found = nearly if len(nearly) == 1 else found
    if len(found) == 1:
        return {"": listing.files[found[0]]}
    return {name: listing.files[name] for name in found}


def names_nearly_all(listing: Listing, tables: Mapping[str, Path], path: str | None) -> bool:
    """Whether tables name at least 95 % of the images; one that cannot be read names none."""
    files = {name for name in listing.files if not is_table(name)}
    images = files - mask_names(files)
    ends, cells = endings(images, files), []
    for name, table in tables.items():
        cells += [inside(name.rpartition("/")[0], cell, files) for cell in _paths(table, path)]
    named = {ends[at] for at in places(cells, ends)[0] if at} & images
    return bool(images) and len(named) >= NEARLY_ALL * len(images)


def _paths(table: Path, path: str | None) -> list[str]:
    """What a table has in the column of paths; [] where it has none or cannot be read."""
    try:
        reader = _reader(table)
        found = [name for name in reader.fieldnames or [] if name]
        columns = known("path", found) if path is None else [path] if path in found else []
        return [row[columns[0]] for row in reader] if columns else []
    except (BadInput, csv.Error):
        return []


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
    try:
        reader = _reader(table)
        rows = [row for row in reader if any(row[name].strip() for name in row if name)]
    except csv.Error as error:
        raise BadInput(UNREADABLE) from error
    return rows, [name for name in reader.fieldnames or [] if name]


def _reader(table: Path) -> csv.DictReader:
    if table.stat().st_size > MAX_TABLE:
        raise BadInput(f"The table of labels is larger than {MAX_TABLE // 2**20} MB.")
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(UNREADABLE) from error
    text = re.sub(r'\A"?sep=.*\n', "", text)  # Excel's own first line
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
