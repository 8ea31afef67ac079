"""What this machine has and lacks, one line each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from .records import BadInput

FLOORS = {
    "torch": "2.10",
    "timm": "1.0.15",
    "pillow": "12.3",
    "pydicom": "3.0.2",
    "safetensors": "0.5",
    "gradio": "6.25",
}
APP_ALONE = ("gradio",)  # may be absent
OPTIONAL = {
    "pytorch_grad_cam": "needed by saliency maps alone",
    "pylibjpeg": "needed by DICOM with JPEG Lossless or JPEG-LS (`pip install ftlab[dicom]`)",
    "playwright": "needed by tests in a browser alone",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")  # of Linux, of Windows' Linux
FREE_BYTES = 5 << 30


def examine(lab) -> list[dict]:
    """[{what, ok, found}]; ok is None where nothing is wrong but a person may want to know."""
    findings = [_package(name, floor) for name, floor in FLOORS.items()]
    for name, use in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        findings.append(
            {"what": name, "ok": None, "found": "installed" if there else f"absent: {use}"}
        )
    findings += [_home(lab), _shared(lab), _disk(lab), *_studies(lab)]
    return findings + [_device(), _gpu(), _threads(), _browser(), *_weights()]


def _package(name: str, floor: str) -> dict:
    from packaging.version import Version

    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name in APP_ALONE:
            return {"what": name, "ok": None, "found": "absent: needed by the app alone"}
        how = f"not installed, {floor} or later is needed: `pip install -U {name}`"
        return {"what": name, "ok": False, "found": how}
    ok = Version(version) >= Version(floor)
    old = f"{version}, {floor} is needed: `pip install -U {name}`"
    return {"what": name, "ok": ok, "found": version if ok else old}


def _standing(folder: Path) -> Path:
    """The folder, or what exists of the way to it."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _home(lab) -> dict:
    folder = _standing(lab.home)
    ok = folder.is_dir() and os.access(folder, os.W_OK)
    return {
        "what": "home folder",
        "ok": ok,
        "found": "writable" if ok else "not writable: set FTLAB_HOME to a folder that is",
    }


def _shared(lab) -> dict:
    """Whether the home lies where an app for several people should have it."""
    places = {
        "in the folder for temporary files": tempfile.gettempdir(),
        "in the current folder": Path.cwd(),
    }
    home = lab.home.resolve()
    bad = [where for where, place in places.items() if home.is_relative_to(Path(place).resolve())]
    said = (
        f"lies {bad[0]}: set FTLAB_HOME to another folder before serving several" if bad else "fit"
    )
    return {"what": "home for several people", "ok": None, "found": said}


def _disk(lab) -> dict:
    free = shutil.disk_usage(_standing(lab.home)).free
    ok = free > FREE_BYTES
    few = f", {FREE_BYTES / 1e9:.0f} GB is the least: delete studies or set FTLAB_HOME elsewhere"
    return {"what": "free disk", "ok": ok, "found": f"{free / 1e9:.0f} GB{'' if ok else few}"}


def _studies(lab) -> list[dict]:
    """How many studies there are, and what cannot be read, each with the reason."""
    try:
        found = [{"what": "studies", "ok": True, "found": str(len(lab.studies()))}]
        return found + [{"what": "damaged", "ok": False, "found": why} for why in lab.damaged()]
    except BadInput as error:  # the queue, which knows who waits
        return [{"what": "studies", "ok": False, "found": str(error)}]


def _device() -> dict:
    from . import device

    found = device.describe()
    text = f"{found['device']} ({found['device_name']})"
    return {"what": "device", "ok": None, "found": text}


def _gpu() -> dict:
    """Whether there is a GPU that torch cannot use."""
    import torch

    if torch.cuda.is_available():
        return {"what": "GPU", "ok": True, "found": "used"}
    if any(map(os.path.exists, GPU_DRIVERS)):
        how = "here, but torch cannot use it: install torch for its CUDA version, from pytorch.org"
        return {"what": "GPU", "ok": False, "found": how}
    return {
        "what": "GPU",
        "ok": None,
        "found": "none seen: everything runs on the CPU, more slowly",
    }


def _threads() -> dict:
    """Whether torch may use the cores that this process has."""
    import torch

    used, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    found = f"{used} for {cores} cores"
    if used < cores / 2:
        found += ": unset OMP_NUM_THREADS to use more"
    return {"what": "threads", "ok": None, "found": found}


def _browser() -> dict:
    there = any(map(shutil.which, BROWSERS))
    found = "installed" if there else "absent: needed by tests in a browser alone"
    return {"what": "chromium", "ok": None, "found": found}


def _weights() -> list[dict]:
    """Which backbones' own weights need no network; the network itself is not asked."""
    from . import backbones, weights

    there = [name for name in backbones.BACKBONES if weights.on_this_machine(name)]
    found = f"{', '.join(there)}; `ftlab fetch BACKBONE` downloads others"
    return [{"what": "pretrained weights", "ok": None, "found": found}]
