"""How much faster a backbone is when it is cut: `python benchmarks/cuts.py resnet50`.

Random weights, normalised images to logits, float32, medians over turns in which the cuts follow
one another. Printed beside the shares of parameters and multiply-accumulates that are left.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from ftlab import backbones, costs

CLASSES = 2
HEADINGS = ("M parameters", "G MACs", "1 image, ms", "32 images, ms")


def main(
    backbone: str,
    units: Annotated[str, typer.Option(help="Comma-separated.", show_default="all")] = "",
    size: Annotated[int, typer.Option(help="Pixels.")] = 224,
    turns: int = 3,
) -> None:
    last = backbones.layout(backbone).trunk[-1].units[-1]
    asked = [int(unit) for unit in units.split(",")] if units else list(range(1, last))
    taken = {unit: [] for unit in [*asked, last]}
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as empty:
            for unit, own in taken.items():
                own.append(
                    costs.latency(
                        backbone, "truncated", unit, CLASSES, size, Path(empty), measure=True
                    )
                )
    print(f"| cut after unit | {' | share | '.join(HEADINGS)} | share |")
    print(f"|{'---|' * (1 + 2 * len(HEADINGS))}")
    for unit in taken:
        cells, here = [], _facts(backbone, unit, size, taken)
        for value, whole in zip(here, _facts(backbone, last, size, taken), strict=True):
            cells += [f"{value:,.2f}", f"{value / whole:.2f}"]
        print(f"| {unit} | {' | '.join(cells)} |")


def _facts(backbone: str, unit: int, size: int, taken: dict[int, list[dict]]) -> list[float]:
    """What HEADINGS say of the network cut there."""
    cost = costs.costs(backbone, "truncated", unit, CLASSES, size)
    times = [median(turn[images] for turn in taken[unit]) for images in ("1", "32")]
    return [cost["parameters"] / 1e6, cost["macs"] / 1e9, *times]


if __name__ == "__main__":
    typer.run(main)
