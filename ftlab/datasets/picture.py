"""What a picture is once it is read, and how large one may be before it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..records import BadInput

MAX_BYTES = 100 * 2**20
MAX_PIXELS = 50_000_000
MIN_SIDE = 8
MAX_ASPECT = 50


@dataclass(frozen=True)
class Picture:
    """A picture as every model sees it."""

    pixels: np.ndarray  # (H, W, 3) uint8
    notes: tuple[str, ...] = ()  # what was done to it that a person should know
    patient: str | None = None  # of a DICOM file: a digest to compare by; "" for nobody


def check_size(width: int, height: int) -> None:
    """Refuse a picture by the sides its header declares, in pixels.

    Raises:
        BadInput: too many pixels, too few, or a strip.
    """
    if width * height > MAX_PIXELS:
        raise BadInput(too_many(width * height))
    if min(width, height) < MIN_SIDE:
        raise BadInput(f"{width} x {height} pixels are fewer than {MIN_SIDE} on a side")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadInput(f"{width} x {height} pixels are a strip, not a picture")


def too_many(pixels: int) -> str:
    """The reason for which so many pixels are refused."""
    megapixels = pixels / 1e6
    shown = f"{megapixels:.1f}" if megapixels < 100 else f"{megapixels:.0f}"
    return f"{shown} megapixels are more than the {MAX_PIXELS // 10**6} allowed"
