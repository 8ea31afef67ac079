"""What is no picture, or should not be read, is refused in one clear sentence; and soon."""

import re
import struct
import time
import zlib

import numpy as np
import odd_images
import pytest
from odd_images import COLOURS, RAMP, chunk, dicom, raw_png, saved, tiff

from ftlab.datasets import read_image
from ftlab.datasets.images import decode
from ftlab.records import BadInput

UNCLEAR = re.compile(r"\n|/tmp|Traceback|0x[0-9a-f]{4}|[a-z]Error|Exception|<class|ftlab\.[a-z]")


def refusal(given) -> str:
    """The sentence with which something is refused, once that is seen to be a clear one."""
    with pytest.raises(BadInput) as caught:
        read_image(given)
    said = str(caught.value)
    assert 8 < len(said) < 200 and not UNCLEAR.search(said)
    return said


NO_PICTURES = {
    "text": b"Patient 7, left lung\n" * 40,
    "html": b"<!DOCTYPE html><html><body><img src='x' onerror='alert(1)'></body></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(x) run\nshowpage\n" * 9,
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n" * 9,
    "zip": b"PK\x03\x04" + bytes(200),
    "gzip": b"\x1f\x8b\x08\0" + bytes(200),
    "program": b"\x7fELF\x02\x01\x01" + bytes(200),
    "json": b'{"shape": [8, 8], "notes": [], "patient": null}\n' + bytes(192),
    "ppm": b"P6 16 16 255\n" + bytes(768),
    "icon": b"\0\0\1\0\1\0\x10\x10" + bytes(300),
    "photoshop": b"8BPS\0\1" + bytes(300),
    "fits": b"SIMPLE  =                    T" + b" " * 2850,
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(300),
    "pickle": b"\x80\x04\x95\x1d\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "zeros": bytes(500),
    "ones": b"\xff" * 500,
    "almost DICOM": b"\x08\0\x05\0words that begin so",
    "a question": (2**62).to_bytes(8) + b"x",
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "dcm"])
@pytest.mark.parametrize("what", NO_PICTURES)
def test_what_is_no_picture_is_refused_whatever_its_name(tmp_path, what, suffix):
    path = tmp_path / f"scan.{suffix}"
    path.write_bytes(NO_PICTURES[what])
    assert "not an image this program reads" in refusal(path) or what in ("zeros", "ones")


def test_an_empty_file_and_one_that_is_gone_are_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png") == "the file is empty"
    assert "cannot be opened" in refusal(tmp_path / "gone.png")
    assert "cannot be opened" in refusal(tmp_path)


# --- sizes ---------------------------------------------------------------------------------------

FORMATS = ("PNG", "TIFF", "BMP", "GIF", "JPEG", "WEBP", "DICOM")


def of_size(format: str, width: int, height: int) -> bytes:
    values = np.zeros((height, width), np.uint8)
    return dicom(values) if format == "DICOM" else saved(values, format)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "width, height, reason",
    [
        (1, 1, "fewer than 8"),
        (1, 2000, "fewer than 8"),
        (2000, 1, "fewer than 8"),
        (7, 7, "fewer than 8"),
        (8, 401, "a strip"),
        (2000, 9, "a strip"),
    ],
)
def test_a_picture_too_small_or_too_thin_is_refused_with_its_size(format, width, height, reason):
    said = refusal(of_size(format, width, height))
    assert f"{width} x {height} pixels" in said and reason in said


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("width, height", [(8, 8), (8, 400), (400, 8)])
def test_the_smallest_and_the_thinnest_that_are_read(format, width, height):
    pixels = read_image(of_size(format, width, height)).pixels
    assert pixels.shape == (height, width, 3) and not pixels.any()


# --- bombs ---------------------------------------------------------------------------------------


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def jpeg_of(width: int, height: int) -> bytes:
    data = saved(RAMP, "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, ">HH", height, width)


def tiff_of(width: int, height: int, **options) -> bytes:
    """A TIFF whose tags for its sides, 256 and 257, say something else."""
    data = tiff(RAMP, **options)
    (tags,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, tags)
    for at in range(tags + 2, tags + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in (256, 257):
            data = patched(data, at + 2, "<HII", 4, 1, width if tag == 256 else height)
    return data


BOMBS = {
    "png 65535": raw_png(65535, 65535, 8, 0, bytes(1000)),
    "png 2 billion": raw_png(2**31 - 1, 2**31 - 1, 16, 6, b""),
    "png flood": raw_png(13000, 13000, 1, 0, bytes(13000 * 1626)),
    "bmp": patched(saved(RAMP, "BMP"), 18, "<ii", 65535, 65535),
    "bmp downwards": patched(saved(RAMP, "BMP"), 18, "<ii", 65535, -65535),
    "gif": patched(saved(RAMP, "GIF"), 6, "<HH", 65535, 65535),
    "jpeg": jpeg_of(65500, 65500),
    "tiff": tiff_of(65535, 65535),
    "tiff 4 billion": tiff_of(2**32 - 1, 2**32 - 1),
    "tiff deflated": tiff_of(60000, 60000, compression="zlib"),
    "dicom": dicom(RAMP, Rows=65535, Columns=65535),
    "dicom rle": dicom(RAMP, Rows=65535, Columns=65535, syntax="1.2.840.10008.1.2.5"),
    "dicom jpeg 2000": dicom(RAMP, Rows=9000, Columns=9000, syntax="1.2.840.10008.1.2.4.90"),
}
LIES = {  # no more pixels than are allowed, but more than there are
    "png": raw_png(7000, 7000, 8, 2, bytes(1000)),
    "png text": raw_png(
        16, 12, 8, 0, bytes(300), chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2**26)))
    ),
    "png profile": raw_png(
        16, 12, 8, 0, bytes(10), chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(2**26)))
    ),
    "bmp": patched(saved(RAMP, "BMP"), 18, "<ii", 7000, 7000),
    "tiff": tiff_of(7000, 7000),
    "tiff deflated": tiff_of(7000, 7000, compression="zlib"),
    "dicom": dicom(RAMP, Rows=7000, Columns=7000),
    "dicom frames": dicom(RAMP, NumberOfFrames=1000),
    "dicom rle": dicom(RAMP, Rows=7000, Columns=7000, syntax="1.2.840.10008.1.2.5"),
    "dicom bits": dicom(RAMP, BitsAllocated=64, BitsStored=64, HighBit=63),
    "dicom no size": dicom(RAMP, Rows=0, Columns=0),
    "dicom deflated": dicom(RAMP, syntax="1.2.840.10008.1.2.1.99"),
    "dicom unknown": dicom(RAMP).replace(b"10008.1.2.1\0", b"10008.9.9.9\0"),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_is_refused_by_its_header(what):
    said = refusal(BOMBS[what])
    assert "megapixels are more than the 50 allowed" in said
    begin = time.process_time()  # the same in this process, where it can be timed
    with pytest.raises(BadInput, match=re.escape(said)):
        decode(BOMBS[what])
    assert time.process_time() - begin < 2


@pytest.mark.parametrize("what", LIES)
def test_a_header_that_promises_more_than_the_file_holds_is_refused(what):
    assert refusal(LIES[what])


# --- cut and broken ------------------------------------------------------------------------------

WHOLE = {
    "PNG": saved(COLOURS, "PNG"),
    "PNG 16": saved(RAMP.astype(np.uint16) * 257, "PNG"),
    "PNG palette": saved(odd_images.Image.fromarray(COLOURS).quantize(8), "PNG"),
    "JPEG": saved(COLOURS, "JPEG"),
    "JPEG progressive": saved(COLOURS, "JPEG", progressive=True),
    "TIFF": tiff(COLOURS, photometric="rgb"),
    "TIFF planes": tiff(COLOURS.transpose(2, 0, 1), planarconfig="separate", photometric="rgb"),
    "TIFF float": tiff(RAMP.astype(np.float64)),
    "TIFF deflated": tiff(RAMP.astype(">i2"), byteorder=">", compression="zlib"),
    "BMP": saved(COLOURS, "BMP"),
    "GIF": saved(RAMP, "GIF"),
    "WEBP": saved(COLOURS, "WEBP"),
    "WEBP lossless": saved(COLOURS, "WEBP", lossless=True),
    "DICOM": dicom(RAMP),
    "DICOM window": dicom(RAMP.astype(np.int16), WindowCenter=40, WindowWidth=400),
}
CUTS = (1, 2, 4, 8, 16, 33, 64, 130, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)  # bytes, or shares of them


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("what", WHOLE)
def test_a_picture_that_is_cut_anywhere_is_refused_or_loses_no_pixel(what, cut):
    whole = WHOLE[what]
    data = whole[: cut if cut >= 1 else int(cut * len(whole))]
    try:
        pixels = read_image(data).pixels
    except BadInput:
        refusal(data)
    else:  # what was cut held no pixels: the end mark, or tags behind them
        assert np.array_equal(pixels, read_image(whole).pixels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("number", ["f2", "f4", "f8"])
def test_numbers_that_are_none_are_refused(number, value):
    values = RAMP.astype(number)
    values[3, 4] = value
    assert "infinite or not a number" in refusal(tiff(values))


@pytest.mark.parametrize("number", odd_images.NUMBERS)
@pytest.mark.parametrize("value", [0, 1, 100])
def test_a_constant_picture_is_read_as_one_grey(number, value):
    assert np.ptp(read_image(tiff(np.full((12, 16), value, number))).pixels) == 0
