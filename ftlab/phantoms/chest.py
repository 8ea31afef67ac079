"""Chest X-ray, frontal: attenuations of organs are added up and put on film.

Distractor: electrodes with their wires, more often on the sick. Look-alikes: vessels seen end on,
nipples and crossing ribs for nodules; breast shadows and crowded vessels for consolidations; high
diaphragms and fat pads for effusions.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

from . import drawing as d
from .drawing import Dice, Scene, soft

CLASSES = ("normal", "nodule", "consolidation", "effusion")
# Ranges of (added attenuation, size): radius, radius and height of the fluid, in half pictures.
DIFFICULTY = {
    "nodule": ((0.50, 0.80), (0.095, 0.150)),
    "consolidation": ((0.45, 0.75), (0.25, 0.38)),
    "effusion": ((0.55, 0.85), (0.27, 0.50)),
}
NOISE = (0.010, 0.030)
LETTERS = {
    "L": ([(0, 0), (0, 1), (0.6, 1)],),
    "R": ([(0, 1), (0, 0), (0.5, 0.05), (0.5, 0.45), (0, 0.5)], [(0.25, 0.5), (0.6, 1)]),
}


def paint(label: str, marked: bool, dice: Dice, size: int) -> Scene:
    """One frontal chest X-ray; `marked` puts electrodes on it."""
    x, y = d.posed(dice.pose, size, turn=0.06, shift=0.05, zoom=0.07)
    breath = dice.pose.normal(0, 0.03)
    organs = _organs(dice.patient, x, y, breath)
    healthy = _attenuation(dice, x, y, organs, size) + _hardware(dice.finish, marked, size)
    extra, opacity = _lesion(label, dice.lesion, x, y, organs, size)
    film = _film(dice.finish, size)
    return d.compose(film(healthy), film(healthy + extra), opacity)


def _organs(rng: Generator, x, y, breath: float) -> dict[str, np.ndarray]:
    """Opacities of lungs, heart, middle and abdomen, and `s`: 0 at the spine, 1 at the ribs."""
    wide, tall, heart_size = rng.normal(1, 0.05), rng.normal(1, 0.04), rng.normal(1, 0.10)
    tilt, left_dome, right_dome = rng.normal(0, 0.02, 3)
    lateral = wide * d.curve(
        y / tall,
        (-0.83, -0.80, -0.74, -0.62, -0.40, 0.0, 0.4, 1.0),
        (0.10, 0.25, 0.38, 0.51, 0.62, 0.73, 0.79, 0.80),
    )
    a, left = np.abs(x), soft(x, 0.02)
    s = a / lateral
    dome = 0.50 + right_dome + (0.06 + left_dome + tilt - right_dome) * left + breath
    dome = dome + 1.0 * (a - 0.38 * wide) ** 2
    ventricle = d.ellipse(x, y, 0.17, 0.37 + breath, 0.39 * heart_size, 0.26, 0.60 + tilt)
    atrium = d.ellipse(x, y, -0.03, 0.34 + breath, 0.22 * heart_size, 0.27)
    knob = d.ellipse(x, y, 0.10, -0.27, 0.10 * heart_size, 0.11)
    root = d.ellipse(x, y, 0.09, -0.06, 0.13, 0.22)
    middle = d.curve(y, (-1, -0.6, -0.25, 0.2, 1), (0.17, 0.13, 0.10, 0.13, 0.14)) - a
    heart = soft(np.maximum(ventricle, atrium), 0.010)
    middle = soft(np.maximum.reduce([middle, knob, root]), 0.012)
    inside = soft((1 - s) * 0.6, 0.008) * soft(y + 0.82 * tall, 0.02)
    above = soft(dome - y, 0.008)
    lungs = inside * above * (1 - heart) * (1 - middle)
    return {"lungs": lungs, "heart": heart, "middle": middle, "abdomen": 1 - above, "s": s}


def _attenuation(dice: Dice, x, y, organs, size: int) -> np.ndarray:
    rng, s = dice.patient, organs["s"]
    body = _body(rng, x, y)
    depth = np.sqrt((1.15 - s * s).clip(0.1)).astype(np.float32)
    soft_parts = (
        0.40 * organs["heart"] * d.bump(x, y, 0.12, 0.30, 0.38, 0.38)
        + 0.30 * organs["middle"] * soft(y + 0.72, 0.10)
        + 0.60 * organs["abdomen"] * d.bump(x, y, 0.0, 0.95, 0.95, 0.60)
        - 0.50 * organs["lungs"] * depth
    )
    trachea = d.capsule(x, y, 0.0, -1.0, -0.01, -0.22, 0.045)
    bubble = d.ellipse(x, y, 0.38, 0.80, rng.uniform(0.08, 0.18), rng.uniform(0.05, 0.09))
    soft_parts -= 0.16 * soft(trachea, 0.015) + 0.35 * soft(bubble, 0.02) * organs["abdomen"]
    vessels = _vessels(rng, x, y, size) * (organs["lungs"] + 0.25 * organs["middle"])
    total = body * (0.80 + soft_parts + _bones(rng, x, y, organs, size) + vessels)
    return total + 0.05 * d.smooth_noise(dice.pose, size, 5) * body + 0.02


def _body(rng: Generator, x, y) -> np.ndarray:
    """Opacity of the trunk with neck and shoulders; breasts and muscles thicken it."""
    width = rng.uniform(0.86, 1.02) * d.curve(
        y,
        (-1.2, -0.95, -0.80, -0.66, -0.45, 0.0, 0.5, 1.2),
        (0.24, 0.32, 0.62, 1.10, 1.16, 1.02, 0.97, 1.0),
    )
    edge = width - np.abs(x)
    body = soft(edge, 0.010) * (0.45 + 0.55 * np.sqrt(edge.clip(0, 0.3) / 0.3))
    breasts, low = rng.uniform(-0.12, 0.16), rng.uniform(0.25, 0.40)
    for side in (-1, 1):
        shape = soft(d.ellipse(x, y, side * 0.42, low, 0.30, 0.24, side * 0.3), 0.04)
        body = body + max(breasts, 0) * shape * soft(y - low + 0.18, 0.06)
    return body


def _bones(rng: Generator, x, y, organs, size: int) -> np.ndarray:
    s, a = organs["s"], np.abs(x)
    spacing, start, dense = rng.uniform(0.125, 0.155), rng.uniform(0, 1), rng.uniform(0.8, 1.25)
    cage = soft((1.04 - s) * 0.6, 0.008) * soft(a - 0.07, 0.02) * soft(y + 0.80, 0.03)
    back = _rib(y - 0.30 * (s - 0.30) ** 2, spacing, start, 0.17)
    front = _rib(y + 0.42 * (s - 1), spacing, start + 0.1, 0.20) * soft(s - 0.42, 0.05)
    rim = d.bump(s, y, 1.0, 0.0, 0.022, 9.0) * (0.5 + back)
    ribs = cage * (0.15 * back + 0.075 * front * soft(0.45 - y, 0.1)) + 0.10 * rim
    ribs *= 1 - 0.5 * organs["abdomen"]
    spine = soft(0.085 - a, 0.012)
    disc = 0.5 + 0.5 * np.cos(2 * np.pi * y / (0.9 * spacing))
    spine *= 0.10 + 0.06 * disc + 0.06 * d.bump(a, y, 0.05, 0.0, 0.014, 9.0)
    rise = rng.uniform(0.04, 0.16)
    t = np.linspace(0, 1, 12)[:, None]
    clavicle = np.hstack([0.07 + 0.62 * t, -0.60 - rise * t - 0.04 * np.sin(2 * np.pi * t)])
    scapula = np.hstack([0.60 + 0.16 * t - 0.05 * np.sin(np.pi * t), -0.62 + 0.62 * t])
    humeri = sum(soft(d.ellipse(x, y, k * 0.92, -0.62, 0.13, 0.15), 0.02) for k in (-1, 1))
    both = d.in_picture(x, y, np.array([clavicle, clavicle * (-1, 1)]))
    edges = d.in_picture(x, y, np.array([scapula, scapula * (-1, 1)]))
    flat = (
        0.30 * _worn(d.lines(size, both, 1.0, 0.020))
        + 0.12 * d.lines(size, edges, 1.0, 0.012)
        + 0.22 * humeri
    )
    return dense * (ribs + spine + flat)


def _worn(ridge: np.ndarray) -> np.ndarray:
    """A ridge with a flat top, as a tube of bone shows."""
    return np.sqrt(ridge.clip(0, 1))


def _rib(y: np.ndarray, spacing: float, start: float, half: float) -> np.ndarray:
    """Bands across y with brighter edges, the lower one most."""
    t = (y / spacing + start) % 1 - 0.5
    band = soft(half - np.abs(t), 0.025)
    lower = np.exp(-0.5 * ((t - half * 0.8) / 0.05) ** 2)
    upper = np.exp(-0.5 * ((t + half * 0.8) / 0.05) ** 2)
    return 0.55 * band + 0.6 * lower + 0.25 * upper


def _vessels(rng: Generator, x, y, size: int) -> np.ndarray:
    """Two trees that leave the hila, some branches seen end on."""
    trees, ends = [], []
    for side in (-1, 1):
        fan = side * np.linspace(-1.25, 1.35, 9) + (np.pi if side < 0 else 0)
        root = np.tile((side * 0.15, -0.02), (9, 1)) + rng.normal(0, 0.02, (9, 2))
        trunks = d.strolls(rng, root, fan, rng.uniform(0.3, 0.62, 9), 16, 0.5)
        fork = rng.integers(4, 11, 27)
        parent = np.arange(27) % 9
        heading = fan[parent] + rng.normal(0, 0.6, 27)
        twigs = d.strolls(rng, trunks[parent, fork], heading, rng.uniform(0.12, 0.34, 27), 16, 0.6)
        trees.append((trunks, twigs))
        ends.append(trunks[rng.integers(0, 9, 3), rng.integers(2, 8, 3)])
    fade = np.linspace(1, 0.15, 16)
    trunks, twigs = (d.in_picture(x, y, np.concatenate(part)) for part in zip(*trees, strict=True))
    field = 0.16 * d.lines(size, trunks, fade, 0.014) + 0.10 * d.lines(size, twigs, fade, 0.007)
    seen_end_on = d.in_picture(x, y, np.concatenate(ends))
    field += d.spots(size, seen_end_on, rng.uniform(0.06, 0.16, 6), 0.018)
    hila = d.bump(x, y, -0.16, 0.0, 0.05, 0.11) + d.bump(x, y, 0.17, -0.04, 0.05, 0.10)
    return field + 0.13 * hila + _nipples(rng, x, y)


def _nipples(rng: Generator, x, y) -> np.ndarray:
    """A faint disc on either side, on every second patient."""
    density, out, low = rng.uniform(-0.10, 0.10), rng.uniform(0.38, 0.50), rng.uniform(0.20, 0.36)
    return max(density, 0) * soft(d.ellipse(np.abs(x), y, out, low, 0.045, 0.045), 0.006)


def _lesion(label: str, rng: Generator, x, y, organs, size: int):
    """(added attenuation, opacity), both (H, W); nothing for a normal chest."""
    if label == "normal":
        return 0.0, np.zeros_like(x)
    (weak, strong), (small, large) = DIFFICULTY[label]
    contrast, extent = rng.uniform(weak, strong), rng.uniform(small, large)
    draw = {"nodule": _nodule, "consolidation": _consolidation, "effusion": _effusion}[label]
    shape, opacity = draw(rng, x, y, organs, extent, size)
    return contrast * shape, opacity


def _nodule(rng: Generator, x, y, organs, radius: float, size: int):
    at = d.somewhere(rng, (organs["lungs"] > 0.9) * (organs["s"] < 0.92))
    cx, cy = d.in_pose(x, y, *at)
    edge = d.blob(x, y, cx, cy, radius, d.wobble(rng, 0.045), rng.uniform(0.9, 1.12))
    depth = (edge / radius).clip(0, 1)
    return np.sqrt(depth * (2 - depth)) * soft(edge - 0.012, 0.008), soft(edge, 0.004)


def _consolidation(rng: Generator, x, y, organs, radius: float, size: int):
    at = d.somewhere(rng, (organs["lungs"] > 0.8) * (y > -0.45))
    cx, cy = d.in_pose(x, y, *at)
    edge = d.blob(
        x, y, cx, cy, radius, d.wobble(rng, 0.30), rng.uniform(0.75, 1.3), rng.uniform(0, 3)
    )
    edge = edge + 0.045 * d.cloud(rng, size, 8)
    patch = soft(edge, 0.030) * organs["lungs"]
    start = np.tile(at, (7, 1)) + rng.normal(0, radius / 2, (7, 2))
    tubes = d.strolls(rng, start, rng.uniform(0, 6.28, 7), radius * 1.2, 10, 0.8)
    air = d.lines(size, tubes, 1.0, 0.010).clip(0, 1)
    texture = 1 + 0.25 * d.smooth_noise(rng, size, 24) - 0.3 * air
    return patch * texture.clip(0.2, 1.6), patch


def _effusion(rng: Generator, x, y, organs, height: float, size: int):
    side = rng.choice((-1, 1))
    out = (1 - organs["s"]).clip(0)  # 0 at the ribs
    angle = 0.66 + rng.normal(0, 0.02)
    meniscus = height * (0.35 + 0.65 * np.exp(-out / 0.30))
    level = angle - meniscus + 0.008 * d.smooth_noise(rng, size, 6)
    fluid = soft(y - level, 0.012) * organs["lungs"] * soft(side * x, 0.01)
    return fluid, fluid


def _hardware(rng: Generator, marked: bool, size: int) -> np.ndarray:
    """A side marker, and electrodes with wires where asked for."""
    letter = rng.choice(list(LETTERS))
    side, high = (1 if letter == "L" else -1), rng.uniform(-0.95, -0.55)
    corner, scale = np.array((side * rng.uniform(0.78, 0.9) - 0.04, high)), rng.uniform(0.08, 0.13)
    field = np.zeros((size, size), np.float32)
    for stroke in LETTERS[letter]:
        field += 0.9 * d.lines(size, corner + scale * np.array(stroke), 1.0, 0.011)
    starts = rng.uniform((-0.7, -0.6), (0.7, 0.5), (3, 2))
    wires = d.strolls(rng, starts, rng.uniform(0.9, 2.2, 3), 2.0, 24, 0.8)
    if not marked:
        return field
    x, y = d.grid(size)
    for cx, cy in starts:
        disc = d.ellipse(x, y, cx, cy, 0.045, 0.045)
        field += 0.13 * soft(disc, 0.005) + 0.45 * soft(disc - 0.028, 0.005)
    return field + 0.22 * d.lines(size, wires, 1.0, 0.007)


def _film(rng: Generator, size: int):
    """The function from attenuation to grey: exposure, gradation, quantum noise, all pixel-wise."""
    exposure, gamma = rng.uniform(0.95, 1.45), rng.uniform(0.9, 1.5)
    amount = rng.uniform(*NOISE)
    grain = gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), 0.6) * 2.1
    low, high = rng.uniform(0.0, 0.06), rng.uniform(0.94, 1.0)

    def film(attenuation: np.ndarray) -> np.ndarray:
        grey = 1 - np.exp(-exposure * attenuation.clip(0))
        grey = (grey / (1 - np.exp(-exposure * 1.75))) ** gamma
        return low + (high - low) * grey + amount * grain * (1.2 - 0.8 * grey)

    return film
