"""One study, run after run and side by side: `python benchmarks/lanes.py`.

`full` on drawn chest X-rays, as many seeds as asked, each study by `python -m ftlab compare` in a
process of its own, start-up included: in one lane with all threads, then in as many lanes as ftlab
takes (`ftlab.lanes.number`), in turns. Which it takes is decided by the operations of a batch; see
there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
WAYS = {
    "one lane": "lanes.number = lambda context, left: 1; ",
    "side by side": "",
    "two lanes, asked or not": "lanes.number = lambda context, left: 2; ",
}


def main(
    backbone: str = "ftlab_mini",
    size: Annotated[int, typer.Option(help="Pixels.")] = 96,
    epochs: int = 6,
    precision: str = "float32",
    seeds: int = 8,
    turns: int = 2,
) -> None:
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="ftlab-lanes-") as home:
        _ftlab(home, "", "import", "phantom:chest_xray", "drawn", "--per-class", "100")
        for turn in range(turns):
            for number, (way, changed) in enumerate(WAYS.items()):
                asked = ["compare", "drawn", "--backbone", backbone, "--weights", "random"]
                asked += ["--strategies", "full", "--seeds", seeds, "--epochs", epochs]
                asked += ["--precision", precision]
                began = time.perf_counter()
                _ftlab(home, changed, *asked, "--size", size, "--name", f"s{turn}-{number}")
                taken[way].append(time.perf_counter() - began)
    alone = median(taken["one lane"])
    for way, seconds in taken.items():
        print(f"{way}: {median(seconds):.0f} s, {median(seconds) / alone:.2f} of one lane's")


def _ftlab(home: str, changed: str, *arguments) -> None:
    program = f"from ftlab import __main__, lanes; {changed}__main__.main()"
    subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "FTLAB_HOME": home},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )


if __name__ == "__main__":
    typer.run(main)
