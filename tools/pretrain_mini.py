"""Pretrain ftlab_mini on fractals, textures and looks, end to end from a seed, no photograph.

    python tools/pretrain_mini.py --out ftlab_mini.safetensors

The network is asked for the fractal it sees (formula-driven supervised learning; Kataoka et al.
2020, "Pre-training without natural images"), for the texture behind it, and for the looks of every
place and of the whole: colours, contrasts and oriented gradients, which need no label (as the
gradients in Wei et al. 2022, "Masked feature prediction"). Colours and views are drawn anew each
time a picture is seen. A training that was stopped goes on from the last line of its log when the
command is given again.
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
from formulas import FRACTALS, TEXTURES, fractal, texture
from safetensors.torch import save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from views import PLACE, WHOLE, looks, view

import ftlab.mini  # noqa: F401  (registers the architecture with timm)
from ftlab import arithmetic
from ftlab import device as devices
from ftlab.records import Settings

INSTANCES = 64  # pictures of a class, fractals and textures alike
SIZES = (64, 48, 64, 96)  # pixels of a side, in turn, so that no scale comes late
STEPS, BATCH, PEAK_RATE, DECAY, WARM_UP = 12_000, 128, 3e-3, 0.05, 200
REPORTED = 200  # steps between two lines of the log, and between two states to go on from
PROCESSES = 2  # at most: BatchNorm needs a batch, and each sees its share alone
EASY = 0.15  # share of the steps over which views grow to their hardest


# --- what it is asked for ---


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
        """Scores (B, FRACTALS) and (B, TEXTURES), and the mean squared errors of the looks.

        x: views (B, 3, H, W) in 0..1; looks_place, looks_whole: theirs, of `views.looks`.
        """
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


def faster_precision(size: int, batch: int) -> str:
    """float32 or bfloat16, whichever a few training steps show to be faster on this machine."""
    asked = Settings(precision=arithmetic.AUTO, size=size, batch=batch)
    with tempfile.TemporaryDirectory() as cache:
        return arithmetic.settled(asked, "ftlab_mini", Path(cache)).precision


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
    draw, kept = torch.Generator(device), out.with_suffix(".state")
    first, start = resume(kept, model, optimizer) if kept.exists() else (0, time.perf_counter())
    share, sums = BATCH // of, torch.zeros(6, device=device)
    for step in range(first, STEPS):
        if step % REPORTED == 0:
            draw.manual_seed((seed * 1000 + rank) * STEPS + step)
        rate = min(1, step / WARM_UP) * (1 + math.cos(math.pi * step / STEPS)) / 2
        optimizer.param_groups[0]["lr"] = PEAK_RATE * rate
        size = SIZES[step % len(SIZES)]
        chosen = torch.randint(len(figures), (share,), generator=draw, device=device).cpu()
        behind = torch.randint(len(fields), (share,), generator=draw, device=device).cpu()
        hardest = min(1, (step + 1) / STEPS / EASY)
        x, shown, woven = view(
            figures[chosen].to(device), fields[behind].to(device), size, hardest, draw
        )
        y, z = (chosen // INSTANCES).to(device), (behind // INSTANCES).to(device)
        loss, told = judged(together, x, shown, woven, y, z)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        sums += told
        if rank == 0 and (step + 1) % REPORTED == 0:
            mean, seconds = (sums / sums[-1]).tolist(), time.perf_counter() - start
            print(
                f"step {step + 1} of {STEPS}, {seconds:.0f} s: loss "
                f"{mean[0]:.3f}, fractals {mean[1]:.3f}, textures {mean[2]:.3f}, looks of places "
                f"{mean[3]:.3f}, of the whole {mean[4]:.3f}",
                flush=True,
            )
            sums.zero_()
            save(at_fresh_norms(model.trunk), out)
            keep(kept, model, optimizer, step + 1, seconds)
    dist.barrier()
    dist.destroy_process_group()
    kept.unlink(missing_ok=True)


def judged(model, x, shown, woven, y, z) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of views, and what the log adds up: loss, accuracies, errors and a 1 to count (6,).

    x, shown, woven: as `view` gives them; y, z (B,): their classes of fractal and of texture.
    """
    figure, ground, (place, whole) = model(x, *looks(x, math.ceil(x.shape[-1] / 32)))
    named = F.cross_entropy(figure[shown], y[shown], label_smoothing=0.1)
    named = named + F.cross_entropy(ground[woven], z[woven], label_smoothing=0.1)
    loss = named + 2 * (place + whole)
    with torch.no_grad():
        right = (figure.argmax(1) == y)[shown].float().mean()
        alone = (ground.argmax(1) == z)[~shown].float().mean().nan_to_num()
        told = torch.stack((loss, right, alone, place, whole, torch.ones_like(loss)))
    return loss, told


def save(trunk: nn.Module, out: Path) -> None:
    """Write the trunk in half precision, so that a stopped training leaves what it has."""
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in trunk.state_dict().items()
    }
    save_file(tensors, out)


def keep(file: Path, model: nn.Module, optimizer, step: int, seconds: float) -> None:
    """Write what a stopped training goes on from."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": step, "seconds": seconds}, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)


def resume(file: Path, model: nn.Module, optimizer) -> tuple[int, float]:
    """Take up what was kept: the step to go on with, and when the training would have begun."""
    state = torch.load(file, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], time.perf_counter() - state["seconds"]


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
