"""What a listing's names mean: class folders, split folders, or a table of labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..records import BadInput
from . import combining, folders, masks, rows, tables
from .columns import Columns
from .folders import Levels, split_of
from .items import Item, class_name
from .listing import Listing, copies, is_table, unread


def label_items(
    listing: Listing, labels: Path | None, columns: Columns, group_pattern: str | None = None
) -> list[Item]:
    """The images of a listing with their labels, by name.

    A table of labels rules where it is given or a column is named, where there are no class
    folders, and where it is the source's own, names nearly all images and parts them otherwise than
    folders do. A table without labels says what else is known of images in class folders.

    Args:
        listing: its skipped, warnings and notes grow; second copies of files leave it.
        labels: a CSV file on disk or, by its name, inside the source.
        columns: the table's columns for path, label, group, split and mask: None where not named,
            "" where none is to be looked for.
        group_pattern: a regular expression for the part of an image's name that is its group.

    Raises:
        BadInput: no labels to be found, or labels that cannot be used.
    """
    _leave_out_copies(listing)
    plain = _of_images(listing)
    found = folders.levels(plain)
    around = [name.split("/")[:-1] for name in plain.files]
    named = {a[found.label] for a in around if len(a) > found.label and not found.leave_out(a)}
    by_table = columns["label"] != ""
    if not by_table and not named:
        raise BadInput("There are no class folders: name a table's column of labels.")
    own = any(map(is_table, listing.files))
    asked = labels is not None or any(columns.values())
    needed = asked or not named or (len(named) == 1 and own and by_table)
    table = rows.find(listing, labels, columns["path"]) if needed else {}
    if table and by_table and (len(named) < 2 or tables.gives_labels(table, columns)):
        items = tables.items(listing, table, columns)
    else:
        items = _by_folders(listing, plain, found, table, columns)
    _report_clashes(items, listing)
    items = sorted(items, key=lambda item: item.name)
    return _grouped(items, group_pattern, listing.notes) if group_pattern else items


def _leave_out_copies(listing: Listing) -> None:
    found = copies(listing.files)
    if not found:
        return
    for name in found:
        del listing.files[name]
    listing.folders -= _around(found) - _around(listing.files)
    why = "a copy of a file whose name differs in the case of letters alone"
    listing.skipped += [(name, why) for name in found]
    listing.warnings.append(f"{len(found)} files were left out, each {why}.")


def _of_images(listing: Listing) -> Listing:
    """The listing of images alone: without tables, masks by their names, and folders of these.

    Its skipped and warnings are still the listing's own.
    """
    masked = masks.mask_names(listing.files)
    files = {n: path for n, path in listing.files.items() if n not in masked and not is_table(n)}
    others = _around(listing.files) - _around(files)
    inside = {n for n in listing.folders - others if masks.FOLDER not in n.lower().split("/")}
    return replace(listing, files=files, folders=inside)


def _around(names: Iterable[str]) -> set[str]:
    """All folders around files."""
    folders_of = {tuple(name.split("/")[:-1]) for name in names}
    return {"/".join(each[:end]) for each in folders_of for end in range(1, len(each) + 1)}


def _by_folders(
    listing: Listing, plain: Listing, levels: Levels, table: Mapping[str, Path], columns: Columns
) -> list[Item]:
    """The images in class folders with what a table says besides, or as the source's own says.

    table: the one that somebody asked for, {} for none.
    """
    read = replace(plain, skipped=list(listing.skipped))
    by_folder = items = _from_folders(read, levels, columns)
    left_out = read.skipped[len(listing.skipped) :]
    if table:
        labelled = {item.name for item in by_folder}
        told = {i.name: i for i in tables.items(listing, table, columns, labelled)}
    else:
        told, rules = combining.own_table(listing, levels, by_folder, columns)
        if rules:
            return list(told.values())
    listing.skipped += left_out
    if told:
        items = combining.both(by_folder, told, listing.warnings)
    else:
        others = sorted(listing.files.keys() - plain.files)
        unused = [name for name in others if is_table(name)]
        listing.skipped += [(name, "the folders give the labels") for name in unused]
        masks.report(listing, set(others) - set(unused))
    bare = [i for i in by_folder if i.name not in told or not told[i.name].groups]
    _tell(levels, bare, listing)
    if not any(item.label for item in told.values()):
        _tell_below(levels, by_folder, listing.warnings)
    return items


def _from_folders(listing: Listing, levels: Levels, columns: Columns) -> list[Item]:
    """The images in class folders; the folders say who is in them where no column was named."""
    items = []
    grouped, parted = columns["group"] is None, columns["split"] is None
    for name, path in listing.files.items():
        *around, _ = name.split("/")
        at = dict(enumerate(around))
        split = split_of(at.get(levels.split, ""))
        if levels.leave_out(around):
            listing.skipped.append((name, levels.why_out()))
        elif not (label := class_name(at.get(levels.label, ""))):
            listing.skipped.append((name, "it lies in no class folder"))
        elif levels.split is not None and not split:
            listing.skipped.append((name, "it lies beside the folders of train and test"))
        else:
            group = at.get(levels.group) if grouped else None
            groups = (group,) if group else ()
            items.append(Item(name, path, label, groups, split if parted else None))
    inside = [each for name in listing.folders if not levels.leave_out(each := name.split("/"))]
    named = {class_name(each[levels.label]) for each in inside if len(each) > levels.label}
    if empty := sorted(named - {item.label for item in items}):
        raise BadInput(
            f"No images in the class folder {', '.join(map(repr, empty))}: add some or remove it."
            + unread(listing)
        )
    return items


def _tell(levels: Levels, items: list[Item], listing: Listing) -> None:
    """Say how the folders were read, where they could be read otherwise."""
    if levels.beside:
        left = sum(levels.leave_out(name.split("/")[:-1]) for name in listing.files)
        some = ", ".join(map(repr, levels.beside[:3]))
        listing.warnings.append(
            f"{left} files beside the folders of train and test were left out, those in {some}."
            if levels.split == levels.top
            else f"{left} files were left out, those in {some}: the folders in there are called as "
            "those beside it, as in a second copy."
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


def _tell_below(levels: Levels, items: list[Item], warnings: list[str]) -> None:
    """Warn of folders below the classes that may be classes: most are within one class alone.

    Those of patients are so as well, but have numbers.
    """
    start = max(levels.label, levels.split or 0) + 1
    classes: dict[str, set[str]] = {}
    for item in items:
        if below := "/".join(item.name.split("/")[start:-1]):
            classes.setdefault(below, set()).add(item.label)
    alone = sum(len(each) == 1 for each in classes.values())
    patients = {group for item in items for group in item.groups}
    numbered = sum(bool(re.search(r"\d", patient)) for patient in patients)
    several = len(classes) > len({item.label for item in items}) and 2 * alone > len(classes)
    if several and not levels.patients and 2 * numbered <= len(patients):
        some = ", ".join(map(repr, sorted(classes)[:3]))
        taken = "were taken for patients" if patients else "were not told apart"
        warnings.append(
            f"Folders within those of the classes ({some} and so on) {taken}: to import them as "
            "classes, import the folder around them or name a table with --labels."
        )


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
