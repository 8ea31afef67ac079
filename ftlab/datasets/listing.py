"""What a source holds: names, and the files that hold their bytes; which names are candidates."""

from __future__ import annotations

import filecmp
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MAX_UNPACKED = 2 * 2**30  # bytes of a whole source that is unpacked or downloaded
SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .tif .tiff .bmp .gif .webp .dcm .dicom .dic .ima".split()
)
CLUTTER = frozenset(("__macosx", "thumbs.db", "desktop.ini", "dicomdir"))  # and .whatever
FEW = 0.05  # of images, files or rows: what is said of all the others is said of all
NEARLY_ALL = 1 - FEW
UNREAD = "not a kind of image file that is read"


@dataclass
class Listing:
    """What a source holds. Names are relative, with "/" between folders, as the source has them."""

    kind: str  # folder, zip, npz, hub or phantom:<modality>
    files: dict[str, Path] = field(default_factory=dict)  # images and tables by name
    folders: set[str] = field(default_factory=set)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (name, reason)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what a person should know of every image
    recipe: str = ""  # of what is drawn: all that decides it, besides an image's name


def is_clutter(name: str) -> bool:
    """Whether a file is an operating system's, an editor's or a CD's list, never a picture."""
    parts = PurePosixPath(name.lower()).parts
    return any(part in CLUTTER or (part[0] == "." and part.strip(".")) for part in parts)


def why_not(name: str) -> str | None:
    """Why a file is no candidate, judged by its name; None for images and CSV tables.

    Names without a suffix, or with a number for one, are tried: DICOM files are often named so.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES or suffix in (".csv", "") or suffix[1:].isdigit():
        return None
    return f"{UNREAD} ({suffix})"


def unread(listing: Listing) -> str:
    """How many files are of kinds that are not read, and why most others were left out.

    Returns:
        Sentences to add to a refusal, each after a space; "" where nothing was skipped.
    """
    names = [PurePosixPath(name) for name, why in listing.skipped if why.startswith(UNREAD)]
    kinds = Counter("".join(n.suffixes[-2:] if n.suffix == ".gz" else n.suffix) for n in names)
    reasons = Counter(why for _, why in listing.skipped if not why.startswith(UNREAD))
    said = ""
    if kinds:
        most = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(3))
        said += f" Not read were {most}: save their pictures as PNG, JPEG, TIFF or DICOM files."
    if reasons:
        most = ", ".join(f"{count} files ({why})" for why, count in reasons.most_common(3))
        said += f" Left out were {most}."
    return said


def readable(name: str) -> str:
    """A file's name as text: the bytes of an old Windows name (cp1252) become its letters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("cp1252", "replace")
    return name


def is_table(name: str) -> bool:
    """Whether a file is a table of labels by its name."""
    return name.lower().endswith(".csv")


def copies(files: Mapping[str, Path]) -> set[str]:
    """Files that are another's byte by byte, and but for the case of letters its name, too.

    Kaggle's zip of HAM10000 holds every image twice so.
    """
    first: dict[str, str] = {}
    firsts = {name: first.setdefault(name.casefold(), name) for name in sorted(files)}
    pairs = [(name, other) for name, other in firsts.items() if name != other]
    return {name for name, other in pairs if _equal(files[name], files[other])}


def _equal(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # what cannot be read is told of later
        return False


def plain_path(cell: str) -> str:
    """A path as a table may write it, as names in a listing are written."""
    return unicodedata.normalize("NFC", cell.strip().replace("\\", "/")).removeprefix("./")


def endings(first: Iterable[str], names: Iterable[str]) -> dict[str, str | None]:
    """File names by every ending that is theirs alone, with and without their suffix.

    So a table may leave out folders around the images, or write ISIC_0024306 for a .jpg. An ending
    that several files share leads to None, unless it is the whole name of one of them, or one of
    them alone is among the `first`.
    """
    found = _endings(names)
    found.update((ending, name) for ending, name in _endings(first).items() if name)
    return found


def _endings(names: Iterable[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    whole = {unicodedata.normalize("NFC", name): name for name in names}
    for plain, name in whole.items():
        for known in {plain, plain.removesuffix(PurePosixPath(plain).suffix)}:
            parts = known.split("/")
            for start in range(len(parts)):
                ending = "/".join(parts[start:])
                found[ending] = None if ending in found else name
    return {**found, **whole}


def places(paths: Sequence[str], names: Mapping[str, str | None]) -> tuple[list[str], str]:
    """What paths of a table are called among the `endings`, whatever the case of their letters.

    Folders that all paths begin with may be of the machine where the table was written: as many of
    them are left out as it takes to find most files.

    Returns:
        The ending that each path is, "" where it is none; and the last of the folders left out, "".
    """
    plain = [plain_path(path).split("/") for path in paths]
    folded: dict[str, str] = {}
    for ending in names:
        folded[ending.casefold()] = "" if ending.casefold() in folded else ending
    around = os.path.commonprefix([path[:-1] for path in plain if any(path)])
    tried = []
    for start in range(len(around) + 1):
        ends = ["/".join(path[start:]) for path in plain]
        tried.append([end if end in names else folded.get(end.casefold(), "") for end in ends])
    best = max(range(len(tried)), key=lambda start: sum(map(bool, tried[start])))  # the first such
    return tried[best], around[best - 1] if best else ""
