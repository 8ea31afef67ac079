"""Zip files from strangers: nothing is written before the whole directory has been judged."""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath
from zlib import error as ZlibError

from ..records import BadInput
from .listing import MAX_UNPACKED, Listing, is_clutter, why_not
from .picture import MAX_BYTES

MAX_LISTED = 200_000  # entries, since each that is left out may be named in the report
MAX_ENTRIES = 20_000  # of those that are read
MAX_RATIO, RATIO_MATTERS = 200, 50 * 2**20  # unpacked / packed; bytes below which none is harmful
MAX_DEPTH = 12  # folders around a file; BreaKHis has 8
DAMAGE = (zipfile.BadZipFile, ZlibError, EOFError, NotImplementedError, UnicodeDecodeError)
LOCAL_HEADER = 30  # bytes before each entry, at the least
INSTEAD = "take fewer, or unpack it where ftlab runs and import the folder there"


def unpack(path: Path, work: Path) -> Listing:
    """Write a zip's images and tables into `work` under names of our own.

    Entries that are links, that point outside, or that are damaged are listed as skipped.

    Raises:
        BadInput: not a zip, encrypted, too many entries, too large, or built like a bomb.
    """
    listing = Listing("zip")
    budget = MAX_UNPACKED
    with _opened(path) as archive:
        entries = archive.infolist()
        _judge(entries)
        for number, entry in enumerate(entries):
            name = _normal(entry.filename)
            if is_clutter(name):
                continue
            if reason := _refusal(entry, name):
                listing.skipped.append((_printable(name), reason))
            elif entry.is_dir() or name.endswith("/"):
                listing.folders.add(name.rstrip("/"))
            elif reason := why_not(name):
                listing.skipped.append((name, reason))
            elif name in listing.files:
                listing.skipped.append((name, "the zip holds another file of that name"))
            else:
                target = work / str(number)
                budget -= _write(archive, entry, target, min(budget, MAX_BYTES), listing, name)
                listing.folders.update(map(str, PurePosixPath(name).parents))
    listing.folders.discard(".")
    return listing


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory raises anything
        raise BadInput(
            f"{path.name} cannot be read as a zip: give a folder, a .zip, a .npz or a hub id."
        ) from error


def _judge(entries: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive as a whole by what its directory says."""
    if len(entries) > MAX_LISTED:
        raise BadInput(
            f"The zip has {len(entries)} entries, more than the {MAX_LISTED} allowed: {INSTEAD}."
        )
    read = [entry for entry in entries if _is_candidate(entry)]
    if len(read) > MAX_ENTRIES:
        raise BadInput(
            f"The zip has {len(read)} entries to read, more than the {MAX_ENTRIES} allowed: "
            f"{INSTEAD}."
        )
    if any(entry.flag_bits & 1 for entry in entries):
        raise BadInput("The zip is encrypted: unpack it and zip it again without a password.")
    unpacked = sum(entry.file_size for entry in read)
    if unpacked > MAX_UNPACKED:
        raise BadInput(
            f"The zip unpacks to {unpacked / 2**30:.1f} GB, more than the 2 GB allowed: {INSTEAD}."
        )
    unpacked = sum(entry.file_size for entry in entries)
    packed = max(sum(entry.compress_size for entry in entries), 1)
    if unpacked > RATIO_MATTERS and unpacked / packed > MAX_RATIO:
        raise BadInput(
            f"The zip unpacks to {unpacked / packed:.0f} times its size, as no pictures do."
        )
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    if ordered and ordered[0].header_offset < 0:
        raise BadInput("The zip is damaged or cut short: zip the pictures again.")
    for entry, following in zip(ordered, ordered[1:], strict=False):
        if entry.header_offset + LOCAL_HEADER + entry.compress_size > following.header_offset:
            raise BadInput("The zip's entries overlap each other: zip the pictures again.")


def _is_candidate(entry: zipfile.ZipInfo) -> bool:
    """Whether an entry would be read by its name alone: no clutter, no folder, no other kind."""
    name = _normal(entry.filename)
    return not (name.endswith("/") or is_clutter(name) or why_not(name))


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


def _printable(name: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "?", name)


def _refusal(entry: zipfile.ZipInfo, name: str) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the zip was made on Windows
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "not a regular file (a link or a device)"
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in parts or "." in parts or "" in parts:
        return "a path that leads outside"
    if _printable(name) != name:
        return "a name with control characters"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "packed in a way that is not read: zip it with Deflate"
    if entry.file_size > MAX_BYTES:
        return f"larger than the {MAX_BYTES // 2**20} MB allowed"
    if len(parts) - 1 > MAX_DEPTH:
        return f"more than {MAX_DEPTH} folders deep"
    return None


def _write(archive, entry, target: Path, cap: int, listing: Listing, name: str) -> int:
    """Stream one entry to `target`; the bytes written. The header's size is not believed."""
    written = 0
    try:
        with archive.open(entry) as packed, open(target, "xb") as file:
            while chunk := packed.read(2**20):
                written += len(chunk)
                if written > cap:
                    raise BadInput(f"{name} unpacks to more than is allowed.")
                file.write(chunk)
    except DAMAGE:
        target.unlink(missing_ok=True)
        listing.skipped.append((name, "damaged inside the zip"))
    else:
        listing.files[name] = target
    return written
