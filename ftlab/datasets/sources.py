"""Every source becomes one listing of names and the files that hold their bytes.

A folder is listed where it lies; a zip is unpacked, an npz written out and a hub data set
downloaded first. What the names mean (classes, splits) is decided in labelling.py.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..records import BadInput
from .archives import unpack
from .hub import download
from .listing import Listing, is_clutter, why_not
from .npz import write_out


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
    return write_out(path, work) if path.suffix.lower() == ".npz" else unpack(path, work)


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
    folder, cached = download(repository)
    listing = _list_folder(folder, "hub")
    if cached:
        listing.warnings.append(
            "The Hugging Face hub could not be reached: the copy in the local cache was used."
        )
    return listing
