"""One image that a source offers, and how classes and splits are called."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from ..records import BadInput

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
MAX_NAME = 80  # characters of a class name


@dataclass(frozen=True)
class Item:
    """One image that a source offers, before it is read."""

    name: str
    path: Path
    label: str
    groups: tuple[str, ...] = ()  # patients, lesions or videos it is said to show
    split: str | None = None
    masks: tuple[Path, ...] = ()


def class_name(label: str) -> str:
    """A class's name as it is shown everywhere: one line, NFC, no spaces around it.

    Raises:
        BadInput: it is longer than 80 characters.
    """
    name = " ".join(unicodedata.normalize("NFC", re.sub(r"[\x00-\x1f\x7f]", " ", label)).split())
    if len(name) > MAX_NAME:
        raise BadInput(f"The class name {name[:20]!r}… is longer than {MAX_NAME} characters.")
    return name
