"""A run is a folder: question first, diary while it trains, answer last. State is read off files.

    run.json            the question, expanded, plan included; written first, never changed
    epochs.jsonl        one line an epoch
    last.safetensors    weights and optimizer state after the last whole epoch, to continue from;
    previous.safetensors    the one before, should the last be damaged; both go when the run ends
    best.safetensors    the best validation epoch; its header carries run.json
    halved.json         if memory ran out: the epoch from which on batches are computed in halves
    test.npz            y_true (N,), probs (N, C), index (N,) in the data set, group (N,)
    result.json         the answer: it exists <=> the run finished
    maps.json           where it looks, if somebody asked: what was asked, then of each image
                        (index, in the data set) share of the lesion, energy, pointing (0 or 1), the
                        map (base64, a byte a place, `size` [h, w]); road: index and score of some
    error.txt           if it failed: what and why, in words

Weight files hold the tensors that differ from theta_0, which run.json names by its checksum.
Every file is written under another name, synced and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import error as ZlibError

import numpy as np

from . import files
from .records import BadInput, Epoch

if TYPE_CHECKING:
    from torch import Tensor

    from .backbones import Network
    from .optimizers import Moments


def fail(folder: Path, reason: str) -> None:
    """Write down, in words, why a run failed."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / "error.txt", reason + "\n")


def reason(folder: Path) -> str | None:
    """Why the run in a folder, or a study as a whole, failed; None where it did not."""
    try:
        return (folder / "error.txt").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def start(folder: Path, question: Mapping) -> None:
    """Write the question; a folder that already has one keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    files.sweep(folder)
    (folder / "error.txt").unlink(missing_ok=True)
    if not (folder / "run.json").exists():
        files.write_json(folder / "run.json", question)


def diary(folder: Path) -> list[Epoch]:
    """The epochs written so far; a last line cut short by a kill is left out."""
    epochs = []
    try:
        lines = (folder / "epochs.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            epochs.append(Epoch(**json.loads(line)))
        except ValueError:
            break
    return epochs


def record(
    folder: Path,
    network: Network,
    changed: Callable[[], dict[str, Tensor]],
    moments: Moments,
    epochs: Iterator[Epoch],
) -> Iterator[Epoch]:
    """Write each epoch's line and weights before passing it on.

    The order makes a kill at any moment harmless: a line or a best file that `last.safetensors`
    does not know of yet is written again, the same, by the resumed run.
    """
    for epoch in epochs:
        with open(folder / "epochs.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(epoch)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        weights = changed()
        if epoch.best:
            save_best(folder, weights)
        state = {f"moments.{n}/{k}": t for n, s in moments.items() for k, t in s.items()}
        state |= {f"network.{n}": t for n, t in weights.items()}
        if (folder / "last.safetensors").exists():
            os.replace(folder / "last.safetensors", folder / "previous.safetensors")
        save_tensors(folder / "last.safetensors", state, {"epochs": str(epoch.epoch + 1)})
        yield epoch


def save_best(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write best.safetensors with the question in its header, so that this one file can travel."""
    run = (folder / "run.json").read_text(encoding="utf-8")
    save_tensors(folder / "best.safetensors", tensors, {"run": run})


def resume(folder: Path) -> tuple[list[Epoch], dict[str, Tensor], Moments]:
    """(epochs done, changed tensors, optimizer state) to continue from; empty for a new run.

    The diary is cut back to what the newest undamaged state knows.
    """
    for name in ("last.safetensors", "previous.safetensors"):
        try:
            state, header = load_tensors(folder / name)
        except (FileNotFoundError, BadInput):
            continue
        epochs = diary(folder)[: int(header["epochs"])]
        if len(epochs) < int(header["epochs"]):
            continue
        _write_diary(folder, epochs)
        weights, moments = {}, {}
        for key, tensor in state.items():
            part, _, name = key.partition(".")
            if part == "network":
                weights[name] = tensor
            else:
                parameter, _, moment = name.rpartition("/")
                moments.setdefault(parameter, {})[moment] = tensor
        return epochs, weights, moments
    _write_diary(folder, [])
    return [], {}, {}


def halved_from(folder: Path) -> int | None:
    """The epoch from which on a run computes its batches in halves; None: memory never ran out."""
    record = files.read_json(folder / "halved.json")
    return record and record["epoch"]


def halve(folder: Path) -> bool:
    """Compute batches in halves from the epoch in which a run is; False: they are already."""
    now, before = len(resume(folder)[0]), halved_from(folder)
    if before is not None and before <= now:
        return False
    files.write_json(folder / "halved.json", {"epoch": now})
    return True


def _write_diary(folder: Path, epochs: list[Epoch]) -> None:
    lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
    files.write_text(folder / "epochs.jsonl", lines)


def finish(folder: Path, result: Mapping, test: Mapping[str, np.ndarray] | None) -> None:
    """Write predictions, then the answer, then drop what was only there to continue from."""
    if test is not None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **test)
        files.write(folder / "test.npz", lambda temporary: temporary.write_bytes(buffer.getvalue()))
    files.write_json(folder / "result.json", result)
    for name in ("last.safetensors", "previous.safetensors"):
        (folder / name).unlink(missing_ok=True)


def predictions(folder: Path) -> dict[str, np.ndarray]:
    """y_true (N,), probs (N, C), index (N,) and group (N,) of the test split.

    Raises:
        BadInput: the file is damaged.
    """
    try:
        with np.load(folder / "test.npz", allow_pickle=False) as file:
            return {key: file[key] for key in ("y_true", "probs", "index", "group")}
    except (zipfile.BadZipFile, ZlibError, EOFError, ValueError, KeyError) as error:
        raise BadInput(
            f"{folder.name}/test.npz is damaged: delete that folder from the study, and the same "
            "command trains the run again."
        ) from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Tensors with a header of texts and their checksum, so that damage is noticed."""
    from safetensors.torch import save

    from .weights import checksum

    dense = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {**header, "sha256": checksum(dense)}
    # Not save_file: it writes a temporary file of its own, which a kill would leave behind.
    files.write(path, lambda temporary: temporary.write_bytes(save(dense, header)))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, header).

    Raises:
        FileNotFoundError: no such file.
        BadInput: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    from .weights import checksum

    if not path.exists():
        raise FileNotFoundError(path.name)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path.name} is damaged and cannot be read.") from error
    if header.pop("sha256", None) != checksum(tensors):
        raise BadInput(f"{path.name} is damaged: its contents do not match their checksum.")
    return tensors, header


def state(folder: Path, at_work_on: Collection[str], stopped: bool) -> str:
    """queued, running, stopped, interrupted, failed or finished.

    Args:
        at_work_on: the runs that living processes of this study are training.
        stopped: whether somebody asked the study to stop.
    """
    if (folder / "result.json").exists():
        return "finished"
    if folder.name in at_work_on:
        return "running"
    if (folder / "error.txt").exists():
        return "failed"
    if not (folder / "run.json").exists() or at_work_on:
        return "queued"
    return "stopped" if stopped else "interrupted"
