"""What it costs that others compute on the same processors: `python benchmarks/crowded.py`.

An interpreter trains ftlab_mini (a batch of 32 at 128 pixels, noise) with all threads, alone and
beside another one that does the same, with the waiting of threads as ftlab asks for it
(ftlab/__init__.py) and as libgomp has it, in turns. Printed are milliseconds of a step, medians.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ftlab  # noqa: E402, F401  (asks for it in this environment, which its children inherit)

WAITING = {"as ftlab asks": {}, "as libgomp has it": {"GOMP_SPINCOUNT": "300000"}}


def train(seconds: float) -> None:
    """Print the median of the steps made in so many seconds."""
    from arithmetic import WORK, step_of, timed

    step = step_of("ftlab_mini", WORK["ftlab_mini"], 32, "float32, channels last")
    taken, until = [], time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < until:
        taken.append(timed(step))
    print(1000 * median(taken[1:]))


def together(interpreters: int, waiting: dict[str, str], seconds: float) -> float:
    """Milliseconds of a step of one of several interpreters at work at once."""
    command = [sys.executable, __file__, "--training", "--seconds", str(seconds)]
    environment = {**os.environ, **waiting}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(interpreters)
    ]
    return median([float(process.communicate()[0]) for process in started])


def main(
    seconds: Annotated[float, typer.Option(help="Of training in each turn.")] = 10.0,
    turns: int = 3,
    training: Annotated[bool, typer.Option("--training", help="Be one of them.")] = False,
) -> None:
    if training:
        return train(seconds)
    taken = {(n, name): [] for n in (1, 2) for name in WAITING}
    for _ in range(turns):
        for (interpreters, name), found in taken.items():
            found.append(together(interpreters, WAITING[name], seconds))
    for (interpreters, name), found in taken.items():
        print(f"{interpreters} at once, waiting {name}: {median(found):.0f} ms a step")


if __name__ == "__main__":
    typer.run(main)
