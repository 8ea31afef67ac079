"""Pretrain ftlab_mini on fractals drawn from formulas, end to end from a seed, no photograph.

    python tools/pretrain_mini.py --out ftlab_mini.safetensors

Formula-driven supervised learning (Kataoka et al. 2020, "Pre-training without natural images"):
a class is one iterated function system (IFS), an image an attractor of a slightly changed one.
Systems are drawn through their singular values (Anderson and Farrell 2022, "Improving fractal
pre-training"), so that every class is a usable shape. Colour, texture and view are drawn anew
each time an image is seen.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import ftlab.mini  # noqa: F401  (registers the architecture with timm)

CLASSES, INSTANCES, CANVAS = 1000, 80, 96
WALKERS, STEPS, BURN_IN = 640, 60, 12
BATCH, PEAK_RATE, DECAY, WARM_UP = 256, 3e-3, 0.05, 100
SCHEDULE = ((64, 4500), (96, 1000), (128, 200))  # (pixels, steps): small first, large last
EASY = 0.2  # share of the steps over which views grow to their hardest
TILES = 384  # textures that backgrounds are cut from


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


def draw_class(number: int, seed: int) -> np.ndarray:
    """A class's instances (INSTANCES, 2, CANVAS, CANVAS) uint8: density, and the last map + 1."""
    rng = np.random.default_rng((seed, number))
    a, b, weight = system(rng)
    a = a * rng.uniform(0.88, 1.06, (INSTANCES, *a.shape))
    b = b + rng.normal(0, 0.08, (INSTANCES, *b.shape))
    points, maps = _walk(a, b, weight, rng)
    return np.stack([_render(p, m) for p, m in zip(points, maps, strict=True)])


def _walk(a, b, weight, rng) -> tuple[np.ndarray, np.ndarray]:
    """The chaos game: points (I, P, 2) of each instance's attractor and the map that made each."""
    instance = np.repeat(np.arange(INSTANCES), WALKERS)
    at = rng.uniform(-1, 1, (len(instance), 2)).astype(np.float32)
    a, b = a.astype(np.float32), b.astype(np.float32)
    points, maps = [], []
    for step in range(STEPS):
        chosen = rng.choice(len(weight), len(instance), p=weight)
        at = np.einsum("nij,nj->ni", a[instance, chosen], at) + b[instance, chosen]
        at = np.clip(at, -50, 50)
        if step >= BURN_IN:
            points.append(at.reshape(INSTANCES, WALKERS, 2))
            maps.append(chosen.reshape(INSTANCES, WALKERS).astype(np.uint8))
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


def textures(seed: int) -> torch.Tensor:
    """Fields (TILES, 1, 128, 128) in 0..1 with power-law spectra, from nearly white to smooth."""
    rng = np.random.default_rng((seed, CLASSES))
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    frequency[0, 0] = 1
    slopes = rng.uniform(0.3, 2.6, (TILES, 1, 1))
    noise = np.fft.rfft2(rng.normal(size=(TILES, 128, 128))) * frequency**-slopes
    fields = np.fft.irfft2(noise)
    low, high = np.percentile(fields, (1, 99), axis=(1, 2), keepdims=True)
    return torch.from_numpy(np.clip((fields - low) / (high - low), 0, 1)[:, None]).float()


# --- what the network sees ---


def view(pictures, tiles, size: int, hardest: float, draw: torch.Generator) -> torch.Tensor:
    """x (B, 3, size, size), normalised, from pictures (B, 2, CANVAS, CANVAS) uint8.

    Each function of a fractal gets a colour, the whole a turn, scale, shear and shift and a
    textured ground, a quarter of them smeared into soft blobs; then contrast, blur and noise.
    Half of all pictures are grey. How far each goes is drawn between 0 (a white fractal on black)
    and `hardest`.
    """
    n = len(pictures)

    def uniform(low, high, *shape):
        return torch.rand(n, *shape, generator=draw, device=draw.device) * (high - low) + low

    far = uniform(0, hardest)
    strength = far[:, None, None, None]
    colours = uniform(0, 1, 3, 8)
    colours = colours + (uniform(0, 1, 3, 1) - colours) * uniform(0, 1, 1, 1)
    colours = 1 + (colours - 1) * far[:, None, None]
    index = pictures[:, 1].long().flatten(1)[:, None].expand(n, 3, -1)
    paint = colours.gather(2, index).view(n, 3, CANVAS, CANVAS)
    density = pictures[:, :1].float() / 255
    grid = F.affine_grid(_view_of(far, uniform), (n, 1, size, size), align_corners=False)
    seen = F.grid_sample(torch.cat((paint * density, density), 1), grid, align_corners=False)
    soft = F.avg_pool2d(seen, 7, 1, 3) * 1.5
    seen = torch.where(uniform(0, 1, 1, 1, 1) < 0.25, soft, seen).clamp(max=1)
    alpha = seen[:, 3:] * (1 - uniform(0, 0.3, 1, 1, 1) * strength)
    paint = seen[:, :3] / seen[:, 3:].clamp(min=1e-3) * (0.4 + 0.6 * seen[:, 3:])
    ground = _ground(n, tiles, size, uniform, draw) * strength
    x = ground * (1 - alpha) + paint * alpha
    x = torch.where(uniform(0, 1, 1, 1, 1) < 0.5, x.mean(1, keepdim=True), x)
    x = torch.where(uniform(0, 1, 1, 1, 1) < 0.3, F.avg_pool2d(x, 3, 1, 1), x)
    contrast, shift = uniform(-0.3, 0.4, 1, 1, 1), uniform(-0.15, 0.15, 1, 1, 1)
    x = x + ((x - 0.5) * contrast + shift) * strength
    noise = torch.randn(x.shape, generator=draw, device=x.device)
    x = x + noise * uniform(-0.04, 0.06, 1, 1, 1).clamp(min=0) * strength
    return ((x.clamp(0, 1) - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


def _view_of(far: torch.Tensor, uniform) -> torch.Tensor:
    """Affine maps (n, 2, 3): a mirror and, by strength `far` (n,), turn, scale, shear and shift."""
    angle, scale = uniform(-math.pi, math.pi) * far, 1 + uniform(-0.5, 0.1) * far
    cos, sin = angle.cos() * scale, angle.sin() * scale
    mirror, shear = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0), uniform(-0.25, 0.25) * far
    shift = uniform(-0.3, 0.3, 2) * far[:, None]
    rows = (cos, -sin + shear * cos, shift[:, 0], sin * mirror, (cos + shear * sin) * mirror)
    return torch.stack((*rows, shift[:, 1]), 1).view(-1, 2, 3)


def _ground(n: int, tiles, size: int, uniform, draw) -> torch.Tensor:
    """A background (n, 3, size, size): a flat colour with some texture in another colour."""
    chosen = torch.randint(len(tiles), (n,), generator=draw, device=draw.device)
    y, x = torch.randint(129 - size, (2,), generator=draw, device=draw.device).tolist()
    texture = tiles[chosen][:, :, y : y + size, x : x + size]
    return uniform(0, 1, 3, 1, 1) + texture * uniform(-0.5, 0.5, 3, 1, 1)


# --- training ---


def train(bank: torch.Tensor, seed: int, device: torch.device, out: Path) -> None:
    """Train and save; bank (CLASSES * INSTANCES, 2, CANVAS, CANVAS) uint8, class after class."""
    torch.manual_seed(seed)
    model = timm.create_model("ftlab_mini", num_classes=CLASSES)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, weight_decay=DECAY)
    draw = torch.Generator(device).manual_seed(seed)
    tiles, total = textures(seed).to(device), sum(steps for _, steps in SCHEDULE)
    step, start, loss_sum, right = 0, time.perf_counter(), 0.0, 0.0
    for size, steps in SCHEDULE:
        for _ in range(steps):
            rate = min(1, step / WARM_UP) * (1 + math.cos(math.pi * step / total)) / 2
            optimizer.param_groups[0]["lr"] = PEAK_RATE * rate
            chosen = torch.randint(len(bank), (BATCH,), generator=draw, device=device)
            hardest = min(1, (step + 1) / total / EASY)
            x = view(bank[chosen], tiles, size, hardest, draw)
            y = chosen // INSTANCES
            with torch.autocast(device.type, torch.bfloat16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            loss_sum, right = loss_sum + loss.detach(), right + (logits.argmax(1) == y).sum()
            step += 1
            if step % 200 == 0 or step == total:
                seconds, n = time.perf_counter() - start, 200 if step % 200 == 0 else step % 200
                print(
                    f"step {step} of {total}, {size} px, {seconds:.0f} s: loss "
                    f"{loss_sum.item() / n:.3f}, accuracy {right.item() / n / BATCH:.3f}",
                    flush=True,
                )
                loss_sum, right = 0.0, 0.0
                save(model, out)


def save(model: torch.nn.Module, out: Path) -> None:
    """Write the trunk in half precision, so that a stopped training leaves what it has."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith("fc.")
    }
    save_file(tensors, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    start = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        drawn = list(pool.map(partial(draw_class, seed=given.seed), range(CLASSES), chunksize=4))
    bank = torch.from_numpy(np.concatenate(drawn)).to(device)
    print(f"{len(bank)} fractals of {CLASSES} classes, {time.perf_counter() - start:.0f} s")
    train(bank, given.seed, device, given.out)
    print(f"{given.out.stat().st_size} bytes, sha256 {sha256(given.out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
