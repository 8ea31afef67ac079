"""What it costs to decode pictures in a process of its own: `python benchmarks/reading.py`.

Importing PNGs, and making the array of one image size of them, by ftlab as it is and with the same
decoder called in the importing process: in turns, the ratio being the median over the turns.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ftlab.datasets import images, import_dataset, importing, reading, store  # noqa: E402

PICTURES = ((2000, 24), (400, 224))  # (how many, pixels of a side)
ARRAY, TURNS = 96, 5
door = reading.read_image


def inside(source):
    """`read_image` without a worker."""
    return images.decode(source if isinstance(source, bytes) else reading.file_bytes(source))


def draw(folder: Path, number: int, size: int) -> None:
    """Pictures of coarse noise, all different, in two class folders."""
    rng = np.random.default_rng(0)
    for n in range(number):
        path = folder / "ab"[n % 2] / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8)
        Image.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1)).save(path)


def seconds(read, source: Path, root: Path) -> tuple[float, float]:
    """Of the import and of the array."""
    importing.read_image = store.read_image = read
    began = time.perf_counter()
    data = import_dataset(root, str(source), f"set{time.monotonic_ns()}")
    imported = time.perf_counter()
    data.array(ARRAY)
    return imported - began, time.perf_counter() - imported


def main() -> None:
    print(f"{'':32}{'worker, s':>10}{'inside, s':>11}{'ratio':>7}")
    with tempfile.TemporaryDirectory(prefix="ftlab-") as scratch:
        for number, size in PICTURES:
            source = Path(scratch) / f"{size}"
            draw(source, number, size)
            turns = [
                [seconds(read, source, Path(scratch) / "data") for read in (door, inside)]
                for _ in range(TURNS)
            ]
            for part, what in enumerate(("import", f"array of {ARRAY} px")):
                own, other = ([turn[side][part] for turn in turns] for side in (0, 1))
                ratio = median(a / b for a, b in zip(own, other, strict=True))
                name = f"{number} of {size} px, {what}"
                print(f"{name:32}{median(own):10.2f}{median(other):11.2f}{ratio:7.2f}")


if __name__ == "__main__":
    main()
