"""What it gains that freed memory is kept: `python benchmarks/allocation.py`.

A process makes training steps of a backbone in which everything learns (Adam, batch 32, noise) and
passes of the same images without gradients, float32, channels last, with memory handled as ftlab
has it (ftlab/__init__.py) and as glibc does, in turns. Printed are medians of milliseconds over
the turns, page faults of a step, and the most memory that the process held.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from arithmetic import CLASSES, WORK, step_of, timed  # noqa: E402

LAYOUT = "float32, channels last"
# As it is anyway; that somebody set it, ftlab respects. Of MALLOC_TOP_PAD_ and others even glibc's
# own value would change much: thresholds then no longer follow what a process allocates.
GLIBC = {"MALLOC_PERTURB_": "0"}
HANDLED = {"kept": {}, "as glibc": GLIBC}


def work(backbone: str, seconds: float) -> dict[str, float]:
    """What steps and passes took in this process, after the first two of each."""
    import timm

    size = WORK[backbone]
    model = timm.create_model(backbone, num_classes=CLASSES).eval()
    model.to(memory_format=torch.channels_last)
    x = torch.randn(32, 3, size, size).contiguous(memory_format=torch.channels_last)
    step = step_of(backbone, size, 32, LAYOUT)
    with torch.inference_mode():
        passes, _ = repeated(lambda: model(x), seconds)
    steps, faults = repeated(step, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return {"step_ms": steps, "faults": faults, "pass_ms": passes, "peak_mib": peak}


def repeated(step, seconds: float) -> tuple[float, float]:
    """(milliseconds, page faults) of a call, over so many seconds and at least three calls."""
    step(), step()
    taken, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    until = time.perf_counter() + seconds
    while len(taken) < 3 or time.perf_counter() < until:
        taken.append(1000 * timed(step))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return median(taken), faults / len(taken)


def main(
    backbones: Annotated[str, typer.Option(help="Some of them, with commas.")] = ",".join(WORK),
    seconds: Annotated[float, typer.Option(help="Of steps, and of passes, in each turn.")] = 6.0,
    turns: int = 3,
    child: Annotated[bool, typer.Option("--child", help="Be one of the processes.")] = False,
) -> None:
    if child:
        return print(json.dumps(work(backbones, seconds)))
    print("| | a step, ms | | a pass, ms | | page faults of a step | | most MiB | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for backbone in backbones.split(","):
        command = [sys.executable, __file__, "--child", "--backbones", backbone]
        command += ["--seconds", str(seconds)]
        found = {name: [] for name in HANDLED}
        for _ in range(turns):
            for name, changed in HANDLED.items():
                told = subprocess.check_output(command, env={**os.environ, **changed})
                found[name].append(json.loads(told))
        cells = [f"`{backbone}`, {WORK[backbone]} px"]
        for what in ("step_ms", "pass_ms", "faults", "peak_mib"):
            kept, glibc = (median(turn[what] for turn in found[name]) for name in HANDLED)
            cells += [f"{glibc:,.0f} → {kept:,.0f}", f"{kept / glibc:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
