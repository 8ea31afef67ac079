"""Sending new images through the finished runs of a study, exactly as their test images went."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from . import backbones, files, folding, maps, runs, sharing, studies, train, weights
from . import device as devices
from . import explain as explaining
from .backbones import Network
from .datasets import Picture, read_image, resize
from .datasets.masks import read_mask
from .records import BadInput, Settings

KEPT_BYTES = 2 << 30  # of restored networks in memory; nine ResNet-50 take 0.9 GB
SHOWN_PIXELS = 1024  # the longer side of an overlay at most

_kept: OrderedDict[tuple, tuple[Network, dict]] = OrderedDict()  # least lately used first
_lock = threading.Lock()


def predict(images: Sequence[Path], folder: Path, cache: Path, chosen: Sequence[str] = ()) -> dict:
    """Class probabilities of each image by each finished run; see `ftlab.lab.Lab.predict`.

    Raises:
        BadInput: no run has finished, an image cannot be read, or theta_0 is not here.
    """
    study = studies.read(folder)
    able, absent = studies.with_weights(folder, study, chosen)
    answers, small = [], []
    for path in images:  # of large pictures only one is held at a time
        picture = read(path)
        small.append(resize(picture.pixels, study.settings.size))
        answers.append({"file": path.name, "notes": list(picture.notes), "runs": []})
    rows = np.arange(len(small))
    split = train.Split(np.stack(small), rows, np.zeros(len(rows), np.int64))
    for name in able:
        network, question = recall(folder / name, cache, folded=True)
        probs = train.predict(network, split, Settings(**question["settings"]))
        for answer, p in zip(answers, probs, strict=True):
            answer["runs"].append({**_who(question), "probs": files.plain(p)})
    return {"classes": list(study.classes), "images": answers, "without_weights": absent}


def explain(
    image: Path,
    folder: Path,
    cache: Path,
    *,
    method: str = "gradcam",
    target: str | None = None,
    scale: str = "own",
    mask: Path | None = None,
    road: bool = False,
    chosen: Sequence[str] = (),
    layer: str | None = None,
) -> dict:
    """Where each finished run of a study looks in an image.

    Args:
        method: one of `ftlab.explain.methods`.
        target: the class explained, or "own": each run's own prediction; default: for all runs
            the class that they prefer on average.
        scale: "own" (each overlay by its own largest evidence) or "shared" (by that of all).
        mask: a file with the lesion's mask, in the image's own pixels; one that is all black
            scores nothing.
        road: also score each map by removing pixels.
        chosen: names of runs; default: every finished one.
        layer: a trunk stage or unit ("layer3", "unit7"); default: as `ftlab.explain.look`.
    Returns:
        {classes, without_weights, file, notes, target: class or None where runs differ,
        runs: [{run, strategy, backbone, probs, target, raw: [min, max], native: [h, w],
        mask: {energy, pointing, iou} or None, road: {most, least, road} or None,
        saliency: ftlab.explain.Saliency, overlay: (H, W, 3) uint8}]}
    Raises:
        BadInput: as `predict`; the mask is not this image's; no such method, class, scale, run or
            layer; or grad-cam is not installed.
    """
    study = studies.read(folder)
    able, absent = studies.with_weights(folder, study, chosen)
    _check(scale, target, study.classes)
    picture, size = read(image), study.settings.size
    lesion = _lesion(mask, picture.pixels.shape[:2], size) if mask else None
    pixels = torch.from_numpy(resize(picture.pixels, size)[None].copy())
    questions, seen = _look(able, folder, cache, pixels, layer)
    probs = {name: s.logits[0].double().softmax(dim=0).numpy() for name, s in seen.items()}
    targets = _targets(probs, target, study.classes)
    found = {}
    for name in reversed(able):  # the last one looked through is the surest to be in memory
        network, _ = recall(folder / name, cache, folded=True)
        x = network.prepare(pixels)
        (map,) = explaining.saliency(network, x, targets[name], method, seen[name])
        found[name] = map, explaining.road(network, x, map) if road else None
    overlays = _overlays([found[name][0] for name in able], scale, picture.pixels)
    answers = [
        {
            **_who(questions[name]),
            "probs": files.plain(probs[name]),
            "target": study.classes[targets[name]],
            **_said(*found[name], lesion),
            "overlay": overlay,
        }
        for name, overlay in zip(able, overlays, strict=True)
    ]
    common = study.classes[targets[able[0]]] if len(set(targets.values())) == 1 else None
    about = {"file": image.name, "notes": list(picture.notes), "target": common}
    return {"classes": list(study.classes), **about, "runs": answers, "without_weights": absent}


def read(path: Path) -> Picture:
    """The image in a file, as every run is shown it.

    Raises:
        BadInput: there is no such file, or it is no image; the sentence names it.
    """
    if not path.is_file():
        raise BadInput(f"There is no image file {path.name!r}.")
    try:
        return read_image(path)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}") from error


def _who(question: Mapping) -> dict:
    return {key: question[key] for key in ("run", "strategy", "backbone")}


def _check(scale: str, target: str | None, classes: Sequence[str]) -> None:
    if scale not in ("own", "shared"):
        raise BadInput(f"--scale takes own or shared, not {scale!r}.")
    if target not in (None, "own", *classes):
        raise BadInput(f"--target takes own or a class ({', '.join(classes)}), not {target!r}.")


def _targets(probs: Mapping, target: str | None, classes: Sequence[str]) -> dict[str, int]:
    """Run -> the class explained: the one given, its own, or the one all prefer on average."""
    if target in classes:
        return dict.fromkeys(probs, classes.index(target))
    if target == "own":
        return {name: int(p.argmax()) for name, p in probs.items()}
    return dict.fromkeys(probs, int(np.mean(list(probs.values()), axis=0).argmax()))


def _lesion(path: Path, shape: tuple[int, int], size: int) -> np.ndarray | None:
    """A mask (H, W) of an image as the networks see it, (size, size); None where it is empty."""
    if not path.is_file():
        raise BadInput(f"There is no mask file {path.name!r}.")
    try:
        mask = read_mask(path)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}") from error
    if mask.shape != shape:
        (h, w), (height, width) = mask.shape, shape
        raise BadInput(f"The mask {path.name} is {w} x {h}, its image {width} x {height} pixels.")
    lesion = at_size(mask, size)
    return lesion if lesion.any() else None


def at_size(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (H, W) as the networks see its image, (size, size) bool."""
    covered = resize(np.uint8(255 * mask), size)
    return covered > min(127, covered.max() // 2)  # a small lesion is nowhere a whole pixel


def _look(able: list[str], folder: Path, cache: Path, pixels: torch.Tensor, layer: str | None):
    """(run.json, what its network saw) of each run."""
    questions, seen = {}, {}
    passed: dict[str, dict] = defaultdict(dict)
    for name in able:
        network, questions[name] = recall(folder / name, cache, folded=True)
        precision = questions[name]["settings"]["precision"]
        x = network.prepare(pixels)
        seen[name] = explaining.look(network, x, layer, precision, passed[precision])
    return questions, seen


def _said(found: explaining.Saliency, road: dict | None, lesion: np.ndarray | None) -> dict:
    return {
        "raw": [float(found.raw.min()), float(found.raw.max())],
        "native": list(found.raw.shape),
        "mask": None if lesion is None else maps.mask_scores(found.map, lesion),
        "road": road,
        "saliency": found,
    }


def _overlays(found: list, scale: str, pixels: np.ndarray) -> list[np.ndarray]:
    """Each map over the image, (H, W, 3) uint8, by its own largest evidence or that of all."""
    painted = explaining.shared(found) if scale == "shared" else [m.map for m in found]
    shown = _shown(pixels)
    return [maps.overlay(shown, map) for map in painted]


def _shown(pixels: np.ndarray) -> np.ndarray:
    """A picture small enough to be shown, in its own proportions."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SHOWN_PIXELS, SHOWN_PIXELS), Image.Resampling.BILINEAR)
    return np.asarray(image)


def recall(folder: Path, cache: Path, *, folded: bool = False) -> tuple[Network, dict]:
    """`restore`, of which the latest networks stay in memory; they are shared: change nothing.

    Those of one backbone share the units with which they begin alike; see `ftlab.sharing`.

    Args:
        folded: as `ftlab.folding.folded` has it, which answers faster; else with its own tensors.
    """
    path = folder.resolve() / "best.safetensors"
    stamp = (path, path.stat().st_mtime_ns, folded)
    with _lock:
        if stamp not in _kept:
            network, question = restore(folder, cache)
            network.to(memory_format=torch.channels_last)  # as it was trained, and faster
            network = folding.folded(network) if folded else network.requires_grad_(False)
            for other, its in _kept.values():
                if its["backbone"] == question["backbone"]:
                    sharing.join(network, other)
            _kept[stamp] = network, question
            while len(_kept) > 1 and _held() > KEPT_BYTES:
                _kept.popitem(last=False)
        _kept.move_to_end(stamp)
        return _kept[stamp]


def _held() -> int:
    """Bytes of the networks in memory, what they share counted once."""
    tensors = (t for network, _ in _kept.values() for t in network.state_dict().values())
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())


def restore(folder: Path, cache: Path) -> tuple[Network, dict]:
    """(network in eval mode on the CPU, run.json) of a finished run, from its folder and theta_0.

    Where the processor only imitates bfloat16 the run answers in float32, ten times as fast.

    Raises:
        BadInput: theta_0 is not on this machine, or the weight file is absent or damaged.
    """
    if not (folder / "best.safetensors").exists():
        raise BadInput(f"The run {folder.name} is here without its weights.")
    question = files.read_json(folder / "run.json")
    if devices.imitates_bfloat16(torch.device("cpu")):
        question["settings"]["precision"] = "float32"
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
