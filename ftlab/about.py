"""A finished study in words, for whoever takes it away: what began it, its limits, its commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import product, takewhile
from pathlib import Path
from statistics import fmean

from . import demo, files, search, studies
from .datasets.sources import PHANTOM
from .leaderboard import METRIC
from .records import BadInput, Settings
from .studies import Cell, Study

NOT_A_DEVICE = (
    "This is research software and not a medical device: nothing here was made, tested or approved "
    "to diagnose, treat or triage anybody."
)
RESIZED = "the whole picture squashed to a square of that side (bilinear, antialiased), RGB"


def chosen_run(folder: Path, study: Study, wanted: str | None = None) -> Cell:
    """The run to take away: the one wanted, else of the strategy best on validation.

    Of the strategies whose weights are here the one with the best mean over its finished seeds,
    and of it the lowest seed with weights; where no weights are here at all, of all strategies.

    Raises:
        BadInput: no run has finished, or not the one wanted.
    """
    studies.finished(folder, study, [wanted] if wanted else ())
    done = [cell for cell in studies.cells(study) if cell.finished(folder)]
    if wanted:
        return next(cell for cell in done if cell.name == wanted)
    scores: dict[tuple, list[float]] = {}
    for cell in done:
        value = files.read_json(folder / cell.name / "result.json")["val"][METRIC]
        scores.setdefault((cell.backbone, cell.strategy), []).append(value)
    here = [cell for cell in done if (folder / cell.name / "best.safetensors").exists()]

    def rank(cell: Cell) -> tuple:
        return fmean(scores[cell.backbone, cell.strategy]), -study.seeds.index(cell.seed)

    return max(here or done, key=rank)


def exportable(folder: Path) -> list[str]:
    """Finished runs with their weights here, `chosen_run` first; none where there is none."""
    study = studies.read(folder)
    try:
        able, _ = studies.with_weights(folder, study)
    except BadInput:
        return []
    first = chosen_run(folder, study).name
    return [first, *(name for name in able if name != first)]


def origin(backbone: str, record: Mapping) -> dict:
    """{text, license}: where theta_0 comes from; license as the hub names it, None if unknown.

    Args:
        record: `weights` of a run.json.
    """
    kind, name = record["kind"], record["name"]
    if kind == "random":
        return {"text": f"random numbers ({name}), no pretrained weights", "license": "apache-2.0"}
    if kind == "bundled":
        text = "the weights that come with ftlab, trained on drawn fractals and textures"
        return {"text": f"{text} without any photograph", "license": "apache-2.0"}
    if kind == "file":
        text = f"the weights file {name}, whose licence is known to whoever gave it"
        return {"text": text, "license": None}
    import timm

    licence = timm.get_pretrained_cfg(name.removeprefix("timm/")).license
    text = (
        f"the ImageNet weights {name} (licence: {licence or 'not named by timm'}); the pictures "
        "they were trained on are for non-commercial research and education by ImageNet's terms"
    )
    return {"text": text, "license": licence}


def synthetic(study: Study, data: Mapping | None) -> bool:
    """Whether a study's pictures were drawn; data: as `data_report` gives it."""
    drawn = data is not None and str(data["source"]).startswith(PHANTOM)
    return drawn or study.data_hash == demo.HASH


def limits(folder: Path, study: Study, board: Mapping, data: Mapping | None) -> list[str]:
    """What to read a study's numbers with, one sentence each."""
    also = _chosen_too(folder, study)
    seeds = sorted({len(row["seeds"]) for row in board["rows"]})
    said = []
    if synthetic(study, data):
        said.append("The pictures are synthetic: drawn by ftlab, not taken of any patient.")
    if tuning := board["tuning"]:
        grid = ", ".join(f"{rate:g}" for rate in tuning["grid"])
        said.append(
            f"Learning rates were {board['rates']}. The grid is {grid}, chosen from on validation "
            f"with seed {tuning['seed']}; {also or 'nothing else was tuned'}."
        )
    else:
        said.append(
            "Learning rates were not tuned: a strategy may do better at another rate than at the "
            f"one it was given; {also or 'nothing else was tuned, either'}."
        )
    if seeds and seeds[0] < 5:
        few = "There is one seed" if seeds[0] == 1 else f"There are {seeds[0]} seeds"
        alone = " How much runs differ by chance is not known of one seed." * (seeds[0] == 1)
        said.append(f"{few} of a strategy, and p-values are given from five on.{alone}")
    said.append(
        "One training set and one split were drawn, once: what another draw would change is in no "
        "interval here."
    )
    if data is None:
        said.append(
            "The data set is not on this machine, so its checks and images are not shown here."
        )
    elif data["groups"] is None:
        said.append(
            "No patients or groups are known: images of one patient may lie in training and in "
            "test, which makes test results too good."
        )
    if study.settings.train_per_class:
        said.append(f"Training saw {study.settings.train_per_class} images of each class at most.")
    said.append("The images are of one source: how the networks do elsewhere was not looked at.")
    return said


def _chosen_too(folder: Path, study: Study) -> str:
    """What validation chose besides epochs and rates; "" where it is nothing."""
    searched = files.read_json(folder / search.NAME)
    said = [f"the unit of {searched['strategy']}"] if searched else []
    if any(name.endswith("soup_greedy") for name in study.strategies):
        said.append("what a greedy soup is made of")
    return f"{' and '.join(said)} was chosen on validation, too" if said else ""


def commands(study: Study, data: Mapping | None, averages: Sequence[str] = ()) -> list[str]:
    """The command lines that ask the same again.

    Args:
        averages: strategies of runs that were averaged of others, which no training makes.
    """
    source, options = "SOURCE", []
    if data:
        options = ["--seed", str(data["seed"]), "--fractions", _listed(data["fractions"])]
        for option, value in data["options"].items():
            options += [f"--{option}", value]
        if synthetic(study, data):
            each = data["images"] // len(data["classes"])
            source, options = data["source"], ["--per-class", str(each), *options]
    elif study.data_hash == demo.HASH:
        options = ["--per-class", str(demo.PER_CLASS), "--seed", str(demo.SEED)]
        source, options = demo.SOURCE, [*options, "--fractions", _listed(demo.FRACTIONS)]
    first = _line("import", source, study.data, *options)
    trained = [name for name in study.strategies if name not in averages]
    asked = _settings(study.settings)
    if study.weights["kind"] != "pretrained":
        name = study.weights["name"] or study.weights["kind"]
        asked += ["--weights", re.sub(r"[^\w .()+,-]", "?", name)]  # a stranger's file name
    for strategy, knobs in study.knobs.items():
        for knob, value in knobs.items():
            value = str(value).lower() if isinstance(value, bool) else value
            asked += ["--set", f"{strategy}.{knob}={value}"]
    asked += ["--name", study.name]
    as_counted = takewhile(lambda pair: pair[0] == pair[1], enumerate(study.seeds))
    counted = len(list(as_counted))  # by compare: 0, 1, ...
    lines = [first]
    if counted:
        which = ["--backbone", ",".join(study.backbones), "--strategies", ",".join(trained)]
        lines.append(_line("compare", study.data, *which, "--seeds", str(counted), *asked))
    for seed, backbone, strategy in product(study.seeds[counted:], study.backbones, trained):
        which = ["--backbone", backbone, "--strategy", strategy, "--seed", str(seed)]
        lines.append(_line("train", study.data, *which, *asked))
    return lines


def _line(*words: str) -> str:
    return shlex.join(["python", "-m", "ftlab", *words])


def _settings(settings: Settings) -> list[str]:
    """The options of settings that are not as they are without options."""
    given = []
    for field in fields(Settings):
        value, option = getattr(settings, field.name), "--" + field.name.replace("_", "-")
        if value != field.default:
            given += [option] if value is True else [option, f"{value}"]
    return given


def _listed(values: Sequence) -> str:
    return ",".join(f"{value:g}" for value in values)


def settings_text(settings: Mapping) -> str:
    """The settings of a study in words, but for the rate, which is each strategy's."""
    given = {k: v for k, v in settings.items() if v is not None and k != "lr"}
    said = {True: "on", False: "off"}
    return ", ".join(
        f"{name.replace('_', ' ')} {said[value] if isinstance(value, bool) else value}"
        for name, value in given.items()
    )


def data_report(lab, study: Study) -> dict | None:
    """`Lab.check` of a study's data set; None where it is not here as it was trained on."""
    try:
        found = lab.check(study.data)
    except BadInput:
        return None
    return found if found["hash"] == study.data_hash else None
