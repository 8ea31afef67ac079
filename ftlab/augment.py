"""Augmentation of a batch on its device, drawn from torch's global generator or a given one.

`none` as in the papers' own code for their comparison; `light` small turns, shifts, zooms and
changes of brightness and contrast; `ttl` the random resized crop of Peng et al. 2023. Mirror
images are off unless asked for: left and right differ in a chest.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PRESETS = ("none", "light", "ttl")
Draw = Callable[[int], Tensor]  # n numbers from 0 to 1, one for each image of a batch


def augment(pixels: Tensor, preset: str, flips: bool, draw: Draw = torch.rand) -> Tensor:
    """Pixels (B, H, W, 3) in 0..255 to pixels of the same shape; uint8 as given where unchanged."""
    n, device = len(pixels), pixels.device
    if flips:
        mirrored = (draw(n) < 0.5).to(device)[:, None, None, None]
        pixels = torch.where(mirrored, pixels.flip(2), pixels)
    if preset == "none":
        return pixels
    angle, zoom_x, zoom_y, shift_x, shift_y = _geometry(n, preset, draw)
    theta = torch.stack(
        [
            torch.stack([zoom_x * angle.cos(), -zoom_y * angle.sin(), shift_x], dim=1),
            torch.stack([zoom_x * angle.sin(), zoom_y * angle.cos(), shift_y], dim=1),
        ],
        dim=1,
    ).to(device)
    x = pixels.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    if preset == "light":
        gain = _uniform(n, 0.9, 1.1, draw).to(device)[:, None, None, None]
        offset = _uniform(n, -12.0, 12.0, draw).to(device)[:, None, None, None]
        x = (x * gain + offset).clamp(0, 255)
    return x.permute(0, 2, 3, 1)


def _geometry(n: int, preset: str, draw: Draw = torch.rand) -> tuple[Tensor, ...]:
    """Per image: angle (radians), zoom in x and y (below 1 magnifies), shift in half pictures."""

    def uniform(low: float, high: float) -> Tensor:
        return _uniform(n, low, high, draw)

    if preset == "light":
        zoom = uniform(0.9, 1.1)
        turn = math.radians(10)
        return uniform(-turn, turn), zoom, zoom, uniform(-0.1, 0.1), uniform(-0.1, 0.1)
    # ttl: area 8 to 100 %, aspect 3:4 to 4:3, anywhere inside
    side, aspect = uniform(0.08, 1.0).sqrt(), uniform(-1, 1) * math.log(4 / 3) / 2
    zoom_x, zoom_y = (side * aspect.exp()).clamp(max=1), (side / aspect.exp()).clamp(max=1)
    shift_x, shift_y = (1 - zoom_x) * uniform(-1, 1), (1 - zoom_y) * uniform(-1, 1)
    return torch.zeros(n), zoom_x, zoom_y, shift_x, shift_y


def _uniform(n: int, low: float, high: float, draw: Draw) -> Tensor:
    return draw(n) * (high - low) + low
