"""What bfloat16 costs in accuracy: `python benchmarks/parity.py`.

The same studies of one strategy in float32 and in bfloat16, five seeds on each of three drawn data
sets, compared seed by seed on the same test images with the intervals of a study
(`ftlab.statistics.paired`). The last line is of all sets together: the test images of all, each
with the classes of its own, so that a seed's balanced accuracy is the mean over the sets.

A processor without bfloat16 computes it all the same, rounding where one with it rounds, only
slowly: here accuracies are compared, not times.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import numpy as np
import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ftlab import device, runs, studies  # noqa: E402
from ftlab.lab import Lab  # noqa: E402
from ftlab.metrics import score  # noqa: E402
from ftlab.records import Question, Settings  # noqa: E402
from ftlab.statistics import paired  # noqa: E402

METRIC = "balanced_accuracy"
Tests = list[dict[str, np.ndarray]]  # by seed, as `runs.predictions` gives them


def trained(lab: Lab, question: Question) -> Tests:
    folder = lab.ask(question)
    for event in lab.work(folder, lambda: False):
        if event["event"] == "failed":
            raise SystemExit(event["reason"])
    cells = sorted(studies.cells(studies.read(folder)), key=lambda cell: cell.seed)
    return [runs.predictions(cell.folder(folder)) for cell in cells]


def together(sets: Sequence[Tests]) -> Tests:
    """The tests of several data sets as those of one that has the images and classes of all."""
    return [joined(of_seed) for of_seed in zip(*sets, strict=True)]


def joined(tests: Sequence[dict]) -> dict[str, np.ndarray]:
    classes = [test["probs"].shape[1] for test in tests]
    before = np.cumsum([0, *classes])
    probs = [
        np.pad(test["probs"], ((0, 0), (low, before[-1] - low - n)))
        for test, low, n in zip(tests, before[:-1], classes, strict=True)
    ]
    labels = [test["y_true"] + low for test, low in zip(tests, before[:-1], strict=True)]
    groups = [[f"{i} {g}" for g in test["group"]] for i, test in enumerate(tests)]
    return {"y_true": np.hstack(labels), "probs": np.vstack(probs), "group": np.hstack(groups)}


def _value(test: dict) -> float:
    return score(test["y_true"], test["probs"], (METRIC,))[METRIC]


def say(name: str, exact: Tests, rounded: Tests) -> None:
    """The mean over seeds of both, and by how much bfloat16 is better, in points, 95 % interval."""
    both = [[test["probs"] for test in tests] for tests in (exact, rounded)]
    found = paired(exact[0]["y_true"], *both, exact[0]["group"], METRIC)
    hits = [100 * fmean(_value(test) for test in tests) for tests in (exact, rounded)]
    agree = np.mean([(a.argmax(1) == b.argmax(1)).mean() for a, b in zip(*both, strict=True)])
    low, high, difference = (100 * found[key] for key in ("low", "high", "difference"))
    print(f"| {name} | {len(exact[0]['y_true'])} | {hits[0]:.1f} | {hits[1]:.1f} |", end=" ")
    print(f"{difference:+.1f} [{low:+.1f}, {high:+.1f}] | {100 * agree:.1f} |", flush=True)


def main(
    data: str = "phantom:chest_xray,phantom:brain_mri,phantom:histology",
    backbone: str = "ftlab_mini",
    strategy: str = "full",
    seeds: int = 5,
    epochs: int = 10,
    size: int = 96,
    per_class: Annotated[int, typer.Option(help="Images drawn of each class.")] = 200,
    weights: str = "pretrained",
) -> None:
    print("| data set | test images | float32, % | bfloat16, % | difference | same class, % |")
    print("|---|---|---|---|---|---|", flush=True)
    sets: dict[str, list[Tests]] = {precision: [] for precision in device.PRECISIONS}
    with tempfile.TemporaryDirectory(prefix="ftlab-") as home:
        lab, began = Lab(Path(home)), time.monotonic()
        for source in data.split(","):
            name = source.replace("phantom:", "")
            lab.import_data(source, name, per_class=per_class, fractions=(0.3, 0.1, 0.6), seed=1)
            for precision, found in sets.items():
                settings = Settings(epochs=epochs, size=size, precision=precision)
                question = Question(name, [backbone], [strategy], range(seeds), settings, weights)
                found.append(trained(lab, question))
            say(name, *(found[-1] for found in sets.values()))
        say("all", *(together(found) for found in sets.values()))
        print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    typer.run(main)
