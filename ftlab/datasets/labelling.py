"""What a listing's names mean: class folders, split folders, or a table of labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..records import BadInput
from . import masks, tables
from .items import SPLITS, Item, class_name
from .listing import Listing, is_table


def label_items(
    listing: Listing,
    labels: Path | None,
    columns: Mapping[str, str | None],
    group_pattern: str | None = None,
) -> list[Item]:
    """The images of a listing with their labels, by name; the listing's skipped and warnings grow.

    Class folders rule unless a table is given, a column is named, or there are no class folders.

    Args:
        labels: a CSV file on disk or, by its name, inside the source.
        columns: the table's columns for path, label, group, split and mask, None where not named.
        group_pattern: a regular expression for the part of an image's name that is its group.

    Raises:
        BadInput: no labels to be found, or labels that cannot be used.
    """
    plain = _without_masks(listing)
    depth, first = _layout(plain)
    folders = {n.split("/")[first] for n in plain.files if n.count("/") > first}
    has_table = any(map(is_table, listing.files))
    if labels or any(columns.values()) or not folders or (len(folders) == 1 and has_table):
        items = tables.items(listing, tables.find(listing, labels), columns)
    else:
        items = _from_folders(plain, depth, first)
        masks.report(listing, listing.files.keys() - plain.files)
    _report_clashes(items, listing)
    items = sorted(items, key=lambda item: item.name)
    return _grouped(items, group_pattern, listing.notes) if group_pattern else items


def _without_masks(listing: Listing) -> Listing:
    """The listing without what is a mask by its name; skipped and warnings are still its own."""
    left_out = masks.mask_names(listing.files)
    files = {name: path for name, path in listing.files.items() if name not in left_out}
    folders = {name for name in listing.folders if masks.FOLDER not in name.lower().split("/")}
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


def _grouped(items: list[Item], pattern: str, notes: list[str]) -> list[Item]:
    """The images with what a pattern finds in their names, or its first (group), as groups."""
    try:
        found = [re.search(pattern, item.name) for item in items]
    except re.error as error:
        raise BadInput(
            f"The group pattern {pattern!r} is no regular expression: {error}."
        ) from error
    groups = [(match[1] if match.re.groups else match[0]) if match else None for match in found]
    if items and not any(groups):
        raise BadInput(
            f"The group pattern {pattern!r} finds nothing in the names of the images (the first is "
            f"{items[0].name!r})."
        )
    notes.append(f"in one split with all in whose names {pattern!r} finds the same")
    return [replace(item, group=group or None) for item, group in zip(items, groups, strict=True)]


def _report_clashes(items: list[Item], listing: Listing) -> None:
    by_fold: dict[str, set[str]] = {}
    for item in items:
        by_fold.setdefault(item.label.casefold().replace(" ", ""), set()).add(item.label)
    for names in by_fold.values():
        if len(names) > 1:
            shown = ", ".join(map(repr, sorted(names)))
            listing.warnings.append(f"Classes that differ only in case or spaces: {shown}.")
