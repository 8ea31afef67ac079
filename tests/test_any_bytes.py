"""Whatever bytes are given as a picture or a zip: right pixels, or one clear sentence."""

from __future__ import annotations

import re
import tempfile
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import odd_images
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ftlab.datasets.archives import unpack
from ftlab.datasets.images import decode
from ftlab.records import BadInput

UNCLEAR = re.compile(r"[\n\x00]|/tmp|Traceback|0x[0-9a-f]{4}|[a-z]Error|Exception|<class|ftlab\.")
many = settings(max_examples=100, deadline=None, derandomize=True)  # the same on every day
sides = st.integers(8, 24)


def spoilt(data: bytes, draw) -> bytes:
    """Those bytes with one piece of them replaced by any others."""
    start = draw(st.integers(0, len(data)))
    return data[:start] + draw(st.binary(max_size=40)) + data[draw(st.integers(start, len(data))) :]


def said(refusal: BadInput) -> str:
    """The sentence of a refusal, once it is seen to be a clear one."""
    sentence = str(refusal)
    assert 8 < len(sentence) < 300 and not UNCLEAR.search(sentence)
    return sentence


# --- pictures ---


@many
@given(st.data(), sides, sides, st.sampled_from(["png", "bmp", "tiff", "webp", "dicom"]))
def test_a_grey_picture_comes_back_in_its_own_pixels(data, height, width, kind):
    levels = st.binary(min_size=height * width, max_size=height * width)
    pixels = np.frombuffer(data.draw(levels), np.uint8).reshape(height, width)
    file = BytesIO(odd_images.dicom(pixels) if kind == "dicom" else b"")
    if kind != "dicom":
        Image.fromarray(pixels).save(file, kind, **({"lossless": True} if kind == "webp" else {}))
    found = decode(file.getvalue()).pixels
    assert found.dtype == np.uint8 and np.array_equal(found, np.stack([pixels] * 3, 2))


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    kinds = (odd_images.pngs, odd_images.tiffs, odd_images.bmps, odd_images.dicoms)
    return [data for kind in kinds for _, data, _, _ in kind()]


@many
@given(data=st.data())
def test_a_spoilt_picture_is_read_as_a_picture_or_refused_in_a_sentence(whole, data):
    """In this very process: what ends a worker would end the test."""
    given_bytes = spoilt(data.draw(st.sampled_from(whole)), data.draw)
    try:
        found = decode(given_bytes).pixels
    except BadInput as refusal:
        said(refusal)
    else:
        assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3


# --- zips ---

part = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=6)
names = st.one_of(
    st.lists(part, min_size=1, max_size=4).map("/".join).map("{}.png".format),
    st.sampled_from(["../out.png", "/out.png", "a/../../out.png", "C:\\out.png", "a\\..\\out.png"]),
)
entries = st.dictionaries(names, st.binary(max_size=50), max_size=6)


def zipped(files: dict[str, bytes], method: int) -> bytes:
    file = BytesIO()
    with ZipFile(file, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def unpacked(data: bytes) -> tuple[dict[str, bytes], set[str]] | None:
    """({name: bytes}, names skipped) of a zip; None if it is refused, in a clear sentence.

    Either way nothing is written but plain files in the folder given.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, work = Path(folder, "given.zip"), Path(folder, "work")
        path.write_bytes(data)
        work.mkdir()
        try:
            listing = unpack(path, work)
        except BadInput as refusal:
            listing = said(refusal) and None
        assert {p.name for p in Path(folder).iterdir()} == {"given.zip", "work"}
        assert all(p.is_file() and not p.is_symlink() for p in work.iterdir())
        assert path.read_bytes() == data
        if listing is None:
            return None
        assert all(p.parent == work for p in listing.files.values())
        found = {name: p.read_bytes() for name, p in listing.files.items()}
        return found, {name for name, _ in listing.skipped}


@many
@given(entries, st.sampled_from([ZIP_STORED, ZIP_DEFLATED]))
def test_of_any_zip_each_file_comes_out_whole_or_is_named(files, method):
    found, skipped = unpacked(zipped(files, method))
    for name, data in found.items():
        assert not {"", ".."} & set(name.split("/")) and not re.match("[A-Za-z]:", name)
        assert data in files.values()
    plain = re.compile(r"(\w+/)*\w+\.png", re.ASCII)
    assert {n: data for n, data in files.items() if plain.fullmatch(n)}.items() <= found.items()
    assert len(found) + len(skipped) <= len(files)


@many
@given(entries, st.sampled_from([ZIP_STORED, ZIP_DEFLATED]), st.data())
def test_a_spoilt_zip_writes_nothing_elsewhere_and_says_what_is_wrong(files, method, data):
    unpacked(spoilt(zipped(files, method), data.draw))
