"""What a pass costs with BatchNorm taken into the convolutions: `python benchmarks/folding.py`.

Normalised images (noise) to logits, random weights, float32, channels last, every network as it is
trained and folded (ftlab/folding.py), in turns; medians.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from arithmetic import WORK, timed  # noqa: E402

from ftlab import backbones, weights  # noqa: E402
from ftlab.folding import folded  # noqa: E402


@torch.inference_mode()
def main(
    chosen: Annotated[str, typer.Option("--backbones")] = ",".join(WORK), turns: int = 9
) -> None:
    print("| | 1 image, ms | folded | share | 32 images, ms | folded | share |")
    print("|---|---|---|---|---|---|---|")
    for name in chosen.split(","):
        plain = backbones.build(name, 4, weights.load(name, "random"), seed=0)
        plain.eval().to(memory_format=torch.channels_last)
        pair, cells = (plain, folded(plain)), [f"`{name}`, {WORK[name]} px"]
        for images in (1, 32):
            x = torch.randn(images, 3, WORK[name], WORK[name])
            x = x.to(memory_format=torch.channels_last)
            taken = [[timed(partial(network, x)) for network in pair] for _ in range(turns + 1)][1:]
            was, now = (1000 * median(side) for side in zip(*taken, strict=True))
            cells += [f"{was:,.1f}", f"{now:,.1f}", f"{now / was:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
