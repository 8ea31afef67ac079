"""What a frozen prefix makes of the images, computed once.

In a phase the units before the first one that learns give the same features whenever an image comes
by. They are computed once and kept in a memory-mapped file, under a name made from all that decides
them (weights, cut, images, size, precision), so that epochs, phases, strategies, seeds, studies and
restarts share them. The files go, least recently used first, when they fill their budget.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import device as devices
from .backbones import Network
from .batches import Features, Images, Split
from .records import Phase, Settings

FORMAT = 1
BUDGET_BYTES = 8 * 2**30  # of all files; one that would be larger than half of it is not made
FREE_SHARE = 0.5  # of the disk's free space that a new file may take


def frozen_units(network: Network, phases: Sequence[Phase]) -> int:
    """How many units at the bottom learn in none of the phases."""
    learning = {id(p) for f in phases for name in f.lrs for p in _parameters(network, name)}
    norms = {id(b) for f in phases for name in f.lrs for b in network.modules_of(name).buffers()}
    for number, unit in enumerate(network.units()):
        own = {id(t) for t in (*unit.parameters(), *unit.buffers())}
        if own & (learning | norms):
            return number
    return len(network.units())


def _parameters(network: Network, name: str) -> Iterator[Tensor]:
    return network.modules_of(name).parameters()


def behind(
    network: Network, units: int, settings: Settings, cache: Path | None, split: Split
) -> Images:
    """The split as the first `units` units leave it, which must not change while it is in use.

    The split itself where nothing is frozen, there is no cache, or the features would not fit.

    Args:
        cache: the folder of the files.
        split: one without a key is not kept.
    """
    if not units or cache is None or not split.key:
        return split
    key = _key(network, units, split, settings)
    for path in cache.glob(f"{key}.*.npy"):
        os.utime(path)
        return _open(path, split, units)
    network.eval()
    sample = _compute(network, units, split, np.arange(min(2, len(split))), settings)
    size = sample[0].nbytes * len(split)
    cache.mkdir(parents=True, exist_ok=True)
    if size > min(BUDGET_BYTES / 2, FREE_SHARE * shutil.disk_usage(cache).free):
        return split
    _make_room(cache, size)
    return _open(_write(cache, key, network, units, split, settings), split, units)


def _key(network: Network, units: int, split, settings: Settings) -> str:
    digest = hashlib.sha256()
    for unit in network.units()[:units]:
        for name, tensor in unit.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    device = network.head.weight.device.type
    about = [FORMAT, units, units == len(network.units()), split.key, network.mean, network.std]
    about += [settings.batch, settings.precision, device, torch.__version__]
    digest.update(json.dumps(about).encode())
    return digest.hexdigest()[:40]


@torch.inference_mode()
def _compute(network: Network, units: int, split, places: np.ndarray, settings: Settings) -> Tensor:
    """The features of some images of a split, as they are kept."""
    device = network.head.weight.device
    with devices.autocast(device, settings.precision):
        features = network.run(network.prepare(split.batch(places).to(device)), upto=units)
        if units == len(network.units()):
            features = features.mean(dim=(2, 3))
    return features.cpu()


def _write(cache: Path, key: str, network: Network, units: int, split, settings: Settings) -> Path:
    """Compute the features of a whole split into a file of their own; its path."""
    unfinished = cache / f".{key}.{secrets.token_hex(4)}.tmp"
    array = None
    try:
        for part in np.array_split(np.arange(len(split)), -(-len(split) // settings.batch)):
            rows = _compute(network, units, split, part, settings)
            last = rows.ndim == 4 and rows.is_contiguous(memory_format=torch.channels_last)
            rows = rows.permute(0, 2, 3, 1) if last else rows
            short = rows.dtype == torch.bfloat16
            rows = rows.contiguous().view(torch.int16) if short else rows
            if array is None:
                shape = (len(split), *rows.shape[1:])
                dtype = rows.numpy().dtype
                array = np.lib.format.open_memmap(unfinished, "w+", dtype, shape)
            array[part] = rows.numpy()
        array.flush()
        kind = f"{'last' if last else 'first'}-{'bf16' if short else 'fp32'}"
        path = cache / f"{key}.{kind}.npy"
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _open(path: Path, split, units: int) -> Features:
    last, short = path.name.split(".")[1].split("-")
    array = np.load(path, mmap_mode="r")
    return Features(array, split.labels, units, last == "last", short == "bf16")


def _make_room(cache: Path, size: int) -> None:
    """Delete the files that were used longest ago until `size` bytes fit into the budget."""
    files = sorted(cache.glob("*.npy"), key=lambda path: path.stat().st_mtime)
    held = sum(path.stat().st_size for path in files)
    for path in files:
        if held + size <= BUDGET_BYTES:
            return
        held -= path.stat().st_size
        path.unlink(missing_ok=True)  # whoever has it open reads on
