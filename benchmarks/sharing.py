"""What it saves that runs share the units they begin with: `python benchmarks/sharing.py`.

A probe, `layer_wise` and `surgical` of one backbone, from random weights, trained for an epoch on a
few drawn images: one image is predicted and explained by all three, with their equal units joined
and without, in turns, everything in memory; medians.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from statistics import median
from unittest.mock import patch

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ftlab import prediction, sharing  # noqa: E402
from ftlab.lab import Lab  # noqa: E402
from ftlab.records import Question, Settings  # noqa: E402

STRATEGIES = ("linear_probe", "layer_wise", "surgical")
JOINED = {"apart": lambda network, other: None, "joined": sharing.join}


def main(backbone: str = "resnet50", size: int = 224, turns: int = 15) -> None:
    with tempfile.TemporaryDirectory(prefix="ftlab-") as home:
        lab = Lab(Path(home))
        lab.import_data("phantom:chest_xray", "drawn", per_class=8, seed=1)
        settings = Settings(epochs=1, size=size, batch=8, precision="float32")
        question = Question("drawn", [backbone], STRATEGIES, [0], settings, "random", name="three")
        for event in lab.work(lab.ask(question), lambda: False):
            if event["event"] == "failed":
                raise SystemExit(event["reason"])
        image, kept = lab.examples()[0]["file"], {name: OrderedDict() for name in JOINED}

        def seconds(name: str) -> float:
            with (
                patch.object(prediction, "_kept", kept[name]),
                patch.object(sharing, "join", JOINED[name]),
            ):
                began = time.perf_counter()
                lab.explain(image, "three")
                return time.perf_counter() - began

        def megabytes(name: str) -> float:
            with patch.object(prediction, "_kept", kept[name]):
                return prediction._held() / 1e6

        taken = {name: [] for name in JOINED}
        for turn in range(turns + 1):
            for name in sorted(JOINED, reverse=turn % 2 == 0):
                taken[name].append(seconds(name))
        for name in JOINED:  # the first of each also loads
            print(f"{name}: {1000 * median(taken[name][1:]):.0f} ms, {megabytes(name):.0f} MB")


if __name__ == "__main__":
    typer.run(main)
