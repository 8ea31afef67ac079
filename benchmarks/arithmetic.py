"""What a training step costs in each arithmetic: `python benchmarks/arithmetic.py`.

A step of a backbone in which everything learns (Adam), on noise in memory, the arithmetics taking
turns so that other work on the machine weighs on all alike; medians. r is the best one's time over
that of float32 with the channels first, which is what a plain PyTorch loop does.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated

import timm
import torch
import torch.nn.functional as F
import typer

import ftlab.mini  # noqa: F401  (registers ftlab_mini with timm)

WORK = {"ftlab_mini": 128, "mobilenetv2_100": 128, "densenet121": 224, "resnet50": 224}
ARITHMETICS = {  # name -> precision, memory format
    "float32": ("float32", torch.contiguous_format),
    "float32, channels last": ("float32", torch.channels_last),
    "bfloat16": ("autocast", torch.contiguous_format),
    "bfloat16, channels last": ("autocast", torch.channels_last),
    "bfloat16 in products only": ("inside", torch.channels_last),
}
COMPILED = " compiled"  # after a name: by torch.compile, which needs a C++ compiler
PLAIN = "float32"
CLASSES = 4
HOPELESS = 3  # what takes so many times the best's first step is not asked again


def step_of(backbone: str, size: int, batch: int, name: str) -> Callable[[], None]:
    precision, layout = ARITHMETICS[name.removesuffix(COMPILED)]
    model = timm.create_model(backbone, num_classes=CLASSES).train().to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters())
    if name.endswith(COMPILED):
        model.compile()
    x = torch.randn(batch, 3, size, size).contiguous(memory_format=layout)
    y = torch.arange(batch) % CLASSES

    def step() -> None:
        with products(precision):
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
                logits = model(x)
            F.cross_entropy(logits.float(), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


@contextlib.contextmanager
def products(precision: str):
    """Convolutions and matrix products of float32 tensors in bfloat16, where that is asked."""
    kinds = torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "bf16" if precision == "inside" else "ieee"
        yield
    finally:
        for kind, was in zip(kinds, before, strict=True):
            kind.fp32_precision = was


def measure(
    backbone: str, size: int, batch: int, rounds: int, compiled: bool = False
) -> dict[str, float]:
    """Arithmetic -> seconds of a step; compiled: of what is not hopeless by torch.compile, too."""
    steps = {name: step_of(backbone, size, batch, name) for name in ARITHMETICS}
    first = {name: timed(step) for name, step in steps.items()}  # which also warms up
    most = HOPELESS * min(first.values())
    asked = [name for name in steps if name == PLAIN or first[name] < most]
    for name in [name + COMPILED for name in asked if compiled]:
        steps[name] = step_of(backbone, size, batch, name)
        print(f"  {name}: the first step took {timed(steps[name]):.0f} s", flush=True)
        asked.append(name)
    taken = {name: [] for name in asked}
    for _ in range(rounds):
        for name in asked:
            taken[name].append(timed(steps[name]))
    return first | {name: median(seconds) for name, seconds in taken.items() if seconds}


def timed(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main(
    backbones: Annotated[str, typer.Option(help="Some of them, with commas.")] = ",".join(WORK),
    batch: int = 32,
    rounds: int = 5,
    compiled: Annotated[bool, typer.Option("--compiled", help="torch.compile, too.")] = False,
    out: Annotated[Path | None, typer.Option(help="A JSON file for what was measured.")] = None,
) -> None:
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, batch {batch};")
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    table = {}
    for backbone in backbones.split(","):
        found = measure(backbone, WORK[backbone], batch, rounds, compiled)
        table[backbone] = found
        print(f"{backbone} at {WORK[backbone]} px, r = {min(found.values()) / found[PLAIN]:.2f}")
        for name, seconds in found.items():
            print(f"  {name:35} {1000 * seconds:7.0f} ms {seconds / found[PLAIN]:6.2f}", flush=True)
    if out:
        out.write_text(json.dumps({"batch": batch, "seconds": table}, indent=1))


if __name__ == "__main__":
    typer.run(main)
