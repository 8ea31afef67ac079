"""A model card: what a finished run is, is for and is not for, as the Hugging Face hub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from . import about, console, files, runs, statistics, studies
from .leaderboard import WITH_INTERVAL

if TYPE_CHECKING:
    from .lab import Lab

INDEX = {  # of a run's test metrics -> (as the hub calls it, as people do)
    "balanced_accuracy": ("balanced_accuracy", "balanced accuracy"),
    "accuracy": ("accuracy", "accuracy"),
    "macro_f1": ("f1", "macro F1"),
    "auroc": ("roc_auc", "AUROC"),
    "average_precision": ("average_precision", "average precision"),
}
LOADING = {
    "safetensors": """import json
import numpy as np, timm, torch
from PIL import Image
from safetensors.torch import load_file

about = json.load(open("model.safetensors.json"))
model = timm.create_model(**about["create_model"]).eval()
model.load_state_dict(load_file("model.safetensors"))
image = Image.open("picture.png").convert("RGB")
image = image.resize([about["size"]] * 2, Image.Resampling.BILINEAR)
x = np.asarray(image, np.float32) / 255
x = (x - np.float32(about["mean"])) / np.float32(about["std"])
with torch.no_grad():
    probs = model(torch.from_numpy(x).permute(2, 0, 1)[None]).softmax(1)[0]
print(dict(zip(about["classes"], probs.tolist())))""",
    "onnx": """import json
import numpy as np, onnxruntime
from PIL import Image

about = json.load(open("model.onnx.json"))
session = onnxruntime.InferenceSession("model.onnx")
image = Image.open("picture.png").convert("RGB")
image = image.resize([about["size"]] * 2, Image.Resampling.BILINEAR)
x = np.asarray(image, np.float32).transpose(2, 0, 1)[None] / 255
probs = session.run(["probabilities"], {"images": x})[0][0]
print(dict(zip(about["classes"], probs.tolist())))""",
}


def card(lab: Lab, name: str, run: str | None = None, format: str | None = None) -> str:
    """The model card of a finished run.

    Args:
        run: default: `ftlab.about.chosen_run`.
        format: of the file it tells of, onnx or safetensors; default: as timm reads it if it can.
    Raises:
        BadInput: there is no such study or finished run.
    """
    folder = lab.study_folder(name)
    study = studies.read(folder)
    cell = about.chosen_run(folder, study, run)
    question = files.read_json(folder / cell.name / "run.json")
    result = files.read_json(folder / cell.name / "result.json")
    data, board = about.data_report(lab, study), lab.answer(folder)["leaderboard"]
    row = next(
        r for r in board["rows"] if (r["backbone"], r["strategy"]) == (cell.backbone, cell.strategy)
    )
    drawn = about.synthetic(study, data)
    origin = about.origin(cell.backbone, question["weights"])
    format = format or _format(question)
    front = _front(study, cell, question, result, origin, drawn, format)
    parts = [
        _opening(study, cell, question, drawn),
        _uses(study, drawn),
        _data(study, data, drawn),
        _training(question, origin, result),
        _scores(folder, cell, result, row, study.classes),
        _limits(folder, study, board, data, cell),
        _use(study, cell, format),
    ]
    return f"---\n{front}\n---\n\n" + "\n".join("\n".join(part) + "\n" for part in parts)


def _front(study, cell, question, result, origin: Mapping, drawn: bool, format: str) -> str:
    """The YAML that the hub reads: made and checked by its own client."""
    from huggingface_hub import EvalResult, ModelCardData

    named = f"{study.data} (synthetic)" if drawn else study.data
    shared = dict(task_type="image-classification", task_name="Image classification")
    shared |= dict(dataset_type=study.data, dataset_name=named, dataset_split="test")
    found = [
        EvalResult(**shared, metric_type=kind, metric_name=said, metric_value=result["test"][own])
        for own, (kind, said) in INDEX.items()
        if result["test"][own] is not None
    ]
    own = drawn and origin["license"]  # a network owes to its weights and to its pictures
    weights = question["weights"]
    tags = ["medical-imaging", "transfer-learning", "fine-tuning", "ftlab", cell.strategy]
    record = ModelCardData(
        license=own or "other",
        license_name=None if own else "as-its-weights-and-images",
        library_name=format.replace("safetensors", "timm"),
        tags=tags + ["synthetic-data"] * drawn,
        base_model=weights["name"] if weights["kind"] == "imagenet" else None,
        pipeline_tag="image-classification",
        metrics=[kind for kind, _ in INDEX.values()],
        model_name=cell.name,
        eval_results=found,
    )
    return record.to_yaml()


def _format(question: Mapping) -> str:
    """The format of export to tell of: a cut or slimmed network is no timm model."""
    changed = question["plan"]["cut_after"] or question["plan"]["slim_from"]
    return "onnx" if changed else "safetensors"


# --- the text ------------------------------------------------------------------------------------


def _opening(study, cell, question: Mapping, drawn: bool) -> Iterator[str]:
    yield f"# {cell.name} of the study {study.name}"
    yield ""
    kind = "synthetic (drawn) pictures" if drawn else "images"
    yield (
        f"A `{cell.backbone}` fine-tuned by the strategy `{cell.strategy}` to tell "
        f"{len(study.classes)} classes of {kind} apart: {', '.join(map(safe, study.classes))}. "
        f"Seed {cell.seed}; made with ftlab, which compares fine-tuning strategies."
    )
    plan = question["plan"]
    if plan["cut_after"]:
        yield f"It keeps the backbone up to unit {plan['cut_after']}; the rest was thrown away."
    if plan["slim_from"]:
        yield f"From unit {plan['slim_from']} on it is half as wide as the backbone."
    if derived := question.get("derived"):
        yield f"It is an average ({derived['kind']}) of {', '.join(derived['of'])}, not trained."
    yield f"\n**{about.NOT_A_DEVICE}**\n"


def _uses(study, drawn: bool) -> Iterator[str]:
    yield "## Intended use\n"
    yield "Research and teaching: comparing fine-tuning strategies, and repeating what was found."
    if drawn:
        yield "As it knows drawn pictures only, its answers on real images mean nothing."
    yield "\n## Out of scope\n"
    yield "- Diagnosis, triage, treatment, or any other decision about a person."
    yield "- Images of another kind or source than those of its data set, unless tested on them."
    yield "- Images of none of its classes: it has no answer but these.\n"


def _data(study, data: Mapping | None, drawn: bool) -> Iterator[str]:
    yield "## Data\n"
    yield f"The data set `{study.data}`, known by its hash `{study.data_hash[:16]}`."
    if drawn:
        yield "Its pictures are synthetic: ftlab drew them from a seed, no patient was involved."
    if data is None:
        yield "It was not on the machine that wrote this card, so its numbers are not here.\n"
        return
    grouped = "by patient or group" if data["groups"] else "image by image: groups are not known"
    own = "It came with splits of its own; what these lack was made"
    yield f"{own if data['own_splits'] else 'It was split'} {grouped}.\n"
    yield from _table(
        ["class", *data["splits"]],
        [
            [safe(name), *(counts[name] for counts in data["classes_by_split"].values())]
            for name in study.classes
        ],
    )
    yield from (f"- {safe(warning)}" for warning in data["warnings"])


def _training(question: Mapping, origin: Mapping, result: Mapping) -> Iterator[str]:
    settings = question["settings"]
    yield "## Training\n"
    yield f"- It began with {safe(origin['text'])}."
    yield f"- Who learns when: {safe(console.plan_text(question['plan']))}."
    yield f"- The study's settings: {safe(about.settings_text(settings))}."
    if knobs := ", ".join(f"{name} {value}" for name, value in question["knobs"].items()):
        yield f"- Of the strategy: {safe(knobs)}."
    if not question.get("derived"):
        yield (
            f"- Kept was the epoch best on validation ({settings['select'].replace('_', ' ')}): "
            f"{result['best_epoch'] + 1} of {result['epochs']}."
        )
    yield f"- {result['trained_parameters']:,} of {result['parameters']:,} parameters learned.\n"


def _scores(folder, cell, result: Mapping, row: Mapping, classes: Sequence[str]) -> Iterator[str]:
    test = runs.predictions(folder / cell.name)
    groups = statistics.clusters(test["group"])
    yield "## Test results\n"
    seeds = len(row["seeds"])
    other = f"that of the strategy, over {seeds} seeds, knows seeds too"
    other = other if seeds > 1 else "so does that of the strategy, which has one seed"
    yield (
        f"On {len(test['y_true'])} test images, read once. The interval of this run knows the test "
        f"images only; {other}.\n"
    )
    lines = []
    for own, (_, said) in INDEX.items():
        if own in WITH_INTERVAL:
            run = statistics.interval(test["y_true"], [test["probs"]], groups, own)
            lines.append([said, _percent(run), _percent(row[own])])
        else:
            lines.append([said, _share(result["test"][own]), _share(row[own])])
    lines.append(["calibration error (ECE)", _share(result["test"]["ece"]), _share(row["ece"])])
    yield from _table(["%", f"this run, seed {cell.seed}", f"{cell.strategy}, all seeds"], lines)
    rates = result["test_per_class"]
    names = ("sensitivity", "specificity")
    yield from _table(
        ["class", *(f"{name}, %" for name in names), "test images"],
        [
            [safe(name), *(_share(rates[n][c]) for n in names), rates["n"][c]]
            for c, name in enumerate(classes)
        ],
    )


def _limits(folder, study, board: Mapping, data: Mapping | None, cell) -> Iterator[str]:
    yield "## Limits\n"
    yield f"- What the study found: {safe(board['verdicts'][cell.backbone])}"
    yield from (f"- {safe(line)}" for line in about.limits(folder, study, board, data))
    yield ""


def _use(study, cell, format: str) -> Iterator[str]:
    yield "## How to load it\n"
    yield "The file is made, and checked against the run, by\n"
    line = f"python -m ftlab export {cell.name} --study {study.name} --format {format}"
    yield f"```sh\n{line} --out model.{format}\n```\n\nand needs no ftlab:\n"
    yield f"```python\n{LOADING[format]}\n```\n"
    yield f"An image is {about.RESIZED}.\n"


# --- pieces --------------------------------------------------------------------------------------


def safe(text: str) -> str:
    """A text as Markdown that says just that: signs as entities, for names are strangers'."""
    return re.sub(r"[^\w .,:;()%-]|_", lambda sign: f"&#{ord(sign[0])};", text)


def _table(heads: Sequence[str], lines: Sequence[Sequence]) -> Iterator[str]:
    for line in (heads, ["---"] * len(heads), *lines):
        yield f"| {' | '.join(map(str, line))} |"
    yield ""


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _percent(interval: Mapping) -> str:
    if interval["mean"] is None or interval["mean"] != interval["mean"]:
        return "–"
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * interval['mean']:.1f} ({low:.1f} to {high:.1f})"
