"""Which arithmetic trains a backbone fastest on this machine: tried in a few steps, remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from . import backbones, files, weights
from . import device as devices
from .records import Settings

AUTO = "auto"
NAME = "arithmetic.json"  # in the cache
CLEARLY = 0.9  # what is not exact has to take less than this share of float32's time
ROUNDS = 3  # steps of each that count, in turns
FEW = 4  # images of a first step, which warms up and tells how many take about a second
CLASSES = 2


def settled(settings: Settings, backbone: str, cache: Path) -> Settings:
    """The settings with the precision of an "auto" found: float32 unless another is clearly faster.

    Other work on the machine weighs on all alike, since they take turns. What was found is kept in
    the cache for the same backbone, size, batch, device, threads and PyTorch. Where bfloat16 cannot
    be faster nothing is tried.

    Raises:
        BadInput: there is no such backbone to try.
    """
    if settings.precision != AUTO:
        return settings
    if devices.imitates_bfloat16(devices.pick()):
        return replace(settings, precision="float32")
    here = devices.describe()
    place = f"{here['device_name']}, {here['threads']} threads, torch {here['torch']}"
    key = f"{backbone} at {settings.size} px, batch {settings.batch}; {place}"
    known = files.read_json(cache / NAME) or {}
    if key not in known:
        known[key] = _tried(backbone, settings)
        cache.mkdir(parents=True, exist_ok=True)
        files.write_json(cache / NAME, known)
    return replace(settings, precision=known[key]["precision"])


def _tried(backbone: str, settings: Settings) -> dict:
    """{precision, images, seconds: {precision: of a training step}}"""
    names = devices.PRECISIONS
    first = {name: _step(backbone, name, settings, min(FEW, settings.batch)) for name in names}
    slowest = max(_timed(step) for step in first.values())
    images = int(min(max(FEW / slowest, FEW), settings.batch))
    steps = {name: _step(backbone, name, settings, images) for name in names}
    for step in steps.values():
        step()
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name, step in steps.items():
            taken[name].append(_timed(step))
    seconds = {name: median(of) for name, of in taken.items()}
    best = min(seconds, key=seconds.get)
    fast = seconds[best] < CLEARLY * seconds["float32"]
    return {"precision": best if fast else "float32", "images": images, "seconds": seconds}


def _step(backbone: str, precision: str, settings: Settings, images: int) -> Callable[[], None]:
    """A training step in which everything learns, on noise that is on the device already."""
    device = devices.pick()
    network = backbones.build(backbone, CLASSES, weights.load(backbone, "random"))
    network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.0)
    pixels = torch.randint(256, (images, settings.size, settings.size, 3), dtype=torch.uint8)
    x, y = network.prepare(pixels.to(device)), torch.arange(images, device=device) % CLASSES

    def step() -> None:
        with devices.autocast(device, precision):
            logits = network.classify(network.run(x))
        F.cross_entropy(logits.float(), y).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _timed(step: Callable[[], None]) -> float:
    devices.wait()
    began = time.perf_counter()
    step()
    devices.wait()
    return time.perf_counter() - began
