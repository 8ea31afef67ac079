"""Many images at once: what was sent, unpacked, and a line for each of what the runs say of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..datasets.archives import unpack
from ..records import BadInput
from . import cards
from .comparison import Shown, finished, one_each, record
from .parts import cache_folder


def unpacked(files: list[Path], work: Path) -> tuple[dict[str, Path], list[tuple[str, str]]]:
    """Name -> file of all images, those of zips unpacked into `work`; and (name, why) of others.

    Raises:
        BadInput: there is none, or a zip cannot be taken.
    """
    images, skipped = {}, []
    zips = [file for file in files if file.suffix.lower() == ".zip"]
    for number, file in enumerate(files):
        if file not in zips:
            images[_free(file.name, images)] = file
            continue
        folder = work / str(number)
        folder.mkdir()
        listing = unpack(file, folder)
        within = f"{file.stem}/" if len(zips) > 1 else ""
        for name, image in listing.files.items():
            images[_free(within + name, images)] = image
        skipped += [(within + name, why) for name, why in listing.skipped]
    if not images:
        said = "".join(f" {name}: {why}." for name, why in skipped[:1])
        raise BadInput(
            f"The zip holds no images: give PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM.{said}"
        )
    return images, skipped


def _free(name: str, taken: dict) -> str:
    """A name that no image has yet: two files of one name are two images."""
    names = (name, *(f"{name} ({number})" for number in range(2, len(taken) + 3)))
    return next(each for each in names if each not in taken)


def kept(images: dict[str, Path], work: Path) -> dict[str, Path]:
    """The same images, those in `work` moved to the app's cache, where they can be picked later."""
    folder = cache_folder()
    return {
        name: shutil.move(file, folder / str(number)) if work in file.parents else file
        for number, (name, file) in enumerate(images.items())
    }


def batch(
    lab, images: Mapping[str, Path], study: str, skipped: Sequence[tuple[str, str]] = ()
) -> tuple[str, list[dict], list[Shown]]:
    """(HTML of a table, rows of its CSV, the images of the table's lines).

    The table has a line for each image that can be read, the CSV one for each image and strategy.

    Args:
        images: name -> file.
        skipped: (name, why) of others that came with them, named under the table.
    Raises:
        BadInput: no image can be read, or no run can predict.
    """
    readable, skipped = {}, list(skipped)
    for name, image in images.items():
        try:
            lab.picture(image)
            readable[name] = image
        except BadInput as error:
            skipped.append((name, str(error).removeprefix(f"{image.name}: ")))
    if not readable:
        raise BadInput(f"None of the {len(images)} files is an image that can be read.")
    chosen = one_each(finished(lab, study))
    answer = lab.predict(list(readable.values()), study, [row["run"] for row in chosen])
    lines, records = [], []
    for name, found in zip(readable, answer["images"], strict=True):
        runs = {"classes": answer["classes"], "runs": found["runs"]}
        lines.append({"file": name, **lab.consensus(runs, study)})
        for run in found["runs"]:
            records.append(record(name, None, {**run, "classes": answer["classes"]}))
    shown = [Shown(str(file), name) for name, file in readable.items()]
    return cards.batch_table(lines, skipped, cards.who_votes(chosen)), records, shown
