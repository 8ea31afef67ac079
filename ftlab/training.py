"""One run from its question to its answer: theta_0, network, fit, selection on val, test once."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace

import numpy as np
import torch

from . import backbones, files, metrics, runs, studies, tuning
from . import device as devices
from .backbones import Network
from .context import Context
from .features import behind, frozen_units
from .records import BadInput, Epoch, Plan, Settings, plan_record
from .studies import Cell
from .train import SELECT, Diverged, Split, fit, learning, predict
from .weights import Theta0


def train(context: Context, cell: Cell, stop: Callable[[], bool]) -> Iterator[dict]:
    """Train one run (or candidate) to its answer, yielding events; a failure becomes error.txt."""
    folder, study = cell.folder(context.folder), context.study
    name = folder.relative_to(context.folder).as_posix()
    torch.set_num_threads(context.threads)
    try:
        lr = None if cell.candidate else tuning.chosen_lr(context.folder, study, cell)
        theta0 = context.theta0(cell)
        layout = backbones.layout(cell.backbone)
        plan, knobs = studies.plan_of(study, cell, layout, lr)
        question = _question(context, cell, theta0, plan, knobs)
        begun = files.read_json(folder / "run.json")
        if begun and lr is not None and begun["knobs"]["lr"] != lr:
            shutil.rmtree(folder)  # since then a candidate that had failed has been chosen
        runs.start(folder, question)
        yield {"event": "started", "run": name, "epochs": plan.epochs}
        promoted = _promote(context, cell, lr)
        yield from _fit(context, cell, name, theta0, plan, promoted, stop)
    except Exception as error:  # whatever ends one run must not end the study
        if files.disk_full(error):
            raise  # every run after this one would fail of it, too
        if not isinstance(error, BadInput | Diverged):
            with open(context.folder / "log.txt", "a", encoding="utf-8") as log:
                log.write(f"{name} failed:\n{traceback.format_exc()}")
        reason = _reason(error, study.settings.batch)
        runs.fail(folder, reason)
        yield {"event": "failed", "run": name, "reason": reason}


def _reason(error: Exception, batch: int) -> str:
    if isinstance(error, BadInput | Diverged):
        return str(error)
    if devices.out_of_memory(error):
        return f"Out of memory at batch {batch}; try a smaller --batch or --size."
    return files.in_words(error)


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
        "settings": asdict(context.settings(cell.backbone)),
        "candidate": cell.candidate is not None,
        "environment": devices.describe(),
        "started": time.time(),
    }


def _promote(context: Context, cell: Cell, lr: float | None) -> dict | None:
    """Let the chosen candidate be the first seed's run: take its diary and weights.

    The candidate's result, or None where the run has to be trained.
    """
    if lr is None or cell.seed != context.study.seeds[0]:
        return None
    source, own = (c.folder(context.folder) for c in (replace(cell, candidate=lr), cell))
    if not (source / "best.safetensors").exists():
        return None
    tensors, _ = runs.load_tensors(source / "best.safetensors")
    files.write_text(own / "epochs.jsonl", (source / "epochs.jsonl").read_text(encoding="utf-8"))
    runs.save_best(own, tensors)
    return files.read_json(source / "result.json")


def _fit(context, cell, name, theta0, plan, promoted, stop) -> Iterator[dict]:
    """From theta_0 to the answer; a promoted run has its epochs already and is only tested."""
    folder, study = cell.folder(context.folder), context.study
    devices.reset_peak(context.device)
    begun = files.read_json(folder / "run.json")  # by this process or by one before it
    torch.set_num_threads(begun["environment"]["threads"])
    settings = Settings(**begun["settings"])
    network = backbones.build(
        cell.backbone, len(study.classes), theta0, plan.cut_after, plan.slim_from, cell.seed
    )
    start = {k: v.clone() for k, v in network.state_dict().items()}
    if not promoted:
        for epoch in _epochs(context, cell, network, start, plan, settings, stop):
            yield {"event": "epoch", "run": name, **asdict(epoch)}
        if stop():
            return
    network.load_state_dict(start | runs.load_tensors(folder / "best.safetensors")[0])
    network.to(context.device, memory_format=torch.channels_last)
    result = _costs(context, cell, network, plan)
    if promoted:
        of_training = ("peak_memory_bytes", "halved_from")
        result |= {name: promoted.get(name) for name in of_training}
    tested, test = ({}, None) if cell.candidate else _tested(context, network, plan, settings)
    result |= tested
    runs.finish(folder, result, test)
    kept = ("seconds", "trained_parameters", "stored_bytes", "val", "test")
    yield {"event": "finished", "run": name, **{k: result[k] for k in kept if k in result}}


def _epochs(context, cell, network, start, plan, settings, stop) -> Iterator[Epoch]:
    """The epochs the run's folder does not have yet, recorded there.

    Where memory runs out, the rest is computed again, in halves: a run at half the batch would be
    another run than the study asked for.

    start: the network's tensors before any training, on the CPU.
    """
    folder, given = cell.folder(context.folder), backbones.inherited(network, plan.slim_from)

    def changed():
        now = network.state_dict()
        return {k: v for k, v in now.items() if k not in given or not v.cpu().equal(start[k])}

    def rest() -> Iterator[Epoch]:
        history, weights_now, moments = runs.resume(folder)
        network.load_state_dict(start | weights_now)
        network.to(context.device, memory_format=torch.channels_last)
        moments = _to(moments, context.device)
        epochs = fit(
            network,
            plan,
            context.splits["train"],
            context.splits["val"],
            settings,
            cell.seed,
            theta0={k: v.to(context.device) for k, v in start.items()},
            history=history,
            moments=moments,
            halved_from=runs.halved_from(folder),
            stop=stop,
            cache=context.features,
        )
        return runs.record(folder, network, changed, moments, epochs)

    while True:
        try:
            yield from rest()
            return
        except Exception as error:  # gone before the next try, with all that it holds in memory
            if not devices.out_of_memory(error) or not runs.halve(folder):
                raise
        devices.free()


def _to(moments, device):
    return {n: {k: t.to(device) if t.ndim else t for k, t in s.items()} for n, s in moments.items()}


def _costs(context: Context, cell: Cell, network: Network, plan: Plan) -> dict:
    """What validation selected, and what the run cost: seconds, parameters and bytes."""
    folder, settings = cell.folder(context.folder), context.study.settings
    diary = runs.diary(folder)
    best = [epoch for epoch in diary if epoch.best][-1]
    seconds = sum(epoch.seconds for epoch in diary)
    return {
        "best_epoch": best.epoch,
        "val": best.val,
        "selected": SELECT[settings.select](best.val)[0],
        "epochs": len(diary),
        "seconds": seconds,
        "mean_epoch_seconds": seconds / len(diary),
        "trained_parameters": trained_parameters(network, plan),
        "parameters": backbones.parameters(network),
        "stored_bytes": (folder / "best.safetensors").stat().st_size,
        "peak_memory_bytes": devices.peak_bytes(context.device),
        "halved_from": runs.halved_from(folder),
    }


def _tested(context: Context, network: Network, plan: Plan, settings) -> tuple[dict, dict]:
    """(test metrics, test.npz). With two classes also at a threshold chosen on validation."""
    split = context.splits["test"]
    frozen = frozen_units(network, plan.phases)

    def said(images: Split) -> np.ndarray:
        seen = behind(network, frozen, settings, context.features, images)
        return predict(network, seen, settings)

    probs = said(split)
    tested = {
        "test": metrics.score(split.labels, probs),
        "test_per_class": metrics.per_class(split.labels, probs),
        "test_confusion": metrics.confusion(split.labels, probs),
    }
    if probs.shape[1] == 2:
        val = context.splits["val"]
        threshold = metrics.operating_point(val.labels, said(val))
        points = {"0.5": 0.5, "chosen_on_val": threshold}
        tested["test_at_threshold"] = {
            name: metrics.at_threshold(split.labels, probs, at) for name, at in points.items()
        }
    index = {"index": split.rows, "group": context.groups["test"]}
    return tested, {"y_true": split.labels, "probs": probs, **index}


def trained_parameters(network: Network, plan: Plan) -> int:
    """How many numbers learn in at least one phase."""
    ever = {n: p.numel() for phase in plan.phases for n, (p, _) in learning(network, phase).items()}
    return sum(ever.values())
