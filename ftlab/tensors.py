"""The tensors of a weight file that a person gives: read without running any code in it.

Safetensors is data only: its header is checked here, and the library checks it again. A .pth file
is a pickle, so a process that can be lost reads it (unpickling.py) and answers with safetensors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from .records import BadInput
from .unpickling import REFUSED, TENSORS

FILE_BYTES = 2 << 30
HEADER_BYTES = 10 << 20
SECONDS = 600.0  # by the clock for one .pth file, on a busy machine too; unpickling.py limits work
COMMAND = (sys.executable, "-P", "-m", "ftlab.unpickling")  # -P: nothing from the folder at hand
PROJECT = str(Path(__file__).parents[1])  # where ftlab is, installed or not


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, or of the state dict in a .pth file.

    Raises:
        BadInput: it is none, too large, or cannot be read safely.
    """
    try:
        size = path.stat().st_size
        if size > FILE_BYTES:
            raise BadInput(
                f"{path.name} is larger than the {FILE_BYTES >> 30} GB a weights file may be."
            )
        return _safetensors(path, size) if path.suffix == ".safetensors" else _pickled(path)
    except OSError as error:
        raise BadInput(f"{path.name} cannot be opened ({error.strerror}).") from error


def _safetensors(path: Path, size: int) -> dict[str, Tensor]:
    try:
        names = _names(path, size)
        tensors = load_file(path) if len(names) <= TENSORS else {}
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise BadInput(
            f"{path.name} is not a safetensors file, or is a damaged one: fetch or save it anew."
        ) from error
    if len(names) > TENSORS:
        raise BadInput(f"{path.name} holds more than {TENSORS:,} tensors.")
    return tensors


def _names(path: Path, size: int) -> dict:
    """A file's header, which the library would also take with a name in it twice.

    Raises:
        ValueError, RecursionError: this is no header.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER_BYTES, size - 8):
            raise ValueError(length)
        return json.loads(file.read(length).decode(), object_pairs_hook=_once)


def _once(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):  # readers differ in which of two they take
        raise ValueError("a name stands twice")
    return found


def _pickled(path: Path) -> dict[str, Tensor]:
    try:
        with open(path, "rb") as file:
            done = subprocess.run(
                COMMAND,
                # one thread: the memory that a pool of idle ones reserves would count
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": PROJECT},
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                start_new_session=True,
            )
        status, answer = done.returncode, done.stdout
        tensors = {} if status else load(answer)
    except (subprocess.TimeoutExpired, SafetensorError, ValueError, RuntimeError):
        status = -1
    if status == REFUSED:
        raise BadInput(f"{path.name} {answer.decode(errors='replace')}")
    if status:  # it crashed, was killed, or is no longer itself
        raise BadInput(f"{path.name} could not be read safely: save it as .safetensors.")
    return tensors
