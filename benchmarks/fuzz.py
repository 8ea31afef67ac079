"""Hurts pictures and zips to see what becomes of them: `python benchmarks/fuzz.py --minutes 60`.

The seeds are the odd pictures of tests/odd_images.py and zips made of them; bytes are flipped, cut,
spliced, doubled, and numbers that may be lengths replaced. Each picture goes through `read_image`,
each zip through the import's `unpack`. An input is *read*, *refused* in one clear sentence, or ends
its worker, which is refused as well but counted apart. Whatever else happens is a finding: its file
is kept in the folder --keep (those that ended a worker too) and the exit status is 1.
"""

from __future__ import annotations

import argparse
import random
import re
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the odd pictures are the tests'

import odd_images  # noqa: E402

from ftlab.datasets import read_image, reading  # noqa: E402
from ftlab.datasets.archives import unpack  # noqa: E402
from ftlab.records import BadInput  # noqa: E402

KINDS = ("pngs", "bmps", "modes", "tiffs", "oriented", "several", "dicoms")
PER_KIND = 40  # seeds, so that no kind crowds out the others
ZIPS = {None: 0.15, "pictures": 0.0, "zips": 1.0}  # --only -> share of the inputs
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
SLOW = reading.SECONDS + 5  # seconds for one input
UNCLEAR = re.compile(r"[\n\x00]|/tmp|Traceback|0x[0-9a-f]{4}|[a-z]Error|Exception|<class|ftlab\.")


def pictures(chance: random.Random) -> list[bytes]:
    every = [[data for _, data, _, _ in getattr(odd_images, kind)()] for kind in KINDS]
    return [data for kind in every for data in chance.sample(kind, min(PER_KIND, len(kind)))]


def zips(chance: random.Random, seeds: list[bytes]) -> list[bytes]:
    return [_zip(chance, seeds) for _ in range(20)]


def _zip(chance: random.Random, seeds: list[bytes]) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in (
            "a/1.png",
            "a/ü 2.tif",
            "b\\3.dcm",
            "b/",
            "__MACOSX/x",
            "labels.csv",
            "../out",
        ):
            way = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(name, b"" if name == "b/" else chance.choice(seeds), way)
    return file.getvalue()


# --- mutations -----------------------------------------------------------------------------------


def mutated(data: bytes, seeds: list[bytes], chance: random.Random) -> bytes:
    ways = (flip, flip, number, number, cut, splice, double, drop)
    for _ in range(chance.choice((1, 1, 2, 4))):
        data = chance.choice(ways)(bytearray(data or b"\0"), seeds, chance)
    return mended(data) if chance.random() < 0.5 else data


def flip(data: bytearray, _, chance) -> bytes:
    for _ in range(chance.choice((1, 2, 8, 32))):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def number(data: bytearray, _, chance) -> bytes:
    """What may be a length, an offset, a width or a count becomes an extreme one."""
    value, form = chance.choice(NUMBERS), chance.choice(("<H", ">H", "<I", ">I"))
    at = chance.randrange(min(len(data), chance.choice((64, 512, len(data)))))
    packed = struct.pack(form, value % 2 ** (8 * struct.calcsize(form)))
    data[at : at + len(packed)] = packed
    return bytes(data)


def cut(data: bytearray, _, chance) -> bytes:
    return bytes(data[: chance.randrange(len(data))])


def splice(data: bytearray, seeds, chance) -> bytes:
    other = chance.choice(seeds)
    return bytes(data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :])


def double(data: bytearray, _, chance) -> bytes:
    start, stop = sorted(chance.choices(range(len(data)), k=2))
    return bytes(data[:stop] + data[start:stop] * chance.choice((1, 2, 50)) + data[stop:])


def drop(data: bytearray, _, chance) -> bytes:
    start = chance.randrange(len(data))
    return bytes(data[:start] + data[start + chance.randrange(1, 64) :])


def mended(data: bytes) -> bytes:
    """A PNG with its checksums made right, so that what was changed is not refused by them."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    whole, at = bytearray(data), 8
    while at + 12 <= len(whole):
        (length,) = struct.unpack_from(">I", whole, at)
        end = at + 8 + length
        if end + 4 > len(whole):
            break
        struct.pack_into(">I", whole, end, zlib.crc32(whole[at + 4 : end]))
        at = end + 4
    return bytes(whole)


# --- trials --------------------------------------------------------------------------------------


def verdict(kind: str, data: bytes, scratch: Path) -> str:
    """What became of an input: "read", "refused", "worker ended", or else what went wrong."""
    begin = time.monotonic()
    try:
        found = _read(data) if kind == "picture" else _unpack(data, scratch)
    except BadInput as refusal:
        said = str(refusal)
        unclear = not said or len(said) > 300 or UNCLEAR.search(said)
        ended = reading.UNSAFE in said or "did not start" in said
        found = f"unclear: {said}" if unclear else "worker ended" if ended else "refused"
    except Exception as error:  # the very thing that is looked for
        found = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - begin
    return found if seconds < SLOW else f"took {seconds:.0f} s"


def _read(data: bytes) -> str:
    pixels = read_image(data).pixels
    right = pixels.dtype == "uint8" and pixels.ndim == 3 and pixels.shape[2] == 3
    return "read" if right else f"pixels are {pixels.dtype} {pixels.shape}"


def _unpack(data: bytes, scratch: Path) -> str:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        path, work = Path(folder, "given.zip"), Path(folder, "work")
        path.write_bytes(data)
        work.mkdir()
        listing = unpack(path, work)
        outside = {p.name for p in Path(folder).iterdir()} - {"given.zip", "work"}
        strange = [p for p in work.iterdir() if p.is_symlink() or not p.is_file()]
        if outside or strange or any(p.parent != work for p in listing.files.values()):
            return "something was written where it should not be"
    return "read"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["pictures", "zips"])
    parser.add_argument("--keep", type=Path, help="a folder for inputs that went wrong")
    asked = parser.parse_args()
    chance, counts, findings = random.Random(asked.seed), Counter(), Counter()
    seeds = {"picture": pictures(chance)}
    seeds["zip"] = zips(chance, seeds["picture"])
    end = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="ftlab-fuzz-") as scratch:
        while time.monotonic() < end:
            kind = "zip" if chance.random() < ZIPS[asked.only] else "picture"
            data = mutated(chance.choice(seeds[kind]), seeds[kind], chance)
            found = verdict(kind, data, Path(scratch))
            known = found in ("read", "refused", "worker ended")
            counts[kind, found if known else "neither"] += 1
            if not known:
                findings[found] += 1
            if asked.keep and (not known or found == "worker ended"):
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{counts.total()}.{kind}").write_bytes(data)
    print(f"{counts.total()} inputs from seed {asked.seed} in {asked.minutes:g} minutes")
    for (kind, found), n in sorted(counts.items()):
        print(f"{kind:10}{found:16}{n:9}")
    for finding, n in findings.most_common():
        print(f"{n} x {finding}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
