"""Masks: where in an image the thing that makes its class is to be seen."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ..records import BadInput
from .listing import Listing, endings, is_table, places
from .reading import read_image

FOLDER = "masks"
# What a folder of masks is called beside one of images: `mask`, `lung masks`, `infection_mask`.
WORD = re.compile(r"(.*[\W_])?masks?", re.IGNORECASE)
PICTURES = re.compile(
    r"(.*[\W_])?(images?|imgs?|pictures?|photos?|scans?|slices?|originals?|inputs?)", re.IGNORECASE
)
# A stem; its first group is that of the image.
BESIDE = re.compile(r"(.+)_(?:mask|segmentation|seg|gt)(_\d+)?", re.IGNORECASE)
DARK = 8  # of what is read as black the brightness is at most that part of the brightest pixel's


def mask_names(files: Iterable[str]) -> set[str]:
    """The files that are masks by their names.

    They lie in a folder `masks`, or in one called so at its end beside a folder of images or beside
    images of the same names (with_mask and without_mask are classes); or are x_mask.png beside
    x.png.
    """
    names = {name: PurePosixPath(name) for name in files if not is_table(name)}
    stems = {path.with_suffix("") for path in names.values()}
    around = {path.parent: (path.parent, *path.parent.parents) for path in set(names.values())}
    folders = {folder for each in around.values() for folder in each}
    pictured = {folder.parent for folder in folders if PICTURES.fullmatch(folder.name)}
    worded = {folder for folder in folders if WORD.fullmatch(folder.name)}
    alone = {f for f in worded if f.parent in pictured or f.name.lower() == FOLDER}
    inside = {folder for folder, each in around.items() if not alone.isdisjoint(each)}
    found = set()
    for name, path in names.items():
        beside = BESIDE.fullmatch(path.stem)
        stem = beside[1] if beside else path.stem
        of_image = path.parent in worded and path.parent.parent / stem in stems
        if path.parent in inside or of_image or (beside and path.with_name(stem) in stems):
            found.add(name)
    return found


def of_rows(
    cells: Sequence[tuple[str, str]], files: set[str], warnings: list[str]
) -> list[str | None]:
    """The mask file that each row of a table names; a warning counts those that are not there.

    cells: what each row has for its image and for its mask.
    """
    by_name, wanted = mask_names(files), [mask for _, mask in cells]
    images, masks = endings(files - by_name, files), endings(by_name, files)
    shown, _ = places([image for image, _ in cells], images)
    found = [
        mask if (mask := masks.get(at)) != images.get(image) else None
        for at, image in zip(places(wanted, masks)[0], shown, strict=True)
    ]
    if lost := sum(bool(mask) and not name for mask, name in zip(wanted, found, strict=True)):
        warnings.append(
            f"{lost} masks that the table names are not in the source: their images have none."
        )
    return found


def report(listing: Listing, left_out: Collection[str]) -> None:
    """Warn of masks by their names that no table gave to an image."""
    if left_out:
        listing.warnings.append(
            f"{len(left_out)} masks (in a folder masks, or named x_mask, x_seg and the like "
            "beside x) were left out: name them in a table with --mask-column."
        )


def read_mask(path: Path) -> np.ndarray:
    """A picture as a mask (H, W) bool: whatever is not black, or nearly so as a JPEG leaves it.

    Values of 0 and 1, 0 and 255, labels up to 7 and colours all do; what is transparent is black.

    Raises:
        BadInput: the picture cannot be read.
    """
    grey = read_image(path, ground="black").pixels.max(axis=2)
    return grey > grey.max() // DARK


def keep(sources: Iterable[Path], shape: tuple[int, int], target: Path) -> bool:
    """Write the union of an image's masks as a 1-bit PNG; whether all could be read and fit it."""
    try:
        masks = [read_mask(source) for source in sources]
    except BadInput:
        return False
    if any(mask.shape != shape for mask in masks):
        return False
    Image.fromarray(np.logical_or.reduce(masks)).save(target)
    return True
