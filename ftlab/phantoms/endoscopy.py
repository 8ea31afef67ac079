"""Laparoscopy: which instrument is in the field of view.

Distractor: smoke, more often with the hook, which burns. Look-alikes: all shafts are the same,
ligaments are as pale as steel, highlights glint like it, jaws may be half hidden by the turn.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from . import drawing as d
from .drawing import Dice, Scene, soft

CLASSES = ("none", "grasper", "hook", "clipper")
# Range of an instrument's scale, and of the haze that hides it (0: none, 1: all).
DIFFICULTY = {"scale": (2.2, 2.8), "haze": (0.0, 0.06)}
SMOKE = (0.25, 0.52)
STEEL, SHAFT = np.array((0.62, 0.63, 0.66), np.float32), np.array((0.17, 0.17, 0.19), np.float32)
RED, FAT, LIVER, PALE = (
    np.array(c, np.float32)
    for c in ((0.72, 0.30, 0.26), (0.86, 0.66, 0.42), (0.40, 0.13, 0.11), (0.84, 0.68, 0.64))
)


def paint(label: str, marked: bool, dice: Dice, size: int) -> Scene:
    """One frame of a laparoscopy; `marked` fills it with smoke."""
    x, y = d.posed(dice.pose, size, turn=0.5, shift=0.25, zoom=0.25)
    tissue, height = _tissue(dice.patient, x, y, size)
    height = height + 0.35 * d.cloud(dice.pose, size, 3, 4)  # tissue moves from frame to frame
    tissue = tissue + _ligament(dice.pose, size)[..., None] * (PALE - tissue)
    lit = _shaded(dice, tissue, height)
    px, py = d.grid(size)
    tool, opacity = _instrument(label, dice.lesion, px, py, size)
    stop = soft(dice.finish.uniform(0.97, 1.45) - np.hypot(px, py), 0.008)
    scope = _scope(dice.finish, px, py, stop, marked, size)
    seen = scope(lit + (tool - lit) * opacity[..., None])
    return d.compose(scope(lit), seen, opacity * stop)


def _tissue(rng: Generator, x, y, size: int):
    """Colours (H, W, 3) and relief (H, W) of the operating field, in the patient's coordinates."""
    relief = d.cloud(rng, size, 3, 4)
    lobes = 0.4 * d.waves(rng, size, rng.uniform(0.2, 0.3)) + 0.7 * d.smooth_noise(rng, size, 9)
    red = RED * np.exp(rng.normal(0, 0.10, 3)).astype(np.float32)
    colour = red * (1 + 0.12 * d.cloud(rng, size, 6)[..., None])
    fat = soft(d.smooth_noise(rng, size, 3) - rng.uniform(0.0, 1.2), 0.15)
    fatty = FAT * (0.92 + 0.07 * lobes)[..., None]
    colour = colour + (fatty - colour) * fat[..., None]
    line = y - rng.uniform(-0.9, 0.1) + rng.uniform(-0.6, 0.6) * x + 0.15 * relief
    liver = soft(-line, 0.02)
    dark = LIVER * (1 + 0.10 * d.cloud(rng, size, 16)[..., None])
    colour = colour + (dark - colour) * liver[..., None]
    starts, turns = rng.uniform(-1, 1, (9, 2)), rng.uniform(0, 6.28, 9)
    paths = d.strolls(rng, starts, turns, rng.uniform(0.6, 1.6, 9), 24, 1.6)
    vessels = d.lines(size, d.in_picture(x, y, paths), np.linspace(1, 0.2, 24), 0.010).clip(0, 1)
    colour = colour * (1 - 0.45 * vessels * (1 - liver))[..., None] ** (0.5, 1.0, 0.9)
    height = 0.6 * relief + (0.22 * lobes + 0.2) * fat + 1.2 * soft(-line, 0.05)
    return colour.astype(np.float32), height.astype(np.float32)


def _ligament(rng: Generator, size: int) -> np.ndarray:
    """Opacity of a pale cord that crosses the field, as straight and light as steel may be."""
    start, heading = rng.uniform(-1.3, 1.3, (1, 2)), rng.uniform(0, 6.28, 1)
    cord = d.strolls(rng, start, heading, 2.6, 24, 0.5)
    shown = rng.choice((0.0, 0.8), p=(0.45, 0.55))
    return shown * d.lines(size, cord, 1.0, rng.uniform(0.02, 0.06)).clip(0, 1)


def _shaded(dice: Dice, colour: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Light from beside the lens on wet tissue: diffuse and specular."""
    size, rng = len(height), dice.pose
    dy, dx = np.gradient(height * np.float32(0.16 * size / 2))
    lx, ly = rng.uniform(-0.25, 0.25, 2)
    steep = 1 / np.sqrt(1 + dx * dx + dy * dy)
    facing = ((1 - lx * dx - ly * dy) * steep).clip(0)
    ripple = 1 + 0.02 * d.smooth_noise(rng, size, 40)
    wet = (facing * ripple / np.sqrt(1 + lx * lx + ly * ly)).clip(0, 1.04)
    gleam = soft(wet - dice.patient.uniform(0.990, 1.010), 0.007) * rng.uniform(0.4, 1.0)
    return colour * (0.25 + 0.85 * facing)[..., None] + 0.75 * gleam[..., None]


def _instrument(label: str, rng: Generator, x, y, size: int):
    """(colours (H, W, 3), opacity (H, W)) of a tool that comes in from the rim."""
    if label == "none":
        return np.zeros((size, size, 3), np.float32), np.zeros_like(x)
    scale, haze = rng.uniform(*DIFFICULTY["scale"]), rng.uniform(*DIFFICULTY["haze"])
    way = -np.pi / 2 + rng.uniform(-1.3, 1.3)  # upwards: ports lie below and beside the view
    tx, ty = rng.uniform(-0.4, 0.4, 2)
    c, s = np.float32(np.cos(way) / scale), np.float32(np.sin(way) / scale)
    x, y = x - np.float32(tx), y - np.float32(ty)
    u, v = c * x + s * y, (c * y - s * x) * np.float32(rng.choice((-1, 1)))
    blur = rng.uniform(0.006, 0.016)
    shaft = d.capsule(u, v, -4.0, 0.0, -0.06, 0.0, 0.105)
    collar = d.capsule(u, v, -0.10, 0.0, 0.02, 0.0, 0.085, 0.06)
    tip = {"grasper": _grasper, "hook": _hook, "clipper": _clipper}[label](rng, u, v)
    colours, opacity = np.zeros((size, size, 3), np.float32), np.zeros_like(x)
    for distance, across, base in ((shaft, v / 0.105, SHAFT), (collar, v / 0.085, STEEL), *tip):
        round_ = np.sqrt(1 - across.clip(-0.98, 0.98) ** 2)
        glint = np.exp(-0.5 * ((across + 0.35) / 0.12) ** 2)
        part = base * (0.35 + 0.65 * round_)[..., None] + (0.35 * glint * base.max())[..., None]
        cover = soft(distance, blur)
        colours = colours + (part - colours) * cover[..., None]
        opacity = np.maximum(opacity, cover)
    blood = soft(d.smooth_noise(rng, size, 8) - rng.uniform(0.6, 2.2), 0.2)[..., None]
    colours = colours + (RED * 0.7 - colours) * 0.7 * blood
    return colours + (np.float32(0.45) - colours) * np.float32(haze), opacity


def _grasper(rng: Generator, u, v):
    """Two slim jaws with a window and teeth, more or less open."""
    gape, long = rng.uniform(0.12, 0.26) * rng.uniform(0.7, 1.0), rng.uniform(0.42, 0.55)
    parts = []
    for side in (-1, 1):
        ends = (0.0, side * 0.02, long, side * (gape + 0.015))
        middle = side * (0.02 + (gape - 0.005) * (u / long).clip(0, 1))
        jaw = d.capsule(u, v, *ends, 0.046, 0.030)
        teeth = 0.008 * np.sin(u * 150) * soft(-side * (v - middle), 0.01)
        parts.append((jaw + teeth, (v - middle) / 0.04, STEEL))
        window = d.capsule(
            u, v, 0.42 * long, side * gape * 0.45, 0.8 * long, side * gape * 0.85, 0.011
        )
        parts.append((window, 0 * v, SHAFT * 1.2))
    return parts


def _hook(rng: Generator, u, v):
    """A thin bent wire behind a pale sleeve."""
    long, bend = rng.uniform(0.26, 0.40), rng.uniform(0.18, 0.30) * rng.uniform(0.75, 1.0)
    sleeve = d.capsule(u, v, 0.0, 0.0, 0.10, 0.0, 0.050)
    wire = d.capsule(u, v, 0.08, 0.0, long, 0.0, 0.026)
    heel = d.capsule(u, v, long, 0.0, long + 0.02, bend, 0.026, 0.020)
    return [
        (sleeve, v / 0.05, PALE * 0.95),
        (wire, v / 0.026, STEEL),
        (heel, (u - long) / 0.026, STEEL * 0.9),
    ]


def _clipper(rng: Generator, u, v):
    """Two stout jaws that run side by side and hold a clip."""
    gape, long = rng.uniform(0.07, 0.12) * rng.uniform(0.6, 1.0), rng.uniform(0.34, 0.48)
    parts = []
    for side in (-1, 1):
        root = d.capsule(u, v, 0.0, side * 0.015, 0.12, side * gape, 0.055)
        jaw = d.capsule(u, v, 0.12, side * gape, long, side * gape, 0.052, 0.044)
        parts.append((np.maximum(root, jaw), (v - side * gape) / 0.054, STEEL * 0.95))
        clip = d.capsule(
            u, v, long - 0.14, side * (gape - 0.025), long + 0.01, side * (gape - 0.02), 0.012
        )
        parts.append((clip, 0 * v, STEEL * 1.4))
    return parts


def _scope(rng: Generator, x, y, stop, marked: bool, size: int):
    """The pixel-wise function from scene to frame: smoke, falling light, round stop, noise."""
    thick = rng.uniform(*SMOKE) if marked else rng.uniform(0, 0.5 * SMOKE[0])
    smoke = (thick * (0.75 + 0.35 * d.cloud(rng, size, 3))).clip(0, 0.85)[..., None]
    fall = rng.uniform(0.95, 1.35) * np.exp(-rng.uniform(0.2, 0.6) * (x * x + y * y))
    white = (0.95 * np.exp(rng.normal(0, 0.04, 3))).astype(np.float32)
    grain = rng.uniform(0.006, 0.024) * rng.standard_normal((size, size, 3), dtype=np.float32)
    grey = np.array((0.72, 0.72, 0.75), np.float32)

    def scope(scene: np.ndarray) -> np.ndarray:
        hazy = scene * fall[..., None] * (1 - smoke) + grey * smoke
        return (hazy * white + grain) * stop[..., None]

    return scope
