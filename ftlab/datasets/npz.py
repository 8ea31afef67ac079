"""MedMNIST-style arrays, written out as a tree of split and class folders."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as header
from PIL import Image

from ..records import BadInput
from .listing import MAX_UNPACKED, Listing
from .store import Progress

SPLITS = ("train", "val", "test")
MAX_IMAGES = 1_000_000  # each becomes a file
HEADERS = {(1, 0): header.read_array_header_1_0, (2, 0): header.read_array_header_2_0}


def write_out(path: Path, work: Path, progress: Progress | None = None) -> Listing:
    """Write the images of an .npz as PNGs named <split>/<label>/<n>.png.

    Read are <split>_images, uint8 (N, H, W) or (N, H, W, 3), and <split>_labels, integers (N,) or
    (N, 1), for the splits train, val and test, of which train must be there. progress is called
    with (images written, images in all), before the first one, too.

    Raises:
        BadInput: not such a file, too many images, volumes instead of pictures, or several labels
            per image.
    """
    listing, arrays = Listing("npz"), _arrays(path)
    total = sum(len(images) for _, images, _ in arrays)
    tell = progress or (lambda done, total: None)
    tell(0, total)
    for split, images, labels in arrays:
        for n, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            name = f"{split}/{label}/{n:06d}.png"
            target = work / f"{split}-{n}.png"
            Image.fromarray(pixels).save(target)
            listing.files[name] = target
            listing.folders.update((split, f"{split}/{label}"))
            tell(len(listing.files), total)
    return listing


def _arrays(path: Path) -> list[tuple[str, np.ndarray, np.ndarray]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED:
                raise BadInput(
                    f"{path.name} unpacks to more than the 2 GB allowed: take fewer images, or "
                    "save them in a folder per class where ftlab runs and import that."
                )
            if (count := _promised(archive)) > MAX_IMAGES:
                raise BadInput(
                    f"{path.name} holds {count:,} images, more than the {MAX_IMAGES:,} allowed."
                )
        with np.load(path, allow_pickle=False) as arrays:
            if "train_images" not in arrays:
                raise BadInput(
                    f"{path.name} holds {', '.join(arrays.files) or 'nothing'}, but train_images "
                    "and train_labels are needed (and the same for val and test)."
                )
            present = [s for s in SPLITS if f"{s}_images" in arrays]
            if lacking := [f"{s}_labels" for s in present if f"{s}_labels" not in arrays]:
                raise BadInput(f"{path.name} has no {lacking[0]}, one label for each image.")
            read = [(s, arrays[f"{s}_images"], arrays[f"{s}_labels"]) for s in present]
    except BadInput:
        raise
    except Exception as error:  # a damaged archive, a pickled object, a header that lies
        raise BadInput(f"{path.name} cannot be read as an .npz of plain arrays.") from error
    return [(s, *_checked(images, labels, path.name, s)) for s, images, labels in read]


def _promised(archive: zipfile.ZipFile) -> int:
    """How many images the headers of the arrays tell of, before any array is loaded."""
    wanted = {f"{split}_images" for split in SPLITS}
    count = 0
    for name in archive.namelist():
        if name.removesuffix(".npy") in wanted:
            with archive.open(name) as file:
                shape, *_ = HEADERS[header.read_magic(file)](file)
            count += sum(shape[:1])  # of a single number, whose shape is (), none
    return count


def _checked(images: np.ndarray, labels: np.ndarray, name: str, split: str):
    flat = images.ndim == 3 or (images.ndim == 4 and images.shape[-1] == 3)
    if images.dtype != np.uint8 or not flat:
        raise BadInput(
            f"{name}: {split}_images is {images.dtype} {images.shape}, but uint8 (N, H, W) or "
            "(N, H, W, 3) is needed."
        )
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise BadInput(
            f"{name}: its images have {labels.shape[1]} labels each, and ftlab compares "
            "strategies on one label per image."
        )
    if labels.dtype.kind not in "ui" or labels.size != len(images):
        raise BadInput(f"{name}: {split}_labels must be one whole number per image.")
    return images, labels.ravel()
