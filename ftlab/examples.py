"""Example images for whoever has none at hand: phantoms of every class, drawn once and kept."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

PER_CLASS = 2
SEED = 20_240_117  # nobody's default, so that no study has trained on these


@dataclass(frozen=True)
class Example:
    """An image file, what it shows, and the file of its lesion mask (all black where none is)."""

    modality: str
    label: str
    file: Path
    mask: Path


def gallery(cache: Path) -> list[Example]:
    """Two images of every class of every modality, in rounds of one per class.

    The first call draws them into cache/examples/<modality>/, later ones only look there. Several
    processes may call at once: the first to finish puts its folder in place.
    """
    folder = Path(cache) / "examples"
    if not folder.exists():
        _draw(folder)
    return [
        Example(
            table.parent.name, row["label"], table.parent / row["file"], table.parent / row["mask"]
        )
        for table in sorted(folder.glob("*/labels.csv"))
        for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    ]


def _draw(folder: Path) -> None:
    from . import files, phantoms  # here: SciPy is slow to load, and a full folder needs none

    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.unfinished(folder, Path.mkdir) as unfinished:
            for modality in phantoms.MODALITIES:
                phantoms.write(modality, unfinished / modality, PER_CLASS, SEED)
            unfinished.rename(folder)
    except OSError:  # another process was first; whatever else went wrong is still wrong
        if not folder.exists():
            raise
