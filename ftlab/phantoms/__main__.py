"""python -m ftlab.phantoms SHEET.png: an example of every class of every modality."""

import sys

import numpy as np
from PIL import Image

from . import MODALITIES, sheet

TILE, COLOURS, SEED = 144, 256, 11


def main(path: str) -> None:
    """Write the contact sheet: a block a modality, the mask outlined; few colours, to be small."""
    blocks = [sheet(name, 1, SEED, TILE) for name in MODALITIES]
    height = max(len(block) for block in blocks)
    padded = [
        np.pad(b, ((0, height - len(b)), (0, 6), (0, 0)), constant_values=255) for b in blocks
    ]
    picture = Image.fromarray(np.hstack(padded)[:, :-6])
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
