"""What a listing's names mean: class folders, split folders, or a table of labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from ..records import BadInput
from . import folders, masks, rows, tables
from .folders import Levels, split_of
from .items import Item, class_name
from .listing import Listing, is_table, unread


def label_items(
    listing: Listing,
    labels: Path | None,
    columns: Mapping[str, str | None],
    group_pattern: str | None = None,
) -> list[Item]:
    """The images of a listing with their labels, by name; the listing's skipped and warnings grow.

    A table rules where it is given or a column is named, where there are no class folders, and
    where it is the source's own, names nearly all images and parts them otherwise than folders do.

    Args:
        labels: a CSV file on disk or, by its name, inside the source.
        columns: the table's columns for path, label, group, split and mask: None where not named,
            "" where none is to be looked for.
        group_pattern: a regular expression for the part of an image's name that is its group.

    Raises:
        BadInput: no labels to be found, or labels that cannot be used.
    """
    plain = _without_masks(listing)
    found = folders.levels(plain)
    named = {n.split("/")[found.label] for n in plain.files if n.count("/") > found.label}
    has_table = any(map(is_table, listing.files))
    if labels or any(columns.values()) or not named or (len(named) == 1 and has_table):
        items = tables.items(listing, rows.find(listing, labels), columns)
    else:
        before = list(listing.skipped)
        items = _from_folders(plain, found, columns["group"] is None and not group_pattern)
        by_table = _from_own_table(listing, before, found, items, columns) if has_table else None
        if by_table is not None:
            items = by_table
        else:
            tables_left = [name for name in listing.files if is_table(name)]
            listing.skipped += [(name, "the folders give the labels") for name in tables_left]
            masks.report(listing, listing.files.keys() - plain.files)
            _tell(found, items, listing)
    _report_clashes(items, listing)
    items = sorted(items, key=lambda item: item.name)
    return _grouped(items, group_pattern, listing.notes) if group_pattern else items


def _without_masks(listing: Listing) -> Listing:
    """The listing without what is a mask by its name; skipped and warnings are still its own."""
    left_out = masks.mask_names(listing.files)
    files = {name: path for name, path in listing.files.items() if name not in left_out}
    around = {name for name in listing.folders if masks.FOLDER not in name.lower().split("/")}
    return replace(listing, files=files, folders=around)


def _from_folders(listing: Listing, levels: Levels, grouped: bool) -> list[Item]:
    """The images in class folders; grouped: whether a folder may say who is in them."""
    items = []
    for name, path in listing.files.items():
        *around, _ = parts = name.split("/")
        if is_table(name):
            continue
        if levels.leave_out(around):
            listing.skipped.append((name, "it lies beside the folders of train and test"))
        elif len(around) <= levels.label or not class_name(parts[levels.label]):
            listing.skipped.append((name, "it lies in no class folder"))
        else:
            split = split_of(parts[levels.split]) if levels.split is not None else None
            groups = (parts[levels.group],) if grouped and levels.group is not None else ()
            items.append(Item(name, path, class_name(parts[levels.label]), groups, split))
    inside = [each for name in listing.folders if not levels.leave_out(each := name.split("/"))]
    named = {class_name(each[levels.label]) for each in inside if len(each) > levels.label}
    if empty := sorted(named - {item.label for item in items}):
        raise BadInput(
            f"No images in the class folder {', '.join(map(repr, empty))}: add some or remove it."
            + unread(listing)
        )
    return items


def _from_own_table(
    listing: Listing,
    skipped: list[tuple[str, str]],
    levels: Levels,
    by_folder: list[Item],
    columns: Mapping,
) -> list[Item] | None:
    """The images as the source's own table tells of them, where it tells of nearly all; else None.

    Where it parts them into the same classes as the folders do, these name the classes, and the
    table says who is in the images. The listing's skipped, warnings and notes grow.

    skipped: what was so before the folders were read, which say nothing where the table rules.
    """
    if columns["label"] == "":
        return None
    folded = {item.name: item.label for item in by_folder}
    told, said = _told(listing, columns, folded)
    labelled = [item for item in told.values() if item.label]
    pairs = {(folded[item.name], item.label) for item in labelled if item.name in folded}
    if not pairs or len(labelled) < tables.NEARLY_ALL * len(by_folder):
        return None
    here, there = (set(names) for names in zip(*pairs, strict=True))
    if len(here) == len(there) == len(pairs):
        if not any(item.groups or item.split or item.masks for item in told.values()):
            return None
        found = _both(by_folder, told, said.warnings)
        _tell(levels, [i for i in by_folder if i.name not in told or not told[i.name].groups], said)
    elif any(item.split for item in by_folder):
        return None
    else:
        told, said = _told(listing, columns)
        if not told:
            return None
        found, listing.skipped = list(told.values()), skipped
        folders_named = ", ".join(map(repr, sorted(here)[:3]))
        said.warnings.append(
            f"The source's table gives the labels, not the folders around the images "
            f'({folders_named}), which part them otherwise: write "" with --label-column to take '
            "the folders."
        )
    listing.skipped += said.skipped
    listing.warnings += said.warnings
    listing.notes += said.notes
    return found


def _told(
    listing: Listing, columns: Mapping, labelled: Collection[str] = ()
) -> tuple[dict[str, Item], Listing]:
    """The images of the source's own table, none if it cannot be used; and what is to be said.

    labelled: as `tables.items` has it.
    """
    said = replace(listing, skipped=[], warnings=[], notes=[])
    try:
        found = tables.items(said, rows.find(listing, None), columns, labelled)
    except BadInput:
        found = []
    return {item.name: item for item in found}, said


def _both(by_folder: list[Item], told: Mapping[str, Item], warnings: list[str]) -> list[Item]:
    """The images in class folders, with what a table says of nearly all of them besides."""
    both = [(here, told.get(here.name, here)) for here in by_folder]
    unlisted = sum(here.name not in told for here in by_folder)
    split = any(of.split and not here.split for here, of in both)
    if bare := sum(here.name not in told or not of.label for here, of in both):
        warnings.append(f"{bare} images without a label in the table have that of their folder.")
    if split and unlisted:  # splits are of all images or of none
        warnings.append(
            f"The splits in the table were not kept: {unlisted} images have no row in it."
        )
    return [
        replace(
            of,
            label=here.label,
            groups=of.groups or here.groups,
            split=here.split or (None if unlisted else of.split),
        )
        for here, of in both
    ]


def _tell(levels: Levels, items: list[Item], listing: Listing) -> None:
    """Say how the folders were read, where they could be read otherwise."""
    if levels.beside:
        left = sum(levels.leave_out(name.split("/")[:-1]) for name in listing.files)
        listing.warnings.append(
            f"{left} files beside the folders of train and test were left out, those in "
            f"{', '.join(map(repr, levels.beside[:3]))}."
        )
    if levels.patients and items:
        some = ", ".join(map(repr, levels.patients[:2]))
        classes = ", ".join(map(repr, sorted({item.label for item in items})[:3]))
        listing.warnings.append(
            f"The folders {some} and so on were taken for patients and those within them "
            f"({classes}) for classes, since their names recur: a table can say otherwise."
        )
    elif named := sorted(group for item in items for group in item.groups):
        listing.notes.append(f"in one split with all in folders of one name, as {named[0]!r}")


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
    return [
        replace(item, groups=(group,) if group else ())
        for item, group in zip(items, groups, strict=True)
    ]


def _report_clashes(items: list[Item], listing: Listing) -> None:
    by_fold: dict[str, set[str]] = {}
    for item in items:
        by_fold.setdefault(item.label.casefold().replace(" ", ""), set()).add(item.label)
    for names in by_fold.values():
        if len(names) > 1:
            shown = ", ".join(map(repr, sorted(names)))
            listing.warnings.append(f"Classes that differ only in case or spaces: {shown}.")
