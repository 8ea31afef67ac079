"""One run from its question to its answer: theta_0, network, fit, selection on val, test once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from . import backbones, datasets, metrics, runs, studies, weights
from . import device as devices
from .backbones import Network
from .records import BadInput, Plan, plan_record
from .studies import Cell, Study
from .train import SELECT, Diverged, Split, fit, learning, predict
from .weights import Theta0


@dataclass
class Context:
    """What all runs of a study share while one process works through them."""

    folder: Path
    study: Study
    cache: Path
    device: torch.device
    splits: dict[str, Split]
    test_groups: np.ndarray  # (n,) int: patients or lesions of the test images, without their names
    last_theta0: tuple[tuple, Theta0] | None = None

    def theta0(self, cell: Cell) -> Theta0:
        """theta_0 of a cell; the last one is kept, since neighbouring runs share it."""
        seed = cell.seed if self.study.weights["kind"] == "random" else 0
        key = (cell.backbone, seed)
        if self.last_theta0 is None or self.last_theta0[0] != key:
            theta0 = weights.recall(cell.backbone, self.study.weights, seed, self.cache)
            self.last_theta0 = (key, theta0)
        return self.last_theta0[1]


def prepare(folder: Path, study: Study, home: Path) -> Context:
    """Open the data at the study's image size.

    Raises:
        BadInput: the data set is gone or has changed since the study began.
    """
    data = datasets.open_dataset(home / "data", study.data)
    if data.hash != study.data_hash:
        raise BadInput(
            f"The data set {study.data} has changed since the study {study.name} began: "
            "start a new study with another --name."
        )
    return Context(
        folder,
        study,
        home / "cache",
        devices.pick(),
        splits(data, study.settings),
        np.unique(data.groups[data.indices("test")], return_inverse=True)[1],
    )


def splits(data, settings) -> dict[str, Split]:
    """train, val and test of a data set at the study's size; train cut to train_per_class."""
    pixels = data.array(settings.size)
    rows = {name: data.indices(name) for name in ("train", "val", "test")}
    if settings.train_per_class:
        rows["train"] = _subset(rows["train"], data.labels, settings.train_per_class)
    return {name: Split(pixels, r, data.labels[r]) for name, r in rows.items()}


def _subset(rows: np.ndarray, labels: np.ndarray, per_class: int) -> np.ndarray:
    """At most so many rows of each class, the same for every run of every study, in order."""
    shuffled = np.random.default_rng(0).permutation(rows)
    kept = [shuffled[labels[shuffled] == c][:per_class] for c in np.unique(labels[rows])]
    return np.sort(np.concatenate(kept))


def train(context: Context, cell: Cell, stop: Callable[[], bool]) -> Iterator[dict]:
    """Train one run (or candidate) to its answer, yielding events; a failure becomes error.txt."""
    folder, study = cell.folder(context.folder), context.study
    name = folder.relative_to(context.folder).as_posix()
    try:
        lr = None if cell.candidate else studies.chosen_lr(context.folder, study, cell)
        theta0 = context.theta0(cell)
        layout = backbones.layout(cell.backbone)
        plan, knobs = studies.plan_of(study, cell, layout, lr)
        question = _question(context, cell, theta0, plan, knobs)
        runs.start(folder, question)
        yield {"event": "started", "run": name, "epochs": plan.epochs}
        promoted = _promote(context, cell, lr)
        yield from _fit(context, cell, name, theta0, plan, promoted, stop)
        if promoted:
            _drop_candidates(context, cell)
    except (BadInput, Diverged) as error:
        yield _failed(folder, name, str(error))
    except (torch.OutOfMemoryError, MemoryError):
        reason = f"Out of memory at batch {study.settings.batch}; try a smaller --batch or --size."
        yield _failed(folder, name, reason)


def _question(context: Context, cell: Cell, theta0: Theta0, plan: Plan, knobs: dict) -> dict:
    study = context.study
    return {
        "format": 1,
        "run": cell.name,
        "study": study.name,
        "data": {"name": study.data, "hash": study.data_hash, "classes": study.classes},
        "backbone": cell.backbone,
        "weights": {**theta0.record, "mean": theta0.mean, "std": theta0.std},
        "strategy": cell.strategy,
        "knobs": knobs,
        "seed": cell.seed,
        "plan": plan_record(plan),
        "settings": asdict(study.settings),
        "candidate": cell.candidate is not None,
        "environment": devices.describe(),
        "started": time.time(),
    }


def _promote(context: Context, cell: Cell, lr: float | None) -> bool:
    """Let the chosen candidate be the first seed's run: take its diary and weights, train nothing.

    The candidates' weights go once that run is finished; their numbers stay.
    """
    if lr is None or cell.seed != context.study.seeds[0]:
        return False
    source = replace(cell, candidate=lr).folder(context.folder)
    if not (source / "best.safetensors").exists():
        return False
    for file in ("epochs.jsonl", "best.safetensors"):
        target = cell.folder(context.folder) / file
        runs.write(target, lambda to, file=file: shutil.copy(source / file, to))
    return True


def _drop_candidates(context: Context, cell: Cell) -> None:
    for tried in studies.candidates(context.study, cell):
        (tried.folder(context.folder) / "best.safetensors").unlink(missing_ok=True)


def _fit(context, cell, name, theta0, plan, promoted, stop) -> Iterator[dict]:
    folder, study = cell.folder(context.folder), context.study
    devices.reset_peak(context.device)
    torch.set_num_threads(runs.read_json(folder / "run.json")["environment"]["threads"])
    network = backbones.build(
        cell.backbone, len(study.classes), theta0, plan.cut_after, plan.slim_from, cell.seed
    )
    start = {k: v.clone() for k, v in network.state_dict().items()}
    given = backbones.inherited(network, plan.slim_from)

    def changed():
        now = network.state_dict()
        return {k: v for k, v in now.items() if k not in given or not v.cpu().equal(start[k])}

    if not promoted:
        history, weights_now, moments = runs.resume(folder)
        network.load_state_dict(start | weights_now)
        network.to(context.device, memory_format=torch.channels_last)
        moments = _to(moments, context.device)
        epochs = fit(
            network,
            plan,
            context.splits["train"],
            context.splits["val"],
            study.settings,
            cell.seed,
            theta0={k: v.to(context.device) for k, v in start.items()},
            history=history,
            moments=moments,
            stop=stop,
        )
        for epoch in runs.record(folder, network, changed, moments, epochs):
            yield {"event": "epoch", "run": name, **asdict(epoch)}
        if stop():
            return
    network.load_state_dict(start | runs.load_tensors(folder / "best.safetensors")[0])
    network.to(context.device, memory_format=torch.channels_last)
    result, test = _answer(context, cell, network, plan)
    runs.finish(folder, result, test)
    kept = ("seconds", "trained_parameters", "stored_bytes", "val", "test")
    yield {"event": "finished", "run": name, **{k: result[k] for k in kept if k in result}}


def _to(moments, device):
    return {n: {k: t.to(device) if t.ndim else t for k, t in s.items()} for n, s in moments.items()}


def _answer(context: Context, cell: Cell, network: Network, plan: Plan) -> tuple[dict, dict | None]:
    """(result.json, test.npz) at the best validation epoch; a candidate is never tested."""
    folder, settings = cell.folder(context.folder), context.study.settings
    diary = runs.diary(folder)
    best = [epoch for epoch in diary if epoch.best][-1]
    result = {
        "best_epoch": best.epoch,
        "val": best.val,
        "selected": SELECT[settings.select](best.val)[0],
        "epochs": len(diary),
        "seconds": sum(epoch.seconds for epoch in diary),
        "trained_parameters": trained_parameters(network, plan),
        "parameters": backbones.parameters(network),
        "stored_bytes": (folder / "best.safetensors").stat().st_size,
        "peak_memory_bytes": devices.peak_bytes(context.device),
    }
    if cell.candidate is not None:
        return result, None
    split = context.splits["test"]
    probs = predict(network, split, settings)
    result["test"] = metrics.score(split.labels, probs)
    result["test_per_class"] = metrics.per_class(split.labels, probs)
    result["test_confusion"] = metrics.confusion(split.labels, probs)
    if probs.shape[1] == 2:
        val = context.splits["val"]
        threshold = metrics.operating_point(val.labels, predict(network, val, settings))
        points = {"0.5": 0.5, "chosen_on_val": threshold}
        result["test_at_threshold"] = {
            name: metrics.at_threshold(split.labels, probs, at) for name, at in points.items()
        }
    index = {"index": split.rows, "group": context.test_groups}
    return result, {"y_true": split.labels, "probs": probs, **index}


def trained_parameters(network: Network, plan: Plan) -> int:
    """How many numbers learn in at least one phase."""
    ever = {n: p.numel() for phase in plan.phases for n, (p, _) in learning(network, phase).items()}
    return sum(ever.values())


def _failed(folder: Path, name: str, reason: str) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_text(folder / "error.txt", reason + "\n")
    return {"event": "failed", "run": name, "reason": reason}


def restore(folder: Path, cache: Path) -> tuple[Network, dict]:
    """(network in eval mode on the CPU, run.json) of a finished run, from its folder and theta_0.

    Raises:
        BadInput: theta_0 is not on this machine, or the weight file is damaged.
    """
    question = runs.read_json(folder / "run.json")
    theta0 = weights.recall(question["backbone"], question["weights"], question["seed"], cache)
    plan, classes = question["plan"], len(question["data"]["classes"])
    network = backbones.build(
        question["backbone"],
        classes,
        theta0,
        plan["cut_after"],
        plan["slim_from"],
        question["seed"],
    )
    tensors, _ = runs.load_tensors(folder / "best.safetensors")
    network.load_state_dict({**network.state_dict(), **tensors})
    return network.eval(), question
