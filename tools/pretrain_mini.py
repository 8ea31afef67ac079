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
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from formulas import CANVAS, FRACTALS, fractal
from safetensors.torch import save_file

import ftlab.mini  # noqa: F401  (registers the architecture with timm)
from ftlab import arithmetic
from ftlab import device as devices
from ftlab.records import Settings

INSTANCES = 80  # of each fractal
BATCH, PEAK_RATE, DECAY, WARM_UP = 256, 3e-3, 0.05, 100
SCHEDULE = ((64, 4500), (96, 1000), (128, 200))  # (pixels, steps): small first, large last
EASY = 0.2  # share of the steps over which views grow to their hardest
TILES = 384  # textures that backgrounds are cut from


def textures(seed: int) -> torch.Tensor:
    """Fields (TILES, 1, 128, 128) in 0..1 with power-law spectra, from nearly white to smooth."""
    rng = np.random.default_rng((seed, FRACTALS))
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


def faster_precision(size: int, batch: int) -> str:
    """float32 or bfloat16, whichever a few training steps show to be faster on this machine."""
    asked = Settings(precision=arithmetic.AUTO, size=size, batch=batch)
    with tempfile.TemporaryDirectory() as cache:
        return arithmetic.settled(asked, "ftlab_mini", Path(cache)).precision


def train(bank: torch.Tensor, seed: int, device: torch.device, out: Path) -> None:
    """Train and save; bank (FRACTALS * INSTANCES, 2, CANVAS, CANVAS) uint8, class after class."""
    torch.manual_seed(seed)
    model = timm.create_model("ftlab_mini", num_classes=FRACTALS)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, weight_decay=DECAY)
    draw = torch.Generator(device).manual_seed(seed)
    tiles, total = textures(seed).to(device), sum(steps for _, steps in SCHEDULE)
    precision = faster_precision(SCHEDULE[0][0], BATCH)
    step, start, loss_sum, right = 0, time.perf_counter(), 0.0, 0.0
    for size, steps in SCHEDULE:
        for _ in range(steps):
            rate = min(1, step / WARM_UP) * (1 + math.cos(math.pi * step / total)) / 2
            optimizer.param_groups[0]["lr"] = PEAK_RATE * rate
            chosen = torch.randint(len(bank), (BATCH,), generator=draw, device=device)
            hardest = min(1, (step + 1) / total / EASY)
            x = view(bank[chosen], tiles, size, hardest, draw)
            y = chosen // INSTANCES
            with devices.autocast(device, precision):
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
        draw = partial(fractal, seed=given.seed, instances=INSTANCES)
        drawn = list(pool.map(draw, range(FRACTALS), chunksize=4))
    bank = torch.from_numpy(np.concatenate(drawn)).to(device)
    print(f"{len(bank)} fractals of {FRACTALS} classes, {time.perf_counter() - start:.0f} s")
    train(bank, given.seed, device, given.out)
    print(f"{given.out.stat().st_size} bytes, sha256 {sha256(given.out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
