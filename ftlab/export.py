"""A finished network as a file that needs no ftlab: an ONNX graph, or a timm model's state dict.

A file is put in place only after it has answered: the network it came from and the file, read
anew, see the same images, and their probabilities must agree within BOUND.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor, nn

from . import __version__, about, backbones, files, metrics, mini, prediction, studies, train
from .backbones import Network
from .batches import Split
from .datasets import open_dataset, read_image, resize
from .examples import gallery
from .families import split
from .leaderboard import METRIC
from .records import BadInput, Settings

BOUND = 1e-4  # of the difference of any probability; float32 rounding makes about 1e-6
OPSET = 18  # of ONNX: since 2022, which every runtime of today reads
BATCH = 32
INPUT, OUTPUT = "images", "probabilities"
NEEDS = "pip install onnx onnxscript onnxruntime"
Ask = Callable[[np.ndarray], np.ndarray]  # images (N, S, S, 3) uint8 to probabilities (N, C)


def export(folder: Path, home: Path, run: str, format: str, out: Path) -> dict:
    """Write a finished run as one file, and beside it what it is as JSON, after checking it.

    Args:
        format: "onnx" (any run; images (B, 3, S, S) in 0..1 to probabilities (B, C), dynamic B,
            normalisation inside) or "safetensors" (a run whose network is neither cut nor
            slimmed; loads into `timm.create_model(...)`, normalisation outside).
        out: the file to write; the JSON has its name with .json behind.
    Returns:
        What the JSON holds: {format, file, sha256, study, run, strategy, backbone, classes, size,
        mean, std, resized, cut_after, slim_from, test, weights, license, input, output,
        create_model: timm's arguments, of safetensors, check: {images, of, largest_difference,
        bound, same_class, balanced_accuracy: of the file on the test set or None}, ftlab}.
    Raises:
        BadInput: no such finished run with weights, no such format, packages are lacking, the
            network fits no timm model, or the file answers otherwise than the run.
    """
    if format not in FORMATS:
        raise BadInput(f"--format takes {' or '.join(FORMATS)}, not {format!r}.")
    study = studies.read(folder)
    studies.with_weights(folder, study, [run])
    network, question = prediction.restore(folder / run, home / "cache")
    way, record = FORMATS[format], _record(folder, run, question)
    images, labels, of = _images(home, study)
    settings = replace(Settings(**question["settings"]), precision="float32", batch=BATCH)
    rows = np.arange(len(images))
    wanted = train.predict(network, Split(images, rows, np.zeros(len(rows), np.int64)), settings)

    def save(path: Path) -> None:
        way.write(network, question, record, path)
        ask = way.read(path, question)
        found = np.concatenate([ask(part) for part in _parts(images)])
        record["check"] = {"images": len(images), "of": of, **_compared(wanted, found, labels)}
        record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()

    files.write(out, save)
    record |= {"format": format, "file": out.name, **way.use(question)}
    files.write_json(out.with_name(f"{out.name}.json"), record)
    return record


def _record(folder: Path, run: str, question: dict) -> dict:
    origin = about.origin(question["backbone"], question["weights"])
    return {
        **{key: question[key] for key in ("study", "run", "strategy", "backbone", "seed")},
        "classes": question["data"]["classes"],
        "size": question["settings"]["size"],
        **{key: question["weights"][key] for key in ("mean", "std")},
        "resized": about.RESIZED,
        **{key: question["plan"][key] for key in ("cut_after", "slim_from")},
        "test": files.read_json(folder / run / "result.json")["test"],
        "weights": origin["text"],
        "license": origin["license"],
        "not": about.NOT_A_DEVICE,
        "precision": "float32",  # whatever the run was trained in
        "ftlab": __version__,
    }


# --- the check -----------------------------------------------------------------------------------


def _images(home: Path, study: studies.Study) -> tuple[np.ndarray, np.ndarray | None, str]:
    """(images (N, S, S, 3) uint8, labels (N,) or None, what they are)."""
    size = study.settings.size
    try:
        data = open_dataset(home / "data", study.data)
    except BadInput:
        data = None
    if data is not None and data.hash == study.data_hash:
        rows = data.indices("test")
        return np.asarray(data.array(size)[rows]), data.labels[rows], "the study's test images"
    drawn = [resize(read_image(example.file).pixels, size) for example in gallery(home / "cache")]
    return np.stack(drawn), None, "ftlab's drawn examples, for the data set is not here"


def _parts(images: np.ndarray) -> Iterator[np.ndarray]:
    """The first image alone, then the rest in batches: a file must take any number."""
    ends = [0, 1, *range(1 + BATCH, len(images), BATCH), len(images)]
    return (images[a:b] for a, b in zip(ends, ends[1:], strict=False) if b > a)


def _compared(wanted: np.ndarray, found: np.ndarray, labels: np.ndarray | None) -> dict:
    """How far a file's answers (N, C) lie from its run's.

    Raises:
        BadInput: further than rounding explains.
    """
    apart = float(np.abs(wanted - found).max())
    if not apart <= BOUND:
        raise BadInput(
            f"The file was not kept: its probabilities differ from the run's by up to {apart:.2g}, "
            f"where rounding explains {BOUND:g}."
        )
    score = None if labels is None else metrics.score(labels, found)[METRIC]
    same = float((wanted.argmax(1) == found.argmax(1)).mean())
    return {"largest_difference": apart, "bound": BOUND, "same_class": same, METRIC: score}


# --- ONNX ----------------------------------------------------------------------------------------


class _Whole(nn.Module):
    """Images (B, 3, S, S) of RGB in 0..1 to probabilities (B, C)."""

    def __init__(self, network: Network):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(network.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(network.std).reshape(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images - self.mean) / self.std).softmax(dim=1)


def _write_onnx(network: Network, question: dict, record: dict, path: Path) -> None:
    onnx = _package("onnx")
    _package("onnxscript")
    size = question["settings"]["size"]
    loud = logging.getLogger("onnxscript"), logging.getLogger("torch.onnx")
    for log in loud:
        log.setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own, about its own insides
        program = torch.onnx.export(
            _Whole(network).eval(),
            (torch.zeros(2, 3, size, size),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    model = program.model_proto
    told = {**record, **_use_onnx(question)}
    onnx.helper.set_model_props(model, {key: _text(value) for key, value in told.items()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _use_onnx(question: dict) -> dict:
    side = question["settings"]["size"]
    return {
        "input": f"{INPUT}: (batch, 3, {side}, {side}) float32, RGB in 0..1, not normalised",
        "output": f"{OUTPUT}: (batch, {len(question['data']['classes'])}), after softmax",
    }


def _text(value) -> str:
    """A value as ONNX's metadata holds it: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(files.plain(value))


def _read_onnx(path: Path, question: dict) -> Ask:
    runtime = _package("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def ask(images: np.ndarray) -> np.ndarray:
        pixels = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
        return session.run([OUTPUT], {INPUT: pixels})[0].astype(np.float64)

    return ask


def _package(name: str):
    try:
        return import_module(name)
    except ImportError:
        raise BadInput(f"ONNX files need {name}, which is not installed: {NEEDS}.") from None


# --- a timm model's state dict -------------------------------------------------------------------


def _write_timm(network: Network, question: dict, record: dict, path: Path) -> None:
    from safetensors.torch import save

    for change, what in (("cut_after", "cut after unit"), ("slim_from", "made slim from unit")):
        if number := question["plan"][change]:
            raise BadInput(
                f"{question['run']} was {what} {number}, and no timm model has that shape: "
                "take --format onnx, which holds any network."
            )
    model = backbones.create(question["backbone"])
    model.reset_classifier(network.head.out_features)
    own = [unit for units in split(model).values() for unit in units]
    for unit, trained in zip(own, network.units(), strict=True):
        unit.load_state_dict(trained.state_dict())
    model.get_classifier().load_state_dict(network.head.state_dict())
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    path.write_bytes(save(tensors, {"format": "pt"}))


def _use_timm(question: dict) -> dict:
    return {
        "create_model": _arguments(question),
        "input": "(batch, 3, side, side) float32, RGB in 0..1, minus mean, divided by std",
        "output": "logits (batch, classes), before softmax",
    }


def _arguments(question: dict) -> dict:
    """What `timm.create_model` is told to make an empty network of that shape."""
    name, classes = question["backbone"].partition(".")[0], len(question["data"]["classes"])
    mine = {"model_name": "resnet18", **mini.NARROW}
    own = mine if name == "ftlab_mini" else {"model_name": name}
    return {**own, "num_classes": classes}


def _read_timm(path: Path, question: dict) -> Ask:
    from safetensors.torch import load_file

    model = timm.create_model(**_arguments(question)).eval()
    model.load_state_dict(load_file(path))
    mean, std = (torch.tensor(question["weights"][key]).reshape(3, 1, 1) for key in ("mean", "std"))

    def ask(images: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float().div(255)
        with torch.no_grad():
            return model((x - mean) / std).double().softmax(dim=1).numpy()

    return ask


class Way(NamedTuple):
    """How a format is written, read anew to be asked, and used."""

    write: Callable[[Network, dict, dict, Path], None]
    read: Callable[[Path, dict], Ask]
    use: Callable[[dict], dict]


FORMATS = {
    "onnx": Way(_write_onnx, _read_onnx, _use_onnx),
    "safetensors": Way(_write_timm, _read_timm, _use_timm),
}
