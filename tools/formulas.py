"""Pictures drawn from formulas, without any photograph: fractals and textures, class after class.

A class of fractals is one iterated function system (IFS; Kataoka et al. 2020, "Pre-training without
natural images"), drawn through its singular values (Anderson and Farrell 2022, "Improving fractal
pre-training"), so that every class is a usable shape. A class of textures is filtered noise or a
strewing of ellipses (dead leaves). An instance is an attractor, or a field, of slightly changed
formulas.
"""

from __future__ import annotations

import math

import numpy as np

FRACTALS, TEXTURES = 1000, 400  # classes
CANVAS, FIELD = 96, 128  # pixels of a fractal's and of a texture's side
WALKERS, STEPS, BURN_IN = 640, 60, 12


# --- fractals ---


def system(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An IFS of 2 to 7 affine maps: A (N, 2, 2), b (N, 2) and the maps' probabilities (N,).

    A = R(theta) diag(s1, s2) R(phi) D with s1 >= s2 < 1 whose weighted sum (s1 + 2 s2) lies
    between (5 + N) / 2 and (6 + N) / 2, where attractors fill the picture without filling it up
    (Anderson and Farrell 2022, section 3).
    """
    n = int(rng.integers(2, 8))
    while True:
        values = np.sort(rng.uniform(0, 1, (n, 2)), axis=1)[:, ::-1]
        wanted = rng.uniform((5 + n) / 2, (6 + n) / 2)
        values = values * (wanted / (values[:, 0] + 2 * values[:, 1]).sum())
        if values.max() < 0.97:
            break
    flips = rng.choice((-1.0, 1.0), (n, 2))
    a = _turn(rng.uniform(0, 2 * math.pi, n)) * values[:, None, :]
    a = a @ _turn(rng.uniform(0, 2 * math.pi, n)) * flips[:, None, :]
    weight = np.abs(np.linalg.det(a)) + 0.02
    return a, rng.uniform(-1, 1, (n, 2)), weight / weight.sum()


def _turn(angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack((np.stack((cos, -sin), -1), np.stack((sin, cos), -1)), -2)


def fractal(number: int, seed: int, instances: int) -> np.ndarray:
    """A class's instances (I, 2, CANVAS, CANVAS) uint8: density, and the last map + 1."""
    rng = np.random.default_rng((seed, number))
    a, b, weight = system(rng)
    a = a * rng.uniform(0.88, 1.06, (instances, *a.shape))
    b = b + rng.normal(0, 0.08, (instances, *b.shape))
    points, maps = _walk(a, b, weight, rng)
    return np.stack([_render(p, m) for p, m in zip(points, maps, strict=True)])


def _walk(a, b, weight, rng) -> tuple[np.ndarray, np.ndarray]:
    """The chaos game: points (I, P, 2) of each instance's attractor and the map that made each."""
    instance = np.repeat(np.arange(len(a)), WALKERS)
    at = rng.uniform(-1, 1, (len(instance), 2)).astype(np.float32)
    a, b = a.astype(np.float32), b.astype(np.float32)
    points, maps = [], []
    for step in range(STEPS):
        chosen = rng.choice(len(weight), len(instance), p=weight)
        at = np.einsum("nij,nj->ni", a[instance, chosen], at) + b[instance, chosen]
        at = np.clip(at, -50, 50)
        if step >= BURN_IN:
            points.append(at.reshape(-1, WALKERS, 2))
            maps.append(chosen.reshape(-1, WALKERS).astype(np.uint8))
    return np.concatenate(points, axis=1), np.concatenate(maps, axis=1)


def _render(points: np.ndarray, maps: np.ndarray) -> np.ndarray:
    low, high = np.percentile(points, (1, 99), axis=0)
    extent = max((high - low).max(), 1e-3) * 1.08
    place = ((points - (low + high) / 2) / extent + 0.5) * CANVAS
    inside = ((place >= 0) & (place < CANVAS)).all(axis=1)
    x, y = place[inside].astype(np.int64).T
    count = np.bincount(y * CANVAS + x, minlength=CANVAS**2)
    density = np.log1p(count) / np.log1p(np.percentile(count[count > 0], 95))
    last = np.zeros(CANVAS**2, np.uint8)
    last[y * CANVAS + x] = maps[inside] + 1
    picture = np.stack((np.clip(density, 0, 1) * 255, last)).astype(np.uint8)
    return picture.reshape(2, CANVAS, CANVAS)


# --- textures ---


def texture(number: int, seed: int, instances: int) -> np.ndarray:
    """A class's instances (I, FIELD, FIELD) uint8: filtered noise, or strewn ellipses."""
    rng = np.random.default_rng((seed, FRACTALS + number))
    fields = _noise(rng, instances) if number % 2 else _strewn(rng, instances)
    low, high = np.percentile(fields, (1, 99), axis=(1, 2), keepdims=True)
    return (np.clip((fields - low) / np.maximum(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def _noise(rng: np.random.Generator, instances: int) -> np.ndarray:
    """Noise of 1 to 3 bands of waves, of some direction, over a power law, bent by one function."""
    y, x = np.fft.fftfreq(FIELD)[:, None], np.fft.rfftfreq(FIELD)[None]
    frequency = np.hypot(y, x)
    frequency[0, 0] = 1
    octave, direction = np.log2(frequency), np.arctan2(y, x)
    spectrum = rng.uniform(0, 0.5) * frequency ** -rng.uniform(0.3, 2.6)
    for _ in range(rng.integers(1, 4)):
        centre, width = rng.uniform(-5.5, -1.5), rng.uniform(0.15, 0.6)
        turn, along = rng.uniform(0, math.pi), rng.choice((0.0, rng.uniform(0.5, 4)))
        centre = centre + rng.normal(0, 0.08, (instances, 1, 1))
        turn = turn + rng.normal(0, 0.1, (instances, 1, 1))
        band = np.exp(-(((octave - centre) / width) ** 2) / 2)
        band = band * np.exp(along * (np.cos(2 * (direction - turn)) - 1))
        spectrum = spectrum + band / np.sqrt((band**2).mean((1, 2), keepdims=True))
    noise = np.fft.rfft2(rng.normal(size=(instances, FIELD, FIELD)))
    fields = np.fft.irfft2(noise * spectrum)
    fields = fields / fields.std((1, 2), keepdims=True)
    threshold, sharpness = rng.uniform(-1, 1), rng.uniform(1, 8)
    bends = (
        lambda z: z,
        lambda z: np.abs(z - threshold),  # ridges and furrows
        lambda z: np.tanh(sharpness * (z - threshold)),  # islands
        lambda z: np.maximum(z, threshold),  # hills out of water
        lambda z: np.sin(sharpness * z),  # contour lines
    )
    return bends[rng.integers(len(bends))](fields)


def _strewn(rng: np.random.Generator, instances: int) -> np.ndarray:
    """Ellipses of one law of size, shape, turn, edge and shade, the later over the earlier."""
    count = int(np.exp(rng.uniform(math.log(12), math.log(160))))
    size = min(np.exp(rng.uniform(math.log(2.5), math.log(18))), 90 / math.sqrt(count))
    spread, slim, soft = rng.uniform(0, 0.5), rng.uniform(0.25, 1), rng.uniform(0.4, 3)
    turn, order = rng.uniform(0, math.pi), rng.choice((0.1, 3.0))
    ring, ground = rng.choice((0.0, rng.uniform(0.3, 0.9))), rng.uniform(0, 1)
    shades = rng.uniform(0, 1, 3)
    y, x = np.mgrid[:FIELD, :FIELD].astype(np.float32)
    fields = np.full((instances, FIELD, FIELD), ground, np.float32)
    for field in fields:
        at = rng.uniform(0, FIELD, (count, 2))
        major = size * np.exp(rng.normal(0, spread, count))
        minor = major * np.clip(slim + rng.normal(0, 0.08, count), 0.15, 1)
        angle = turn + rng.normal(0, order, count)
        shade = rng.choice(shades, count) + rng.normal(0, 0.05, count)
        for (cy, cx), a, b, t, s in zip(at, major, minor, angle, shade, strict=True):
            reach = int(a + 2 * soft + 2)
            rows = slice(max(0, int(cy) - reach), int(cy) + reach)
            columns = slice(max(0, int(cx) - reach), int(cx) + reach)
            dy, dx = y[rows, columns] - cy, x[rows, columns] - cx
            u, v = dx * math.cos(t) + dy * math.sin(t), dy * math.cos(t) - dx * math.sin(t)
            radius = np.sqrt((u / a) ** 2 + (v / b) ** 2)
            cover = np.clip((1 - radius) * b / soft + 0.5, 0, 1)
            cover = cover * np.where(radius < ring, 0.3, 1)  # a paler nucleus, where there is one
            field[rows, columns] += (s - field[rows, columns]) * cover
    return fields
