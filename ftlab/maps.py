"""What becomes of saliency maps: a picture to look at, and scores against a lesion's mask."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

# Inferno at 0, 0.1 .. 1 (van der Walt & Smith, CC0): lightness rises evenly, no hue stands alone.
INFERNO = "000004 160b39 420a68 6a176e 932667 bc3754 dd513a f37819 fca50a f6d746 fcffa4"


@cache
def colours() -> np.ndarray:
    """The colour of 0, 1/255 .. 1: (256, 3) float32 in 0..255."""
    anchors = np.array([list(bytes.fromhex(anchor)) for anchor in INFERNO.split()])
    places = np.linspace(0, 1, len(anchors))
    columns = [np.interp(np.linspace(0, 1, 256), places, column) for column in anchors.T]
    return np.stack(columns, axis=1).astype(np.float32)


def overlay(pixels: np.ndarray, map: np.ndarray, opacity: float = 0.8) -> np.ndarray:
    """A picture (H, W, 3) uint8 under a map in [0, 1] of any size, stretched over it.

    The map is as opaque as it is high: where there is no evidence the picture is as it was.
    """
    height, width = pixels.shape[:2]
    value = Image.fromarray(np.uint8(255 * map.clip(0, 1) + 0.5))
    value = value.resize((width, height), Image.Resampling.BILINEAR)
    alpha = value.point([round(opacity * level) for level in range(256)])
    value.putpalette(palette())
    return np.asarray(Image.composite(value.convert("RGB"), Image.fromarray(pixels), alpha))


@cache
def palette() -> bytes:
    """The colours, as Pillow wants them."""
    return colours().round().astype(np.uint8).tobytes()


def mask_scores(map: np.ndarray, mask: np.ndarray) -> dict[str, float | bool | None]:
    """How much of a map (H, W) >= 0 lies on a lesion, whose mask (H, W) is True in some places.

    Returns:
        energy: the share of the map's sum inside the mask (Wang et al. 2020, energy-based pointing
            game); a map without a clue has the mask's share of the image. None for a map of zeros.
        pointing: whether the map's largest value lies inside (Zhang et al. 2018, no tolerance).
        iou: intersection over union of the mask and what lies above a threshold, at the threshold
            above 0 where that is best: what the map could do, not what it does at a fixed one.
    """
    total = float(map.sum(dtype=np.float64))
    if not total:
        return {"energy": None, "pointing": False, "iou": 0.0}
    order = np.argsort(-map, axis=None)
    values, inside = map.ravel()[order], mask.ravel()[order]
    hits = np.cumsum(inside)
    iou = hits / (np.arange(1, len(order) + 1) + hits[-1] - hits)
    cuts = (values > 0) & (values != np.append(values[1:], -1))  # equal values go together
    return {
        "energy": float(map[mask].sum(dtype=np.float64) / total),
        "pointing": bool(inside[values == values[0]].mean() >= 0.5),
        "iou": float(iou[cuts].max()),
    }
