"""Averages of finished networks: WiSE-FT and model soups. Nothing is trained.

WiSE-FT        (1 - a) w_LP + a w_FT: from theta_0 under a linear probe's head to the fine-tuned
               network (Wortsman et al. 2022, CVPR).
uniform soup   the mean of the ingredients (Wortsman et al. 2022, ICML, recipe 1 without a choice).
greedy soup    best on validation first, each next one kept if validation gets no worse (recipe 1).

The ingredients of a soup are several strategies' runs of one seed, or one strategy's of all seeds.
What is learned is averaged. BatchNorm's running statistics are computed again on the training
images (`ftlab.batchnorm`): those of the ingredients belong to other activations. The papers of
WiSE-FT and soups had networks without any.

What comes out is a study of its own, whose runs are finished runs like others (run.json says
under `derived` what of), so that all that reads a study reads it, and the study they come from
can still be resumed and extended.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from . import backbones, files, metrics, prediction, runs, studies, train
from . import device as devices
from .backbones import Network
from .batches import Split
from .batchnorm import refreshed
from .inspection import pictures_of
from .records import BadInput, Settings
from .studies import Cell, Study

PROBE = "linear_probe"
ALPHAS = (0.25, 0.5, 0.75)
Tensors = dict[str, Tensor]


# --- the arithmetic -------------------------------------------------------------------------------


def mix(parts: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> Tensors:
    """The weighted sum of networks' tensors; a count (of batches) is the largest.

    Added up in double precision, so that a share of 1 gives that network bit by bit.
    """
    mixed = {}
    for name, first in parts[0].items():
        own = [part[name] for part in parts]
        if first.is_floating_point():
            total = sum(share * t.double() for share, t in zip(shares, own, strict=True))
            mixed[name] = total.to(first.dtype)
        else:
            mixed[name] = torch.stack(own).amax(0)
    return mixed


def uniform(parts: Sequence[Mapping[str, Tensor]]) -> Tensors:
    """The mean of networks' tensors: the uniform soup."""
    return mix(parts, [1 / len(parts)] * len(parts))


def greedy(
    parts: Sequence[Mapping[str, Tensor]],
    value: Callable[[Tensors], tuple[float, ...]],
    soup_of: Callable[[Sequence], Tensors] = uniform,
) -> tuple[Tensors, list[int]]:
    """(soup, places of its ingredients); `value` of tensors is what validation makes of them."""
    alone = [value(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda place: alone[place], reverse=True)
    kept, soup, best = [order[0]], dict(parts[order[0]]), alone[order[0]]
    for place in order[1:]:
        tried = soup_of([parts[each] for each in (*kept, place)])
        if (found := value(tried)) >= best:
            kept, soup, best = [*kept, place], tried, found
    return soup, kept


# --- a study of averages --------------------------------------------------------------------------


def average(
    folder: Path,
    home: Path,
    name: str,
    strategies: Sequence[str],
    alphas: Sequence[float] | None = None,
) -> Path:
    """Make a study of averages of a study's finished runs; its folder.

    It holds the runs averaged, too, to be compared with. Every seed and backbone has its own; only
    seeds of which all runs have their weights here are taken. A soup of a strategy's seeds is one
    network for all of them: it stands under the first, beside that seed's own run.

    Args:
        name: of the new study.
        strategies: whose runs are averaged; with alphas, a single one.
        alphas: WiSE-FT between the linear probe's run and the strategy's, one run an alpha
            from 0 to 1; None: a uniform and a greedy soup of the strategies, or of a single
            strategy's seeds.
    Raises:
        BadInput: the name is taken or no name, a strategy has no such runs, networks differ in
            shape or in theta_0, an alpha is out of range, or the data are not here.
    """
    study = studies.read(folder)
    target = home / "checkpoints" / name
    wanted = _wanted(study, strategies, alphas)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        raise BadInput(f"A study's name has letters, digits, - and _ only, not {name!r}.")
    if target.exists() or name == study.name:
        raise BadInput(f"There is a study {name} already: choose another name.")
    groups = _groups(folder, study, wanted)
    seeds = tuple(dict.fromkeys(cells[0].seed for cells in groups))
    for cells in groups:
        _must_fit([files.read_json(folder / cell.name / "run.json") for cell in cells])
    pictures = pictures_of(home, study)
    made: list[str] = []
    target.parent.mkdir(parents=True, exist_ok=True)
    with files.unfinished(target, Path.mkdir) as work:
        if (folder / "tuning").exists():  # how the rates of the runs averaged were chosen
            numbers = shutil.ignore_patterns("*.safetensors")
            shutil.copytree(folder / "tuning", work / "tuning", ignore=numbers)
        for cells in groups:
            for cell in cells:
                if cell.seed in seeds:
                    shutil.copytree(folder / cell.name, work / cell.name)
            source = folder / cells[0 if alphas is None else -1].name
            for label, tensors, derived in _averages(folder, home, cells, alphas, pictures):
                own = work / replace(cells[0], strategy=label).name
                told = {"strategy": label, "study": name, "derived": derived}
                _write(own, source, home, tensors, told, pictures)
                made.append(label)
        both = tuple(dict.fromkeys((*wanted, *made)))
        studies.save(work, replace(study, name=name, strategies=both, seeds=seeds))
        work.rename(target)
    return target


def _wanted(study: Study, strategies: Sequence[str], alphas: Sequence[float] | None) -> list[str]:
    wanted = list(dict.fromkeys((PROBE, *strategies) if alphas is not None else strategies))
    for strategy in wanted:
        if strategy not in study.strategies:
            raise BadInput(f"The study {study.name} has no runs of {strategy}.")
    if alphas is not None and len(wanted) != 2:
        raise BadInput(
            "This average takes one strategy besides linear_probe, not "
            f"{', '.join(strategies) or 'none'}."
        )
    for alpha in alphas or ():
        if not 0 <= alpha <= 1:
            raise BadInput(f"--alpha is a share from 0 to 1, not {alpha:g}.")
    return wanted


def _groups(folder: Path, study: Study, wanted: Sequence[str]) -> list[list[Cell]]:
    """The runs that are averaged together: of each seed and backbone, or all seeds of a backbone.

    Raises:
        BadInput: too few of them have their weights here.
    """
    seeds = [seed for seed in study.seeds if _all_here(folder, study, wanted, seed)]
    if not seeds:
        raise BadInput(f"{study.name} has no seed whose runs of {', '.join(wanted)} are all here.")
    if len(wanted) > 1:
        return [[Cell(b, s, seed) for s in wanted] for seed in seeds for b in study.backbones]
    if len(seeds) < 2:
        raise BadInput(f"This average takes two or more, not {wanted[0]} of a single seed.")
    return [[Cell(b, wanted[0], seed) for seed in seeds] for b in study.backbones]


def _all_here(folder: Path, study: Study, strategies: Sequence[str], seed: int) -> bool:
    cells = [Cell(b, strategy, seed) for b in study.backbones for strategy in strategies]
    weights = (folder / cell.name / "best.safetensors" for cell in cells)
    return all(cell.finished(folder) for cell in cells) and all(w.exists() for w in weights)


def _plain(strategy: str) -> str:
    """A name that is none of a search's: an average of truncated@12 cannot be trained at a unit."""
    return strategy.replace("@", "_")


def _averages(
    folder: Path,
    home: Path,
    cells: Sequence[Cell],
    alphas: Sequence[float] | None,
    pictures: Mapping[str, Split],
) -> Iterator[tuple[str, Tensors, dict]]:
    """(strategy of the new run, its tensors, what run.json says of it)."""
    networks, questions = zip(
        *(prediction.restore(folder / cell.name, home / "cache") for cell in cells), strict=True
    )
    parts = [network.state_dict() for network in networks]
    network, _ = prediction.restore(folder / cells[0].name, home / "cache")
    settings = Settings(**questions[0]["settings"])

    def average_of(own: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> Tensors:
        in_it = [part for part, share in zip(own, shares, strict=True) if share]
        mixed = _on_device(network, mix(own, shares))
        return refreshed(mixed, in_it, pictures["train"], settings)

    if alphas is not None:
        for alpha in dict.fromkeys(alphas):
            ends = {"kind": "wise_ft", "alpha": alpha, "of": [cell.name for cell in cells]}
            label = f"{_plain(cells[1].strategy)}_wise_{alpha:g}"
            yield label, average_of(parts, [1 - alpha, alpha]), ends
        return
    names = [cell.name for cell in cells]
    own_seeds = f"{_plain(cells[0].strategy)}_" if len({cell.seed for cell in cells}) > 1 else ""

    def soup_of(own: Sequence[Mapping[str, Tensor]]) -> Tensors:
        return average_of(own, [1 / len(own)] * len(own))

    yield f"{own_seeds}soup_uniform", soup_of(parts), {"kind": "uniform soup", "of": names}

    def value(tensors: Mapping[str, Tensor]) -> tuple[float, ...]:
        values = train.validate(_on_device(network, tensors), pictures["val"], settings)
        return train.SELECT[settings.select](values)

    soup, kept = greedy(parts, value, soup_of)
    of = [names[place] for place in kept]
    yield f"{own_seeds}soup_greedy", soup, {"kind": "greedy soup", "of": of}


def shape(question: Mapping) -> tuple:
    """What runs of one backbone must have in common to be averaged, of a run.json."""
    plan = question["plan"]
    return plan["cut_after"], plan["slim_from"], question["weights"]["checksum"]


def _must_fit(questions: Sequence[Mapping]) -> None:
    for question in questions[1:]:
        if shape(question) != shape(questions[0]):
            raise BadInput(
                f"{questions[0]['run']} and {question['run']} cannot be averaged: one of them was "
                "cut, made slimmer, or began with other weights."
            )


def _on_device(network: Network, tensors: Mapping[str, Tensor]) -> Network:
    network.load_state_dict(tensors)
    return network.to(devices.pick(), memory_format=torch.channels_last).eval()


def _write(
    target: Path,
    source: Path,
    home: Path,
    tensors: Tensors,
    told: Mapping,
    pictures: Mapping[str, Split],
) -> None:
    """A run's folder: the question of `source` under its own name, and its own answer."""
    question = {**files.read_json(source / "run.json"), **told, "run": target.name}
    runs.start(target, question)
    ingredients = [source.with_name(name) for name in told["derived"]["of"]]
    stored = {name for i in ingredients for name in runs.load_tensors(i / "best.safetensors")[0]}
    costs = [files.read_json(folder / "result.json") for folder in ingredients]
    runs.save_best(target, {name: tensors[name] for name in stored})
    network = _on_device(prediction.restore(source, home / "cache")[0], tensors)
    answer, test = _answer(network, Settings(**question["settings"]), pictures)
    written = {
        **{"best_epoch": 0, "epochs": 0, "mean_epoch_seconds": 0.0},
        "seconds": sum(cost["seconds"] for cost in costs),  # without them it would not be
        "trained_parameters": max(cost["trained_parameters"] for cost in costs),
        "parameters": backbones.parameters(network),
        "stored_bytes": (target / "best.safetensors").stat().st_size,
        "peak_memory_bytes": max(cost["peak_memory_bytes"] for cost in costs),
    }
    kept = {key: runs.predictions(source)[key] for key in ("y_true", "index", "group")}
    runs.finish(target, written | answer, {**kept, "probs": test})


def _answer(network: Network, settings: Settings, pictures: Mapping[str, Split]):
    """(validation and test metrics as of a trained run, test probabilities)."""
    val, test = pictures["val"], pictures["test"]
    values = train.validate(network, val, settings)
    probs = train.predict(network, test, settings)
    answer = {
        "val": values,
        "selected": train.SELECT[settings.select](values)[0],
        "test": metrics.score(test.labels, probs),
        "test_per_class": metrics.per_class(test.labels, probs),
        "test_confusion": metrics.confusion(test.labels, probs),
    }
    if probs.shape[1] == 2:
        chosen = metrics.operating_point(val.labels, train.predict(network, val, settings))
        answer["test_at_threshold"] = {
            name: metrics.at_threshold(test.labels, probs, at)
            for name, at in (("0.5", 0.5), ("chosen_on_val", chosen))
        }
    return answer, probs
