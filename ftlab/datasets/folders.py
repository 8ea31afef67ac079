"""Which folders around the images are classes, which are splits, and which are patients."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import NamedTuple

from .items import SPLITS
from .listing import Listing, is_table

PATIENTS = 5  # folders for each class, from which on they are taken for patients


class Levels(NamedTuple):
    """Places in an image's name, "/" between them, of the folders that say something of it."""

    label: int
    split: int | None = None
    group: int | None = None
    patients: tuple[str, ...] = ()  # folders around those of the classes, where there are such
    beside: tuple[str, ...] = ()  # folders beside those of the splits, which are left out

    def leave_out(self, folders: list[str]) -> bool:
        """Whether something in these folders lies beside the splits."""
        return bool(self.beside) and folders[self.split :][:1] in [[each] for each in self.beside]


def split_of(folder: str) -> str | None:
    """train, val or test where a folder is called so, as in `Train ` or `test_set`; else None."""
    return SPLITS.get(re.sub(r"[\s_-]*(set|data|images)?\s*$", "", folder.strip().lower()))


def levels(listing: Listing) -> Levels:
    """What the folders of a listing mean, by their names alone.

    train/<class>/..., also with other folders beside train and test; <class>/train/...;
    <patient>/<class>/..., where many numbered folders hold folders of the same few names; or
    <class>/..., with a folder for each patient somewhere below where every class has several.
    """
    depth = _wrapping(listing)
    within = [n.split("/")[depth:-1] for n in listing.files if not is_table(n)]
    within = [folders for folders in within if folders]
    tops = {folders[0] for folders in within}
    if _are_splits(tops):
        inner = [folders[1:] for folders in within if split_of(folders[0])]
        beside = tuple(sorted(top for top in tops if not split_of(top)))
        return Levels(depth + 1, depth, _patients(inner, depth + 1), beside=beside)
    second = [tuple(folders[:2]) for folders in within if len(folders) > 1]
    seconds = {name for _, name in second}
    if not second or len(second) < len(within):
        return Levels(depth)
    if all(map(split_of, seconds)) and _are_splits(seconds):
        return Levels(depth, depth + 1, _patients([[f[0], *f[2:]] for f in within], depth + 1))
    recur = min(Counter(name for _, name in set(second)).values()) > 1
    numbered = all(re.search(r"\d", top) for top in tops)
    if recur and numbered and 1 < len(seconds) <= len(tops) / PATIENTS:
        return Levels(depth + 1, group=depth, patients=tuple(sorted(tops)))
    return Levels(depth, group=_patients(within, depth))


def _are_splits(folders: Collection[str]) -> bool:
    """Whether folders are called train and the like: all of them, or at least two."""
    called = [split_of(folder) for folder in folders]
    known = [split for split in called if split]
    return "train" in known and (len(known) > 1 or len(known) == len(called))


def _patients(within: list[list[str]], label: int) -> int | None:
    """The first level below the class (folders[0]) of which every class has several folders."""
    deepest = min(map(len, within), default=0)
    for level in range(1, deepest):
        folders = {(each[0], each[level]) for each in within}
        several = min(Counter(name for name, _ in folders).values()) >= PATIENTS
        if several and len(folders) < len(within):
            return label + level
    return None


def _wrapping(listing: Listing) -> int:
    """How many folders lie around all that matters: 1 for archive.zip/photos/<class>/..., or 0.

    A file without a suffix beside the only folder, such as LICENSE or README, does not matter.
    """
    depth = 0
    while True:
        beside = [name for name in listing.files if name.count("/") <= depth]
        names = [*listing.files.keys() - beside, *listing.folders]
        tops = {name.split("/")[depth] for name in names if name.count("/") >= depth}
        matters = any(PurePosixPath(name).suffix for name in beside)
        deeper = any(name.count("/") > depth for name in listing.folders)
        if len(tops) != 1 or matters or not deeper:
            return depth
        depth += 1
