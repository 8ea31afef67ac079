"""Pretrain ftlab_mini on fractals, textures and looks, end to end from a seed, no photograph.

    python tools/pretrain_looks.py --out looks.safetensors

The network is asked for the fractal it sees (formula-driven supervised learning; Kataoka et al.
2020, "Pre-training without natural images"), for the texture behind it, and for the looks of every
place and of the whole: colours, contrasts and oriented gradients, which need no label (as the
gradients in Wei et al. 2022, "Masked feature prediction"). Colours and views are drawn anew each
time a picture is seen.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import timm
import torch
import torch.distributed as dist
import torch.nn.functional as F
from formulas import CANVAS, FIELD, FRACTALS, TEXTURES, fractal, texture
from pretrain_mini import faster_precision, save
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import ftlab.mini  # noqa: F401  (registers the architecture with timm)
from ftlab import device as devices

INSTANCES = 64  # pictures of a class, fractals and textures alike
SIZES = (64, 48, 64, 96)  # pixels of a side, in turn, so that no scale comes late
STEPS, BATCH, PEAK_RATE, DECAY, WARM_UP = 14_000, 128, 3e-3, 0.05, 200
PROCESSES = 2  # at most: BatchNorm needs a batch, and each sees its share alone
EASY = 0.15  # share of the steps over which views grow to their hardest
PLACE, WHOLE = 25, 104  # numbers of the looks of one place and of the whole picture


# --- what the network sees ---


def view(
    figures, fields, size: int, hardest: float, draw: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (B, 3, size, size) in 0..1, which of them show a fractal (B,) and which a texture (B,).

    From figures (B, 2, CANVAS, CANVAS) and fields (B, FIELD, FIELD), uint8. Each function of a
    fractal gets a colour, its ground three; in a third of the pictures they are near one, and of
    all a third is grey. Fractal and ground get a turn, mirror, scale, shear and shift each, a
    quarter of the fractals is smeared into soft blobs, a third of the pictures is ground alone;
    then contrast, blur and noise. How far each goes is drawn between 0 (a white fractal on black,
    a grey texture) and `hardest`.
    """
    n = len(figures)

    def uniform(low, high, *shape):
        return torch.rand(n, *shape, generator=draw, device=draw.device) * (high - low) + low

    far, alone = uniform(0, hardest), uniform(0, 1) < 0.33
    strength = far[:, None, None, None]
    colours = uniform(0, 1, 3, 11)
    near = (uniform(0, 1, 1, 1) < 0.33) * uniform(0.5, 0.95, 1, 1)
    colours = colours + (uniform(0, 1, 3, 1) - colours) * near
    seen = _figure(figures, 1 + (colours[:, :, :8] - 1) * far[:, None, None], size, far, uniform)
    soft = uniform(0, 1) < 0.25
    seen[soft] = (_blurred(seen[soft], 7) * 1.5).clamp(max=1)
    alpha = seen[:, 3:] * (1 - uniform(0, 0.3, 1, 1, 1) * strength)
    paint = seen[:, :3] / seen[:, 3:].clamp(min=1e-3) * (0.4 + 0.6 * seen[:, 3:])
    alpha = alpha * ~alone[:, None, None, None]
    contrast = torch.where(alone, 1.0, far * uniform(0.2, 1))
    ramp = torch.tensor((0, 0.5, 1), device=draw.device)
    dyes = ramp + (colours[:, :, 8:] - ramp) * far[:, None, None]
    ground = _ground(fields, dyes, contrast[:, None, None, None], size, far, uniform)
    ground = ground * torch.where(alone, 1.0, (far * 2).clamp(max=1))[:, None, None, None]
    x = ground * (1 - alpha) + paint * alpha
    x = torch.where(uniform(0, 1, 1, 1, 1) < 0.33, x.mean(1, keepdim=True), x)
    blurred = uniform(0, 1) < 0.3 * far
    x[blurred] = _blurred(x[blurred], 3)
    x = x + ((x - 0.5) * uniform(-0.3, 0.4, 1, 1, 1) + uniform(-0.15, 0.15, 1, 1, 1)) * strength
    noise = torch.randn(x.shape, generator=draw, device=x.device)
    x = x + noise * uniform(-0.04, 0.06, 1, 1, 1).clamp(min=0) * strength
    return x.clamp(0, 1), ~alone, contrast > 0.3


def _figure(figures, colours, size, far, uniform):
    """Painted fractals (B, 4, size, size): colour times density, and density."""
    n = len(figures)
    index = figures[:, 1].long().flatten(1)[:, None].expand(n, 3, -1)
    paint = colours.gather(2, index).view(n, 3, CANVAS, CANVAS)
    density = figures[:, :1].float() / 255
    scale, shift = 1 + uniform(-0.6, 0.2) * far, uniform(-0.3, 0.3, 2) * far[:, None]
    grid = F.affine_grid(_turned(scale, far, shift, uniform), (n, 1, size, size), False)
    return F.grid_sample(torch.cat((paint * density, density), 1), grid, align_corners=False)


def _ground(fields, colours, contrast, size, far, uniform):
    """Fields (B, 3, size, size) in three colours, the middle one between, at a contrast."""
    scale, shift = (1 + uniform(-0.4, 0.5) * far) * size / FIELD, uniform(-0.5, 0.5, 2)
    turned = _turned(scale, far, shift, uniform)
    grid = F.affine_grid(turned, (len(fields), 1, size, size), False)
    fields = fields[:, None].float() / 255
    z = F.grid_sample(fields, grid, padding_mode="reflection", align_corners=False) * 2
    low, middle, high = colours[..., None, None].unbind(2)
    towards = (low - middle) * (1 - z).clamp(min=0) + (high - middle) * (z - 1).clamp(min=0)
    return middle + towards * contrast


def _blurred(x: torch.Tensor, width: int) -> torch.Tensor:
    """x (B, C, S, S) under a box of `width` pixels, one direction after the other."""
    half = width // 2
    x = F.avg_pool2d(x, (width, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, width), 1, (0, half), count_include_pad=False)


def _turned(scale, far, shift, uniform) -> torch.Tensor:
    """Affine maps (n, 2, 3): a mirror and, by strength `far` (n,), turn and shear."""
    angle = uniform(-math.pi, math.pi) * far
    cos, sin = angle.cos() * scale, angle.sin() * scale
    mirror, shear = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0), uniform(-0.25, 0.25) * far
    rows = (cos, -sin + shear * cos, shift[:, 0], sin * mirror, (cos + shear * sin) * mirror)
    return torch.stack((*rows, shift[:, 1]), 1).view(-1, 2, 3)


# --- what it is asked for ---


def looks(x: torch.Tensor, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Looks (B, PLACE, places, places) of each place and (B, WHOLE) of all of x (B, 3, S, S).

    A place: means and deviations of the colours, how two vary together, contrast at three scales,
    gradients of four directions at two scales, and how much lies above five greys. The whole: means
    and deviations of these, a histogram of 27 colours, and the colours of 3 x 3 places.
    """
    half = F.avg_pool2d(x, 2)
    greys = [x.mean(1, keepdim=True), half.mean(1, keepdim=True)]
    greys.append(F.avg_pool2d(greys[1], 2))
    contrasts = [(grey - _blurred(grey, 3)).abs() for grey in greys]
    gradients = [_gradients(grey) for grey in (greys[0], greys[2])]
    above = [torch.sigmoid((greys[1] - at) * 20) for at in (0.1, 0.3, 0.5, 0.7, 0.9)]
    colours = torch.cat((half, half * half, half * half.roll(1, 1)), 1)
    mean, square, mixed = F.adaptive_avg_pool2d(colours, places).split(3, 1)
    together = mixed - mean * mean.roll(1, 1)
    together = together.sign() * together.abs().sqrt()
    textured = torch.cat(
        [F.adaptive_avg_pool2d(m, places) for m in (*contrasts, *gradients, *above)], 1
    )
    spread = (square - mean**2).clamp(min=0).sqrt()
    place = torch.cat((mean, spread, together, textured.sqrt()), 1)
    ink = torch.stack([torch.exp(-(((half - at) * 3) ** 2)) for at in (0.1, 0.5, 0.9)], 1)
    red, green, blue = F.avg_pool2d(ink.flatten(1, 2), 2).unflatten(1, (3, 3)).flatten(3).unbind(2)
    both = red[:, :, None] * green[:, None]
    histogram = both.flatten(1, 2) @ blue.transpose(1, 2) / red.shape[2]
    whole = (place.mean((2, 3)), place.std((2, 3)), histogram.flatten(1).sqrt())
    return place, torch.cat((*whole, F.adaptive_avg_pool2d(half, 3).flatten(1)), 1)


def _gradients(grey: torch.Tensor) -> torch.Tensor:
    """Sizes (B, 4, S, S) of the changes along four directions."""
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    dx = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    dy = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    return torch.cat((dx, dy, (dx + dy) * 0.7, (dx - dy) * 0.7), 1).abs()


class Asked(nn.Module):
    """The trunk and one linear head for each thing it is asked for."""

    def __init__(self, precision: str = "float32") -> None:
        super().__init__()
        self.precision = precision
        self.trunk = timm.create_model("ftlab_mini", num_classes=0, global_pool="")
        width = self.trunk.num_features
        self.figure, self.texture = nn.Linear(width, FRACTALS), nn.Linear(width, TEXTURES)
        self.place, self.whole = nn.Conv2d(width, PLACE, 1), nn.Linear(width, WHOLE)
        self.place_scale = nn.BatchNorm2d(PLACE, affine=False)
        self.whole_scale = nn.BatchNorm1d(WHOLE, affine=False)

    def forward(self, x: torch.Tensor, looks_place: torch.Tensor, looks_whole: torch.Tensor):
        """Scores (B, FRACTALS) and (B, TEXTURES), and the mean squared errors of the looks."""
        normalised = ((x - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        with devices.autocast(x.device, self.precision):
            maps = self.trunk(normalised)
            pooled = maps.mean((2, 3))
            figure, texture = self.figure(pooled), self.texture(pooled)
            place, whole = self.place(maps), self.whole(pooled)
        errors = (
            F.mse_loss(place.float(), self.place_scale(looks_place)),
            F.mse_loss(whole.float(), self.whole_scale(looks_whole)),
        )
        return figure.float(), texture.float(), errors


# --- training ---


def train(rank: int, of: int, folder: Path, precision: str, seed: int, out: Path) -> None:
    """One of `of` processes that train one network together, each on its share of every batch."""
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // of))
    meet = f"file://{folder}/meeting"
    dist.init_process_group("nccl" if cuda else "gloo", meet, rank=rank, world_size=of)
    figures = torch.from_numpy(np.load(folder / "figures.npy", mmap_mode="c"))
    fields = torch.from_numpy(np.load(folder / "fields.npy", mmap_mode="c"))
    torch.manual_seed(seed)
    model = Asked(precision).to(device, memory_format=torch.channels_last).train()
    together = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, weight_decay=DECAY, fused=True)
    draw = torch.Generator(device).manual_seed(seed * 1000 + rank)
    share, start, sums = BATCH // of, time.perf_counter(), torch.zeros(6, device=device)
    for step in range(STEPS):
        rate = min(1, step / WARM_UP) * (1 + math.cos(math.pi * step / STEPS)) / 2
        optimizer.param_groups[0]["lr"] = PEAK_RATE * rate
        size = SIZES[step % len(SIZES)]
        chosen = torch.randint(len(figures), (share,), generator=draw, device=device).cpu()
        behind = torch.randint(len(fields), (share,), generator=draw, device=device).cpu()
        hardest = min(1, (step + 1) / STEPS / EASY)
        x, shown, woven = view(
            figures[chosen].to(device), fields[behind].to(device), size, hardest, draw
        )
        figure, ground, (place, whole) = together(x, *looks(x, math.ceil(size / 32)))
        y, z = (chosen // INSTANCES).to(device), (behind // INSTANCES).to(device)
        named = F.cross_entropy(figure[shown], y[shown], label_smoothing=0.1)
        named = named + F.cross_entropy(ground[woven], z[woven], label_smoothing=0.1)
        loss = named + 2 * (place + whole)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            right = (figure.argmax(1) == y)[shown].float().mean()
            alone = (ground.argmax(1) == z)[~shown].float().mean().nan_to_num()
            sums += torch.stack((loss, right, alone, place, whole, loss * 0 + 1))
        if rank == 0 and ((step + 1) % 200 == 0 or step + 1 == STEPS):
            mean = (sums / sums[-1]).tolist()
            print(
                f"step {step + 1} of {STEPS}, {time.perf_counter() - start:.0f} s: loss "
                f"{mean[0]:.3f}, fractals {mean[1]:.3f}, textures {mean[2]:.3f}, looks of places "
                f"{mean[3]:.3f}, of the whole {mean[4]:.3f}",
                flush=True,
            )
            sums.zero_()
            save(at_fresh_norms(model.trunk), out)
    dist.destroy_process_group()


@torch.no_grad()
def at_fresh_norms(trunk: nn.Module) -> nn.Module:
    """A copy whose kernels have the norm of a fresh draw, and which answers as trunk does.

    A kernel that has grown turns more slowly at the same learning rate. Every convolution here has
    a BatchNorm behind it, which takes the factor back through its statistics.
    """
    trunk = deepcopy(trunk)
    layers = [m for m in trunk.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    for kernel, norm in zip(layers[::2], layers[1::2], strict=True):
        fan_out = kernel.weight.numel() / kernel.in_channels
        factor = math.sqrt(2 / fan_out * kernel.weight.numel()) / kernel.weight.norm()
        kernel.weight *= factor
        norm.running_mean *= factor
        norm.running_var.copy_((norm.running_var + norm.eps) * factor**2 - norm.eps)
    return trunk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.perf_counter()
    drawings = (("figures", fractal, FRACTALS), ("fields", texture, TEXTURES))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with ProcessPoolExecutor() as pool:
            for name, draw, count in drawings:
                drawn = partial(draw, seed=given.seed, instances=INSTANCES)
                classes = list(pool.map(drawn, range(count), chunksize=4))
                np.save(folder / f"{name}.npy", np.concatenate(classes))
        print(f"fractals and textures, {time.perf_counter() - start:.0f} s", flush=True)
        of = 1 if torch.cuda.is_available() else min(PROCESSES, os.cpu_count() or 1)
        precision = faster_precision(SIZES[0], BATCH // of)
        torch.multiprocessing.spawn(train, (of, folder, precision, given.seed, given.out), of)
    print(f"{given.out.stat().st_size} bytes, sha256 {sha256(given.out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
