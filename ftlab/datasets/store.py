"""Data sets on disk. The folder is the database; a folder without a manifest is not a data set.

data/<name>/
  manifest.json                   classes, hash, how it was imported, what the checks found
  items.csv                       file, original, label, group, split, sha256 of the pixels, mask
  images/<class index>/<n>.<ext>  the originals, byte for byte (of DICOM only the picture)
  masks/<n>.png                   1 bit a pixel, of the images that have one
  arrays/<size>.npy               (N, size, size, 3) uint8, made when first asked for
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from .. import files, homes
from ..records import BadInput
from . import splits as split_names
from .images import resize
from .masks import read_mask
from .reading import WORKERS, end_idle, read_image

FORMAT = 1
COLUMNS = ("file", "original", "label", "group", "split", "pixels", "mask")
Progress = Callable[[int, int], None]  # (images done, images in all)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked data set: its images, what they show, and who trains, validates and tests."""

    folder: Path
    name: str
    classes: tuple[str, ...]
    files: tuple[str, ...]  # (N,) relative to the folder
    labels: np.ndarray  # (N,) int64, places in `classes`
    groups: np.ndarray  # (N,) str: patient, lesion or video; an image without one is its own
    grouped: bool  # whether any group is known
    splits: np.ndarray  # (N,) str: train, val or test
    masks: tuple[str, ...]  # (N,) relative to the folder, "" where an image has none
    hash: str  # of `content_hash`

    def indices(self, split: str) -> np.ndarray:
        """Places (n,) of a split's images, in order."""
        return np.flatnonzero(self.splits == split)

    def mask(self, index: int) -> np.ndarray | None:
        """Where in an image the thing that makes its class is: (H, W) bool, or None if unknown.

        A mask of nothing says that there is nothing to see.

        Raises:
            BadInput: a mask that was imported is gone or damaged.
        """
        if not self.masks[index]:
            return None
        try:
            return read_mask(self.folder / self.masks[index])
        except BadInput as error:
            raise self._broken(self.masks[index], error) from error

    def array(self, size: int, progress: Progress | None = None) -> np.ndarray:
        """All images at one size, (N, size, size, 3) uint8, memory-mapped and read-only.

        Made on first use. Several processes may ask at once: each writes a file of its own, and
        the last to finish replaces the others with the same bytes.

        Raises:
            BadInput: an image that was imported is gone or damaged.
            OSError: the disk is full.
        """
        path = self.folder / "arrays" / f"{size}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            with files.unfinished(path) as unfinished:
                self._write_array(unfinished, size, progress)
                unfinished.replace(path)
        return np.load(path, mmap_mode="r")

    def _write_array(self, path: Path, size: int, progress: Progress | None) -> None:
        array = files.new_array(path, np.uint8, (len(self.files), size, size, 3))

        def fill(n: int) -> None:
            try:
                array[n] = resize(read_image(self.folder / self.files[n]).pixels, size)
            except BadInput as error:
                raise self._broken(self.files[n], error) from error

        with ThreadPoolExecutor(WORKERS) as pool:
            for done, _ in enumerate(pool.map(fill, range(len(array))), 1):
                if progress:
                    progress(done, len(array))
        end_idle()
        array.flush()
        with open(path, "rb") as file:
            os.fsync(file.fileno())

    def _broken(self, file: str, reason: BadInput) -> BadInput:
        return BadInput(f"{self.name}/{file}: {reason}; import the data set again.")


def content_hash(classes, images, labels: np.ndarray, splits: np.ndarray) -> str:
    """sha256 over what decides a result, in order: classes, images, labels and splits.

    images: the hash of each one's pixels, or what it was drawn from.
    """
    parts = [list(classes), list(images), labels.tolist(), splits.tolist()]
    return sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()


def check_name(name: str) -> None:
    """Refuse a name that is no plain folder name.

    Raises:
        BadInput: it holds anything but letters, digits, - and _.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name):
        raise BadInput(f"{name!r} cannot name a data set: use letters, digits, - and _ only.")


def dataset_names(root: Path) -> list[str]:
    """The names of all data sets that a data folder's home can read, sorted."""
    return sorted(_folders(homes.readable(Path(root))))


def own_names(root: Path) -> list[str]:
    """The names of the data sets in a data folder itself, sorted: those it may delete."""
    return sorted(_folders([Path(root)]))


def _folders(roots: Iterable[Path]) -> dict[str, Path]:
    """Name -> folder of the data sets in several data folders; a later one hides an earlier."""
    found = (path.parent for root in roots for path in root.glob("*/manifest.json"))
    return {folder.name: folder for folder in found if not folder.name.startswith(".")}


def open_dataset(root: Path, name: str) -> Dataset:
    """The data set of that name in a data folder, or in that of the home it shares.

    Raises:
        BadInput: there is none, it is damaged, or a newer ftlab wrote it.
    """
    known = _folders(homes.readable(Path(root)))
    if name not in known:
        imported = f"imported are: {', '.join(sorted(known))}" if known else "none is imported yet"
        hint = "import one with `ftlab import SOURCE NAME`"
        raise BadInput(f"There is no data set {name!r}; {imported} ({hint}).")
    folder = known[name]
    manifest = read_manifest(folder)
    try:
        return _opened(folder, manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The data set {name} is damaged: its items.csv cannot be read.") from error


def _opened(folder: Path, manifest: dict) -> Dataset:
    with open(folder / "items.csv", encoding="utf-8", newline="") as file:
        items = list(csv.DictReader(file))
    if not items:
        raise ValueError("A data set without images was never written.")
    place = {label: n for n, label in enumerate(manifest["classes"])}
    return Dataset(
        folder=folder,
        name=folder.name,
        classes=tuple(manifest["classes"]),
        files=tuple(item["file"] for item in items),
        labels=np.array([place[item["label"]] for item in items], np.int64),
        groups=np.array([item["group"] for item in items]),
        grouped=manifest["grouped"],
        splits=np.array([item["split"] for item in items]),
        masks=tuple(item.get("mask", "") for item in items),  # data sets of old have no column
        hash=manifest["hash"],
    )


def fingerprints(dataset: Dataset) -> tuple[str, ...]:
    """(N,) sha256 of each image's pixels: two images that have the same one look the same."""
    with open(dataset.folder / "items.csv", encoding="utf-8", newline="") as file:
        return tuple(item["pixels"] for item in csv.DictReader(file))


def read_manifest(folder: Path) -> dict:
    """A data set's manifest.

    Raises:
        BadInput: it is damaged, or a newer ftlab wrote it.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        newer = manifest["format"] > FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"The data set {folder.name} is damaged: its manifest.json cannot be read."
        ) from error
    if newer:
        raise BadInput(f"The data set {folder.name} was made by a newer ftlab: update this one.")
    return manifest


def write(folder: Path, manifest: dict, items: list[dict]) -> None:
    """Write items.csv and then manifest.json, both to the disk itself."""
    with open(folder / "items.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(items)
        _sync(file)
    with open(folder / "manifest.json", "w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **manifest}, file, indent=1, ensure_ascii=False)
        _sync(file)


def _sync(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def report(dataset: Dataset) -> dict:
    """What a person should know of a data set, JSON-ready: counts, skipped files, warnings."""
    manifest = read_manifest(dataset.folder)
    kept = ("skipped", "warnings", "notes", "duplicates", "source", "seed", "fractions", "hash")
    since = {"own_splits": False, "options": {}}  # which data sets of old lack
    names = dataset.classes
    counts = {
        split: np.bincount(dataset.labels[dataset.indices(split)], minlength=len(names))
        for split in split_names.NAMES
    }
    return {
        "name": dataset.name,
        "images": len(dataset.files),
        "classes": dict(zip(names, sum(counts.values()).tolist(), strict=True)),
        "groups": len(np.unique(dataset.groups)) if dataset.grouped else None,
        "masks": sum(map(bool, dataset.masks)),
        "splits": {split: int(n.sum()) for split, n in counts.items()},
        "classes_by_split": {
            split: dict(zip(names, n.tolist(), strict=True)) for split, n in counts.items()
        },
        **{key: manifest[key] for key in kept},
        **{key: manifest.get(key, other) for key, other in since.items()},
    }


def delete_dataset(root: Path, name: str) -> None:
    """Delete a data set: it leaves the list at once, and then the disk.

    Raises:
        BadInput: there is none of that name in this very folder.
    """
    if name not in own_names(root):
        raise BadInput(f"There is no data set {name!r} here to delete.")
    folder = Path(root) / name
    with files.unfinished(folder, Path.mkdir) as doomed:
        folder.rename(doomed / name)
