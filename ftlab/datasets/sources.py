"""Every source becomes one listing of names and the files that hold their bytes.

A folder is listed where it lies; a zip is unpacked, an npz written out, a hub data set downloaded
and a phantom drawn first. What the names mean (classes, splits) is decided in labelling.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ..records import BadInput
from .archives import unpack
from .hub import download
from .listing import Listing, is_clutter, readable, why_not
from .npz import write_out
from .store import Progress

PHANTOM = "phantom:"
PER_CLASS = 100  # phantoms where nobody said how many
ENOUGH = 64  # phantoms to draw for which a process is worth its start
Columns = Mapping[str, str | None]  # path, label, group, split and mask -> the table's column


def gather(
    source: str,
    work: Path,
    per_class: int | None = None,
    seed: int = 0,
    drawing: Progress | None = None,
) -> Listing:
    """List a source: a folder, a .zip, a .npz, a data set of the Hugging Face hub, or a phantom.

    Args:
        source: a path, "hub:owner/name" ("owner/name" alone where no such path exists), or
            "phantom:modality".
        work: a folder, not yet made, for what has to be unpacked first.
        per_class, seed: how many phantoms, and which.
        drawing: called with (images done, images in all) of a phantom that is drawn or an .npz that
            is written out.

    Raises:
        BadInput: there is no such source, or it is refused as a whole.
    """
    if source.startswith(PHANTOM):
        return _draw(source, work, PER_CLASS if per_class is None else per_class, seed, drawing)
    if source.startswith("hub:"):
        return _hub(source.removeprefix("hub:"))
    path = _place(source)
    if path.is_dir():
        return _list_folder(path, "folder")
    if not path.is_file():
        missing = f"There is no file or folder {path.name!r} to import."
        if not re.fullmatch(r"\w[\w.-]*/[\w.-]+", source) or path.parent.is_dir():
            raise BadInput(missing)
        try:
            return _hub(source)
        except BadInput as error:
            raise BadInput(f"{missing} {error}") from error
    work.mkdir(parents=True)
    npz = path.suffix.lower() == ".npz"
    return write_out(path, work, drawing) if npz else unpack(path, work)


def _place(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:
        missing = Path(source).parts[0]
        raise BadInput(f"There is no home folder {missing!r} to import from.") from None


def _list_folder(root: Path, kind: str) -> Listing:
    listing = Listing(kind)
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        for name in sorted(folders):
            inner = readable((here / name).relative_to(root).as_posix())
            if is_clutter(inner):
                folders.remove(name)
            elif (here / name).is_symlink():  # following it could lead round in circles
                listing.skipped.append((inner, "a link to a folder is not followed"))
            else:
                listing.folders.add(inner)
        for name in files:
            inner = readable((here / name).relative_to(root).as_posix())
            if is_clutter(inner):
                continue
            if reason := why_not(inner):
                listing.skipped.append((inner, reason))
            else:
                listing.files[inner] = here / name
    return listing


def table_columns(
    source: str,
    labels: Path | None,
    columns: Columns,
    group_pattern: str | None,
    per_class: int | None,
) -> Columns:
    """The columns to read: those that were named, or those of a phantom, which knows its own.

    Raises:
        BadInput: an option was given that this kind of source has no use for.
    """
    if not source.startswith(PHANTOM):
        if per_class is not None:
            raise BadInput(
                "--per-class is for phantoms (phantom:chest_xray and others): leave it out."
            )
        if group_pattern and columns["group"]:
            raise BadInput("Groups come from a column or from a pattern: give one of them.")
        return {**columns, "group": ""} if group_pattern else columns
    if labels or group_pattern or any(columns.values()):
        raise BadInput(
            "A phantom brings its own table: leave out --labels, --group-pattern and all "
            "--…-column."
        )
    if per_class is not None and per_class < 1:
        raise BadInput(f"--per-class is at least 1, not {per_class}.")
    return dict(path="file", label="label", group="group", split=None, mask="mask")


def _draw(source: str, work: Path, per_class: int, seed: int, drawing: Progress | None) -> Listing:
    from .. import phantoms  # here, because scipy is slow to load

    modality = source.removeprefix(PHANTOM)
    total = phantoms.total(modality, per_class)
    processes = max(1, min(len(os.sched_getaffinity(0)), total // ENOUGH))
    phantoms.write(modality, work, per_class, seed, drawing, processes)
    listing = _list_folder(work, source)
    listing.recipe = f"{source}, edition {phantoms.EDITION}, seed {seed}"
    listing.notes.append(f"synthetic: drawn by ftlab from seed {seed}, no patient")
    return listing


def _hub(repository: str) -> Listing:
    folder, cached = download(repository)
    listing = _list_folder(folder, "hub")
    if cached:
        listing.warnings.append(
            "The Hugging Face hub could not be reached: the copy in the local cache was used."
        )
    return listing
