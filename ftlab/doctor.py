"""What this machine has and lacks, one line each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

from .records import BadInput

FLOORS = {
    "torch": "2.10",
    "timm": "1.0.15",
    "pillow": "12.3",
    "pydicom": "3.0.2",
    "safetensors": "0.5",
}
OPTIONAL = {
    "gradio": "needed by the app alone",
    "pytorch_grad_cam": "needed by saliency maps alone",
    "pylibjpeg": "needed by DICOM with JPEG Lossless or JPEG-LS (`pip install ftlab[dicom]`)",
}
FREE_BYTES = 5 << 30


def examine(lab) -> list[dict]:
    """[{what, ok, found}]; ok is None where nothing is wrong but a person may want to know."""
    findings = [_package(name, floor) for name, floor in FLOORS.items()]
    for name, use in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        findings.append(
            {"what": name, "ok": None, "found": "installed" if there else f"absent: {use}"}
        )
    return findings + [_home(lab), _disk(lab), *_studies(lab), _device(), *_weights()]


def _package(name: str, floor: str) -> dict:
    from packaging.version import Version

    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return {"what": name, "ok": False, "found": f"not installed, {floor} or later is needed"}
    ok = Version(version) >= Version(floor)
    return {"what": name, "ok": ok, "found": version if ok else f"{version}, {floor} is needed"}


def _standing(folder: Path) -> Path:
    """The folder, or what exists of the way to it."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _home(lab) -> dict:
    folder = _standing(lab.home)
    ok = folder.is_dir() and os.access(folder, os.W_OK)
    return {
        "what": "home folder",
        "ok": ok,
        "found": "writable" if ok else "not writable: set FTLAB_HOME",
    }


def _disk(lab) -> dict:
    free = shutil.disk_usage(_standing(lab.home)).free
    return {"what": "free disk", "ok": free > FREE_BYTES, "found": f"{free / 1e9:.0f} GB"}


def _studies(lab) -> list[dict]:
    """The studies that cannot be read, each with the reason."""
    try:
        return [{"what": "studies", "ok": True, "found": str(len(lab.studies()))}]
    except BadInput as error:
        return [{"what": "studies", "ok": False, "found": str(error)}]


def _device() -> dict:
    from . import device

    found = device.describe()
    text = f"{found['device']} ({found['device_name']}), {found['threads']} threads"
    return {"what": "device", "ok": None, "found": text}


def _weights() -> list[dict]:
    """Which backbones' own weights need no network; the network itself is not asked."""
    from . import backbones, weights

    there = [name for name in backbones.BACKBONES if weights.on_this_machine(name)]
    found = f"{', '.join(there)}; `ftlab fetch BACKBONE` downloads others"
    return [{"what": "pretrained weights", "ok": None, "found": found}]
