"""What tissue is made of: places for cells, glands with their rows of nuclei, nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from . import drawing as d
from .drawing import soft

NUCLEUS = 0.027  # radius of a normal nucleus, half pictures


@dataclass(frozen=True)
class Glands:
    """Outlines of n glands: centres (n, 2), radius, stretch and angle (n,), one common wobble."""

    centres: np.ndarray
    radius: np.ndarray
    stretch: np.ndarray
    angle: np.ndarray
    terms: dict[int, complex]

    def nearest(self, x, y) -> np.ndarray:
        """The gland each place belongs to, by power distance."""
        best, owner = np.full(x.shape, np.inf, np.float32), np.zeros(x.shape, np.int64)
        for i, ((cx, cy), radius) in enumerate(zip(self.centres, self.radius, strict=True)):
            a, b, c = (np.float32(v) for v in (-2 * cx, -2 * cy, cx * cx + cy * cy - radius**2))
            power = a * x + b * y + c
            np.putmask(owner, power < best, i)
            np.minimum(best, power, out=best)
        return owner

    def edge(self, x, y) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance to the outline of the nearest gland, and that gland's radius."""
        i = self.nearest(x, y)
        cx, cy, radius, stretch, angle = (
            v.astype(np.float32)[i]
            for v in (*self.centres.T, self.radius, self.stretch, self.angle)
        )
        return d.blob(x, y, cx, cy, radius, self.terms, stretch, angle), radius

    def ring(self, rng: Generator, inset: float, spacing: float) -> np.ndarray:
        """Places (m, 2) along the outlines, `inset` within, about `spacing` apart."""
        counts = np.maximum((2 * np.pi * (self.radius - inset) / spacing).astype(int), 3)
        i = np.repeat(np.arange(len(counts)), counts)
        along = np.arange(len(i)) - np.repeat(counts.cumsum() - counts, counts)
        theta = (along + rng.uniform(-0.2, 0.2, len(i))) * 2 * np.pi / counts[i]
        z = np.exp(1j * theta)
        edge = 1 + sum((z**k * term).real for k, term in self.terms.items())
        r = self.radius[i] * edge - inset + rng.normal(0, 0.004, len(i))
        p = r * np.cos(theta) * self.stretch[i] + 1j * r * np.sin(theta) / self.stretch[i]
        p = p * np.exp(1j * self.angle[i])
        places = self.centres[i] + np.stack([p.real, p.imag], axis=1)
        return places[self.nearest(places[:, 0], places[:, 1]) == i]


def glands(rng: Generator, centres, small: float, large: float, uneven: float) -> Glands:
    """Glands around centres (n, 2) with radii from small to large."""
    n = len(centres)
    stretch, angle = np.exp(rng.normal(0, 0.14, n)), rng.uniform(0, np.pi, n)
    return Glands(centres, rng.uniform(small, large, n), stretch, angle, d.wobble(rng, uneven))


def scattered(rng: Generator, n: int, apart: float) -> np.ndarray:
    """At most n places (m, 2) that keep a distance, also from just outside the picture."""
    tried = rng.uniform(-1.1, 1.1, (4 * n, 2))
    close = ((tried[:, None] - tried) ** 2).sum(axis=-1) < apart**2
    kept: list[int] = []
    for i in range(len(tried)):
        if not close[i, kept].any():
            kept.append(i)
    return tried[kept[:n]]


def crowded(rng: Generator, n: int) -> np.ndarray:
    """Places (n, 2) of lymphocytes: half of them anywhere, half in one crowd."""
    crowd = rng.uniform(-1, 1, 2) + rng.normal(0, 0.13, (n - n // 2, 2))
    return np.concatenate([rng.uniform(-1, 1, (n // 2, 2)), crowd])


def packed(rng: Generator, spacing: float) -> np.ndarray:
    """Places (m, 2) of cells that lie side by side over the whole picture."""
    t = np.arange(-1.05, 1.05, spacing)
    column, row = np.meshgrid(t, t * 0.9)
    column = column + np.where(np.arange(len(t)) % 2, spacing / 2, 0)[:, None]
    places = np.stack([column.ravel(), row.ravel()], axis=1)
    return places + rng.normal(0, 0.17 * spacing, places.shape)


def read(field: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A field's values at places (n, 2); the border's outside the picture."""
    size = len(field)
    column, row = ((places.T + 1) * size / 2).astype(int).clip(0, size - 1)
    return field[row, column]


def nuclei(rng: Generator, size: int, places, atypia: float, long=1.35, angle=None) -> np.ndarray:
    """Haematoxylin density (H, W) of nuclei at places (n, 2), longish, at an angle or at any.

    Atypia 0 is normal; at 1 nuclei are half as large again, uneven and dark; below 0 small.
    """
    n, uneven = len(places), max(atypia, 0)
    mean = NUCLEUS * (1 + 0.5 * atypia) * size / 2
    radius = mean * np.exp(rng.normal(0, 0.10 + 0.14 * uneven, n))
    aspect = np.sqrt(long * np.exp(rng.normal(0, 0.12, n)))
    turn = rng.uniform(0, np.pi, n) if angle is None else angle + rng.normal(0, 0.25, n)
    dark = rng.normal(0.62 + 0.22 * atypia, 0.10 + 0.08 * uneven, n).clip(0.25)
    reach = int(np.ceil(2.2 * mean * max(1, long / 1.6)))
    field = _stamped(size, places, radius, aspect, turn, dark, reach)
    return field * (1 + (0.10 + 0.10 * uneven) * d.smooth_noise(rng, size, size // 3))


def _stamped(size: int, places, radius, aspect, turn, dark, reach: int) -> np.ndarray:
    """Ellipses, (n,) each, darker towards their rim; the darkest wins where they overlap."""
    radius, aspect, turn, dark = (v[:, None, None] for v in (radius, aspect, turn, dark))
    column, row = (v[:, None, None] for v in ((places + 1) * size / 2 - 0.5).T)
    steps = np.arange(-reach, reach + 1)
    columns, rows = np.rint(column).astype(int) + steps, np.rint(row).astype(int) + steps[:, None]
    dx, dy = columns - column, rows - row
    u = (np.cos(turn) * dx + np.sin(turn) * dy) / aspect
    v = (np.cos(turn) * dy - np.sin(turn) * dx) * aspect
    r = np.sqrt(u * u + v * v) / radius
    body = soft((1 - r) * radius, 0.35) * (0.72 + 0.35 * np.minimum(r, 1) ** 2) * dark
    inside = (columns >= 0) & (columns < size) & (rows >= 0) & (rows < size)
    field = np.zeros(size * size)
    np.maximum.at(field, (rows * size + columns)[inside], body[inside])
    return field.reshape(size, size).astype(np.float32)
