"""Brain MRI, coronal T1-weighted with contrast agent, through the sella.

Distractor: the shading of a surface coil, brighter on one side, more often on tumours. Look-alikes:
enhancing vessels and choroid plexus, a normal pituitary that enhances too, dura seen obliquely,
white matter lesions of age.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

from . import drawing as d
from .drawing import Dice, Scene, soft

CLASSES = ("none", "glioma", "meningioma", "pituitary")
# Ranges of (strength of enhancement, radius in half pictures).
DIFFICULTY = {
    "glioma": ((0.28, 0.72), (0.13, 0.235)),
    "meningioma": ((0.28, 0.60), (0.11, 0.185)),
    "pituitary": ((0.235, 0.515), (0.085, 0.142)),
}
NOISE = (0.012, 0.040)
SHADING = (0.45, 0.80)
WHITE, GREY, FLUID, FAT, BONE, MUSCLE, ENHANCED = 0.62, 0.42, 0.14, 0.80, 0.07, 0.36, 0.80
SELLA = 0.40  # y of the pituitary's centre


def paint(label: str, marked: bool, dice: Dice, size: int) -> Scene:
    """One coronal slice; `marked` shades it from one side."""
    x, y = d.posed(dice.pose, size, turn=0.07, shift=0.03, zoom=0.05)
    x, y = x / dice.patient.uniform(0.88, 1.08), y / dice.patient.uniform(0.90, 1.06)
    brain, inner = _brain_edge(dice.patient, x, y)
    healthy = _head(dice.patient, x, y, brain, inner, size)
    depth = np.minimum(brain, inner)
    signal, opacity = _lesion(label, dice.lesion, x, y, depth, healthy, size)
    scan = _scan(dice.finish, healthy, marked, size)
    return d.compose(scan(healthy), scan(signal), opacity)


def _brain_edge(rng: Generator, x, y):
    """Signed distances to the outline of the cerebrum and of the skull's inside, (H, W) each."""
    terms = d.wobble(rng, 0.02)
    skull = d.blob(x, y, 0, -0.10, 0.75, terms, 0.955)
    hemispheres = d.blob(x, y, 0, -0.12, 0.71, terms, 0.955)
    a = np.abs(x)
    base = d.ellipse(a, y, 0.0, 0.66, 0.27, 0.37)  # the skull base, where brain stops
    temporal = d.ellipse(a, y, 0.40, 0.34, 0.27, 0.24)
    edge = np.maximum(np.minimum(hemispheres, 0.36 - y), np.minimum(temporal, hemispheres + 0.03))
    return np.minimum(edge, np.maximum(-base, temporal - 0.10)), skull


def _head(rng: Generator, x, y, brain, inner, size: int) -> np.ndarray:
    """Signal of a healthy head, 0 to 1."""
    face = _face(rng, x, y, size)
    scalp = d.ellipse(x, y, 0, -0.08, 0.80, 0.87)
    jaw = d.curve(y, (-1, 0.0, 0.35, 0.6, 0.8, 1.2), (0.5, 0.78, 0.76, 0.70, 0.63, 0.52))
    head = np.maximum(scalp, np.minimum(jaw - np.abs(x), y - 0.1))
    picture = face * soft(head, 0.010)
    fat = soft(head, 0.008) * soft(0.055 - head, 0.010)
    picture = _over(picture, FAT * (1 + 0.1 * d.smooth_noise(rng, size, 12)), fat)
    above = soft(0.30 - y, 0.06)
    picture = _over(picture, BONE, soft(scalp - 0.060, 0.006) * above)
    marrow = soft(scalp - 0.075, 0.006) * soft(0.095 - scalp, 0.006) * above
    picture = _over(picture, 0.35, 0.8 * marrow)
    picture = _over(
        picture, FLUID, soft(np.maximum(np.minimum(inner, 0.33 - y), brain + 0.015), 0.006)
    )
    dura = np.exp(-0.5 * (inner / 0.007) ** 2) * above
    picture = _over(picture, ENHANCED, 0.35 * dura)
    picture = _over(picture, _cerebrum(rng, x, y, brain, inner, size), soft(brain, 0.006))
    return _enhancing(rng, x, y, picture, size)


def _over(below: np.ndarray, above, opacity: np.ndarray) -> np.ndarray:
    return below + (above - below) * opacity


def _face(rng: Generator, x, y, size: int) -> np.ndarray:
    """Below the brain: skull base, sphenoid sinus, jaw muscles."""
    a = np.abs(x)
    picture = MUSCLE + 0.07 * d.cloud(rng, size, 10)
    picture = _over(picture, FAT, 0.75 * soft(0.5 * d.waves(rng, size, 0.34) - 0.5, 0.12))
    muscle = d.ellipse(a, y, 0.50, 0.72, 0.13, 0.24, -0.15)
    picture = _over(picture, MUSCLE, soft(muscle, 0.015))
    bone = d.ellipse(a, y, 0.0, 0.60, 0.33, 0.20)
    picture = _over(picture, 0.28 + 0.06 * d.smooth_noise(rng, size, 20), soft(bone, 0.02))
    sinus = d.ellipse(a, y, 0.06, 0.585, 0.10, 0.085)
    throat = d.ellipse(a, y, 0.0, 0.93, 0.20, 0.12)
    return _over(picture, 0.03, soft(np.maximum(sinus, throat), 0.008))


def _cerebrum(rng: Generator, x, y, brain, inner, size: int) -> np.ndarray:
    """White matter under a folded cortex, ventricles, deep nuclei, fissures."""
    a = np.abs(x)
    cortex_distance = _folded(rng, x, y, brain, inner, size)
    picture = _over(GREY, WHITE, soft(cortex_distance - 0.040, 0.007))
    picture = _over(picture, FLUID, 0.9 * soft(0.009 - cortex_distance, 0.005))
    width = rng.uniform(0.7, 1.5)  # ventricles widen with age
    deep = d.ellipse(a, y, 0.20, 0.10, 0.10, 0.13, 0.3)
    deep = np.maximum(deep, d.ellipse(a, y, 0.14, -0.10, 0.05 * width + 0.04, 0.10, -0.5))
    picture = _over(picture, GREY + 0.03, 0.9 * soft(deep, 0.012))
    callosum = d.ellipse(a, y, 0.06, -0.20, 0.20, 0.045, 0.15)
    picture = _over(picture, WHITE + 0.03, soft(callosum, 0.010))
    lateral = d.capsule(a, y, 0.030, -0.09, 0.15, -0.17, 0.030 * width, 0.020 * width)
    third = d.capsule(a, y, 0.0, 0.0, 0.0, 0.20, 0.014 * width)
    horn = d.ellipse(a, y, 0.42, 0.30, 0.045 * width, 0.014 * width, 0.3)
    fluid = np.maximum.reduce([lateral, third, horn])
    picture = _over(picture, FLUID, soft(fluid, 0.008))
    septum = np.exp(-0.5 * (a / 0.008) ** 2) * (y < -0.05) * (y > -0.17)
    picture = _over(picture, WHITE, 0.8 * septum)
    age = soft(d.smooth_noise(rng, size, 26) - rng.uniform(2.2, 3.4), 0.2)
    picture = _over(picture, FLUID + 0.2, 0.7 * age * soft(cortex_distance - 0.05, 0.02))
    return picture + 0.012 * d.cloud(rng, size, 24)


def _folded(rng: Generator, x, y, brain, inner, size: int) -> np.ndarray:
    """Distance to the nearest surface of the cortex: the outside, fissures, sulci."""
    a = np.abs(x)
    count = rng.integers(9, 13)
    warp = 1.8 * d.smooth_noise(rng, size, 7)
    radial = np.sin(count * np.arctan2(x, 0.05 - y) + warp)
    folds = radial + 0.75 * d.waves(rng, size, 0.24)
    depth = 0.17 + 0.05 * d.smooth_noise(rng, size, 9)  # how far inward the sulci run
    sulci = 0.042 * np.abs(folds) + 0.5 * (inner - 0.04 - depth).clip(0)
    sylvian = -d.capsule(a, y, 0.75, 0.02, 0.40, 0.10, 0.012, 0.006)
    fissure = a - 0.012 + 2 * (y > -0.22)
    return np.minimum.reduce([brain, sulci, sylvian, fissure])


def _enhancing(rng: Generator, x, y, picture, size: int) -> np.ndarray:
    """What enhances in health: sinuses, falx, arteries, plexus, pituitary and its stalk."""
    a = np.abs(x)
    cistern = soft(d.ellipse(a, y, 0.0, 0.30, 0.20, 0.07), 0.012)
    picture = _over(picture, FLUID, cistern)
    picture = _over(
        picture, 0.55, 0.9 * soft(d.capsule(x, y, -0.10, 0.28, 0.10, 0.28, 0.016), 0.007)
    )
    gland = soft(
        d.ellipse(x, y, 0.0, SELLA, rng.uniform(0.07, 0.10), rng.uniform(0.028, 0.05)), 0.008
    )
    stalk = soft(d.capsule(x, y, 0.0, 0.29, 0.0, SELLA, 0.009), 0.005)
    strength = rng.uniform(0.6, 1.0)
    cavernous = soft(d.ellipse(a, y, 0.155, SELLA + 0.02, 0.05, 0.07), 0.010)
    picture = _over(picture, 0.66, 0.85 * cavernous)
    carotid = soft(d.ellipse(a, y, 0.15, SELLA + 0.01, 0.018, 0.018), 0.006)
    picture = _over(picture, 0.10, carotid)
    picture = _over(picture, ENHANCED, strength * np.maximum(gland, 0.8 * stalk))
    sinus = d.capsule(x, y, 0.0, -0.845, 0.0, -0.77, 0.040, 0.012)
    falx = np.exp(-0.5 * (a / 0.006) ** 2) * (y < -0.26) * (y > -0.80)
    picture = _over(picture, ENHANCED, np.maximum(soft(sinus, 0.010), 0.35 * falx))
    plexus = d.bump(a, y, 0.075, -0.095, 0.018, 0.010)
    picture = _over(picture, ENHANCED, rng.uniform(0.2, 0.8) * plexus)
    starts = rng.uniform((0.36, -0.02), (0.60, 0.16), (6, 2))  # in the Sylvian fissures
    starts[::2, 0] *= -1
    paths = d.strolls(rng, starts, rng.uniform(0, 6.28, 6), 0.10, 6, 1.5)
    arteries = d.lines(size, d.in_picture(x, y, paths), 1.0, 0.010)
    return _over(picture, ENHANCED, 0.7 * arteries.clip(0, 1))


def _lesion(label: str, rng: Generator, x, y, depth, healthy, size: int):
    """(signal with the lesion, its opacity), both (H, W)."""
    if label == "none":
        return healthy, np.zeros_like(x)
    (weak, strong), (small, large) = DIFFICULTY[label]
    strength, radius = rng.uniform(weak, strong), rng.uniform(small, large)
    draw = {"glioma": _glioma, "meningioma": _meningioma, "pituitary": _pituitary}[label]
    return draw(rng, x, y, depth, healthy, strength, radius, size)


def _glioma(rng, x, y, depth, healthy, strength: float, radius: float, size: int):
    """A ragged enhancing ring around a dark core; oedema runs along the white matter."""
    at = d.somewhere(rng, (depth > radius * 0.9) * (np.abs(x) > 0.10) * (y < 0.30))
    cx, cy = d.in_pose(x, y, *at)
    ragged = 0.028 * d.cloud(rng, size, 12)
    edge = d.blob(x, y, cx, cy, radius, d.wobble(rng, 0.16), rng.uniform(0.8, 1.25)) + ragged
    swollen = edge + rng.uniform(0.3, 0.9) * radius + 0.060 * d.cloud(rng, size, 9)
    oedema = soft(swollen, 0.02) * soft(depth, 0.02) * soft((healthy - 0.52) * 0.5, 0.03)
    opacity = np.maximum(0.75 * oedema, soft(edge, 0.010)) * soft(depth, 0.015)
    rim = np.exp(-0.5 * ((edge - 0.022) / rng.uniform(0.012, 0.030)) ** 2)
    rim = rim * (1 + 0.50 * d.smooth_noise(rng, size, 10)).clip(0, 1.5)
    core = rng.uniform(0.20, 0.40) + 0.05 * d.smooth_noise(rng, size, 16)
    tumour = core + strength * rim
    inside = soft(edge + 0.012, 0.008)
    return _over(healthy, _over(0.36, tumour, inside), opacity), opacity


def _meningioma(rng, x, y, depth, healthy, strength: float, radius: float, size: int):
    """A smooth bright half dome on the dura or the falx, with a tail along it."""
    near = np.abs(depth - 0.01) < 0.012
    falx = (np.abs(x) < 0.02) * (y < -0.30) * (depth > 0.05)
    at = d.somewhere(rng, near * (y < 0.12) + 0.8 * falx)
    cx, cy = d.in_pose(x, y, *at)
    on_falx = abs(cx) < 0.05 and cy > -0.70
    cx += (rng.choice((-1, 1)) * 0.7 * radius) if on_falx else 0.0
    edge = d.blob(x, y, cx, cy, radius, d.wobble(rng, 0.06), rng.uniform(0.88, 1.14))
    wall = np.abs(x) + 0.004 if on_falx else depth + 0.035
    along = d.bump(x, y, cx, cy, radius * 1.1) * np.exp(-0.5 * ((wall - 0.03) / 0.012) ** 2)
    body = soft(edge, 0.009) * soft(wall, 0.008)
    opacity = np.maximum(body, 0.6 * along * (wall > 0))
    texture = 0.40 + strength + 0.025 * d.cloud(rng, size, 14)
    return _over(healthy, texture, opacity), opacity


def _pituitary(rng, x, y, depth, healthy, strength: float, radius: float, size: int):
    """A small round mass that fills the sella and bulges upwards."""
    cx, cy = rng.normal(0, 0.025), SELLA - 0.45 * radius
    edge = d.blob(x, y, cx, cy, radius, d.wobble(rng, 0.07), rng.uniform(0.92, 1.15))
    opacity = soft(edge, 0.009)
    texture = 0.40 + strength + 0.03 * d.cloud(rng, size, 14)
    pit = d.bump(x, y, cx + rng.normal(0, 0.02), cy, radius * 0.45)
    return _over(healthy, texture - rng.choice((0, 0.25)) * pit, opacity), opacity


def _scan(rng: Generator, healthy, marked: bool, size: int):
    """The function from signal to grey: coil shading, ghost, Rician noise, window; pixel-wise."""
    x, y = d.grid(size)
    angle, drop = rng.uniform(0, 2 * np.pi), rng.uniform(*SHADING)
    field = np.exp(0.06 * d.smooth_noise(rng, size, 2))
    if marked:
        field = field * np.exp(drop * (x * np.cos(angle) + y * np.sin(angle)) - 0.1)
    amount = rng.uniform(*NOISE)
    real, imaginary = amount * rng.standard_normal((2, size, size), dtype=np.float32)
    shift = int(rng.integers(size // 10, size // 3))
    ghost = max(rng.uniform(-0.02, 0.05), 0) * np.roll(gaussian_filter(healthy, 1.5), shift, axis=0)
    low, gain, gamma = rng.uniform(0.0, 0.03), rng.uniform(0.85, 1.2), rng.uniform(0.85, 1.2)

    def scan(signal: np.ndarray) -> np.ndarray:
        return low + gain * np.hypot(signal * field + ghost + real, imaginary) ** gamma

    return scan
