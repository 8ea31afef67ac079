"""What a frozen prefix makes of the images, computed once.

In a phase the units before the first one that learns give the same features whenever an image comes
by. They are computed once and kept in a memory-mapped file, under a name made from all that decides
them (weights, cut, images, size, precision), so that epochs, phases, strategies, seeds, studies and
restarts share them. The files go, least recently used first, when they fill their budget. Those of
one of several people's own images lie in a folder of theirs in the folder of all (`ftlab.homes`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import device as devices
from . import files
from .backbones import Network
from .batches import Features, Images, Split, View
from .folding import folded
from .records import Phase, Settings

FORMAT = 3
FOLDER = "features"  # of all files in a home's cache
BUDGET_BYTES = 8 * 2**30  # of all files; one that would be larger than half of it is not made
FREE_SHARE = 0.5  # of the disk's free space that a new file may take
ASK_SECONDS = 0.05  # between two looks whether another process has made them


class Stopped(Exception):
    """Somebody asked to stop while features were made or waited for."""


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
    network: Network,
    units: int,
    settings: Settings,
    cache: Path | None,
    split: Split | View,
    way: Iterable[int] = (),
    stop: Callable[[], bool] = lambda: False,
) -> Images:
    """The split as the first `units` units leave it, which must not change while it is in use.

    The split itself where nothing is frozen, there is no cache, or the features would not fit.

    Args:
        cache: the folder of the files.
        split: one without a key is not kept.
        way: numbers of units behind which later phases will ask for the split. What comes by
            there is kept, too, as far as it fits, so that the images pass these units once.
        stop: asked before every batch and while another process makes the features.
    Raises:
        Stopped: it was true.
    """
    if not units or cache is None or not split.key:
        return split
    key = _key(network, units, split, settings)
    while True:
        if not (path := _found(cache, key)):
            cache.mkdir(parents=True, exist_ok=True)
            with _alone(cache / f".{key}.lock", stop):  # a lane beside this may be making them
                path = _found(cache, key) or _made(
                    network, units, settings, cache, split, way, stop
                )
        if not path:
            return split
        with contextlib.suppress(FileNotFoundError):  # another process has just made room
            os.utime(path)
            return _open(path, split, units)


@contextlib.contextmanager
def _alone(path: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """Hold a lock; whoever waits asks again and again, which shows that it has not hung."""
    with open(path, "w") as lock:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if stop():
                raise Stopped
            time.sleep(ASK_SECONDS)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _made(network, units, settings, cache, split, way, stop) -> Path | None:
    """Compute the features and keep them; None where they would not fit."""
    depths = [*sorted(depth for depth in set(way) if 0 < depth < units), units]
    keys = {depth: _key(network, depth, split, settings) for depth in depths}
    network = folded(network, upto=units)
    sample = _passes(network, depths, split, np.arange(min(2, len(split))), settings)
    sizes = {depth: rows[0].nbytes * len(split) for depth, rows in sample}
    room = min(BUDGET_BYTES / 2, FREE_SHARE * shutil.disk_usage(cache).free)
    made = {}
    for depth in reversed(depths):  # the one that is asked for first
        if sizes[depth] <= room and not _found(cache, keys[depth]):
            made[depth] = keys[depth]
            room -= sizes[depth]
    if units not in made:
        return None
    _make_room(cache, sum(sizes[depth] for depth in made))
    try:
        return _write(cache, made, network, split, settings, stop)[units]
    except OSError as error:
        if files.disk_full(error):  # by something else, meanwhile
            return None
        raise


def _found(cache: Path, key: str) -> Path | None:
    return next(cache.glob(f"{key}.*.npy"), None)


def _key(network: Network, units: int, split, settings: Settings) -> str:
    digest = hashlib.sha256()
    for unit in network.units()[:units]:
        digest.update(repr(unit).encode())  # networks with equal tensors may pad otherwise
        for name, tensor in unit.state_dict().items():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    device = network.head.weight.device.type
    about = [FORMAT, units, units == len(network.units()), split.key, network.mean, network.std]
    about += [settings.batch, settings.precision, device, torch.__version__]
    digest.update(json.dumps(about).encode())
    return digest.hexdigest()[:40]


@torch.inference_mode()
def _passes(
    network: Network, depths: Iterable[int], split, places: np.ndarray, settings: Settings
) -> Iterator[tuple[int, Tensor]]:
    """(units, features) of some images of a split, from the first units on, as they are kept.

    Features hold until the next are asked for: layers that work in place may change them.
    """
    device, at = network.head.weight.device, 0
    x = network.prepare(devices.put(split.batch(places), device))
    for depth in sorted(depths):
        with devices.autocast(device, settings.precision):
            x, at = network.run(x, after=at, upto=depth), depth
            pooled = x.mean(dim=(2, 3)) if depth == len(network.units()) else x
        yield depth, pooled.cpu()


def _write(cache: Path, keys: dict[int, str], network, split, settings, stop) -> dict[int, Path]:
    """Compute the features of a whole split, each depth's into a file of its own; their paths."""
    arrays, kinds, began = {}, {}, time.perf_counter()
    with contextlib.ExitStack() as stack:
        unfinished = {
            depth: stack.enter_context(files.unfinished(cache / key)) for depth, key in keys.items()
        }
        for part in np.array_split(np.arange(len(split)), -(-len(split) // settings.batch)):
            if stop():
                raise Stopped
            for depth, features in _passes(network, keys, split, part, settings):
                rows, kind = _plain(features)
                if depth not in arrays:
                    shape = (len(split), *rows.shape[1:])
                    arrays[depth] = files.new_array(unfinished[depth], rows.dtype, shape)
                    kinds[depth] = kind
                arrays[depth][part] = rows
        for array in arrays.values():
            array.flush()
        ms = round(1000 * (time.perf_counter() - began))
        names = {depth: f"{keys[depth]}.{kinds[depth]}-{ms}ms.npy" for depth in keys}
        return {d: unfinished[d].replace(cache / name) for d, name in names.items()}


def _plain(rows: Tensor) -> tuple[np.ndarray, str]:
    """Features as the file holds them, and the part of its name that says how."""
    last = rows.ndim == 4 and rows.is_contiguous(memory_format=torch.channels_last)
    rows = rows.permute(0, 2, 3, 1) if last else rows
    short = rows.dtype == torch.bfloat16
    rows = rows.contiguous().view(torch.int16) if short else rows
    return rows.numpy(), f"{'last' if last else 'first'}-{'bf16' if short else 'fp32'}"


def _open(path: Path, split, units: int) -> Features:
    last, short, ms = path.name.split(".")[1].split("-")
    array, seconds = np.load(path, mmap_mode="r"), int(ms.removesuffix("ms")) / 1000
    return Features(array, split.labels, units, last == "last", short == "bf16", seconds)


def _make_room(cache: Path, size: int) -> None:
    """Delete the files that were used longest ago until `size` bytes fit into the budget.

    Those of everybody count: it is one disk.
    """
    kept, whole = [], cache.parent if cache.parent.name == FOLDER else cache
    for folder, _, names in os.walk(whole):
        for path in (Path(folder, name) for name in names if name.endswith(".npy")):
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                found = path.stat()
                kept.append((found.st_mtime, found.st_size, path))
    held = sum(own for _, own, _ in kept)
    for _, own, path in sorted(kept):
        if held + size <= BUDGET_BYTES:
            return
        held -= own
        path.unlink(missing_ok=True)  # whoever has it open reads on
