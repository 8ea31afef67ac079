"""What a network cut, frozen or slimmed at a unit costs: parameters, operations, time.

Multiply-accumulates (MACs) are those of convolutions and matrix products of one image, half of what
PyTorch's FlopCounterMode counts, the head's apart. Latency is this machine's, in float32 and of
random weights, from normalised images to logits, as a network answers (`ftlab.folding`).
"""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from . import backbones, files, weights
from . import device as devices
from .backbones import Network
from .folding import folded

KEPT = "latency.json"  # in the cache
PASSES = {1: 50, 32: 5}  # images a batch -> passes of which the median is taken
WARM_UP = 2


class Unit(NamedTuple):
    """What one unit adds to a network, and the channels that leave it."""

    parameters: int
    macs: int
    channels: int


def costs(backbone: str, strategy: str, unit: int | None, classes: int, size: int) -> dict:
    """{parameters, macs, trained_parameters, trained_macs} of a strategy's network at a unit.

    Parameters with head and neck; MACs of one image of `size` pixels, without the head. Trained:
    without the units that layer_wise freezes.

    Args:
        unit: None for the whole network, of which everything learns.
    Raises:
        BadInput: there is no such backbone, or it cannot be made slim there.
    """
    every = _units(backbone, unit if strategy == "transfusion" else None, size)
    kept = every[:unit] if strategy == "truncated" else every
    learns = kept[unit:] if strategy == "layer_wise" else kept
    head = (kept[-1].channels + 1) * classes
    return {
        "parameters": sum(each.parameters for each in kept) + head,
        "macs": sum(each.macs for each in kept),
        "trained_parameters": sum(each.parameters for each in learns) + head,
        "trained_macs": sum(each.macs for each in learns),
    }


@lru_cache(maxsize=256)
def _units(backbone: str, slim_from: int | None, size: int) -> tuple[Unit, ...]:
    """Every unit of a network without numbers, a neck's too."""
    with torch.device("meta"):
        network = backbones.skeleton(backbone).eval()
        if slim_from is not None:
            backbones.slim(network, slim_from)
        x, found = torch.empty(1, 3, size, size), []
    for unit in network.units():
        with FlopCounterMode(display=False) as counter:
            x = unit(x)
        macs = counter.get_total_flops() // 2
        found.append(Unit(backbones.parameters(unit), macs, x.shape[1]))
    return tuple(found)


def latency(
    backbone: str,
    strategy: str,
    unit: int | None,
    classes: int,
    size: int,
    cache: Path,
    measure: bool,
) -> dict[str, float] | None:
    """{images a batch: milliseconds a pass}, the median over `PASSES`, of a network as in `costs`.

    What was measured on this machine, with as many threads, is kept in the cache; None where there
    is none of it and nothing is to be measured.
    """
    shape = {
        "cut_after": unit if strategy == "truncated" and not _whole(backbone, unit) else None,
        "slim_from": unit if strategy == "transfusion" else None,
    }
    here = devices.describe()
    place = f"{here['device_name']}, {here['threads']} threads, torch {here['torch']}"
    key = f"{backbone} {shape}, {classes} classes, {size} px; folded; {place}"
    known = files.read_json(cache / KEPT) or {}
    if key not in known and measure:
        theta0 = weights.load(backbone, "random")
        network = folded(backbones.build(backbone, classes, theta0, **shape))
        known[key] = {str(images): _timed(network, images, size) for images in PASSES}
        cache.mkdir(parents=True, exist_ok=True)
        files.write_json(cache / KEPT, known)
    return known.get(key)


def _whole(backbone: str, unit: int | None) -> bool:
    """Whether nothing lies behind a unit, so that a cut there leaves the whole network."""
    layout = backbones.layout(backbone)
    return "neck" not in layout.names and unit == layout.trunk[-1].units[-1]


@torch.inference_mode()
def _timed(network: Network, images: int, size: int) -> float:
    """Milliseconds of a pass."""
    device = devices.pick()
    network.to(device, memory_format=torch.channels_last).eval()
    x = torch.rand(images, 3, size, size).to(device, memory_format=torch.channels_last)
    taken = []
    for _ in range(WARM_UP + PASSES[images]):
        devices.wait()
        began = time.perf_counter()
        network(x)
        devices.wait()
        taken.append(1000 * (time.perf_counter() - began))
    return median(taken[WARM_UP:])
