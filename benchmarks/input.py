"""What share of an epoch goes into what a network is fed: `python benchmarks/input.py`.

Gathering an epoch's batches from the memory-mapped array of a data set (400 drawn chest X-rays),
shuffled anew, and normalising them; beside epochs of full fine-tuning, in turns; medians.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from arithmetic import WORK  # noqa: E402

from ftlab import backbones, datasets, strategies, weights  # noqa: E402
from ftlab.batches import Split, batches  # noqa: E402
from ftlab.lab import Lab  # noqa: E402
from ftlab.records import Settings  # noqa: E402
from ftlab.train import fit  # noqa: E402

CLASSES, BATCH = 4, 32


def feeding(network: backbones.Network, images: Split, seed: int) -> float:
    """Seconds to make all batches of an epoch."""
    order, began = np.random.default_rng(seed).permutation(len(images)), time.perf_counter()
    for pixels, _ in batches(images, order, BATCH):
        network.prepare(pixels)
    return time.perf_counter() - began


def main(
    chosen: Annotated[str, typer.Option("--backbones")] = "ftlab_mini,mobilenetv2_100",
    images: int = 400,
    turns: int = 3,
) -> None:
    with tempfile.TemporaryDirectory(prefix="ftlab-") as home:
        lab = Lab(Path(home))
        lab.import_data("phantom:chest_xray", "drawn", per_class=images // CLASSES, seed=1)
        data = datasets.open_dataset(lab.data, "drawn")
        for name in chosen.split(","):
            pixels, rows = data.array(WORK[name]), np.arange(images)
            split = Split(pixels, rows, data.labels[rows])
            few = Split(pixels, rows[:4], data.labels[:4])  # validation is not what is measured
            about = dict(size=WORK[name], batch=BATCH, precision="float32")
            settings = Settings(epochs=turns + 1, **about)
            network = backbones.build(name, CLASSES, weights.load(name, "random"), seed=0)
            network.to(memory_format=torch.channels_last)
            plan = strategies.write_plan("full", network.layout(), settings.epochs)
            epochs, shares = fit(network, plan, split, few, settings, seed=0), []
            for turn, epoch in enumerate(epochs):
                fed = feeding(network, split, turn)
                shares.append((fed / epoch.seconds, fed, epoch.seconds))
            share, fed, seconds = (median(column) for column in zip(*shares[1:], strict=True))
            said = f"{1000 * fed:.0f} ms of an epoch of {seconds:.1f} s, {100 * share:.2f} %"
            print(f"{name}, {WORK[name]} px, {images} images: {said}", flush=True)


if __name__ == "__main__":
    typer.run(main)
