"""What a source holds: names, and the files that hold their bytes; which names are candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MAX_UNPACKED = 2 * 2**30  # bytes of a whole source that is unpacked or downloaded
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
