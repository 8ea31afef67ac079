"""How grey values of any depth become 8 bits: one rule per kind of number, the same everywhere."""

from __future__ import annotations

import numpy as np

from ..records import BadInput

DEPTHS = (8, 12, 14, 16)  # bits that scanners and cameras use


def to_uint8(
    values: np.ndarray, bits: int | None = None, aside: np.ndarray | None = None
) -> tuple[np.ndarray, str | None]:
    """Grey values as 8 bits, and the rule in words (None where nothing was changed).

    Whole numbers from 0 to 65535 are scaled by their depth: `bits` where the file declares it,
    else the smallest of 8, 12, 14 and 16 bits that holds the largest value. Anything else (floats,
    negative or larger values) has no scale of its own and is stretched by its percentiles.

    Args:
        values: any shape; bool, integer or float.
        bits: declared depth; ignored above 16, and where a value does not fit in it.
        aside: bool, as values: those that are padding, over which no percentile is taken.

    Raises:
        BadInput: a value is infinite or not a number.
    """
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255), None
    if values.dtype == np.uint8 and bits in (None, 8):
        return values, None
    if values.dtype.kind in "ui" and values.min() >= 0 and values.max() < 2**16:
        largest = int(values.max())
        if bits is None or bits > max(DEPTHS) or largest >= 2**bits:
            bits = next(b for b in DEPTHS if largest < 2**b)
        table = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
        rule = None if bits == 8 else f"{bits}-bit values were scaled to 8 bits"
        return table[values], rule
    return _stretch(values, aside)


def _stretch(values: np.ndarray, aside: np.ndarray | None) -> tuple[np.ndarray, str]:
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadInput("it holds values that are infinite or not a number")
    shown = values if aside is None or aside.all() else values[~aside]
    low, high = np.percentile(shown, (0.5, 99.5))
    if high <= low:  # nearly all pixels are equal: only the full range can tell the rest apart
        low, high = values.min(), values.max()
    if high <= low:
        return np.zeros(values.shape, np.uint8), "all pixels have one value: shown as black"
    rule = "values were stretched from their 0.5 and 99.5 percentiles to 8 bits"
    values -= low
    values /= high - low
    return unit_to_uint8(values), rule


def unit_to_uint8(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as 0 to 255, rounded; what lies outside is clipped."""
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
