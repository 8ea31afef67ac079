"""Tables of labels: which columns say what, and what each row says of its image."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..records import BadInput
from .folders import levels, split_of
from .items import SPLITS, Item, class_name
from .listing import Listing, endings, is_table, places
from .masks import mask_names, of_rows, report
from .rows import Rows, inside, read

USUAL = {  # what columns are called where nobody said, the likelier first, as `_plain` has them
    "path": "path file file_name filename file_path image image_path image_file image_name image_id"
    " img_id id_code image_index",
    "label": "label class dx diagnosis diagnostic target category class_name finding_labels",
    "group": "patient_id patient patientid subject_id case_id lesion_id lesion video_id video",
    "split": "split set subset partition",
    "mask": "mask mask_path",
}
MARKS = {"0": False, "0.0": False, "0,0": False, "1": True, "1.0": True, "1,0": True}
LACKING = "in the table of labels, but not in the source"
SEVERAL = "in the table of labels, but several files are called so"
UNKNOWN = {"na", "n/a", "nan", "null", "none", "unknown", "?", "-"}  # who says so names nobody
NO_LABEL = {"NA", "N/A", "NaN", "nan", "null", "NULL"}  # as programs write what is missing
MISSING = 0.05  # of rows without an image and of images without a row: above both the import stops
NEARLY_ALL = 1 - MISSING
Columns = Mapping[str, str | None]  # what -> the column that says it


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
    column = _columns(listing, rows, found, given)
    labels = _labels(rows, found, given["label"], column.values(), listing.notes)
    files = {name for name in listing.files if not is_table(name)}
    paths = [column["path"], column["mask"]]
    told = zip(rows, folders, strict=True)
    cells = [[inside(at, row[name], files) if name else "" for name in paths] for row, at in told]
    masks, lost = of_rows(cells, files)
    if lost:
        listing.warnings.append(
            f"{lost} masks that the table names are not in the source: their images have none."
        )
    by_name = mask_names(files)
    images = endings(files - by_name - set(masks), files - set(masks))
    named: dict[str, Item] = {}
    missing, (called, left_out) = [], places([path for path, _ in cells], images)
    if left_out:
        listing.warnings.append(
            "All paths of the table begin with a folder that the source lacks: they were read "
            f"without what goes up to {left_out!r}."
        )
    for row, label, (path, _), mask, call in zip(rows, labels, cells, masks, called, strict=True):
        name = images.get(call)
        if not name:
            missing.append((path, SEVERAL if call in images else LACKING))
            continue
        label = "" if label in NO_LABEL else label
        if not label and name not in labelled:
            listing.skipped.append((path, "it has no label in the table"))
            continue
        item = _item(name, listing.files, label, row, column, mask)
        named[name] = _together(path, named[name], item) if name in named else item
    report(listing, by_name - set(masks) - set(named))
    unlisted = len(files - by_name - set(masks) - set(named) - set(labelled))
    if len(missing) <= MISSING * len(rows):
        listing.skipped.extend(missing)
    else:
        listing.warnings.append(_lost(missing, rows, column["path"], unlisted, len(named)))
    if unlisted:
        listing.warnings.append(f"{unlisted} images without a row in the table were left out.")
    splits = {} if column["split"] or given["split"] == "" else _folder_splits(listing, named)
    return [replace(item, split=splits.get(name, item.split)) for name, item in named.items()]


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
    if not named or unlisted > MISSING * named:
        raise BadInput(f"{said}: is {column!r} the column of paths?")
    return f"{said}."


def _item(
    name: str,
    files: Mapping[str, Path],
    label: str,
    row: dict[str, str],
    column: Mapping,
    mask: str | None,
) -> Item:
    """The image of a row."""
    if re.search("[|;]", label):
        raise BadInput(f"{name} has several labels ({label}); ftlab takes one per image.")
    group = row[column["group"]].strip() if column["group"] else ""
    group = "" if group.lower() in UNKNOWN else group
    split = _split(row[column["split"]]) if column["split"] else None
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


# --- which column says what ---


def _columns(
    listing: Listing, rows: Rows, found: list[str], given: Columns
) -> dict[str, str | None]:
    """The columns of path, group, mask and split; None for what the table does not say."""
    column = {what: _column(what, given[what], found) for what in ("path", "group", "mask")}
    if column["group"] == column["path"]:
        column["group"] = None  # each image is its own
    elif column["group"] and not given["group"]:
        listing.notes.append(f"in one split with all of the same {column['group']!r}")
    return {**column, "split": _split_column(rows, found, given["split"], listing.warnings)}


def _column(what: str, given: str | None, found: list[str]) -> str | None:
    """The column that was named for a thing, or that has one of its usual names.

    Raises:
        BadInput: there is none of the given name, or none for the path.
    """
    if given in found:
        return given
    known = _known(what, found) if given is None else []
    if known or not (given or what == "path"):
        return known[0] if known else None
    raise _lacking(what, given, found)


def _known(what: str, found: Collection[str]) -> list[str]:
    plain = {_plain(name): name for name in reversed(found)}
    return [plain[name] for name in USUAL[what].split() if name in plain]


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def _lacking(what: str, given: str | None, found: Collection[str]) -> BadInput:
    missing = f"no column {given!r}" if given else f"no column that looks like the {what}"
    return BadInput(
        f"The table of labels has {missing}; its columns are {', '.join(found)} "
        f"(name one with --{what}-column)."
    )


def _split_column(
    rows: Rows, found: list[str], given: str | None, warnings: list[str]
) -> str | None:
    """The column of splits: the one that was named, or one that says train, val or test."""
    if given is not None:
        return _column("split", given, found)
    for name in _known("split", found):
        said = {row[name].strip().lower() for row in rows}
        if said <= SPLITS.keys() and "train" in {SPLITS[each] for each in said}:
            return name
        if said & SPLITS.keys():
            warnings.append(
                f"The splits in {name!r} were not kept: not every row there says train, val or "
                "test, or none says train."
            )
    return None


def _labels(
    rows: Rows,
    found: list[str],
    given: str | None,
    taken: Collection[str | None],
    notes: list[str],
) -> list[str]:
    """What each row says that its image shows: in one column, or in several of which one is 1.

    The challenges of ISIC write a column for each diagnosis. Where nobody named the columns, all
    that have no other use have to be such.

    Raises:
        BadInput: there is no such column, or the named columns hold something else.
    """
    known = [] if given else _known("label", found)
    if given in found or known:
        return [class_name(row[given or known[0]]) for row in rows]
    several = re.split(r"\s*,\s*", given) if given else [n for n in found if n not in taken]
    if len(several) < 2 or not set(several) <= set(found):
        raise _lacking("label", given, found)
    marks = [{name: MARKS.get(row[name].strip()) for name in several} for row in rows]
    marked = [[name for name, mark in row.items() if mark] for row in marks]
    plain = all(mark is not None for row in marks for mark in row.values())
    if given and not plain:
        raise BadInput(
            f"The columns {', '.join(several)} hold other things than 0 and 1: ftlab takes one "
            "label per image."
        )
    if not given and not (plain and rows and all(len(names) == 1 for names in marked)):
        raise _lacking("label", given, found)
    unused = [name for name in several if not any(name in names for names in marked)]
    used = ", ".join(name for name in several if name not in unused)
    none = f"; none has {', '.join(unused)}" if unused else ""
    notes.append(f"labelled by which of the columns {used} holds 1{none}")
    return [class_name("|".join(names)) for names in marked]


def _split(cell: str) -> str:
    try:
        return SPLITS[cell.strip().lower()]
    except KeyError:
        raise BadInput(
            f"The split column holds {cell.strip()!r}: every row needs train, val or test."
        ) from None
