"""Every source becomes one thing: a listing of names and the files that hold their bytes.

A folder is listed where it lies; a zip is unpacked, an npz written out and a hub data set
downloaded first. What the names mean (classes, splits) is decided in labelling.py.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..records import BadInput

SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .tif .tiff .bmp .gif .webp .dcm .dicom .dic .ima".split()
)
CLUTTER = frozenset(("__macosx", "thumbs.db", "desktop.ini"))  # and whatever starts with a dot


@dataclass
class Listing:
    """What a source holds. Names are relative, with "/" between folders, as the source has them."""

    kind: str  # folder, zip, npz or hub
    files: dict[str, Path] = field(default_factory=dict)  # images and tables by name
    folders: set[str] = field(default_factory=set)
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (name, reason)
    warnings: list[str] = field(default_factory=list)


def gather(source: str, work: Path) -> Listing:
    """List a source: a folder, a .zip, a .npz, or a data set of the Hugging Face hub.

    Args:
        source: a path, or "hub:owner/name" ("owner/name" alone where no such path exists).
        work: a folder, not yet made, for what has to be unpacked first.

    Raises:
        BadInput: there is no such source, or it is refused as a whole.
    """
    if source.startswith("hub:"):
        return _hub(source.removeprefix("hub:"))
    path = Path(source).expanduser()
    if path.is_dir():
        return _list_folder(path, "folder")
    if not path.is_file():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not source.startswith("."):
            return _hub(source)
        raise BadInput(f"There is no file or folder {path.name!r} to import.")
    work.mkdir(parents=True)
    if path.suffix.lower() == ".npz":
        from .npz import write_out

        return write_out(path, work)
    from .archives import unpack

    return unpack(path, work)


def is_clutter(name: str) -> bool:
    """Whether a file is an operating system's or an editor's, never a person's."""
    parts = PurePosixPath(name.lower()).parts
    return any(part in CLUTTER or (part[0] == "." and part.strip(".")) for part in parts)


def why_not(name: str) -> str | None:
    """Why a file is no candidate, judged by its name; None for images and CSV tables.

    Names without a suffix, or with a number for one, are tried: DICOM files are often named so.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in SUFFIXES or suffix in (".csv", "") or suffix[1:].isdigit():
        return None
    return f"not a kind of image file that is read ({suffix})"


def is_table(name: str) -> bool:
    """Whether a file is a table of labels by its name."""
    return name.lower().endswith(".csv")


def _list_folder(root: Path, kind: str) -> Listing:
    listing = Listing(kind)
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        for name in sorted(folders):
            inner = (here / name).relative_to(root).as_posix()
            if is_clutter(inner):
                folders.remove(name)
            elif (here / name).is_symlink():  # following it could lead round in circles
                listing.skipped.append((inner, "a link to a folder is not followed"))
            else:
                listing.folders.add(inner)
        for name in files:
            inner = (here / name).relative_to(root).as_posix()
            if is_clutter(inner):
                continue
            if reason := why_not(inner):
                listing.skipped.append((inner, reason))
            else:
                listing.files[inner] = here / name
    return listing


def _hub(repository: str) -> Listing:
    from .hub import download

    folder, cached = download(repository)
    listing = _list_folder(folder, "hub")
    if cached:
        listing.warnings.append(
            "The Hugging Face hub could not be reached: the copy in the local cache was used."
        )
    return listing
