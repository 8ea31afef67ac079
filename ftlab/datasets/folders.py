"""Which folders around the images are classes, which are splits, and which are patients."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from itertools import count
from pathlib import PurePosixPath
from typing import NamedTuple

from .items import SPLITS
from .listing import NEARLY_ALL, Listing, is_table

PROSE = re.compile(r"[A-Za-z]+")  # README or LICENSE: a DICOM file without a suffix has a number
PATIENTS = 5  # folders for each class, from which on they are taken for patients


class Levels(NamedTuple):
    """Places in an image's name, "/" between them, of the folders that say something of it."""

    label: int
    split: int | None = None
    group: int | None = None
    patients: tuple[str, ...] = ()  # folders around those of the classes, where there are such
    top: int = 0  # of the folders below what lies around all
    beside: tuple[str, ...] = ()  # those of them that are left out

    def leave_out(self, folders: list[str]) -> bool:
        """Whether something in these folders lies beside the splits, or in a second copy."""
        return not set(self.beside).isdisjoint(folders[self.top : self.top + 1])

    def why_out(self) -> str:
        """Why what lies in the folders of `beside` is left out."""
        if self.split == self.top:
            return "it lies beside the folders of train and test"
        return "the folders in its folder are called as those beside it, as in a second copy"


def split_of(folder: str) -> str | None:
    """train, val or test where a folder is called so, as in `Train ` or `test_set`; else None."""
    return SPLITS.get(re.sub(r"[\s_-]*(set|data|images)?\s*$", "", folder.strip().lower()))


def levels(listing: Listing) -> Levels:
    """What the folders of a listing mean, by their names alone.

    train/<class>/..., also with other folders beside train and test; <class>/train/...;
    <patient>/<class>/..., where many numbered folders hold folders of the same few names; or
    <class>/..., with a folder for each patient somewhere below where every class has several.
    A few files that do not lie as deep change nothing, nor does a README.
    """
    top = _wrapping(listing)
    names = [n.split("/")[top:] for n in listing.files if not is_table(n)]
    within = [name for name in names if len(name) > 1]
    within = [name for name in within if not PROSE.fullmatch(name[-1])] or within
    tops = {name[0] for name in within}
    if _are_splits(tops):
        inner = [name[1:] for name in within if split_of(name[0])]
        beside = tuple(sorted(each for each in tops if not split_of(each)))
        return Levels(top + 1, top, _patients(inner, top + 1), top=top, beside=beside)
    copies = _copies(within)
    found = _classes([name for name in within if name[0] not in copies], top)
    return found._replace(top=top, beside=tuple(sorted(copies)))


def _classes(within: list[list[str]], top: int) -> Levels:
    """What folders mean that are not those of splits; within: names from the tops on."""
    deep = _deep(within, 1)
    second = {(name[0], name[1]) for name in deep}
    seconds, tops = {name for _, name in second}, {name[0] for name in within}
    if not deep:
        return Levels(top)
    if all(map(split_of, seconds)) and _are_splits(seconds):
        return Levels(top, top + 1, _patients([[n[0], *n[2:]] for n in deep], top + 1))
    recur = min(Counter(name for _, name in second).values()) > 1
    numbered = all(re.search(r"\d", each) for each in tops)
    if recur and numbered and 1 < len(seconds) <= len(tops) / PATIENTS:
        return Levels(top + 1, group=top, patients=tuple(sorted(tops)))
    return Levels(top, group=_patients(within, top))


def _copies(within: list[list[str]]) -> set[str]:
    """The top folders of which each folder that holds images lies beside them, too: two at least.

    So do the zips of Kaggle hold everything twice: yes, no and brain_tumor_dataset/{yes,no}.
    """
    places = {tuple(name[:-1]) for name in within}
    inner: dict[str, set[tuple[str, ...]]] = {}
    for first, *below in places:
        inner.setdefault(first, set()).add(tuple(below))
    several = {top for top, below in inner.items() if len({each[:1] for each in below}) > 1}
    return {top for top in several if inner[top] <= places}


def _deep(within: list[list[str]], level: int) -> list[list[str]]:
    """The names with a folder at a level, where these are nearly all; else none."""
    deep = [name for name in within if len(name) > level + 1]
    return deep if len(deep) >= NEARLY_ALL * len(within) else []


def _are_splits(folders: Collection[str]) -> bool:
    """Whether folders are called train and the like: all of them, or at least two."""
    called = [split_of(folder) for folder in folders]
    known = [split for split in called if split]
    return "train" in known and (len(known) > 1 or len(known) == len(called))


def _patients(within: list[list[str]], label: int) -> int | None:
    """The first level below the class (name[0]) of which every class has several folders."""
    classes = {name[0] for name in within if len(name) > 1}
    for level in count(1):
        deep = _deep(within, level)
        if not deep:
            return None
        folders = {(name[0], name[level]) for name in deep}
        each = Counter(name for name, _ in folders)
        if min(each[name] for name in classes) >= PATIENTS and len(folders) < len(deep):
            return label + level


def _wrapping(listing: Listing) -> int:
    """How many folders lie around all that matters: 1 for archive.zip/photos/<class>/..., or 0.

    Tables do not, nor files without a suffix beside the only folder, such as LICENSE or README.
    """
    files = {name for name in listing.files if not is_table(name)}
    depth = 0
    while True:
        beside = {name for name in files if name.count("/") <= depth}
        names = [*files - beside, *listing.folders]
        tops = {name.split("/")[depth] for name in names if name.count("/") >= depth}
        matters = any(PurePosixPath(name).suffix for name in beside)
        deeper = any(name.count("/") > depth for name in listing.folders)
        if len(tops) != 1 or matters or not deeper:
            return depth
        depth += 1
