"""Every strategy beside the loop one writes without ftlab: `python benchmarks/table.py`.

For each backbone and strategy both sides train on the same drawn chest X-rays, in turns, one turn a
seed: ftlab a study of one run by the lab's verbs, from asking to the tested run, its features
computed anew; the loop of benchmarks/plain.py from the picture files to the tested network. Both
take the same epochs, batch, image size, threads, rates and weights. ratio is the median over the
turns. Not counted, and said: importing the data set, making its array, and trying which arithmetic
and how many reading processes are faster here, each done once.

r: a bare training step in this machine's best arithmetic over one in float32 with the channels
first, on tensors in memory (benchmarks/arithmetic.py), from which the bounds are made.
operations: the share of the loop's FLOPs that has to be computed, what is frozen counted once.
limit: the FLOPs that a strategy needs, what is frozen counted once, over this machine's rate in
products of large matrices.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import ftlab  # noqa: E402, F401, I001  (before torch, whose threads it tells how to wait)
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import arithmetic as steps  # noqa: E402
import plain  # noqa: E402
from allocation import GLIBC  # noqa: E402

from ftlab import arithmetic, backbones, datasets, freezing, strategies, weights  # noqa: E402
from ftlab import features as kept  # noqa: E402
from ftlab.backbones import Network  # noqa: E402
from ftlab.lab import Lab  # noqa: E402
from ftlab.records import Plan, Question, Settings  # noqa: E402

DATA = "drawn"
FRACTIONS = (0.7, 0.15, 0.15)
SMALL = ("ftlab_mini", "mobilenetv2_100")
FEWER = 6  # the large backbones at 224 pixels have so many times fewer images
ROWS: dict[str, Callable[[float], float]] = {  # row -> its bound, from r
    "linear_probe": lambda r: 0.12,
    "lp_ft": lambda r: 0.6 * r + 0.1,
    "gradual_last_first": lambda r: 0.75 * r,
    "last_stage": lambda r: 0.3,  # layer_wise, everything but the last trunk stage frozen
    "full": lambda r: 1.1 * r,
    "gradual_first_last": lambda r: 1.1 * r,
    "l1_sp": lambda r: 1.15 * r,
    "l2_sp": lambda r: 1.15 * r,
    "auto_rgn": lambda r: 1.15 * r,
}
STUDY, STUDY_BOUND = "all eight, as processes", lambda r: r
LOOKING, LOOKING_BOUND = "predictions and Grad-CAM", lambda r: 0.7
MEMORY_BOUND = 1.3
EVERY = 0.5  # seconds between two looks at the memory held


@dataclass(frozen=True)
class Ground:
    """A home with the pictures imported, the same pictures as files, and how to train on them."""

    home: Path
    folder: Path
    task: plain.Task
    settings: Settings
    weights: str

    @property
    def backbone(self) -> str:
        return self.task.backbone


@contextlib.contextmanager
def ground(backbone: str, images: int, epochs: int, batch: int, given: Path | None):
    """About `images` training pictures, drawn and laid out for both sides."""
    size = steps.WORK[backbone]
    settings = Settings(epochs=epochs, size=size, batch=batch)
    with tempfile.TemporaryDirectory(prefix="ftlab-") as scratch:
        home, folder = Path(scratch) / "home", Path(scratch) / "pictures"
        classes = 4  # of chest X-rays
        per_class = round(images / FRACTIONS[0] / classes)
        Lab(home).import_data(
            "phantom:chest_xray", DATA, per_class=per_class, fractions=FRACTIONS, seed=1
        )
        lay_out(datasets.open_dataset(home / "data", DATA), size, folder)
        where = theta_0(backbone, given)
        task = plain.Task(folder, backbone, epochs, batch, weights=where)
        task = replace(task, workers=plain.faster_workers(task))
        settings = arithmetic.settled(settings, backbone, home / "cache")
        yield Ground(home, folder, task, settings, str(where) if where else "random")


def theta_0(backbone: str, given: Path | None) -> Path | None:
    """A file with a backbone's weights, where there is one; random ones are as fast."""
    own = weights.BUNDLED if backbone == "ftlab_mini" else None
    found = given and given / f"{backbone}.safetensors"
    return found if found and found.exists() else own


def lay_out(data: datasets.Dataset, size: int, folder: Path) -> None:
    """The pictures at the training size, as PNG files in class folders."""
    pixels = data.array(size)
    for number, (split, label) in enumerate(zip(data.splits, data.labels, strict=True)):
        place = folder / split / data.classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(place / f"{number:05}.png")


# --- both sides ---


def ours(on: Ground, row: str, seed: int) -> dict:
    """A study of one run, features and all: {seconds, balanced_accuracy}."""
    shutil.rmtree(on.home / "cache" / "features", ignore_errors=True)
    strategy, knobs = named(on.backbone, row)
    question = Question(
        *(DATA, [on.backbone], [strategy], [seed], on.settings, on.weights, knobs),
        name=f"{row}-{seed}",
    )
    lab, began = Lab(on.home), time.perf_counter()
    folder = lab.ask(question)
    for event in lab.work(folder, lambda: False):
        if event["event"] == "failed":
            raise SystemExit(event["reason"])
    seconds = time.perf_counter() - began
    test = lab.answer(folder)["runs"][0]["test"]
    return {"seconds": seconds, "balanced_accuracy": test["balanced_accuracy"]}


def named(backbone: str, row: str) -> tuple[str, dict]:
    """(strategy, knobs by strategy) of a row."""
    if row != "last_stage":
        return row, {}
    below = backbones.layout(backbone).trunk[-2].units[-1]
    return "layer_wise", {"layer_wise": {"freeze": below}}


def theirs(on: Ground, row: str, seed: int) -> dict:
    """The loop, in a process whose memory nobody tunes; its start and imports do not count."""
    told = subprocess.check_output(loop(on, row, seed), cwd=ROOT, env={**os.environ, **GLIBC})
    return json.loads(told)


def loop(on: Ground, strategies: str, seed: int) -> list[str]:
    """The command that runs the loop."""
    command = f"benchmarks/plain.py {on.folder} --backbone {on.backbone} --strategies {strategies}"
    command += f" --epochs {on.task.epochs} --batch {on.task.batch} --seed {seed}"
    command += f" --workers {on.task.workers}"
    command += f" --weights {on.task.weights}" if on.task.weights else ""
    return [sys.executable, *command.split()]


def process(on: Ground, side: str, seed: int) -> dict:
    """All eight strategies in a process of its own: {seconds, bytes: at its peak}."""
    shutil.rmtree(on.home / "cache" / "features", ignore_errors=True)
    eight, changed = ",".join(plain.STRATEGIES), {"FTLAB_HOME": str(on.home)}
    if side == "ours":
        asked = f"-m ftlab compare {DATA} --backbone {on.backbone} --strategies {eight}"
        asked += f" --epochs {on.task.epochs} --batch {on.task.batch} --size {on.settings.size}"
        asked += f" --seeds 1 --json --precision {on.settings.precision} --weights {on.weights}"
        asked += f" --name process-{seed}"
        command = [sys.executable, *asked.split()]
    else:
        command, changed = loop(on, eight, seed), GLIBC
    began, most = time.perf_counter(), 0
    environment = {**os.environ, **changed, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    while child.poll() is None:
        most = max(most, held(child.pid))
        time.sleep(EVERY)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}.")
    return {"seconds": time.perf_counter() - began, "bytes": most}


def held(pid: int) -> int:
    """Bytes of memory of a process and all its children, what they share counted once (Linux)."""
    total, about = 0, Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):  # it may end meanwhile
        rollup = (about / "smaps_rollup").read_text().splitlines()
        total = next(1024 * int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        for children in about.glob("task/*/children"):
            total += sum(held(int(child)) for child in children.read_text().split())
    return total


def looking(lab: Lab, turns: int) -> list[tuple[dict, dict]]:
    """One image through the shipped runs, predicted and explained; all networks are in memory."""
    from ftlab import explain, prediction

    image = next(e["file"] for e in lab.examples() if e["modality"] == "chest_xray")
    answer = lab.explain(image, "reference")
    models, layers, size = {}, {}, None
    for name in (run["run"] for run in answer["runs"]):
        folder = lab.study_folder("reference") / name
        network, question = prediction.restore(folder, lab.home / "cache")
        size = question["settings"]["size"]
        seen = explain.look(network, torch.zeros(1, 3, size, size))
        models[name], layers[name] = network, network.units()[seen.unit - 1]
    about = (image, size, models, layers, network.mean, network.std)
    plain.look(*about)

    def turn() -> tuple[dict, dict]:
        own = timed(lab.explain, image, "reference")
        return {"seconds": own}, {"seconds": timed(plain.look, *about)}

    return [turn() for _ in range(turns)]


def timed(work: Callable, *given) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began


# --- the limit ---


def needed(
    network: Network, plan: Plan, size: int, images: dict[str, int], once: bool = True
) -> float:
    """FLOPs of a run, on a network on the meta device: each frozen unit sees an image once.

    once: False: whenever it comes by, as in a plain loop.
    """

    def flops(below: int, learns: bool) -> float:
        """An image through what lies above a unit, and back where something learns."""
        with torch.no_grad():
            x = network.run(torch.empty(2, 3, size, size, device="meta"), upto=below)
        formulas = {torch.ops.aten.convolution_backward: backward}
        counter = FlopCounterMode(display=False, custom_mapping=formulas)
        with counter, torch.set_grad_enabled(learns):
            logits = network.classify(network.run(x, below))
            if learns:
                logits.sum().backward()
        return counter.get_total_flops() / 2

    whole, total, most = flops(0, False), 0.0, 0.0
    for phase in plan.phases:
        freezing.set_mode(network, phase)
        below = kept.frozen_units(network, [phase]) if once else 0
        above = flops(below, False)
        each = images["train"] * flops(below, True) + images["val"] * above
        total += phase.epochs * each
        if phase.rates:
            total += phase.epochs * min(phase.rates.batches * 32, images["train"]) * 3 * whole
        most = max(most, whole - above)
    return total + (images["train"] + images["val"]) * most + images["test"] * whole


def backward(grad, x, weight, *rest, out_shape=None, **_) -> int:
    """FLOPs of a convolution's gradients; the counter's own formula forgets that it has groups."""
    return 2 * math.prod(grad) * math.prod(weight[1:]) * sum(rest[-1][:2])


def matrix_rate(side: int = 1024) -> float:
    """FLOPs a second in products of large matrices, the best within a second of each precision."""
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        a, until = torch.randn(side, side).to(dtype), time.perf_counter() + 1
        while time.perf_counter() < until:
            found.append(2 * side**3 / timed(torch.mm, a, a))
    return max(found)


# --- the table ---


def line(record: dict) -> str:
    """A row of the Markdown table."""
    own, other = ([turn[k] for turn in record["turns"]] for k in (0, 1))
    seconds = [f"{median(t['seconds'] for t in side):.3g} s" for side in (own, other)]
    verdict = "" if record["ratio"] <= record["bound"] else " **above**"
    cells = [record["row"], *seconds, f"{record['ratio']:.2f}", f"{record['bound']:.2f}{verdict}"]
    cells.append(f"{record['operations']:.2f}" if "operations" in record else "")
    limit = record.get("limit_seconds")
    cells.append(f"{median(t['seconds'] for t in own) / limit:.1f}" if limit else "")
    for side in (own, other):
        accuracies = [100 * t["balanced_accuracy"] for t in side if "balanced_accuracy" in t]
        cells.append(f"{sum(accuracies) / len(accuracies):.1f}" if accuracies else "")
    return f"| {' | '.join(cells)} |"


def judged(row: str, turns: list, bound: float, **more) -> dict:
    """What a row says, printed."""
    ratio = median(a["seconds"] / b["seconds"] for a, b in turns)
    record = {"row": row, "turns": turns, "ratio": ratio, "bound": bound, **more}
    print(line(record), flush=True)
    return record


def alternating(seeds: int, *sides: Callable[[int], dict]) -> list[tuple]:
    """One turn a seed, each beginning with the other side."""
    turns = []
    for seed in range(seeds):
        order = sides if seed % 2 == 0 else sides[::-1]
        found = {side: side(seed) for side in order}
        turns.append(tuple(found[side] for side in sides))
    return turns


def measure(on: Ground, rows: list[str], seeds: int, rounds: int, rate: float) -> Iterator[dict]:
    """The rows of one backbone."""
    backbone, settings = on.backbone, on.settings
    taken = steps.measure(backbone, settings.size, min(settings.batch, 32), rounds)
    best = min(taken, key=taken.get)
    r = taken[best] / taken[steps.PLAIN]
    data = datasets.open_dataset(on.home / "data", DATA)
    images = {split: len(data.indices(split)) for split in ("train", "val", "test")}
    print(f"\n{backbone} at {settings.size} px, {images}, {settings.epochs} epochs, batch")
    print(f"{settings.batch}: r = {r:.2f} ({best}); ftlab in {settings.precision}; the loop reads")
    print(f"with {on.task.workers} processes, its weights {on.weights.rsplit('/')[-1]}\n")
    print("| | ftlab | plain | ratio | bound | operations |", end=" ")
    print("times the limit | ftlab, % | plain, % |")
    print("|---|---|---|---|---|---|---|---|---|")
    yield {"steps": taken, "r": r, "images": images, **asdict(settings)}
    for row in (row for row in ROWS if row in rows):
        strategy, knobs = named(backbone, row)
        network = backbones.skeleton(backbone, len(data.classes))
        plan = strategies.write_plan(
            strategy, network.layout(), settings.epochs, **knobs.get(strategy, {})
        )
        flops = needed(network, plan, settings.size, images)
        share = flops / needed(network, plan, settings.size, images, once=False)
        turns = alternating(
            seeds,
            lambda seed, row=row: ours(on, row, seed),
            lambda seed, row=row: theirs(on, row, seed),
        )
        yield judged(row, turns, ROWS[row](r), operations=share, limit_seconds=flops / rate)
    if "study" in rows:
        turns = alternating(1, *(lambda seed, s=s: process(on, s, seed) for s in ("ours", "plain")))
        record = judged(STUDY, turns, STUDY_BOUND(r))
        (a, b), mb = turns[0], 2**20
        ratio = a["bytes"] / b["bytes"]
        print(f"\nPeak memory {a['bytes'] / mb:.0f} and {b['bytes'] / mb:.0f} MiB, {ratio:.2f}")
        yield {**record, "memory_ratio": ratio, "memory_bound": MEMORY_BOUND}


def main(
    chosen: Annotated[str, typer.Option("--backbones")] = ",".join(steps.WORK),
    rows: str = ",".join([*ROWS, "study", "look"]),
    images: Annotated[int, typer.Option(help="To train on; a sixth for large backbones.")] = 400,
    epochs: int = 10,
    batch: int = 32,
    seeds: Annotated[int, typer.Option(help="Turns of each row.")] = 3,
    rounds: Annotated[int, typer.Option(help="Turns of the bare steps.")] = 5,
    weights: Annotated[Path | None, typer.Option(help="Folder of BACKBONE.safetensors.")] = None,
    out: Annotated[Path | None, typer.Option(help="A JSON file for what was measured.")] = None,
) -> None:
    rate, asked = matrix_rate(), rows.split(",")
    capability = torch.backends.cpu.get_cpu_capability()
    print(f"{torch.get_num_threads()} threads, {capability}, torch {torch.__version__}, load")
    print(f"{os.getloadavg()[0]:.1f}; {rate / 1e9:.0f} GFLOP/s in products of matrices")
    record = {"flops_a_second": rate, "torch": torch.__version__, "backbones": {}}

    def note(name: str, found: dict) -> None:
        record["backbones"].setdefault(name, []).append(found)
        if out:
            out.write_text(json.dumps(record, indent=1))

    for backbone in filter(None, chosen.split(",")):
        few = images if backbone in SMALL else images // FEWER
        with ground(backbone, few, epochs, batch, weights) as on:
            for found in measure(on, asked, seeds, rounds, rate):
                note(backbone, found)
    if "look" in asked:
        with tempfile.TemporaryDirectory(prefix="ftlab-") as home:
            print()
            note(LOOKING, judged(LOOKING, looking(Lab(Path(home)), 10 * seeds), LOOKING_BOUND(0)))


if __name__ == "__main__":
    typer.run(main)
