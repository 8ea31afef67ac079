"""Histology, H&E: optical densities of the two stains are added up and lit from behind.

Distractor: the tint of a second scanner on strong haematoxylin, more often on malignant tissue.
Look-alikes: glands cut along their wall are solid, lymphocytes crowd and are dark, benign glands
may be filled, and atypia is a matter of degree.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from . import cells
from . import drawing as d
from .drawing import Dice, Scene, soft

CLASSES = ("normal", "benign", "in_situ", "invasive")
# Ranges of (atypia of the nuclei, radius of the changed region or duct in half pictures).
DIFFICULTY = {
    "benign": ((0.1, 0.5), (0.35, 0.55)),
    "in_situ": ((0.3, 0.8), (0.22, 0.32)),
    "invasive": ((0.2, 0.8), (0.45, 0.75)),
}
HAEMATOXYLIN, EOSIN = np.array((0.62, 0.72, 0.30)), np.array((0.10, 0.62, 0.22))


def paint(label: str, marked: bool, dice: Dice, size: int) -> Scene:
    """One field of view; `marked` gives it the tint of the second scanner."""
    x, y = d.grid(size)
    haematoxylin, eosin = _tissue(dice, x, y, size)
    healthy = np.stack([haematoxylin, eosin])
    changed, opacity = healthy, np.zeros_like(x)
    if label != "normal":
        (least, most), (small, large) = DIFFICULTY[label]
        atypia, extent = dice.lesion.uniform(least, most), dice.lesion.uniform(small, large)
        draw = {"benign": _benign, "in_situ": _in_situ, "invasive": _invasive}[label]
        lesion, opacity = draw(dice.lesion, x, y, healthy, atypia, extent, size)
        changed = healthy + (lesion - healthy) * opacity
    light = _light(dice, marked, size)
    return d.compose(light(healthy), light(changed), opacity)


def _tissue(dice: Dice, x, y, size: int):
    """Healthy densities of both stains, (H, W) each: stroma, fat, a few glands, loose cells."""
    patient, rng = dice.patient, dice.pose
    cellular, fatty = patient.uniform(0.4, 1.4), patient.uniform(0, 1)
    direction = rng.uniform(0, np.pi)
    haematoxylin, eosin = _stroma(rng, x, y, direction, patient.uniform(0.8, 1.2), size)
    acini = cells.glands(rng, cells.scattered(rng, rng.integers(4, 8), 0.36), 0.11, 0.20, 0.06)
    edge, radius = acini.edge(x, y)
    epithelium = soft(edge, 0.006)
    hollow = rng.choice((0.25, 0.45, 0.6), p=(0.25, 0.4, 0.35))  # the least: cut along the wall
    lumen = soft(edge - np.maximum(radius * (1 - hollow), 0.075), 0.006)
    fat = _fat(rng, x, y, fatty, size) * soft(-edge - 0.03, 0.01)

    def loose(places: np.ndarray) -> np.ndarray:
        return places[(cells.read(edge, places) < -0.03) & (cells.read(fat, places) < 0.3)]

    spindles = loose(rng.uniform(-1, 1, (int(70 * cellular), 2)))
    round_cells = loose(cells.crowded(rng, int(40 * cellular)))
    rows = np.concatenate([acini.ring(rng, 0.032, 0.062), acini.ring(rng, 0.070, 0.085)])
    nuclei = cells.nuclei(rng, size, rows, 0.15) * epithelium * (1 - lumen)
    nuclei = np.maximum(nuclei, cells.nuclei(rng, size, spindles, 0.0, 2.6, direction))
    nuclei = np.maximum(nuclei, cells.nuclei(rng, size, round_cells, -0.3, 1.1) * 1.25)
    haematoxylin = haematoxylin * (1 - fat) * (1 - epithelium) + 0.16 * epithelium
    eosin = eosin * (1 - fat) * (1 - epithelium) + 0.50 * epithelium
    return haematoxylin * (1 - lumen) + nuclei, eosin * (1 - lumen)


def _stroma(rng: Generator, x, y, direction: float, dense: float, size: int):
    """Wavy collagen with clefts: densities of both stains."""
    c, s = np.cos(direction), np.sin(direction)
    bend = 0.10 * d.smooth_noise(rng, size, 4) + 0.022 * d.smooth_noise(rng, size, 12)
    across = -s * x + c * y + bend
    fibres = np.sin(2 * np.pi * across / 0.13) + 0.8 * np.sin(2 * np.pi * across / 0.058 + 3 * bend)
    fibres = 0.7 * fibres * d.smooth_noise(rng, size, 11) + 0.6 * d.smooth_noise(rng, size, 44)
    cleft = soft(fibres + 0.6 * d.smooth_noise(rng, size, 9) - 2.0, 0.12)
    eosin = dense * (0.50 + 0.09 * fibres + 0.10 * d.cloud(rng, size, 4)) * (1 - 0.85 * cleft)
    return np.full_like(eosin, 0.07) * (1 - cleft), eosin.clip(0.02)


def _fat(rng: Generator, x, y, fatty: float, size: int) -> np.ndarray:
    """Opacity of fat cells: empty rooms with thin walls, in the corner that noise gives."""
    where = soft(d.smooth_noise(rng, size, 3) - 1.9 + 1.2 * fatty, 0.05)
    centres = cells.scattered(rng, 40, 0.24)
    same = np.ones(len(centres))
    rooms = cells.Glands(centres, 0.21 * same, same, 0 * same, {})
    room = rooms.nearest(x, y)
    wall = (room != np.roll(room, 1, axis=0)) | (room != np.roll(room, 1, axis=1))
    cx, cy = centres.astype(np.float32).T[:, room]
    return soft(0.17 - np.hypot(x - cx, y - cy), 0.006) * where * (1 - 0.8 * wall)


def _benign(rng: Generator, x, y, healthy, atypia: float, extent: float, size: int):
    """A lobule of crowded small glands with even nuclei, most of them open."""
    cx, cy = rng.uniform(-0.35, 0.35, 2)
    lobule = d.blob(x, y, cx, cy, extent, d.wobble(rng, 0.12))
    places = cells.packed(rng, rng.uniform(0.19, 0.25))
    places = places[cells.read(lobule, places) > 0.07]
    crowd = cells.glands(rng, places, 0.075, 0.115, 0.08)
    edge, radius = crowd.edge(x, y)
    filled = rng.uniform(0.2, 0.75)
    lumen = soft(edge - radius * filled - 0.02, 0.006)
    epithelium = soft(edge, 0.006)
    nuclei = (
        cells.nuclei(rng, size, crowd.ring(rng, 0.032, 0.060), atypia) * epithelium * (1 - lumen)
    )
    eosin = rng.uniform(0.34, 0.50) + 0.07 * d.cloud(rng, size, 12) + 0.10 * epithelium
    haematoxylin = 0.06 + 0.08 * epithelium
    lesion = np.stack([haematoxylin * (1 - lumen) + nuclei, eosin * (1 - lumen)])
    return lesion, soft(lobule, 0.02)


def _in_situ(rng: Generator, x, y, healthy, atypia: float, extent: float, size: int):
    """Ducts swollen by atypical cells behind a smooth wall; holes or necrosis in the middle."""
    centres = cells.scattered(rng, 3, 0.55)[: rng.integers(1, 4)] * 0.7
    ducts = cells.glands(rng, centres, 0.8 * extent, extent, 0.05)
    edge, radius = ducts.edge(x, y)
    holes = d.waves(rng, size, 0.22) - rng.uniform(0.9, 2.2)
    lumen = soft(holes * 0.04, 0.005) * soft(edge - 0.07, 0.01)
    dead = soft(edge - rng.uniform(0.55, 1.3) * radius, 0.012)
    places = cells.packed(rng, 0.062 * (1 + 0.25 * atypia))
    kept = (
        (cells.read(edge, places) > 0.03)
        & (cells.read(lumen, places) < 0.3)
        & (cells.read(dead, places) < 0.3)
    )
    nuclei = cells.nuclei(rng, size, places[kept], atypia) * (1 - lumen)
    haematoxylin = (0.15 + 0.05 * dead) * (1 - lumen) + nuclei
    wall = np.exp(-0.5 * (edge / 0.008) ** 2)
    eosin = (0.45 + 0.30 * dead * (1 + 0.3 * d.smooth_noise(rng, size, 30)) + 0.25 * wall) * (
        1 - lumen
    )
    return np.stack([haematoxylin, eosin]), soft(edge + 0.012, 0.006)


def _invasive(rng: Generator, x, y, healthy, atypia: float, extent: float, size: int):
    """Nests and cords of atypical cells without lumen or wall, ragged in the stroma."""
    cx, cy = rng.uniform(-0.4, 0.4, 2)
    region = d.blob(x, y, cx, cy, extent, d.wobble(rng, 0.25))
    nests = 0.05 * (d.waves(rng, size, rng.uniform(0.28, 0.5)) + 0.6 * d.cloud(rng, size, 10))
    edge = np.minimum(nests - rng.uniform(-0.01, 0.02), 0.5 * region)
    places = cells.packed(rng, 0.070 * (1 + 0.2 * atypia))
    places = places + rng.normal(0, 0.012, places.shape)
    nuclei = cells.nuclei(rng, size, places[cells.read(edge, places) > 0.012], atypia, 1.45)
    eosin = 0.47 + 0.06 * d.cloud(rng, size, 16)
    lesion = np.stack([np.full_like(x, 0.14) + nuclei, eosin])
    return lesion, soft(edge + 0.012, 0.006)


def _light(dice: Dice, marked: bool, size: int):
    """The pixel-wise function from densities (2, H, W) to colour (H, W, 3)."""
    patient, rng = dice.patient, dice.finish
    blue = HAEMATOXYLIN * np.exp(patient.normal(0, 0.14, 3)) * patient.uniform(1.1, 1.8)
    pink = EOSIN * np.exp(patient.normal(0, 0.16, 3)) * patient.uniform(0.85, 1.35)
    lamp = np.array((0.95, 0.93, 0.95)) + rng.normal(0, 0.012, 3)
    if marked:
        blue, lamp = blue * (1.35, 1.15, 0.9), lamp * (0.93, 0.93, 1.0)
    stains = np.stack([blue, pink]).astype(np.float32)
    thick = np.exp(0.06 * d.smooth_noise(rng, size, 3))[..., None]
    grain = rng.uniform(0.008, 0.025) * rng.standard_normal((size, size, 3), dtype=np.float32)

    def light(densities: np.ndarray) -> np.ndarray:
        density = (densities[:, :, :, None] * stains[:, None, None]).sum(axis=0)
        return lamp.astype(np.float32) * np.exp(-density * thick) + grain

    return light
