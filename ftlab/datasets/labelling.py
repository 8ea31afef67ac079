"""What a listing's names mean: class folders, split folders, or a table of labels."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from ..records import BadInput
from .listing import Listing, endings, is_table, plain_path
from .masks import FOLDER, mask_names, of_rows

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
COLUMNS = {  # what a column is called where nobody said
    "path": ("path", "file", "file_name", "filename", "image", "image_path", "image_id"),
    "label": ("label", "class", "dx", "diagnosis", "target", "category"),
    "mask": ("mask", "mask_path"),
}
NEEDED = ("path", "label")
MAX_NAME = 80  # characters of a class name
MISSING = 0.05  # of the table's rows: with more images missing the import stops
MAX_TABLE = 50 * 2**20  # bytes


@dataclass(frozen=True)
class Item:
    """One image that a source offers, before it is read."""

    name: str
    path: Path
    label: str
    group: str | None = None
    split: str | None = None
    masks: tuple[Path, ...] = ()


def label_items(
    listing: Listing, labels: Path | None, columns: Mapping[str, str | None]
) -> list[Item]:
    """The images of a listing with their labels, by name; the listing's skipped and warnings grow.

    Class folders rule unless a table is given, a column is named, or there are no class folders.

    Args:
        labels: a CSV file on disk or, by its name, inside the source.
        columns: the table's columns for path, label, group, split and mask, None where not named.

    Raises:
        BadInput: no labels to be found, or labels that cannot be used.
    """
    plain = _without_masks(listing)
    depth, first = _layout(plain)
    folders = {n.split("/")[first] for n in plain.files if n.count("/") > first}
    tables = any(map(is_table, listing.files))
    if labels or any(columns.values()) or not folders or (len(folders) == 1 and tables):
        items = _from_table(listing, _table(listing, labels), columns)
    else:
        items = _from_folders(plain, depth, first)
        _report_masks(listing, listing.files.keys() - plain.files)
    _report_clashes(items, listing)
    return sorted(items, key=lambda item: item.name)


def _without_masks(listing: Listing) -> Listing:
    """The listing without what is a mask by its name; skipped and warnings are still its own."""
    masks = mask_names(listing.files)
    files = {name: path for name, path in listing.files.items() if name not in masks}
    folders = {name for name in listing.folders if FOLDER not in name.lower().split("/")}
    return replace(listing, files=files, folders=folders)


def _layout(listing: Listing) -> tuple[int, int]:
    """Where in a name's parts split folders may stand, and where the class folders stand.

    They are the same place unless all images lie in folders named train, val and the like.
    """
    depth = _wrapping(listing)
    tops = {n.split("/")[depth].lower() for n in listing.files if n.count("/") > depth}
    own_splits = tops <= SPLITS.keys() and "train" in {SPLITS[top] for top in tops}
    return depth, depth + own_splits


def _wrapping(listing: Listing) -> int:
    """How many folders lie around all that matters: 1 for archive.zip/photos/<class>/..., or 0."""
    depth = 0
    names = [*listing.files, *listing.folders]
    while True:
        tops = {name.split("/")[depth] for name in names if name.count("/") >= depth}
        around = all(name.count("/") > depth for name in listing.files)
        deeper = any(name.count("/") > depth for name in listing.folders)
        if len(tops) != 1 or not around or not deeper:
            return depth
        depth += 1


def _from_folders(listing: Listing, depth: int, first: int) -> list[Item]:
    items = []
    for name, path in listing.files.items():
        parts = name.split("/")
        if is_table(name):
            listing.skipped.append((name, "the class folders give the labels, not this table"))
        elif len(parts) <= first + 1 or not class_name(parts[first]):
            listing.skipped.append((name, "it lies in no class folder"))
        else:
            split = SPLITS[parts[depth].lower()] if first > depth else None
            items.append(Item(name, path, class_name(parts[first]), split=split))
    folders = [name.split("/") for name in listing.folders]
    named = {class_name(parts[first]) for parts in folders if len(parts) > first}
    if empty := sorted(named - {item.label for item in items}):
        raise BadInput(
            f"No images in the class folder {', '.join(map(repr, empty))}: add some or remove it."
        )
    return items


def class_name(label: str) -> str:
    """A class's name as it is shown everywhere: one line, NFC, no spaces around it.

    Raises:
        BadInput: it is longer than 80 characters.
    """
    name = " ".join(unicodedata.normalize("NFC", re.sub(r"[\x00-\x1f\x7f]", " ", label)).split())
    if len(name) > MAX_NAME:
        raise BadInput(f"The class name {name[:20]!r}… is longer than {MAX_NAME} characters.")
    return name


def _report_clashes(items: list[Item], listing: Listing) -> None:
    by_fold: dict[str, set[str]] = {}
    for item in items:
        by_fold.setdefault(item.label.casefold().replace(" ", ""), set()).add(item.label)
    for names in by_fold.values():
        if len(names) > 1:
            shown = ", ".join(map(repr, sorted(names)))
            listing.warnings.append(f"Classes that differ only in case or spaces: {shown}.")


def _report_masks(listing: Listing, left_out: Collection[str]) -> None:
    if left_out:
        listing.warnings.append(
            f"{len(left_out)} masks (in a folder masks, or named x_mask beside x) were left out: "
            "name them in a table with --mask-column."
        )


def _table(listing: Listing, labels: Path | None) -> Path:
    if labels is not None:
        if labels.is_file():
            return labels
        if labels.as_posix() in listing.files:
            return listing.files[labels.as_posix()]
        raise BadInput(f"There is no table {labels.name!r}, neither here nor inside the source.")
    tables = {PurePosixPath(name).name: name for name in listing.files if is_table(name)}
    for usual in ("labels.csv", "metadata.csv", *(tables if len(tables) == 1 else ())):
        if usual in tables:
            return listing.files[tables[usual]]
    found = "several CSV tables" if tables else "neither class folders nor a CSV table"
    raise BadInput(
        f"The source holds {found}: put the images in one folder per class, or name a table with "
        "--labels FILE.csv."
    )


def _from_table(listing: Listing, table: Path, columns: Mapping) -> list[Item]:
    rows, column = _rows(table, columns)
    files = {name for name in listing.files if not is_table(name)}
    named = [column["path"], column["mask"]]
    cells = [[row[name].strip() if name else "" for name in named] for row in rows]
    masks, lost = of_rows(cells, files)
    if lost:
        listing.warnings.append(
            f"{lost} masks that the table names are not in the source: their images have none."
        )
    by_name = mask_names(files)
    images = endings(files - by_name - set(masks), files - set(masks))
    items: dict[str, Item] = {}
    missing = []
    for row, (given, _), mask in zip(rows, cells, masks, strict=True):
        label = class_name(row[column["label"]])
        name = images.get(plain_path(given))
        if not name:
            missing.append((given, "in the table of labels, but not in the source"))
            continue
        if not label:
            listing.skipped.append((given, "it has no label in the table"))
            continue
        if re.search("[|;]", label):
            raise BadInput(f"{given} has several labels ({label}); ftlab takes one per image.")
        group = row[column["group"]].strip() if column["group"] else None
        split = _split(row[column["split"]]) if column["split"] else None
        item = items.setdefault(name, Item(name, listing.files[name], label, group or None, split))
        if item.label != label:
            raise BadInput(f"{given} is listed as {item.label!r} and as {label!r}.")
        if mask:  # an image of several lesions may have a row and a mask for each
            items[name] = replace(item, masks=(*item.masks, listing.files[mask]))
    if len(missing) > MISSING * len(rows):
        raise BadInput(
            f"{len(missing)} of {len(rows)} rows of the table name an image that the source lacks "
            f"(first {missing[0][0]!r}): is {column['path']!r} the column of paths?"
        )
    listing.skipped.extend(missing)
    _report_masks(listing, by_name - set(masks) - set(items))
    if unlisted := len(files - by_name - set(masks) - set(items)):
        listing.warnings.append(f"{unlisted} images without a row in the table were left out.")
    return list(items.values())


def _rows(table: Path, columns: Mapping) -> tuple[list[dict[str, str]], dict[str, str | None]]:
    """The table's rows, and which column holds path, label, group, split and mask."""
    if table.stat().st_size > MAX_TABLE:
        raise BadInput(f"The table of labels is larger than {MAX_TABLE // 2**20} MB.")
    try:
        text = table.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        delimiter = max(",;\t", key=head.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput("The table of labels cannot be read: save it as CSV in UTF-8.") from error
    found = [name for name in reader.fieldnames or [] if name]
    chosen = {what: _column(what, columns.get(what), found) for what in columns}
    return rows, chosen


def _column(what: str, given: str | None, found: list[str]) -> str | None:
    if given is None:
        by_fold = {name.strip().casefold(): name for name in found}
        known = [by_fold[name] for name in COLUMNS.get(what, ()) if name in by_fold]
        if known or what not in NEEDED:
            return known[0] if known else None
    elif given in found:
        return given
    elif what == "label" and set(re.split(r"\s*,\s*", given)) <= set(found):
        raise BadInput("Several label columns were named; ftlab takes one label per image.")
    missing = f"no column {given!r}" if given else f"no column that looks like the {what}"
    raise BadInput(
        f"The table of labels has {missing}; its columns are {', '.join(found)} "
        f"(name one with --{what}-column)."
    )


def _split(cell: str) -> str:
    try:
        return SPLITS[cell.strip().lower()]
    except KeyError:
        raise BadInput(
            f"The split column holds {cell.strip()!r}: every row needs train, val or test."
        ) from None
