"""Make the reference study that comes with ftlab: `python tools/ship_reference.py`.

It trains what `ftlab demo` trains, in a folder of its own, and keeps in checkpoints/reference the
numbers of every run, and of seed 0 the weights that fit: the eight strategies of Davila et al.
and `truncated`, in half precision; and where these look.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from ftlab import demo, runs, studies
from ftlab.lab import PROJECT, Lab
from ftlab.strategies import DAVILA

KEPT = {*DAVILA, "truncated"}
LEFT = ("lock", "log.txt", "worker.json")


def shrink(folder: Path) -> None:
    """Keep the weights of KEPT's first seed, halved; of the others only the numbers."""
    for cell in studies.cells(studies.read(folder)):
        best = cell.folder(folder) / "best.safetensors"
        if cell.seed == demo.SEEDS[0] and cell.strategy in KEPT:
            tensors, _ = runs.load_tensors(best)
            halved = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
            runs.save_best(best.parent, halved)
        else:
            best.unlink(missing_ok=True)
    for name in LEFT:
        (folder / name).unlink(missing_ok=True)


def main() -> None:
    home = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="ftlab-"))
    lab = Lab(home)
    folder = demo.ask(lab, "reference")
    for event in lab.work(folder, lambda: False):
        if event["event"] in ("finished", "failed"):
            print(event["event"], event["run"], flush=True)
    shrink(folder)
    lab.maps(folder.name)
    target = PROJECT / "checkpoints" / "reference"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target.name}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
