"""How far fine-tuning moved the weights: change, rates that applied, gradients before and after.

change      |w - w_0| / |w_0| (2-norms) of a unit's or stage's tensors together: `kernels` (of
            convolutions and linear layers, with their biases and whatever else learns), `norm` (the
            scale and shift of normalisation layers) and `statistics` (BatchNorm's running means and
            variances). Exactly 0 where nothing changed. w_0 is theta_0, or the draw from the seed
            where a part is new: the head, and units made slimmer.
rates       from the diary; nothing is computed again.
gradients   of the mean cross-entropy of one fixed batch of training images, in eval mode, of the
            network as it began (its head as drawn) and of the finished one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from . import averaging, backbones, files, flips, prediction, runs, studies, weights
from . import device as devices
from .backbones import Network
from .inspection import pictures_of, who
from .records import Epoch, Layout, Stage, unit_name
from .train import SCHEDULES

BATCH = 32  # images whose gradient is looked at
KINDS = ("kernels", "norm", "statistics")
NORMS = (BatchNorm, nn.LayerNorm, nn.GroupNorm)


# --- change of the weights ------------------------------------------------------------------------


def change(start: Network, end: Network, slim_from: int | None = None) -> list[dict]:
    """Relative change of each stage, the head too, and of each of its units.

    Args:
        start, end: the same network before and after. slim_from: the first unit that is new.
    Returns:
        [{stage, new, kernels, norm, statistics, units: [{unit, new, kernels, norm, statistics}]}],
        None for what a part does not have, or where w_0 is 0 and w is not.
    """
    first_new = slim_from or len(start.units()) + 1
    rows = []
    for stage in start.layout().stages:
        sums = {u: _sums(start, end, unit_name(u)) for u in stage.units}
        units = [{"unit": u, "new": u >= first_new, **_ratios([of])} for u, of in sums.items()]
        own = list(sums.values()) if units else [_sums(start, end, stage.name)]
        new = all(unit["new"] for unit in units)
        rows.append({"stage": stage.name, "new": new, **_ratios(own), "units": units})
    return rows


def _sums(start: Network, end: Network, name: str) -> dict[str, tuple[float, float]]:
    """Kind -> (|w - w_0|^2, |w_0|^2) of the part of that name."""
    sums: dict[str, tuple[float, float]] = {}
    pairs = zip(_tensors(start.modules_of(name)), _tensors(end.modules_of(name)), strict=True)
    for (kind, before), (_, after) in pairs:
        before, after = before.double(), after.double()
        moved, size = sums.get(kind, (0.0, 0.0))
        moved += float((after - before).square().sum())
        sums[kind] = moved, size + float(before.square().sum())
    return sums


def _tensors(module: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """(kind, tensor) of everything a module learns or counts, but for the number of batches."""
    for part in module.modules():
        kind = "norm" if isinstance(part, NORMS) else "kernels"
        yield from ((kind, p.detach()) for p in part.parameters(recurse=False))
        if isinstance(part, BatchNorm):
            yield from (("statistics", b) for b in (part.running_mean, part.running_var))


def _ratios(parts: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for kind in KINDS:
        of = [sums[kind] for sums in parts if kind in sums]
        moved, size = (sum(column) for column in zip(*of, strict=True)) if of else (1.0, 0.0)
        found[kind] = math.sqrt(moved / size) if size else None if moved else 0.0
    return found


# --- rates ----------------------------------------------------------------------------------------


def rates(question: Mapping, diary: Sequence[Epoch], layout: Layout) -> list[dict]:
    """The rate that each stage learned at in the first step of each epoch, and what scaled it.

    Within an epoch the schedule goes on. A stage's rate is the mean over its tensors where a rate
    rule (Auto-RGN, Auto-SNR) ran; where only a part of a stage learns, its units stand alone.

    Returns:
        [{epoch, phase, best, lrs: {stage: rate, 0 where it is frozen}, multipliers: None without a
        rule, else {stage: {mean, low, high}} over the tensors it ruled}]
    """
    lengths = [phase["epochs"] for phase in question["plan"]["phases"]]
    schedule = SCHEDULES[question["settings"]["schedule"]]
    rows = []
    for epoch in diary:
        local = epoch.epoch - sum(lengths[: epoch.phase])
        factor = schedule(local / lengths[epoch.phase])
        names = [name for stage in layout.stages for name in _parts(stage, epoch.lrs)]
        rows.append(
            {
                **{key: getattr(epoch, key) for key in ("epoch", "phase", "best")},
                "lrs": {name: epoch.lrs.get(name, 0.0) * factor for name in names},
                "multipliers": _multipliers(epoch.rates) or None,
            }
        )
    return rows


def _parts(stage: Stage, lrs: Mapping[str, float]) -> list[str]:
    """A stage's name, or those of its units where they have rates of their own."""
    units = [unit_name(unit) for unit in stage.units]
    return units if set(units) & set(lrs) else [stage.name]


def _multipliers(by_tensor: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Stage -> {mean, low, high} of the multipliers of its tensors."""
    by_stage: dict[str, list[float]] = {}
    for name, multiplier in by_tensor.items():
        first, second, *_ = name.split(".")
        by_stage.setdefault(second if first == "stages" else first, []).append(multiplier)
    return {
        stage: {"mean": float(np.mean(own)), "low": min(own), "high": max(own)}
        for stage, own in by_stage.items()
    }


# --- gradients ------------------------------------------------------------------------------------


def gradients(network: Network, x: Tensor, labels: Tensor) -> dict:
    """{loss, stages: {stage: {norm, relative}}} of a batch x (B, 3, H, W), labels (B,).

    norm is |g|_2 of all that a stage could learn, relative |g|_2 / |w|_2 (None where w is 0).
    """
    network.eval().requires_grad_(True)
    loss = F.cross_entropy(network(x), labels)
    names = network.layout().names
    parameters = {name: list(network.modules_of(name).parameters()) for name in names}
    flat = [p for own in parameters.values() for p in own]
    found = dict(zip(map(id, flat), torch.autograd.grad(loss, flat), strict=True))
    stages = {}
    for name, own in parameters.items():
        norm, size = _norm(found[id(p)] for p in own), _norm(own)
        stages[name] = {"norm": norm, "relative": norm / size if size else None}
    return {"loss": float(loss.detach()), "stages": stages}


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(t.detach().double().square().sum()) for t in tensors))


# --- a study's runs -------------------------------------------------------------------------------


def drift(folder: Path, home: Path, chosen: Sequence[str] = (), gradient: bool = False) -> dict:
    """What each finished run changed, and how its predictions differ from other strategies'.

    Args:
        chosen: names of runs; default: every finished one.
        gradient: also measure gradients, which takes the data set and two passes a run.
    Returns:
        {study, data, runs: [{run, strategy, backbone, seed, best_epoch, rounded, change: see
        `change`, rates: see `rates`, gradients: {before, after: see `gradients`}}], flips: see
        `ftlab.flips.flips`, without_weights: [run]}
        Weights are those of best_epoch. change and gradients are None for a run whose weights are
        not here. rounded: the weights were stored in half precision, whose rounding alone
        is a change of about 0.0002.
    Raises:
        BadInput: no such run; for gradients: no run has weights or the data are not here.
    """
    study = studies.read(folder)
    able, absent = studies.finished(folder, study, chosen)
    batch = _batch(folder, home) if gradient and able else None
    wanted = [cell.name for cell in studies.cells(study) if cell.name in {*able, *absent}]
    starts: dict[tuple, Network] = {}
    rows = [_run(folder / name, home, name in able, starts, batch) for name in wanted]
    about = {"study": study.name, "data": study.data, "runs": rows}
    return files.plain({**about, "flips": flips.flips(folder), "without_weights": absent})


def courses(folder: Path, chosen: Sequence[str] = ()) -> list[dict]:
    """How finished runs were meant to train and how they did, from their small files alone.

    Returns:
        [{run, strategy, backbone, seed, best_epoch, plan: as `lab.plan`, rates: see `rates`}]
    Raises:
        BadInput: no such run, or none has finished.
    """
    study = studies.read(folder)
    wanted = {name for part in studies.finished(folder, study, chosen) for name in part}
    names = [cell.name for cell in studies.cells(study) if cell.name in wanted]
    return files.plain([_course(folder / name) for name in names])


def _course(folder: Path) -> dict:
    question = files.read_json(folder / "run.json")
    layout = backbones.layout(question["backbone"]).cut(question["plan"]["cut_after"])
    best = files.read_json(folder / "result.json")["best_epoch"]
    plan = {key: question[key] for key in ("strategy", "backbone")} | question["plan"]
    row = {**who(question), "best_epoch": best, "plan": plan}
    return row | {"rates": rates(question, runs.diary(folder), layout)}


def _run(
    folder: Path,
    home: Path,
    able: bool,
    starts: dict[tuple, Network],
    batch: tuple[Tensor, Tensor] | None,
) -> dict:
    """A run's row; starts: what is kept from run to run, because most began as the same network."""
    row = _course(folder) | dict.fromkeys(("rounded", "change", "gradients"))
    slim_from = row.pop("plan")["slim_from"]
    if not able:
        return row
    end, question = prediction.recall(folder, home / "cache")
    key = (question["backbone"], question["seed"], *averaging.shape(question))
    if key not in starts:
        starts[key] = start_of(question, home)
    row["change"] = change(starts[key], end, slim_from)
    tensors, _ = runs.load_tensors(folder / "best.safetensors")
    row["rounded"] = any(tensor.dtype == torch.float16 for tensor in tensors.values())
    if batch:
        ends = (("before", starts[key]), ("after", end))
        row["gradients"] = {name: _gradients(network, *batch) for name, network in ends}
    return row


def _gradients(network: Network, pixels: Tensor, labels: Tensor) -> dict:
    """As `gradients`, of a copy: a network that is kept stays where and as it is."""
    device = devices.pick()
    network = copy.deepcopy(network).to(device)
    return gradients(network, network.prepare(pixels.to(device)), labels.to(device))


def start_of(question: Mapping, home: Path) -> Network:
    """The network a run began with, head and slim units as drawn."""
    plan, seed = question["plan"], question["seed"]
    theta0 = weights.recall(question["backbone"], question["weights"], seed, home / "cache")
    classes, cut = len(question["data"]["classes"]), plan["cut_after"]
    name = question["backbone"]
    return backbones.build(name, classes, theta0, cut, plan["slim_from"], seed).eval()


def _batch(folder: Path, home: Path) -> tuple[Tensor, Tensor]:
    """Pixels and labels of the training images whose gradient is looked at."""
    images = pictures_of(home, studies.read(folder))["train"]
    places = np.sort(np.random.default_rng(0).permutation(len(images))[:BATCH])
    return images.batch(places), torch.from_numpy(images.labels[places])
