"""How a study's time grows: `python benchmarks/scaling.py`, with ftlab_mini at 128 pixels.

Images: one run on 200, 400 and 800 training images, features computed anew. Time is linear if the
second 400 images take twice what the first 200 more took. Runs: a study of 16 seeds, and when its
1st, 4th and 16th run had their answers. The first run pays for what all share (features, theta_0);
the others should cost the same each. Sizes take turns; what is printed are medians.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ftlab import datasets  # noqa: E402
from ftlab.lab import Lab  # noqa: E402
from ftlab.records import Question, Settings  # noqa: E402

DATA, CLASSES, SIZE = "drawn", 4, 128
STRATEGIES = ("linear_probe", "full")
IMAGES, RUNS = (200, 400, 800), (1, 4, 16)


def answered(lab: Lab, strategy: str, seeds: int, settings: Settings, name: str) -> list[float]:
    """Seconds from the asking until each run of a study has its answer; nothing is kept before."""
    shutil.rmtree(lab.home / "cache" / "features", ignore_errors=True)
    shutil.rmtree(lab.checkpoints / name, ignore_errors=True)
    began, at = time.perf_counter(), []
    question = Question(DATA, ["ftlab_mini"], [strategy], range(seeds), settings, name=name)
    for event in lab.work(lab.ask(question), lambda: False):
        if event["event"] == "failed":
            raise SystemExit(event["reason"])
        if event["event"] == "finished":
            at.append(time.perf_counter() - began)
    return at


def in_turns(rounds: int, sizes: dict, work: Callable) -> dict:
    """Size -> median of what it took."""
    taken = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            taken[size].append(work(sizes[size]))
    return {size: median(seconds) for size, seconds in taken.items()}


def say(strategy: str, unit: str, taken: dict[int, float]) -> dict:
    """Print what one more costs, and what it costs above over what it costs below the middle."""
    (few, some, many), (s, t, u) = taken, taken.values()
    below, above = (t - s) / (some - few), (u - t) / (many - some)
    each = (u - s) / (many - few)
    shown = ", ".join(f"{n}: {seconds:.1f} s" for n, seconds in taken.items())
    print(f"{strategy:13} {unit:7} {shown}; each {1000 * each:.1f} ms,", end=" ")
    print(f"shared {s - each * few:.1f} s, slopes {above / below:.2f}", flush=True)
    found = {"each": each, "shared": s - each * few, "slopes": above / below}
    return {"strategy": strategy, "unit": unit, "seconds": taken, **found}


def main(
    epochs: int = 4,
    rounds: int = 3,
    shrink: Annotated[int, typer.Option(help="So many times fewer images.")] = 1,
    out: Annotated[Path | None, typer.Option(help="A JSON file for what was measured.")] = None,
) -> None:
    settings, found = Settings(epochs=epochs, size=SIZE, precision="float32"), []
    with tempfile.TemporaryDirectory(prefix="ftlab-") as home:
        lab = Lab(Path(home))
        per_class = 2 + round(max(IMAGES) // shrink / CLASSES / 0.8)
        options = dict(per_class=per_class, fractions=(0.8, 0.1, 0.1), seed=1)
        lab.import_data("phantom:chest_xray", DATA, **options)
        datasets.open_dataset(lab.data, DATA).array(SIZE)
        sizes = {n: n // shrink // CLASSES for n in IMAGES}
        few = replace(settings, train_per_class=sizes[IMAGES[0]])
        answered(lab, "full", 1, replace(few, epochs=1), "warm")
        for strategy in STRATEGIES:

            def images(per_class: int, strategy=strategy) -> float:
                some = replace(settings, train_per_class=per_class)
                return answered(lab, strategy, 1, some, f"{strategy}-{per_class}")[0]

            found.append(say(strategy, "images", in_turns(rounds, sizes, images)))
            at = answered(lab, strategy, max(RUNS), few, f"{strategy}-runs")
            found.append(say(strategy, "runs", {n: at[n - 1] for n in RUNS}))
    if out:
        out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
