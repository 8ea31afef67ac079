"""One door for every picture: training, prediction and saliency maps see the same pixels.

Pictures are hostile until read. The order of the checks matters: the header says how many pixels
there are, and nothing that decodes (not even the EXIF of a PNG) runs before that is known.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ..records import BadInput
from . import dicom, tiff
from .levels import to_uint8
from .picture import MAX_BYTES, Picture, check_size, too_many

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")

UPRIGHT = {  # EXIF orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # EXIF tag
PHOTOMETRIC, BITS, PLANAR, SAMPLE_FORMAT = 262, 258, 284, 339  # TIFF tags


def read_image(source: Path | str | BinaryIO) -> Picture:
    """The picture in a file: PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM, known by its content.

    Of several frames the first is taken (DICOM: the middle one), EXIF orientation is applied,
    transparency is laid on white and deep grey levels are scaled to 8 bits; the notes say so.

    Raises:
        BadInput: the picture cannot or should not be read; the message is the reason, worded to
            follow the file's name and a colon.
    """
    data = _bytes(source)
    if data[128:132] == b"DICM":
        return dicom.read_dicom(data)
    try:
        return _read(data)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(too_many(int(re.search(r"\d+", str(error))[0]))) from error
    except Exception as error:  # decoders meet damaged bytes with exceptions of every kind
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return tiff.read_tiff(data)
        raise BadInput(_damage(data, error)) from error


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """The whole picture squashed to a square, antialiased: (H, W, 3) -> (size, size, 3) uint8.

    Nothing is cropped: a lesion may sit at the border, and a saliency map of the square lies
    exactly over the original when it is stretched back.
    """
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def _bytes(source: Path | str | BinaryIO) -> bytes:
    if isinstance(source, Path | str):
        try:
            with open(source, "rb") as file:
                return _bytes(file)
        except OSError as error:
            raise BadInput(f"the file cannot be opened ({error.strerror})") from error
    data = source.read(MAX_BYTES + 1)
    if not data:
        raise BadInput("the file is empty")
    if len(data) > MAX_BYTES:
        raise BadInput(f"the file is larger than the {MAX_BYTES // 2**20} MB allowed")
    return data


def _read(data: bytes) -> Picture:
    # Pillow's warnings are left alone: they concern metadata, and the pixel count is checked here.
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        check_size(*image.size)
        notes = []
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            notes.append(f"the first of {frames} frames was used")
        tags = dict(getattr(image, "tag_v2", {}))
        if _misread(tags):
            raise ValueError("left to the second reader")
        image.load()
        orientation = _orientation(image)
        rgb, note = _rgb(image, tags)
    notes += [note] if note else []
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
        notes.append("turned upright as its EXIF orientation says")
    return Picture(np.asarray(rgb), tuple(notes))


def _misread(tags: dict) -> bool:
    """Whether Pillow opens a TIFF of this kind, but gets its pixels wrong without a word."""
    deep_planes = tags.get(PLANAR) == 2 and max(tags.get(BITS, (8,))) > 8
    signed_bytes = tags.get(SAMPLE_FORMAT, (1,))[0] == 2 and tags.get(BITS, (8,))[0] == 8
    return deep_planes or signed_bytes


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # a picture with damaged EXIF data is still a picture
        return 1


def _rgb(image: Image.Image, tags: dict) -> tuple[Image.Image, str | None]:
    """A loaded picture of any mode as RGB, and what was done in words."""
    if image.mode.startswith(("I", "F")):
        declared = tags.get(BITS, (0,))[0]
        values, note = to_uint8(np.asarray(image), bits=declared if declared in (12, 14) else None)
        if tags.get(PHOTOMETRIC) == 0:  # white is zero: Pillow turns 8-bit TIFFs over, not these
            values = 255 - values
        return Image.fromarray(values).convert("RGB"), note
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"), None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            white = Image.new("RGBA", image.size, "white")
            white.alpha_composite(image)
            return white.convert("RGB"), "transparent parts were laid on white"
    return image.convert("RGB"), None


def _damage(data: bytes, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        known = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF")
        if data.startswith(known):
            return "the picture's header is damaged"
        return "not an image this program reads (PNG, JPEG, TIFF, BMP, GIF, WebP, DICOM)"
    if isinstance(error, MemoryError):
        return "there is not enough memory to decode the picture"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "the picture is cut short"
    return "the picture is damaged and cannot be decoded"
