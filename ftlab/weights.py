"""Where theta_0 comes from: timm's repositories on the model hub, this package, a file, or a draw.

Never a silent fallback: the same question gives the same theta_0 on every machine, or one sentence.
A theta_0 is known by a checksum of its tensors, so the same weights in another file are the same.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import is_model_pretrained
from torch import Tensor

from . import backbones, files
from .records import BadInput
from .tensors import read as tensors_of
from .unpickling import shown

FILE = "model.safetensors"  # what timm's repositories call it
BUNDLED = Path(__file__).with_name("ftlab_mini.safetensors")  # docs/pretraining.md
HUB_SECONDS = 8.0  # patience with a hub that does not answer
PREFIXES = ("_orig_mod.", "module.", "model.", "backbone.")


@dataclass(frozen=True)
class Theta0:
    """Weights and buffers by timm's names, the classifier left out, and what they expect of x."""

    tensors: Mapping[str, Tensor]
    kind: str  # imagenet, bundled, file or random
    name: str  # hub repository, file name, or seed
    checksum: str  # sha256 over names, shapes and bytes
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def record(self) -> dict:
        return {"kind": self.kind, "name": self.name, "checksum": self.checksum}


def own(backbone: str) -> str:
    """Where a backbone's own pretrained weights are: "bundled" with ftlab, or "imagenet"."""
    return "bundled" if backbone.split(".")[0] == "ftlab_mini" else "imagenet"


def load(backbone: str, weights: str = "pretrained", seed: int = 0) -> Theta0:
    """theta_0 of a backbone.

    Args:
        weights: "pretrained" (the backbone's own), "imagenet" (the table's tag, from the hub or
            its cache), "bundled" (ftlab_mini's), "random" (drawn from the seed), or the path of a
            .safetensors, .pth or .pt file with timm's names.
    Raises:
        BadInput: the backbone has no such weights, the hub cannot be reached, or the file is not
            these weights.
    """
    if weights == "random":
        return _random(backbone, seed)
    if weights in ("pretrained", "imagenet", "bundled"):
        if weights not in ("pretrained", own(backbone)):
            raise BadInput(
                f"{backbone} has no {weights} weights: take {own(backbone)}, which are its own, "
                "or random ones."
            )
        if own(backbone) == "bundled":
            return _theta0(backbone, tensors_of(BUNDLED), "bundled", BUNDLED.name)
        repository = hub_repository(backbone)
        return _theta0(backbone, tensors_of(fetch(backbone)), "imagenet", repository)
    path = Path(weights)
    if not path.is_file():
        raise BadInput(
            f"There is no weights file {path.name!r}: weights are imagenet, bundled, random, or "
            "the path of a .safetensors or .pth file."
        )
    return _theta0(backbone, tensors_of(path), "file", path.name)


def keep(theta0: Theta0, cache: Path) -> None:
    """Copy a file's theta_0 into the cache, so that its runs outlive the file they came from."""
    from safetensors.torch import save

    path = cache / "weights" / f"{theta0.checksum}.safetensors"
    if theta0.kind == "file" and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = save(dict(theta0.tensors))
        files.write(path, lambda temporary: temporary.write_bytes(content))


def recall(backbone: str, record: Mapping, seed: int, cache: Path) -> Theta0:
    """The theta_0 that a study's or run's record names.

    Raises:
        BadInput: it is not on this machine, or it is another one than recorded.
    """
    if record["kind"] == "file":
        path = cache / "weights" / f"{record['checksum']}.safetensors"
        if not path.exists():
            raise BadInput(
                "The weights these runs started from are not on this machine: start a study from "
                f"the file {record['name']} here once more."
            )
        theta0 = _theta0(backbone, tensors_of(path), "file", record["name"])
    else:
        theta0 = load(backbone, record["kind"], seed)
    if record.get("checksum") not in (None, theta0.checksum):
        raise BadInput(
            f"The {theta0.kind} weights of {backbone} on this machine are not the ones these "
            "runs started from: their checksums differ."
        )
    return theta0


def fetch(backbone: str) -> Path:
    """The local file of a backbone's own weights, downloaded if it is neither bundled nor cached.

    Raises:
        BadInput: the hub does not answer within 10 seconds or does not have it, or the disk is
            full.
    """
    if own(backbone) == "bundled":
        return BUNDLED
    import huggingface_hub as hub

    repository = hub_repository(backbone)
    cached = hub.try_to_load_from_cache(repository, FILE)
    if isinstance(cached, str):
        return Path(cached)
    others = "start from a weights file or from random weights"
    advice = f"connect once to fetch them, or {others}"
    if not is_model_pretrained(repository.removeprefix("timm/")):
        raise BadInput(f"timm has no ImageNet weights for {backbone}: {others}.")
    if not _hub_answers(repository):
        raise BadInput(
            f"The ImageNet weights of {backbone} ({repository}) are not on this machine and the "
            f"model hub cannot be reached: {advice}."
        )
    try:
        return Path(hub.hf_hub_download(repository, FILE, etag_timeout=HUB_SECONDS))
    except Exception as error:  # the hub client's own tree of errors, OSError, HTTP errors
        if files.disk_full(error):
            raise BadInput(
                f"The disk has no room for the ImageNet weights of {backbone} ({repository}): "
                "free some space."
            ) from error
        raise BadInput(
            f"The ImageNet weights of {backbone} ({repository}) could not be downloaded "
            f"({type(error).__name__}): {advice}."
        ) from error


def on_this_machine(backbone: str) -> bool:
    """Whether a backbone's own weights are bundled or in the hub's cache; asks no network."""
    import huggingface_hub as hub

    if own(backbone) == "bundled":
        return True
    return isinstance(hub.try_to_load_from_cache(hub_repository(backbone), FILE), str)


def hub_repository(backbone: str) -> str:
    """Where timm keeps a backbone's default weights on the hub: "timm/resnet50.tv_in1k"."""
    return f"timm/{backbone.split('.')[0]}.{backbones.tag(backbone)}"


def _hub_answers(repository: str) -> bool:
    """Whether the hub answers for a repository within HUB_SECONDS, name resolution included.

    Asked before the hub's own client, which tries for half a minute.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    url = f"{constants.ENDPOINT}/{repository}/resolve/main/{FILE}"
    answered = threading.Event()

    def ask():
        try:
            if get_session().head(url, timeout=HUB_SECONDS / 2).status_code < 500:
                answered.set()
        except Exception:  # the session's errors depend on the hub client's version
            return

    asking = threading.Thread(target=ask, daemon=True)  # a resolver may hang beyond any time-out
    asking.start()
    asking.join(HUB_SECONDS)
    return answered.is_set()


def _random(backbone: str, seed: int) -> Theta0:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = backbones.create(backbone)
    tensors = _without_classifier(model, model.state_dict())
    return Theta0(tensors, "random", f"seed {seed}", checksum(tensors), *_statistics(backbone))


def _theta0(backbone: str, given: dict[str, Tensor], kind: str, name: str) -> Theta0:
    model = backbones.create(backbone)
    wanted = _without_classifier(model, model.state_dict())
    tensors = _fitted(model, wanted, given, name)
    return Theta0(tensors, kind, name, checksum(tensors), *_statistics(backbone))


def _fitted(model, wanted: dict, given: dict, name: str) -> dict[str, Tensor]:
    """The given tensors under the wanted names, every one there, of the right shape and finite."""
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in given):
            given = {key.removeprefix(prefix): value for key, value in given.items()}
    given = _without_classifier(model, given)
    missing = [k for k in wanted if k not in given and not k.endswith("num_batches_tracked")]
    extra = [k for k in given if k not in wanted]
    if missing or extra:
        first = (missing or extra)[0]
        fit = len(wanted.keys() & given.keys())
        raise BadInput(
            f"{name} does not hold this backbone's weights: {fit} of {len(wanted)} tensors fit, "
            f"{'missing' if missing else 'unknown'} is for instance {shown(first)}."
        )
    return {k: _fit(given.get(k, v), v, k, name) for k, v in wanted.items()}


def _fit(tensor: Tensor, wanted: Tensor, key: str, name: str) -> Tensor:
    """A tensor in the wanted shape and type, or the one sentence that says why it is not."""
    dense = tensor.layout == torch.strided and not tensor.is_meta
    if not dense or tensor.shape != wanted.shape:
        expected = "x".join(map(str, wanted.shape)) or "single-number"
        raise BadInput(f"{name} does not fit: {key} should be a dense {expected} tensor.")
    if wanted.is_floating_point() and not tensor.is_floating_point():
        raise BadInput(f"{name} does not fit: {key} holds {tensor.dtype}, not real numbers.")
    if not wanted.is_floating_point() and tensor.is_complex():
        raise BadInput(f"{name} does not fit: {key} holds {tensor.dtype}, not whole numbers.")
    given, tensor = tensor, tensor.to(wanted.dtype).contiguous()
    whole = wanted.is_floating_point() or given.double().isfinite().all()  # NaN has no integer
    if not (whole and tensor.isfinite().all()):
        raise BadInput(f"{name} cannot be used: {key} holds NaN or infinite numbers.")
    return tensor


def _without_classifier(model, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    classifier = model.pretrained_cfg["classifier"] + "."
    return {k: v for k, v in tensors.items() if not k.startswith(classifier)}


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _statistics(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation from the weights' own metadata."""
    cfg = timm.get_pretrained_cfg(f"{backbone.split('.')[0]}.{backbones.tag(backbone)}")
    return tuple(cfg.mean), tuple(cfg.std)
