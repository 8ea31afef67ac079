"""Which columns of a table say what: those that were named, or those of usual names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from ..records import BadInput
from .items import SPLITS, class_name

USUAL = {  # what columns are called where nobody said, the likelier first, as `_plain` has them
    "path": "path file file_name filename file_path image image_path image_file image_name image_id"
    " img_id id_code image_index",
    "label": "label class dx diagnosis diagnostic target category class_name finding_labels",
    "group": "patient_id patient patientid subject_id case_id lesion_id lesion video_id video",
    "split": "split set subset partition",
    "mask": "mask mask_path",
}
MARKS = {"0": False, "0.0": False, "0,0": False, "1": True, "1.0": True, "1,0": True}
UNKNOWN = {"na", "n/a", "nan", "null", "none", "unknown", "?", "-"}  # who says so names nobody
Columns = Mapping[str, str | None]  # what -> the column that says it
Rows = list[dict[str, str]]


def chosen(
    rows: Rows, found: list[str], given: Columns, warnings: list[str]
) -> dict[str, str | None]:
    """The columns of path, mask and split; None for what the table does not say.

    Raises:
        BadInput: there is none of a name that was given, or none for the path.
    """
    column = {what: _column(what, given[what], found) for what in ("path", "mask")}
    return {**column, "split": _split_column(rows, found, given["split"], warnings)}


def _column(what: str, given: str | None, found: list[str]) -> str | None:
    """The column that was named for a thing, or that has one of its usual names."""
    if given in found:
        return given
    usual = known(what, found) if given is None else []
    if usual or not (given or what == "path"):
        return usual[0] if usual else None
    raise lacking(what, given, found)


def known(what: str, found: Collection[str]) -> list[str]:
    """The columns that have a usual name of a thing, the likelier first."""
    plain = {_plain(name): name for name in reversed(found)}
    return [plain[name] for name in USUAL[what].split() if name in plain]


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().casefold())


def lacking(what: str, given: str | None, found: Collection[str]) -> BadInput:
    """The refusal of a table that has no column for a thing."""
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
    for name in known("split", found):
        said = {row[name].strip().lower() for row in rows}
        if said <= SPLITS.keys() and "train" in {SPLITS[each] for each in said}:
            return name
        if said & SPLITS.keys():
            warnings.append(
                f"The splits in {name!r} were not kept: not every row there says train, val or "
                "test, or none says train."
            )
    return None


# --- who is in the images ---


def group_columns(found: list[str], given: str | None, path: str | None) -> list[str]:
    """The column of groups that was named, or all of usual names; never that of the paths.

    Raises:
        BadInput: there is none of the given name.
    """
    named = _column("group", given, found)
    several = known("group", found) if given is None else [named]
    return [name for name in several if name and name != path]


def groups(rows: Rows, columns: Sequence[str]) -> tuple[list[str], list[str]]:
    """The group that each row says, "" where it says none, and the columns that said one.

    Where a cell says nobody, the next column's does: it is of the group that another row has beside
    the same cell, or of one that is called by that column and cell.
    """
    said, told = [""] * len(rows), []
    for name in columns:
        cells = [row[name].strip() for row in rows]
        cells = ["" if cell.lower() in UNKNOWN else cell for cell in cells]
        same = {cell: group for cell, group in zip(cells, said, strict=True) if group}
        called = f"{name} " if told else ""
        both = [
            group or (cell and same.get(cell, called + cell))
            for cell, group in zip(cells, said, strict=True)
        ]
        if both != said:
            told.append(name)
        said = both
    return said, told


# --- what the images show ---


def label_columns(
    rows: Rows, found: list[str], given: str | None, taken: Collection[str | None]
) -> list[str]:
    """The column that says what an image shows, or several of which one is 1; [] if none does.

    The challenges of ISIC write a column for each diagnosis. Where nobody named the columns, all
    that have no other use have to be such.

    Raises:
        BadInput: there is no column of the given name, or the named columns hold something else.
    """
    if given in found or given == "":
        return [given] if given else []
    if given is None and (usual := known("label", found)):
        return usual[:1]
    several = re.split(r"\s*,\s*", given) if given else [n for n in found if n not in taken]
    if given and (len(several) < 2 or not set(several) <= set(found)):
        raise lacking("label", given, found)
    marks = [[MARKS.get(row[name].strip()) for name in several] for row in rows]
    plain = all(mark is not None for row in marks for mark in row)
    if given and not plain:
        raise BadInput(
            f"The columns {', '.join(several)} hold other things than 0 and 1: ftlab takes one "
            "label per image."
        )
    if given or (len(several) > 1 and plain and rows and all(sum(row) == 1 for row in marks)):
        return several
    return []


def labels(rows: Rows, columns: Sequence[str], notes: list[str]) -> list[str]:
    """What each row says that its image shows, in the columns that `label_columns` found."""
    if len(columns) < 2:
        return [class_name(row[columns[0]]) if columns else "" for row in rows]
    marked = [[name for name in columns if MARKS[row[name].strip()]] for row in rows]
    unused = [name for name in columns if not any(name in names for names in marked)]
    used = ", ".join(name for name in columns if name not in unused)
    none = f"; none has {', '.join(unused)}" if unused else ""
    notes.append(f"labelled by which of the columns {used} holds 1{none}")
    return [class_name("|".join(names)) for names in marked]
