"""What the modalities share: coordinates, smooth shapes, noise, lines, and the last step.

Coordinates run from -1 to 1 over the picture, x to the right and y down. Fields are (H, W) float32.
A shape is a signed distance, positive inside; `soft` turns it into an opacity from 0 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter

VISIBLE = 0.06  # a lesion's mask begins at this opacity; fainter than that, it is left out


@dataclass(frozen=True)
class Dice:
    """Four independent generators of one image, so that no draw for one shifts another's.

    patient: the same for all images of a group; pose, lesion, finish: each image's own.
    """

    patient: Generator
    pose: Generator
    lesion: Generator
    finish: Generator


@dataclass(frozen=True)
class Scene:
    """A painted picture: pixels and healthy are (H, W, 3) uint8, mask is (H, W) bool."""

    pixels: np.ndarray
    healthy: np.ndarray
    mask: np.ndarray


def compose(healthy: np.ndarray, diseased: np.ndarray, opacity: np.ndarray) -> Scene:
    """Two pictures, (H, W) grey or (H, W, 3) in 0..1, of which one has a lesion (H, W) in 0..1.

    Outside the mask both are the same, bit for bit.
    """
    mask = opacity > VISIBLE
    before, after = to_rgb(healthy), to_rgb(diseased)
    return Scene(np.where(mask[..., None], after, before), before, mask)


def to_rgb(picture: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) in 0..1 to (H, W, 3) uint8."""
    levels = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2) if levels.ndim == 2 else levels


@lru_cache(maxsize=4)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixels' centres, (H, W) each."""
    t = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size) - 1
    x, y = np.meshgrid(t, t)
    x.flags.writeable = y.flags.writeable = False
    return x, y


def posed(rng: Generator, size: int, turn: float, shift: float, zoom: float):
    """The grid as a patient sees it who stands turned (radians), shifted and nearer or farther."""
    x, y = grid(size)
    angle, dx, dy = rng.uniform(-1, 1, 3) * (turn, shift, shift)
    scale = np.exp(rng.uniform(-zoom, zoom))
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    x, y = c * x - s * y - dx, s * x + c * y - dy
    return x.astype(np.float32), y.astype(np.float32)


def soft(distance: np.ndarray, width: float) -> np.ndarray:
    """A signed distance to an opacity that rises from 0 to 1 over about four widths."""
    return 0.5 + 0.5 * np.tanh(np.asarray(distance, np.float32) * (0.5 / width))


def bump(x: np.ndarray, y: np.ndarray, cx, cy, rx, ry=None) -> np.ndarray:
    """A Gaussian hill of height 1."""
    u, v = (x - float(cx)) / float(rx), (y - float(cy)) / float(ry or rx)
    return np.exp(-0.5 * (u * u + v * v))


def ellipse(x, y, cx, cy, rx, ry, angle=0.0) -> np.ndarray:
    """Signed distance to an ellipse, exact on its edge and close to it nearby."""
    x, y = x - float(cx), y - float(cy)
    c, s = math.cos(angle), math.sin(angle)
    u, v = x * (c / rx) + y * (s / rx), y * (c / ry) - x * (s / ry)
    return (1 - np.sqrt(u * u + v * v)) * min(rx, ry)


def capsule(x, y, ax, ay, bx, by, radius, tip=None) -> np.ndarray:
    """Signed distance to a thick line from a to b whose radius runs to `tip` at b."""
    ax, ay, dx, dy = float(ax), float(ay), float(bx - ax), float(by - ay)
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clip(0, 1)
    width = radius if tip is None else radius + (tip - radius) * t
    u, v = x - ax - t * dx, y - ay - t * dy
    return width - np.sqrt(u * u + v * v)


def wobble(rng: Generator, amount: float, orders=(2, 3, 4, 5, 6)) -> dict[int, complex]:
    """Fourier terms of a closed outline: how much of the radius each order adds, at which angle."""
    angles = rng.uniform(0, 2 * np.pi, len(orders))
    return {
        k: amount * rng.normal() / (k - 1) * complex(np.cos(a), np.sin(a))
        for k, a in zip(orders, angles, strict=True)
    }


def blob(x, y, cx, cy, radius, terms: dict[int, complex], stretch=1.0, angle=0.0) -> np.ndarray:
    """Signed distance to a closed outline around (cx, cy); all arguments may be fields."""
    c, s, stretch = (np.asarray(v, np.float32) for v in (np.cos(angle), np.sin(angle), stretch))
    x, y = x - np.asarray(cx, np.float32), y - np.asarray(cy, np.float32)
    u, v = (c * x + s * y) / stretch, (c * y - s * x) * stretch
    r = np.sqrt(u * u + v * v) + np.float32(1e-6)
    z, reached = ((u + 1j * v) / r).astype(np.complex64), 1
    power, wave = z, np.zeros_like(r)
    for order, term in sorted(terms.items()):
        for _ in range(order - reached):
            power = power * z
        reached = order
        wave = wave + (power * np.complex64(term)).real
    radius = np.asarray(radius, np.float32)
    calm = np.minimum(r / radius, 1)  # towards the centre the outlines become round
    return radius * (1 + calm * wave) - r


@lru_cache(maxsize=64)
def _splines(size: int, cells: int) -> tuple[np.ndarray, float]:
    """Cubic B-spline weights (size, cells + 3) of evenly spaced knots, and the noise they leave."""
    t = (np.arange(size) + 0.5) * cells / size
    first = np.floor(t).astype(int)
    f = t - first
    weights = np.zeros((size, cells + 3))
    pieces = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
    for step, piece in enumerate(pieces):
        weights[np.arange(size), first + step] = piece / 6
    return weights.astype(np.float32), float((weights**2).sum(axis=1).mean())


def smooth_noise(rng: Generator, size: int, cells: int) -> np.ndarray:
    """Noise of mean 0 and deviation 1 whose hills are about 2 / cells wide."""
    weights, spread = _splines(size, cells)
    knots = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    return weights @ knots @ weights.T / np.float32(spread)


def cloud(rng: Generator, size: int, cells: int, octaves: int = 3) -> np.ndarray:
    """Noise of deviation about 1 with detail at several scales."""
    parts = [smooth_noise(rng, size, cells * 2**k) * 0.6**k for k in range(octaves)]
    return sum(parts) / np.float32(np.sqrt(sum(0.36**k for k in range(octaves))))


def waves(rng: Generator, size: int, wavelength: float, count: int = 32) -> np.ndarray:
    """Plane waves of one wavelength in all directions: a labyrinth, of deviation about 1."""
    t = grid(size)[0][0].astype(np.float64)
    angle = rng.uniform(0, np.pi, count)
    phase = rng.uniform(0, 2 * np.pi, count)
    k = 2 * np.pi / (wavelength * rng.uniform(0.8, 1.25, count))
    along, across = np.outer(t, k * np.sin(angle)) + phase, np.outer(t, k * np.cos(angle))
    both = np.cos(along) @ np.cos(across).T - np.sin(along) @ np.sin(across).T
    return (both * np.sqrt(2 / count)).astype(np.float32)


def lines(size: int, points: np.ndarray, heights: np.ndarray, width: float) -> np.ndarray:
    """Lines with a Gaussian profile of deviation `width`.

    points: (..., n, 2) as (x, y), neighbours joined; heights: broadcast to (..., n), on the ridge.
    """
    heights = np.broadcast_to(heights, points.shape[:-1])
    step = np.linalg.norm(np.diff(points, axis=-2), axis=-1)
    pieces = max(int(np.ceil(step.max() * size)), 1)  # samples at most half a pixel apart
    f = (np.arange(pieces) + 0.5)[:, None] / pieces
    a, b = points[..., :-1, None, :], points[..., 1:, None, :]
    at = (a + (b - a) * f).reshape(-1, 2)
    mass = np.repeat((heights[..., :-1] * step / pieces).ravel(), pieces) * size / 2
    sigma = width * size / 2
    field = gaussian_filter(splat(size, at, mass), sigma, mode="constant", truncate=3)
    return field * np.float32(np.sqrt(2 * np.pi) * sigma)


def splat(size: int, at: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Points (n, 2) of a mass (n,) shared out to their four nearest pixels."""
    column, row = ((at + 1) * (size / 2) - 0.5).T
    c, r = np.floor(column).astype(int), np.floor(row).astype(int)
    fc, fr = column - c, row - r
    total = np.zeros(size * size)
    for dr, wr in ((0, 1 - fr), (1, fr)):
        for dc, wc in ((0, 1 - fc), (1, fc)):
            inside = (c + dc >= 0) & (c + dc < size) & (r + dr >= 0) & (r + dr < size)
            cell = ((r + dr) * size + c + dc)[inside]
            total += np.bincount(cell, (mass * wr * wc)[inside], minlength=size * size)
    return total.reshape(size, size).astype(np.float32)


def spots(size: int, places: np.ndarray, heights: np.ndarray, width: float) -> np.ndarray:
    """Gaussian hills of one width at places (n, 2)."""
    sigma = width * size / 2
    field = gaussian_filter(splat(size, places, heights), sigma, mode="constant", truncate=3)
    return field * np.float32(2 * np.pi * sigma**2)


def strolls(rng: Generator, starts, headings, length, steps: int, bend: float) -> np.ndarray:
    """Winding paths (n, steps, 2) from starts (n, 2), first heading and length per path."""
    turns = rng.normal(0, bend / np.sqrt(steps), (len(starts), steps - 1)).cumsum(axis=1)
    angle = np.asarray(headings)[:, None] + turns
    stride = np.broadcast_to(np.asarray(length) / (steps - 1), (len(starts),))[:, None]
    moves = np.stack([np.cos(angle) * stride, np.sin(angle) * stride], axis=-1)
    path = np.concatenate([np.zeros((len(starts), 1, 2)), moves.cumsum(axis=1)], axis=1)
    return np.asarray(starts)[:, None] + path


def curve(t: np.ndarray, knots, values) -> np.ndarray:
    """A smooth curve through (knots, values) without overshoot, read at a field t."""
    fine = np.linspace(knots[0], knots[-1], 200)
    return np.interp(t, fine, PchipInterpolator(knots, values)(fine)).astype(np.float32)


def somewhere(rng: Generator, chance: np.ndarray) -> tuple[float, float]:
    """(x, y) of a pixel drawn with probability proportional to chance (H, W)."""
    size = len(chance)
    total = chance.ravel().cumsum(dtype=np.float64)
    row, column = divmod(int(np.searchsorted(total, rng.random() * total[-1])), size)
    return (column + 0.5) * 2 / size - 1, (row + 0.5) * 2 / size - 1


def in_pose(x: np.ndarray, y: np.ndarray, cx: float, cy: float) -> tuple[float, float]:
    """A place in the picture, in the posed coordinates x and y."""
    column, row = (int((v + 1) * len(x) / 2) for v in (cx, cy))
    return float(x[row, column]), float(y[row, column])


def in_picture(x: np.ndarray, y: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) given in the posed coordinates x and y, in those of the picture."""
    first, span = 1 / len(x) - 1, 2 - 2 / len(x)
    origin = np.array((x[0, 0], y[0, 0]), dtype=float)
    right = (np.array((x[0, -1], y[0, -1])) - origin) / span
    down = (np.array((x[-1, 0], y[-1, 0])) - origin) / span
    across, back = points[..., 0] - origin[0], points[..., 1] - origin[1]
    area = right[0] * down[1] - right[1] * down[0]
    column = (across * down[1] - back * down[0]) / area
    row = (back * right[0] - across * right[1]) / area
    return np.stack([column, row], axis=-1) + first
