"""fit(): one run of a plan, as a generator of epochs. The loop knows phases, never strategies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from . import device as devices
from .augment import PRESETS, augment
from .backbones import Network
from .batches import Images, Split, batches, seen, steps
from .features import Stopped, behind, frozen_units
from .folding import folded
from .freezing import learning, set_mode
from .losses import class_weights, losses
from .metrics import score
from .optimizers import OPTIMIZERS, Moments, optimizer_of, remember
from .probing import multipliers as probe
from .records import BadInput, Epoch, Phase, Plan, Settings

SCHEDULES: dict[str, Callable[[float], float]] = {  # progress within the phase, 0 to 1 -> factor
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}
SELECT = {  # which validation value is best, so that more is better
    "balanced_accuracy": lambda val: (val["balanced_accuracy"], -val["loss"]),
    "average_precision": lambda val: (val["average_precision"], -val["loss"]),
    "loss": lambda val: (-val["loss"],),
}


class Diverged(ArithmeticError):
    """The loss or the validation output stopped being a number."""


def fit(
    network: Network,
    plan: Plan,
    train: Split,
    val: Split,
    settings: Settings,
    seed: int,
    *,
    theta0: Mapping[str, Tensor] | None = None,
    history: Sequence[Epoch] = (),
    moments: Moments | None = None,
    halved_from: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    cache: Path | None = None,
) -> Iterator[Epoch]:
    """Train the network in place and yield after every epoch; stop iterating to stop training.

    Every epoch seeds all generators from (seed, phase, epoch), so a run that continues from
    `history` and `moments` ends in the same bits as one that was never interrupted.

    Args:
        network: at its start, or as it was after the last epoch of `history`.
        theta0: parameters the penalties pull to, by name; default: the network as given.
        history: the epochs already done. moments: the optimizer's state after them, by parameter
            name; kept up to date for the caller, who saves it to continue later.
        halved_from: the epoch from which on each step adds up the gradients of two halves of its
            batch, in half the memory; see `ftlab.losses`.
        stop: asked before every step; once true, the epoch is dropped and the generator ends.
        cache: where features of frozen units are kept; None computes them in every pass.
    Raises:
        Diverged: NaN or infinite loss or validation output.
    """
    moments = {} if moments is None else moments
    start = theta0 or {n: p.detach().clone() for n, p in network.named_parameters()}
    history, first = list(history), 0
    for number, phase in enumerate(plan.phases):
        done, inputs = len(history) - first, {}
        for local in range(max(done, 0), phase.epochs):
            if _out_of_patience(history[first:], number == len(plan.phases) - 1, settings):
                return
            if local == 0 and not phase.keep_moments:
                moments.clear()
            _seed(seed, number, local)
            shown = seen(train, settings, seed, first + local)
            wanted = {shown.number: shown, "val": val}
            if not _prepare(inputs, wanted, network, plan.phases[number:], settings, cache, stop):
                return
            made = 0.0 if number else _making(inputs, shown, local, settings)
            began = time.perf_counter()
            pieces = 2 if halved_from is not None and first + local >= halved_from else 1
            how = settings, start, moments, pieces, stop
            if not (trained := _epoch(network, phase, local, inputs[shown.number], *how)):
                return
            loss, lrs, multipliers = trained
            values = validate(network, inputs["val"], settings)
            _must_be_finite(loss, values, phase)
            best = _is_best(values, history, settings)
            seconds = made + time.perf_counter() - began
            epoch = Epoch(number, first + local, lrs, loss, values, seconds, best, multipliers)
            history.append(epoch)
            yield epoch
        first += phase.epochs


def _prepare(inputs, wanted, network, phases, settings, cache, stop) -> bool:
    """Add to the inputs what the frozen part of the first phase makes of images; False: stopped."""
    for name in (name for name in wanted if name not in inputs):
        units, *way = (frozen_units(network, [phase]) for phase in phases)
        try:
            inputs[name] = behind(network, units, settings, cache, wanted[name], way, stop)
        except Stopped:
            return False
    return True


def _making(inputs, shown, epoch, settings) -> float:
    """Seconds that the features took which an epoch of a plan's first phase is the first to use.

    They count in each run alike, whether it found them or made them, as if it were alone. What
    later phases use came by in the same pass.
    """
    new = [inputs["val"]] if epoch == 0 else []
    new += [inputs[shown.number]] if epoch < (settings.views or 1) else []
    return sum(each.seconds for each in new if each.after)


def validate(network: Network, images: Images, settings: Settings) -> dict[str, float]:
    """Loss, accuracy, balanced accuracy and average precision of a split."""
    probs = predict(network, images, settings)
    if not np.isfinite(probs).all():
        return {"loss": float("nan")}
    kept = ("log_loss", "accuracy", "balanced_accuracy", "average_precision")
    values = score(images.labels, probs, kept)
    return {"loss": values.pop("log_loss"), **values}


@torch.inference_mode()
def predict(network: Network, images: Images, settings: Settings) -> np.ndarray:
    """Class probabilities (n, C), float64, of the images of a split, in order; no augmentation."""
    network, logits = folded(network, after=images.after), []
    device = network.head.weight.device
    for batch, _ in batches(images, np.arange(len(images)), settings.batch):
        with devices.autocast(device, settings.precision):
            x = devices.put(batch, device)
            x = x if images.after else network.prepare(x)
            logits.append(network.classify(network.run(x, images.after)).float())
    return torch.cat(logits).cpu().double().softmax(dim=1).numpy()


def _epoch(network, phase, local, images, settings, start, moments, pieces, stop):
    """One pass over the training split: (mean loss, rates by stage, multipliers); None: stopped."""
    device = network.head.weight.device
    order = np.random.permutation(len(images))
    each = steps(len(images), settings.batch)
    frozen = frozen_units(network, [phase])
    inputs = partial(_inputs, network, images, order, settings, frozen)
    classes = network.head.out_features
    weight = class_weights(images.labels, classes).to(device) if settings.class_weights else None
    how = {"after": images.after or frozen, "weight": weight, "pieces": pieces}
    rule = phase.rates
    multipliers = probe(network, phase, inputs(), settings, **how) if rule else {}
    set_mode(network, phase)
    if rule and rule.faithful:
        moments.clear()
    optimizer = optimizer_of(network, phase, settings, multipliers, moments)
    penalty = None
    if phase.penalty:
        kernels = list(_kernels(network, phase, start))
        penalty = partial(phase.penalty, kernels, network.head.weight)
    total = torch.zeros((), device=device)
    for step, (x, labels) in enumerate(inputs()):
        if stop():
            return None
        factor = SCHEDULES[settings.schedule]((local * each + step) / (phase.epochs * each))
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
        optimizer.zero_grad(set_to_none=True)
        for loss in losses(network, x, labels, settings, penalty=penalty, **how):
            loss.backward()
            total += loss.detach() * len(labels)
        optimizer.step()
    remember(network, phase, optimizer, moments)
    return float(total) / len(images), _rates_by_stage(network, phase, multipliers), multipliers


def _inputs(network, images, order, settings, frozen) -> Iterator[tuple[Tensor, Tensor]]:
    """What the learning part of a network is given, on its device, and the labels.

    The frozen units before it are those by which kept features are made, so that both are the same.
    """
    device = network.head.weight.device
    below = folded(network, upto=frozen) if frozen and not images.after else None
    for batch, labels in batches(images, order, settings.batch):
        batch, labels = devices.put(batch, device), devices.put(labels, device)
        if not images.after:
            if settings.views is None:
                batch = augment(batch, settings.augment, settings.flips)
            batch = network.prepare(batch)
        if below:
            with torch.no_grad(), devices.autocast(device, settings.precision):
                batch = below.run(batch, upto=frozen)
        yield batch, labels


def _kernels(network, phase, start) -> Iterator[tuple[Tensor, Tensor]]:
    """(w, w_0) of the pretrained kernels that learn: the S of ftlab.penalties."""
    kernels = {
        id(m.weight) for m in network.stages.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    }
    for name, (parameter, _) in learning(network, phase).items():
        if id(parameter) in kernels:
            yield parameter, start[name]


def _rates_by_stage(network, phase, multipliers) -> dict[str, float]:
    """The rate of each stage at the start of the schedule; its tensors' mean under a rate rule."""
    means = {}
    names = {id(p): n for n, p in network.named_parameters()}
    for stage, lr in phase.lrs.items():
        tensors = [names[id(p)] for p in network.modules_of(stage).parameters()]
        factors = [multipliers.get(n, 1.0) for n in tensors]
        means[stage] = lr * sum(factors) / max(len(factors), 1)
    return means


def _seed(seed: int, phase: int, epoch: int) -> None:
    state = np.random.SeedSequence([seed, phase, epoch]).generate_state(2)
    np.random.seed(state[0])
    torch.manual_seed(int(state[1]))


def _is_best(values: Mapping[str, float], history: Sequence[Epoch], settings: Settings) -> bool:
    key = SELECT[settings.select]
    return all(key(values) > key(epoch.val) for epoch in history if epoch.best)


def _out_of_patience(phase_history: Sequence[Epoch], last: bool, settings: Settings) -> bool:
    """Only the last phase may stop early: a plateau before it must not end an unfreezing."""
    if not settings.patience or not last:
        return False
    recent = phase_history[-settings.patience :]
    return len(recent) == settings.patience and not any(epoch.best for epoch in recent)


def _must_be_finite(loss: float, values: Mapping[str, float], phase: Phase) -> None:
    if not (math.isfinite(loss) and math.isfinite(values["loss"])):
        rate = max(phase.lrs.values())
        raise Diverged(
            f"The loss stopped being a number at learning rate {rate:g}; try a smaller one."
        )


def check(settings: Settings) -> None:
    """Refuse settings that cannot train.

    Raises:
        BadInput: one of them, named as its option on the command line.
    """
    tables = {
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "select": SELECT,
        "augment": PRESETS,
        "precision": (*devices.PRECISIONS, "auto"),
    }
    for setting, table in tables.items():
        given = getattr(settings, setting)
        if given not in table:
            raise BadInput(f"--{setting} takes {', '.join(table)}, not {given!r}.")
    if settings.views is not None and settings.augment == "none" and not settings.flips:
        raise BadInput("--views is of augmented images: give --augment or --flips with it.")
    limits = {
        "epochs": (1, 10_000),
        "size": (32, 1024),
        "batch": (2, 4096),
        "patience": (1, 10_000),
        "views": (1, 10_000),
    }
    for setting, (least, most) in {**limits, "train_per_class": (2, 10**9)}.items():
        given, option = getattr(settings, setting), setting.replace("_", "-")
        if given is not None and given < least:
            raise BadInput(f"--{option} is at least {least}, not {given}.")
        if given is not None and given > most:
            raise BadInput(f"--{option} is at most {most}, not {given}.")
