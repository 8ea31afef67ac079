"""Pictures as a page can hold them: data URIs, and saliency maps as layers to lay over an image."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO

import numpy as np
from PIL import Image

from ..maps import INFERNO, colours

SIDE = 480  # pixels of the longer side: what the largest card shows
LAYER = 128  # pixels of a layer's sides; the browser stretches it over the picture
LEVELS = 64  # of a map: a small palette is a small file
OUTLINE = "00e5ff"  # of a mask: a colour that no map has


def photo(pixels: np.ndarray) -> str:
    """An image (H, W, 3) uint8 as the data URI of a JPEG of at most SIDE pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    return _uri(image, "jpeg", quality=88)


def small(pixels: np.ndarray, side: int = 192) -> np.ndarray:
    """An image (H, W, 3) uint8 of at most `side` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    return np.asarray(image)


def layer(values: np.ndarray) -> str:
    """A saliency map (H, W) in [0, 1] as the data URI of a PNG, as opaque as it is high.

    Over the picture it is what `ftlab.maps.overlay` paints; the browser sets the opacity.
    """
    image = Image.fromarray(np.float32(values)).resize((LAYER, LAYER), Image.Resampling.BILINEAR)
    levels = np.asarray(image).clip(0, 1) * (LEVELS - 1)
    indexed = Image.fromarray(levels.round().astype(np.uint8))
    steps = np.linspace(0, 255, LEVELS).round().astype(np.uint8)
    indexed.putpalette(colours()[steps].round().astype(np.uint8).tobytes())
    return _uri(indexed, "png", transparency=steps.tobytes(), optimize=True)


def outline(mask: np.ndarray) -> str:
    """The outline of a mask (H, W) of bool as the data URI of a PNG, elsewhere transparent."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    image.thumbnail((SIDE, SIDE))
    inside = np.pad(np.asarray(image) > 127, 2)
    deep = inside.copy()
    for axis in (0, 1):
        for step in (-2, -1, 1, 2):
            deep &= np.roll(inside, step, axis)
    edge = (inside & ~deep)[2:-2, 2:-2]
    indexed = Image.fromarray(edge.astype(np.uint8))
    indexed.putpalette(bytes.fromhex("000000" + OUTLINE))
    return _uri(indexed, "png", transparency=bytes([0, 255]), optimize=True)


def place(values: np.ndarray) -> str:
    """Where a map (H, W) is strongest, in words: "upper left"."""
    row, column = np.unravel_index(np.argmax(values), values.shape)
    vertical = ("upper", "", "lower")[min(int(3 * row / values.shape[0]), 2)]
    horizontal = ("left", "", "right")[min(int(3 * column / values.shape[1]), 2)]
    return " ".join(filter(None, (vertical, horizontal))) or "centre"


def gradient() -> str:
    """The colours of the scale as a CSS gradient, from no evidence to the most."""
    return f"linear-gradient(to right, {', '.join(f'#{colour}' for colour in INFERNO.split())})"


def _uri(image: Image.Image, kind: str, **options) -> str:
    data = BytesIO()
    image.save(data, kind, **options)
    return f"data:image/{kind};base64,{b64encode(data.getvalue()).decode()}"
