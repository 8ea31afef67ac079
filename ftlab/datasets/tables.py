"""Tables of labels: which image each row names, and what it says of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..records import BadInput
from . import columns
from .columns import Columns, Rows
from .folders import levels, split_of
from .items import SPLITS, Item
from .listing import FEW, Listing, endings, is_table, places
from .masks import mask_names, of_rows, report
from .rows import inside, read

LACKING = "in the table of labels, but not in the source"
SEVERAL = "in the table of labels, but several files are called so"
NO_LABEL = {"NA", "N/A", "NaN", "nan", "null", "NULL"}  # as programs write what is missing


def items(
    listing: Listing, tables: Mapping[str, Path], given: Columns, labelled: Collection[str] = ()
) -> list[Item]:
    """The images that tables name; the listing's skipped, warnings and notes grow.

    Args:
        tables: as `rows.find` has them.
        given: the columns for path, label, group, split and mask: None where not named, "" where
            none is to be looked for.
        labelled: images that have a label without the table: where it gives none, theirs is "".

    Raises:
        BadInput: the table, or what a row says, cannot be used.
    """
    rows, folders, found = read(tables)
    column, groups, labels = _said(listing, rows, found, given, bool(labelled))
    files = {name for name in listing.files if not is_table(name)}
    paths = [column["path"], column["mask"]]
    told = zip(rows, folders, strict=True)
    cells = [[inside(at, row[name], files) if name else "" for name in paths] for row, at in told]
    masks = of_rows(cells, files, listing.warnings)
    by_name = mask_names(files)
    images = endings(files - by_name - set(masks), files - set(masks))
    named: dict[str, Item] = {}
    missing, (called, left_out) = [], places([path for path, _ in cells], images)
    if left_out:
        listing.warnings.append(
            "All paths of the table begin with a folder that the source lacks: they were read "
            f"without what goes up to {left_out!r}."
        )
    each = zip(rows, labels, groups, cells, masks, called, strict=True)
    for row, label, group, (path, _), mask, call in each:
        name = images.get(call)
        if not name:
            missing.append((path, SEVERAL if call in images else LACKING))
            continue
        label = "" if label in NO_LABEL else label
        if not label and name not in labelled:
            listing.skipped.append((path, "it has no label in the table"))
            continue
        split = _split(row[column["split"]]) if column["split"] else None
        item = _item(name, listing.files, label, group, split, mask)
        named[name] = _together(path, named[name], item) if name in named else item
    report(listing, by_name - set(masks) - set(named))
    unlisted = len(files - by_name - set(masks) - set(named) - set(labelled))
    if len(missing) <= FEW * len(rows):
        listing.skipped.extend(missing)
    else:
        listing.warnings.append(_lost(missing, rows, column["path"], unlisted, len(named)))
    if unlisted:
        listing.warnings.append(f"{unlisted} images without a row in the table were left out.")
    splits = {} if column["split"] or given["split"] == "" else _folder_splits(listing, named)
    return [replace(item, split=splits.get(name, item.split)) for name, item in named.items()]


def gives_labels(tables: Mapping[str, Path], given: Columns) -> bool:
    """Whether a column of the tables, or several, says what the images show.

    Raises:
        BadInput: a table cannot be read, or lacks a column that was named.
    """
    rows, _, found = read(tables)
    column = columns.chosen(rows, found, given, [])
    return bool(_label_columns(rows, found, given, column))


def _said(
    listing: Listing, rows: Rows, found: list[str], given: Columns, labelled: bool
) -> tuple[dict[str, str | None], list[str], list[str]]:
    """The columns of path, mask and split, and what each row says of groups and labels.

    labelled: whether images may have a label without the table, which may then lack a column.
    """
    column = columns.chosen(rows, found, given, listing.warnings)
    at = columns.group_columns(found, given["group"], column["path"])
    groups, used = columns.groups(rows, at)
    if used and not given["group"]:
        blank = f", or where it is blank of the same {used[1]!r}" if len(used) > 1 else ""
        listing.notes.append(f"in one split with all of the same {used[0]!r}{blank}")
    shown = _label_columns(rows, found, given, column)
    if not (shown or labelled):
        raise columns.lacking("label", given["label"], found)
    return column, groups, columns.labels(rows, shown, listing.notes)


def _label_columns(rows: Rows, found: list[str], given: Columns, column: Columns) -> list[str]:
    taken = {*column.values(), *columns.group_columns(found, given["group"], column["path"])}
    return columns.label_columns(rows, found, given["label"], taken)


def _folder_splits(listing: Listing, names: Iterable[str]) -> dict[str, str]:
    """Which split each image is in by the folders around it: of all, in several, or of none."""
    at = levels(listing).split
    inside = {name: name.split("/")[:-1] for name in names}
    if at is None:
        return {}
    found = {name: split_of(around[at]) for name, around in inside.items() if len(around) > at}
    whole = len(found) == len(inside) and None not in found.values()
    if not whole or len(set(found.values())) < 2:
        return {}
    listing.notes.append("in the split that a folder around it is called by")
    return found


def _lost(
    missing: list[tuple[str, str]], rows: Rows, column: str | None, unlisted: int, named: int
) -> str:
    """What a person should know of many rows without an image.

    Raises:
        BadInput: many images are without a row as well, or none has one.
    """
    several = all(why == SEVERAL for _, why in missing)
    what = "is there in several folders" if several else "the source lacks"
    said = (
        f"{len(missing)} of {len(rows)} rows of the table name an image that {what} "
        f"(first {missing[0][0]!r})"
    )
    if not named or unlisted > FEW * named:
        raise BadInput(f"{said}: is {column!r} the column of paths?")
    return f"{said}."


def _item(
    name: str,
    files: Mapping[str, Path],
    label: str,
    group: str,
    split: str | None,
    mask: str | None,
) -> Item:
    """The image of a row."""
    if re.search("[|;]", label):
        raise BadInput(f"{name} has several labels ({label}); ftlab takes one per image.")
    masks = (files[mask],) if mask else ()
    return Item(name, files[name], label, (group,) if group else (), split, masks)


def _together(path: str, item: Item, again: Item) -> Item:
    """One image of two rows: of several lesions each may have a row, a group and a mask."""
    label = item.label or again.label
    for one, other in ((label, again.label or label), (item.split, again.split)):
        if one != other:
            raise BadInput(f"{path} is listed as {one!r} and as {other!r}.")
    groups = tuple(dict.fromkeys((*item.groups, *again.groups)))
    return replace(item, label=label, groups=groups, masks=(*item.masks, *again.masks))


def _split(cell: str) -> str:
    try:
        return SPLITS[cell.strip().lower()]
    except KeyError:
        raise BadInput(
            f"The split column holds {cell.strip()!r}: every row needs train, val or test."
        ) from None
