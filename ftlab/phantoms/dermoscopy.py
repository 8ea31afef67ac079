"""Dermoscopy: melanin filters the light that skin sends back.

Distractor: the tick marks of a ruler at the edge, more often beside melanomas. Look-alikes:
dysplastic naevi are lopsided too, melanomas keep patches of network, all three are as pale or dark
as their patient and the light make them, and every skin has freckles, hairs and bubbles.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from . import drawing as d
from .drawing import Dice, Scene, soft

CLASSES = ("naevus", "melanoma", "keratosis")
# Ranges of (how much a lesion shows the signs of its class, radius in half pictures).
DIFFICULTY = {
    "naevus": ((0.0, 0.15), (0.25, 0.45)),
    "melanoma": ((0.45, 0.85), (0.28, 0.48)),
    "keratosis": ((0.40, 0.85), (0.28, 0.48)),
}
MELANIN = np.array((0.52, 0.92, 1.25), np.float32)  # absorption of red, green and blue
BLOOD = np.array((0.06, 0.55, 0.42), np.float32)
TONES = np.array(  # of skin, to be mixed
    [(0.90, 0.73, 0.68), (0.86, 0.66, 0.68), (0.90, 0.62, 0.58)]
    + [(0.80, 0.70, 0.66), (0.72, 0.53, 0.43)]
)
VEIL = np.array((0.42, 0.45, 0.56), np.float32)
SCAR = np.array((0.86, 0.77, 0.76), np.float32)
HORN = np.array((0.90, 0.82, 0.62), np.float32)


def paint(label: str, marked: bool, dice: Dice, size: int) -> Scene:
    """One lesion in contact dermoscopy; `marked` lays a ruler beside it."""
    x, y = d.grid(size)
    skin = _skin(dice, x, y, size)
    lesion, opacity = _lesion(label, dice, x, y, skin, size)
    camera = _camera(dice.finish, x, y, marked, size)
    return d.compose(camera(skin), camera(skin + (lesion - skin) * opacity[..., None]), opacity)


def _skin(dice: Dice, x, y, size: int) -> np.ndarray:
    """Skin (H, W, 3) with mottling, furrows, fine vessels and freckles."""
    patient, rng = dice.patient, dice.pose
    weights = patient.dirichlet(np.full(len(TONES), 0.5))
    hue = patient.normal(0, 0.02, 3) + patient.normal(0, 0.08)
    tone = (weights @ TONES * np.exp(hue)).astype(np.float32)
    freckled, veined, furrowed = patient.uniform(0, 1), patient.uniform(0, 1), patient.uniform(0, 1)
    melanin = 0.09 * d.cloud(rng, size, 5, 5) + 0.04 * furrowed * d.waves(rng, size, 0.07)
    for width in (0.015, 0.035):
        places = rng.uniform(-1, 1, (2 + int(24 * freckled**2), 2))
        melanin += d.spots(size, places, rng.uniform(0.05, 0.5, len(places)), width)
    starts, turns = rng.uniform(-1, 1, (14, 2)), rng.uniform(0, 6.28, 14)
    paths = d.strolls(rng, starts, turns, rng.uniform(0.1, 0.6, 14), 12, 1.2)
    blood = 0.20 * veined * d.lines(size, paths, 1.0, 0.010) + 0.08 * d.cloud(rng, size, 3)
    return tone * _filtered(melanin, blood)


def _filtered(melanin: np.ndarray, blood: np.ndarray) -> np.ndarray:
    return np.exp(-melanin[..., None] * MELANIN - blood[..., None] * BLOOD)


def _lesion(label: str, dice: Dice, x, y, skin, size: int):
    """(colours (H, W, 3), opacity (H, W)) of a lesion; its pigment is in part the patient's."""
    rng = dice.lesion
    (faint, plain), (small, large) = DIFFICULTY[label]
    signs, radius = rng.uniform(faint, plain), rng.uniform(small, large)
    pigment = dice.patient.uniform(0.55, 1.15) * rng.uniform(0.75, 1.35)
    cx, cy = rng.normal(0, 0.14, 2)
    draw = {"naevus": _naevus, "melanoma": _melanoma, "keratosis": _keratosis}[label]
    return draw(rng, x, y, skin, cx, cy, radius, signs, pigment, size)


def _naevus(rng, x, y, skin, cx, cy, radius, signs, pigment, size: int):
    """Round and even, its border fading, with a regular network; dysplastic, less so."""
    odd = 1 - signs
    terms = d.wobble(rng, 0.06 + 0.16 * odd)
    edge = d.blob(x, y, cx, cy, radius, terms, np.exp(rng.normal(0, 0.12)), rng.uniform(0, 3))
    net = _network(rng, size, rng.uniform(0.050, 0.075))
    middle = d.bump(x, y, cx, cy, radius * rng.uniform(0.4, 0.8))
    uneven = (0.10 + 0.30 * odd) * d.smooth_noise(rng, size, 5)
    melanin = pigment * (
        0.65 + rng.uniform(-0.2, 0.5) * middle + uneven + rng.uniform(0.0, 0.28) * net
    )
    fade = soft(edge, rng.uniform(0.012, 0.035))
    return skin * _filtered(melanin.clip(0.08), 0.15 * melanin.clip(0)), fade


def _melanoma(rng, x, y, skin, cx, cy, radius, signs, pigment, size: int):
    """Lopsided, of several colours: dark blotches, blue-white veil, regression, streaks."""
    terms = d.wobble(rng, 0.08 + 0.26 * signs)
    edge = d.blob(x, y, cx, cy, radius, terms, np.exp(rng.normal(0, 0.16)), rng.uniform(0, 3))
    side = rng.uniform(0, 2 * np.pi)
    ahead = ((x - cx) * np.cos(side) + (y - cy) * np.sin(side)) / radius
    streaks = 0.065 * signs * soft(ahead, 0.2) * d.waves(rng, size, 0.09)
    edge = edge + streaks + 0.02 * signs * d.cloud(rng, size, 12)
    net = _network(rng, size, rng.uniform(0.05, 0.09)) * soft(d.smooth_noise(rng, size, 4), 0.3)
    blotch = soft(d.smooth_noise(rng, size, 5) + 0.5 * ahead - rng.uniform(0.2, 1.2), 0.12)
    uneven = 0.12 + 0.32 * signs
    melanin = pigment * (0.7 + uneven * d.cloud(rng, size, 5) + 0.25 * uneven * ahead + 0.3 * net)
    melanin = (melanin + 1.1 * signs * blotch).clip(0.08)
    colours = skin * _filtered(melanin, 0.15 * melanin)
    veil = soft(d.smooth_noise(rng, size, 4) - 0.3 * ahead - 1.2, 0.35)
    veil = veil * signs * rng.uniform(0.3, 0.9)
    scar = soft(d.smooth_noise(rng, size, 5) - 1.4, 0.15) * signs * rng.uniform(0, 0.8)
    colours = colours + (VEIL - colours) * veil[..., None]
    colours = colours + (SCAR * skin.mean(axis=(0, 1)) - colours) * scar[..., None]
    return colours, soft(edge, rng.uniform(0.008, 0.026))


def _keratosis(rng, x, y, skin, cx, cy, radius, signs, pigment, size: int):
    """Stuck on: a sharp border, horn cysts, plugged openings, furrows as on a brain."""
    terms = d.wobble(rng, 0.10 + 0.10 * signs)
    edge = d.blob(x, y, cx, cy, radius, terms, np.exp(rng.normal(0, 0.16)), rng.uniform(0, 3))
    edge = edge + 0.012 * d.cloud(rng, size, 14)
    furrows = np.exp(-0.5 * (d.waves(rng, size, rng.uniform(0.09, 0.15)) / 0.55) ** 2)
    waxy = 0.6 + 0.22 * d.cloud(rng, size, 6, 4) + 0.40 * signs * furrows
    cysts, plugs = (_dots(rng, size, cx, cy, radius, int(n * signs)) for n in (14, 10))
    melanin = (pigment * waxy + 1.2 * plugs).clip(0.08)
    colours = skin * _filtered(melanin, 0.15 * melanin)
    grey = colours.mean(axis=-1, keepdims=True)
    colours = colours + (grey * (1.06, 1.0, 0.86) - colours) * np.float32(0.10 * signs)
    colours = colours + (HORN - colours) * (0.75 * cysts.clip(0, 1))[..., None]
    return colours, soft(edge, rng.uniform(0.007, 0.022) * (1.6 - signs))


def _network(rng: Generator, size: int, mesh: float) -> np.ndarray:
    """A pigment network: dark lines around pale holes, about -1 to 1."""
    strength = (1 + 0.5 * d.smooth_noise(rng, size, 6)).clip(0)
    return np.tanh(d.waves(rng, size, mesh) - 0.3) * strength


def _dots(rng: Generator, size: int, cx, cy, radius: float, n: int) -> np.ndarray:
    """Small round spots within a lesion, (H, W), of height about 1."""
    angle, r = rng.uniform(0, 2 * np.pi, n), radius * 0.85 * np.sqrt(rng.uniform(0, 1, n))
    places = np.stack([cx + r * np.cos(angle), cy + r * np.sin(angle)], axis=1)
    return d.spots(size, places, rng.uniform(0.6, 1.2, n), rng.uniform(0.016, 0.028))


def _camera(rng: Generator, x, y, marked: bool, size: int):
    """The function from skin to photograph: hairs, ruler, bubbles, vignette, noise; pixel-wise."""
    hair, ink = _hairs(rng, size), _ruler(rng, size) * marked
    shade = np.array((0.20, 0.13, 0.10), np.float32) * rng.uniform(0.5, 1.6)
    gleam = _bubbles(rng, x, y)
    r = np.hypot(x - rng.normal(0, 0.04), y - rng.normal(0, 0.04))
    vignette = 1 - rng.uniform(0.05, 0.25) * r**2
    if rng.random() < 0.3:
        vignette = vignette * soft(rng.uniform(1.0, 1.2) - r, 0.01)
    warmth = rng.normal(0, 0.06) * np.array((1, 0, -1))
    light = rng.uniform(0.85, 1.10) * np.exp(warmth + rng.normal(0, 0.02, 3)).astype(np.float32)
    grain = rng.uniform(0.006, 0.022) * rng.standard_normal((size, size, 1), dtype=np.float32)

    def camera(picture: np.ndarray) -> np.ndarray:
        covered = picture + (shade - picture) * hair[..., None]
        covered = covered * (1 - 0.75 * ink[..., None]) + gleam[..., None]
        return covered * vignette[..., None] * light + grain

    return camera


def _hairs(rng: Generator, size: int) -> np.ndarray:
    n = int(rng.choice((0, 4, 12, 30), p=(0.2, 0.3, 0.3, 0.2)))
    if n == 0:
        return np.zeros((size, size), np.float32)
    heading = rng.uniform(0, 6.28) + rng.normal(0, 0.6, n)
    paths = d.strolls(
        rng, rng.uniform(-1.2, 1.2, (n, 2)), heading, rng.uniform(0.3, 1.8, n), 20, 0.5
    )
    return (0.85 * d.lines(size, paths, 1.0, rng.uniform(0.0045, 0.007))).clip(0, 0.9)


def _ruler(rng: Generator, size: int) -> np.ndarray:
    """Tick marks along one edge, every fifth one longer."""
    t = np.arange(-1.2, 1.2, rng.uniform(0.07, 0.12))
    long = np.where(np.arange(len(t)) % 5, 0.06, 0.11)
    near = rng.uniform(0.80, 0.98) + 0.03 * rng.normal() * t
    ticks = np.stack([np.stack([t, near], 1), np.stack([t, near - long], 1)], axis=1)
    turned = {0: ticks, 1: -ticks, 2: ticks[..., ::-1], 3: -ticks[..., ::-1]}[int(rng.integers(4))]
    return d.lines(size, turned, 1.0, 0.007).clip(0, 1)


def _bubbles(rng: Generator, x, y) -> np.ndarray:
    gleam = 0.0 * x
    for cx, cy, r in rng.uniform((-1, -1, 0.015), (1, 1, 0.05), (rng.integers(0, 4), 3)):
        ring = np.abs(d.ellipse(x, y, cx, cy, r, r))
        gleam = gleam + 0.30 * np.exp(-0.5 * (ring / 0.007) ** 2) * soft(cy - y, 0.01)
    return gleam
