"""From a source to a checked data set: gather, label, read, check, split, write, rename."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from .. import files
from ..records import BadInput
from . import checks, masks, splits, store
from .classes import ordered
from .dicom import is_dicom
from .groups import lacking, of_images
from .items import Item
from .labelling import label_items
from .listing import Listing, unread
from .reading import WORKERS, end_idle, file_bytes, read_image
from .sources import gather, table_columns
from .store import Dataset, Progress

UNREADABLE = 0.05  # of the images: above it the import stops
FIRST = 3  # files named in an error
MANY = 3  # notes that differ in their numbers alone, above which they stand as one


@dataclass(frozen=True)
class Reading:
    """An image that was read and kept."""

    item: Item
    file: str  # where it is kept, relative to the data set's folder
    mask: str  # as file; "" where there is none
    print: checks.Print
    patient: str | None  # as `Picture.patient`
    notes: tuple[str, ...]


def import_dataset(
    root: Path,
    source: str,
    name: str,
    *,
    labels: Path | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    group_pattern: str | None = None,
    split_column: str | None = None,
    mask_column: str | None = None,
    positive: str | None = None,
    fractions: Sequence[float] = (0.64, 0.16, 0.20),
    seed: int = 0,
    per_class: int | None = None,
    progress: Progress | None = None,
    drawing: Progress | None = None,
) -> Dataset:
    """Import a folder of class folders, a zip, images and a CSV, an .npz, DICOM, hub or phantom.

    Args:
        root: the data folder.
        source: a path, "hub:owner/name" or "phantom:modality".
        name: of the new data set: letters, digits, - and _.
        labels: a CSV with one row per image; columns that are not named are looked for under
            their usual names (`ftlab.datasets.columns`). Without it class folders are the labels.
        label_column: one, or several with commas between of which each row marks one with 1.
        group_column: what must not straddle splits: patient, lesion, video. "" here, for splits
            and for masks: none, even where a column has a usual name; here it sets DICOM's
            patients aside, too.
        group_pattern: a regular expression that finds it in an image's name instead, such as
            "patient_[0-9]+": all that it matches, or what its first (group) does.
        split_column: the data set's own splits; otherwise they are made here.
        mask_column: a picture as large as the image that is black but for what makes its class.
        positive: which of two classes is the last; see `ftlab.datasets.classes`.
        fractions: of train, val and test.
        seed: decides who goes into which split, and what a phantom shows.
        per_class: how many images of a phantom to draw, 100 by default.
        progress: called with (images read, images in all).
        drawing: called before that with (images done, images in all) of a phantom that is drawn or
            an .npz that is written out.

    Raises:
        BadInput: the source, its labels or the sizes of its classes do not allow it.
    """
    store.check_name(name)
    root = Path(root)
    if name in store.dataset_names(root) or (root / name).exists():
        raise BadInput(f"There is a data set {name!r} already: delete it or choose another name.")
    if len(fractions) != 3 or not all(f > 0 for f in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise BadInput("Three fractions above 0 are needed (train, val, test) that sum to 1.")
    named = dict(path=path_column, label=label_column, group=group_column, split=split_column,
                 mask=mask_column)  # fmt: skip
    columns = table_columns(str(source), labels, named, group_pattern, per_class)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with files.unfinished(root / name, Path.mkdir) as work:
            listing = gather(str(source), work / "unpacked", per_class, seed, drawing)
            items = label_items(listing, labels and Path(labels), columns, group_pattern)
            classes = _classes(items, listing, positive)
            readings = _read_all(items, classes, work, listing, progress)
            if group_column == "":
                readings = [replace(reading, patient=None) for reading in readings]
            shutil.rmtree(work / "unpacked", ignore_errors=True)
            manifest, rows = _checked(readings, classes, listing, fractions, seed)
            told = _options(named, labels, listing, group_pattern, positive)
            store.write(work, {"name": name, "options": told, **manifest}, rows)
            work.rename(root / name)
    except OSError as error:
        raise BadInput(_failed(error, root)) from error
    return store.open_dataset(root, name)


def _failed(error: OSError, root: Path) -> str:
    """What ended an import: a full disk, a folder that may not be written, a file not read."""
    if files.disk_full(error):
        return "The data set cannot be stored: the disk is full. Free some space and import again."
    why = error.strerror or error
    place = Path(os.fsdecode(error.filename)) if error.filename else root
    if place.is_relative_to(root) or root.is_relative_to(place):
        return f"The data set cannot be stored: {why}."
    return f"{place.name} cannot be read: {why}."


def _classes(items: list[Item], listing: Listing, positive: str | None) -> list[str]:
    """The classes in order; a refusal says what was left out, which may be the reason."""
    try:
        return ordered({item.label for item in items}, positive)
    except BadInput as error:
        raise BadInput(f"{error}{unread(listing)}") from error


def _options(
    columns: dict, labels: Path | None, listing: Listing, group_pattern, positive
) -> dict[str, str]:
    """What was given, by its option on the command line; of a table on disk its name alone."""
    given = {f"{what}-column": column for what, column in columns.items()}
    given |= {"group-pattern": group_pattern, "positive": positive}
    if labels is not None:
        own = Path(labels).as_posix()
        given["labels"] = own if own in listing.files else Path(labels).name
    return {option: value for option, value in given.items() if value is not None}


def _read_all(
    items: list[Item], classes: list[str], work: Path, listing: Listing, progress: Progress | None
) -> list[Reading]:
    """Read every image once and keep its file; the unreadable go to the listing's skipped."""
    for index in range(len(classes)):
        (work / "images" / str(index)).mkdir(parents=True)
    if any(item.masks for item in items):
        (work / masks.FOLDER).mkdir()

    def read(numbered: tuple[int, Item]) -> Reading | str:
        number, item = numbered
        try:
            return _read(item, f"{classes.index(item.label)}/{number:06d}", work)
        except BadInput as error:
            return str(error)

    readings, bad = [], []
    with ThreadPoolExecutor(WORKERS) as pool:
        for item, result in zip(items, pool.map(read, enumerate(items)), strict=True):
            if isinstance(result, str):
                bad.append((item.name, result))
            else:
                readings.append(result)
            if progress:
                progress(len(readings) + len(bad), len(items))
    end_idle()
    if len(bad) > UNREADABLE * len(items):
        first = "; ".join(f"{file}: {reason}" for file, reason in bad[:FIRST])
        raise BadInput(
            f"{len(bad)} of {len(items)} images cannot be read, more than 5 % ({first}): "
            "mend or remove them."
        )
    listing.skipped.extend(bad)
    return readings


def _read(item: Item, place: str, work: Path) -> Reading:
    """Read an image and keep its bytes, or of a DICOM file its picture and a patient's digest.

    place: <class index>/<n>, of the files to write.
    """
    data = file_bytes(item.path)
    picture = read_image(data)
    notes = picture.notes
    if is_dicom(data):
        file = f"images/{place}.png"
        Image.fromarray(picture.pixels).save(work / file)
        notes = (*notes, "DICOM: the picture was kept as 8-bit PNG, the rest of the file was not")
    else:
        file = f"images/{place}{PurePosixPath(item.name).suffix.lower()}"
        (work / file).write_bytes(data)
    mask = f"{masks.FOLDER}/{PurePosixPath(place).name}.png"
    if not item.masks or not masks.keep(item.masks, picture.pixels.shape[:2], work / mask):
        mask = ""
    return Reading(item, file, mask, checks.fingerprint(picture.pixels), picture.patient, notes)


def _checked(
    readings: list[Reading], classes: list[str], listing: Listing, fractions, seed: int
) -> tuple[dict, list[dict]]:
    """The manifest and the rows of items.csv."""
    labels = np.array([classes.index(r.item.label) for r in readings])
    told = [(r.item.groups, r.patient) for r in readings]
    groups, known, said = of_images(told, [r.file for r in readings])
    listing.warnings += said
    exact, near = checks.duplicates([r.print for r in readings])
    own = np.array([r.item.split or "" for r in readings])
    together = checks.trusted(exact, near, len(own))
    split = splits.divide(own, labels, groups, together, fractions, seed)
    draws = splits.draws(groups, together)
    try:
        judged = splits.judge(labels, draws, split, classes, own=bool(own[0]))
    except BadInput as error:  # what was noticed before may be the reason
        raise BadInput(" ".join((str(error), *listing.warnings))) from error
    listing.warnings += lacking(len(told) - known, len(told))
    listing.warnings += [*splits.own_warnings(own, split, groups), *judged]
    numbers, warnings = checks.describe(exact, near, labels, split, own_splits=bool(own[0]))
    listing.warnings += [*warnings, *_lost_masks(readings)]
    notes = [note for r in readings for note in r.notes] + listing.notes * len(readings)
    pixels = [r.print.pixels for r in readings]
    recipe = listing.recipe  # processors round now and then a pixel of one drawing differently
    shown = [f"{recipe}, {r.item.name}" for r in readings] if recipe else pixels
    manifest = {
        "classes": classes,
        "hash": store.content_hash(classes, shown, labels, split),
        "source": listing.kind,
        "seed": seed,
        "fractions": list(fractions),
        "grouped": known > 0,
        "own_splits": bool(own[0]),
        "duplicates": numbers,
        "notes": _counted(notes),
        "skipped": [{"file": file, "reason": reason} for file, reason in sorted(listing.skipped)],
        "warnings": listing.warnings,
    }
    columns = ([r.file for r in readings], [r.item.name for r in readings],
               [r.item.label for r in readings], draws, split, pixels,
               [r.mask for r in readings])  # fmt: skip
    rows = [dict(zip(store.COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]
    return manifest, rows


def _lost_masks(readings: list[Reading]) -> list[str]:
    lost = sum(bool(r.item.masks and not r.mask) for r in readings)
    if not lost:
        return []
    return [
        f"{lost} masks cannot be read or are of another shape than their image: these images have "
        "none."
    ]


def _counted(notes: list[str]) -> dict[str, int]:
    """Note -> of how many images; where many have numbers of their own (a window), without them."""
    bare = {note: re.sub(r"-?\d[\d.]*", "…", note) for note in set(notes)}
    variants = Counter(bare.values())
    return dict(Counter(bare[n] if variants[bare[n]] > MANY else n for n in notes))
