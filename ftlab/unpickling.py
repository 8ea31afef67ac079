"""The process that reads a .pth file: pickles are programs, so theirs is one that can be lost.

`python -m ftlab.unpickling < FILE` answers on standard output and ends: with status 0 the file's
state dict as safetensors, with REFUSED the reason, worded to follow the file's name. Only what
torch's own weights_only allows is unpickled; that stops code, but not a file that crashes the
reader, fills the memory or never comes to an end. Whatever else the process ends with is a refusal.
"""

from __future__ import annotations

import os
import sys
import warnings
import zipfile
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor

from .records import BadInput

try:
    import resource
except ImportError:  # not a Unix: a process of its own is all the protection there is
    resource = None

REFUSED = 3
TENSORS = 20_000
CPU_SECONDS = 60
MEMORY = 2**30  # bytes of address space beside those of the start and the copies of the file
COPIES = 4  # of the file's content: as read, each tensor by itself, as safetensors
STATM = Path("/proc/self/statm")  # its first number: pages of address space
NOT_PLAIN = "is not a plain file of tensors that PyTorch reads safely; save it as .safetensors."


def main() -> int:
    """Answer for the file on standard input; the process's exit status."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the bytes
    with open(0, "rb") as file:
        _restrict(os.fstat(file.fileno()).st_size)
        status, content = answer(file)
    answers.write(content)
    answers.close()
    return status


def answer(file: BinaryIO) -> tuple[int, bytes]:
    """(0, safetensors) or (REFUSED, the reason)."""
    size = os.fstat(file.fileno()).st_size
    try:
        return 0, save(_plain(_state_dict(_load(file, size)), size))
    except BadInput as error:
        return REFUSED, str(error).encode(errors="replace")


def _restrict(size: int) -> None:
    """From here on: no byte goes into a file, no core is dumped; memory and time have an end."""
    if resource is None:
        return
    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: CPU_SECONDS}
    if STATM.exists():
        pages = int(STATM.read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + MEMORY + COPIES * size
    for limit, value in limits.items():
        _, hard = resource.getrlimit(limit)
        if hard == resource.RLIM_INFINITY or value < hard:
            resource.setrlimit(limit, (value, value))


def _load(file: BinaryIO, size: int):
    """What a .pth file holds.

    Raises:
        BadInput: it is none, or holds more than numbers, names and tensors.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            if packed or sum(entry.file_size for entry in entries) > size:
                raise BadInput(NOT_PLAIN)  # torch.save packs nothing: this is meant to swell
        file.seek(0)
        with warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch.load raise whatever a broken file leads to
        raise BadInput(NOT_PLAIN) from error


def _state_dict(content) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    named = isinstance(content, dict) and all(isinstance(k, str) for k in content)
    if not named or not all(isinstance(v, Tensor) for v in content.values()):
        raise BadInput("holds no state dict (names and tensors).")
    if len(content) > TENSORS:
        raise BadInput(f"holds more than {TENSORS:,} tensors.")
    return dict(content)


def _plain(tensors: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """Each tensor by itself, as safetensors wants them: without others' numbers around it."""
    for name, tensor in tensors.items():
        dense = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested)
        if not dense:
            raise BadInput(f"does not fit: {shown(name)} should be a dense tensor.")
        if tensor.is_quantized:
            raise BadInput(f"does not fit: {shown(name)} holds {tensor.dtype}, not real numbers.")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > MEMORY + size:
        raise BadInput("holds far more numbers than the file has bytes for.")
    try:
        return {
            name: tensor.detach().resolve_neg().clone(memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
    except (RuntimeError, MemoryError) as error:  # kinds of tensors that nothing copies
        raise BadInput(NOT_PLAIN) from error


def shown(name: str) -> str:
    """A name from a file, as it may stand in a sentence."""
    kept = "".join(c if c.isprintable() else " " for c in name[:61])
    return kept if len(name) <= 60 else kept[:60] + "…"


if __name__ == "__main__":
    sys.exit(main())
