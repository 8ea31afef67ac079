"""The device a run computes on, and in which precision."""

from __future__ import annotations

import contextlib
import platform

import torch
from torch import Tensor

from .records import BadInput

PRECISIONS = ("float32", "bfloat16")


def pick() -> torch.device:
    """The first CUDA device where there is one, else the CPU.

    There float32 is made to mean float32, and a convolution the same sum every time.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda")


def imitates_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 takes ten times as long as float32: on x86 processors without AVX-512."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"


def wait() -> None:
    """Until the device has done what it was given; a clock is right only then."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def put(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; a copy to CUDA runs beside what the device has still to do."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, the device's or this process's."""
    kinds = (torch.OutOfMemoryError, MemoryError)  # but PyTorch's own CPU allocator has no kind
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def free() -> None:
    """Hand back what the device's allocator keeps of tensors that are gone."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def autocast(device: torch.device, precision: str):
    """The context in which a forward pass runs.

    Raises:
        BadInput: no such precision.
    """
    if precision not in PRECISIONS:
        raise BadInput(f"--precision takes {' or '.join(PRECISIONS)}, not {precision!r}.")
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def peak_bytes(device: torch.device) -> int:
    """The most memory used since `reset_peak`: of the device on CUDA, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far; see `peak_bytes`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as clear:
            clear.write("5")  # Linux: forget the peak resident set


def describe() -> dict:
    """What a run's environment records: versions, device, threads."""
    device = pick()
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.type,
        "device_name": named or platform.machine(),
        "threads": torch.get_num_threads(),
    }
