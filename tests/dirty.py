"""Pictures, trees and zips, right and wrong ones, and what refusing them means."""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ftlab.datasets import import_dataset
from ftlab.records import BadInput


def noise(seed: int, size: int = 24) -> np.ndarray:
    """A picture (size, size, 3) uint8 that resembles no other seed's."""
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tree(root: Path, per_class: int = 12, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """A folder of class folders with pictures that all differ."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for n in range(per_class):
            (root / name / f"{n}.png").write_bytes(png(noise(1000 * c + n)))
    return root


def zipped(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def good_entries(per_class: int = 30) -> dict[str, bytes]:
    return {
        f"{name}/{n}.png": png(noise(1000 * c + n))
        for c, name in enumerate(("cat", "dog"))
        for n in range(per_class)
    }


def symlink_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


def lying(path: Path, name: str, size: int) -> None:
    """Overwrite the size that a zip's directory and local header declare for one entry."""
    data = bytearray(path.read_bytes())
    for signature, at, name_at in ((b"PK\x03\x04", 22, 30), (b"PK\x01\x02", 24, 46)):
        start = data.find(signature)
        while start >= 0:
            if data[start + name_at : start + name_at + len(name)] == name.encode():
                struct.pack_into("<I", data, start + at, size)
            start = data.find(signature, start + 4)
    path.write_bytes(data)


def refused(tmp_path, source, match, **options) -> None:
    """The source is not imported, the sentence says why and no path, and nothing is left."""
    with pytest.raises(BadInput, match=match) as refusal:
        import_dataset(tmp_path / "data", str(source), "x", **options)
    assert str(tmp_path) not in str(refusal.value)
    assert list((tmp_path / "data").glob("*")) + list((tmp_path / "data").glob(".*")) == []


def windowed_dicom(path):
    """A MONOCHROME2 picture of 12 bits, a ramp, of whose levels a window shows some."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    ramp = np.tile(np.arange(0, 4096, 32, dtype=np.uint16), (128, 1))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.PatientName = "Schmidt^Anna"
    dataset.set_pixel_data(ramp, "MONOCHROME2", 12)
    dataset.WindowCenter, dataset.WindowWidth = 1000, 800
    dataset.save_as(path, enforce_file_format=True)
    return path
