"""What tests share: a tiny network, tiny pictures that a network can tell apart, an empty home.

Nothing here reads the network or this machine's own weights.
"""

from __future__ import annotations

import os
import shutil

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at import: before anything imports the hub

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:  # the process that hands out the tests runs none, and starts the sooner
    from ftlab.backbones import Network
    from ftlab.train import Split

# The longest files, each for one process: begun first, so that none is waited for at the end. Those
# with a browser lie apart: two at once make pages wait.
LONG = (
    *("test_journeys.py", "test_worker.py", "test_runs.py", "test_turns.py"),
    *("test_odd_checkpoints.py", "test_several.py", "test_weights.py", "test_cli.py"),
    *("test_wrong_values.py", "test_takeaway.py", "test_prediction.py"),
)
IN_MEMORY, ENOUGH = Path("/dev/shm"), 4 * 2**30  # no wait for a disk; bytes that must be free
TINY = "test_resnet"  # timm's own: a ResNet of 0.4 M parameters, stem and layer1 .. layer4


def pytest_configure() -> None:
    """Temporary folders in memory where there is room: runs are written to the disk itself."""
    if IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ENOUGH:
        root = IN_MEMORY / f"tmp-{os.getuid()}"
        root.mkdir(exist_ok=True)
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(root))


def pytest_collection_modifyitems(items) -> None:
    """The long files first, in the order above; the others as they were."""
    import torch

    torch.set_num_threads(1)  # so that bits repeat
    place = {name: n for n, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


def pictures(n: int, classes: int = 2, size: int = 32, seed: int = 0):
    """Noise with one bright band per class: pixels (n, size, size, 3) uint8 and labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    pixels = rng.integers(0, 120, (n, size, size, 3), dtype=np.uint8)
    band = size // classes
    for picture, label in zip(pixels, labels, strict=True):
        picture[label * band : (label + 1) * band] += 100
    return pixels, labels


def split(n: int, classes: int = 2, size: int = 32, seed: int = 0) -> Split:
    from ftlab.train import Split

    pixels, labels = pictures(n, classes, size, seed)
    return Split(pixels, np.arange(n), labels)


def tiny_network(classes: int = 2, seed: int = 0) -> Network:
    """Stem, two stages of which one has two units, and a neck; BatchNorm in all but the neck."""
    import torch
    from torch import nn

    from ftlab.backbones import Network

    def block(into: int, out: int) -> nn.Module:
        conv = nn.Conv2d(into, out, 3, stride=2, padding=1)
        return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = {
            "stem": [block(3, 4)],
            "stage1": [block(4, 6), block(6, 6)],
            "stage2": [block(6, 8)],
            "neck": [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.ReLU())],
        }
        return Network(stages, classes, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty home for data, studies and cache."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("FTLAB_HOME", str(folder))
    return folder


@pytest.fixture
def class_folders(tmp_path) -> Path:
    """60 pictures of 32 pixels in the class folders `high` and `low`, all different."""
    pixels, labels = pictures(60)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = tmp_path / "pictures" / ("high", "low")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number:03}.png")
    return tmp_path / "pictures"


@pytest.fixture
def dataset(home, class_folders) -> str:
    """The name of that folder imported into the empty home: 38 train, 10 val, 12 test or nearly."""
    from ftlab.datasets import import_dataset

    import_dataset(home / "data", str(class_folders), "bands")
    return "bands"


# --- for the journeys, in a real browser ---


@pytest.fixture(scope="module")  # no longer: its event loop would be in the way of others
def browser():
    from browser import chromium

    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The app, whose home has a data set `bands` and no study but the one that comes with it."""
    from browser import serving
    from tiny import bands

    home = tmp_path_factory.mktemp("journeys") / "home"
    home.mkdir()
    bands(home)
    with serving(home) as found:
        yield found
