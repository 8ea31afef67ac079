"""Decoding: training, prediction and saliency maps see the same pixels of the same file.

Pictures are hostile until read, and `reading.read_image`, the door for all of them, has them
decoded in a process of its own. The order of the checks matters: the header says how many pixels
there are, and nothing that decodes (not even the EXIF of a PNG) runs before that is known.
"""

from __future__ import annotations

import re
from contextlib import suppress
from importlib import import_module
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from ..records import BadInput
from . import dicom, tiff
from .levels import to_uint8
from .picture import Picture, check_size, too_many

READERS = ("Png", "Jpeg", "Tiff", "Bmp", "Gif", "WebP")  # Pillow's names
FORMATS = tuple(map(str.upper, READERS))

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
BITS, COMPRESSION, PHOTOMETRIC, PLANAR, SAMPLE_FORMAT = 258, 259, 262, 284, 339  # TIFF tags


def load_readers() -> None:
    """Load Pillow's readers for these formats; else it loads all it has with the first picture."""
    for name in READERS:
        import_module(f"PIL.{name}ImagePlugin")


def decode(data: bytes, ground: str = "white") -> Picture:
    """The picture in a file's bytes, as `reading.read_image` says.

    Raises:
        BadInput: as there.
        MemoryError: it does not fit into the memory there is.
    """
    if dicom.is_dicom(data):
        return dicom.read_dicom(data)
    try:
        return _read(data, ground)
    except (BadInput, MemoryError):
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


def _read(data: bytes, ground: str) -> Picture:
    # Pillow's warnings are left alone: they concern metadata, and the pixel count is checked here.
    with Image.open(BytesIO(data), formats=FORMATS) as image:
        check_size(*image.size)
        notes = []
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            notes.append(f"the first of {frames} frames was used")
        tags = dict(getattr(image, "tag_v2", {}))
        if _misread(tags, big_endian=data[:2] == b"MM"):
            raise ValueError("left to the second reader")
        _scale_key(image)
        image.load()
        orientation = _orientation(image)
        rgb, note = _rgb(image, tags, ground)
        if _shallow(image, tags):
            with suppress(BadInput):  # no decoder for its compression: then Pillow's have to do
                second = tiff.read_tiff(data)
                rgb = Image.fromarray(second.pixels)
                orientation = tags.get(ORIENTATION, 1)  # by which Pillow has turned its own
                note = next((each for each in second.notes if each not in notes), None)
    notes += [note] if note else []
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
        notes.append("turned upright as its EXIF orientation says")
    return Picture(np.asarray(rgb), tuple(notes))


def _misread(tags: dict, big_endian: bool) -> bool:
    """Whether Pillow opens a TIFF of this kind, but gets its pixels wrong without a word."""
    deep, numbers = max(tags.get(BITS, (8,))) > 8, tags.get(SAMPLE_FORMAT, (1,))[0]
    deep_planes = tags.get(PLANAR) == 2 and deep
    signed_bytes = numbers == 2 and not deep
    swapped_twice = big_endian and tags.get(COMPRESSION, 1) != 1 and deep and numbers in (2, 3)
    return deep_planes or signed_bytes or swapped_twice


def _shallow(image: Image.Image, tags: dict) -> bool:
    """Whether colours stored in 16 bits are of fewer: of these Pillow takes the upper 8 always."""
    deep = image.mode == "RGB" and tags.get(BITS, (8,))[0] == 16
    return deep and max(top for _, top in image.getextrema()) < 2**6


def _scale_key(image: Image.Image) -> None:
    """Scale the transparent grey of a PNG with its pixels: Pillow leaves it at 2 or 4 bits."""
    depth = {"L;2": 2, "L;4": 4}.get(image.tile[0].args if image.tile else None)
    if depth and isinstance(key := image.info.get("transparency"), int):
        image.info["transparency"] = key * 255 // (2**depth - 1)


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION, 1)
    except Exception:  # a picture with damaged EXIF data is still a picture
        return 1


def _rgb(image: Image.Image, tags: dict, ground: str) -> tuple[Image.Image, str | None]:
    """A loaded picture of any mode as RGB, and what was done in words."""
    if image.mode.startswith(("I", "F")):
        declared = tags.get(BITS, (0,))[0]
        numbers = np.asarray(image)
        if declared == 32 and tags.get(SAMPLE_FORMAT, (1,))[0] == 1:
            numbers = numbers.view(np.uint32)  # Pillow takes the highest bit for a sign
        values, note = to_uint8(numbers, bits=declared if declared in (12, 14) else None)
        if tags.get(PHOTOMETRIC) == 0:  # white is zero: Pillow turns 8-bit TIFFs over, not these
            values = 255 - values
        return Image.fromarray(values).convert("RGB"), note
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB"), None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            laid = Image.new("RGBA", image.size, ground)
            laid.alpha_composite(image)
            return laid.convert("RGB"), f"transparent parts were laid on {ground}"
    return image.convert("RGB"), None


def _damage(data: bytes, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        known = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"RIFF")
        if data.startswith(known):
            return "the picture's header is damaged"
        return "not an image this program reads (PNG, JPEG, TIFF, BMP, GIF, WebP, DICOM)"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "the picture is cut short"
    return "the picture is damaged and cannot be decoded"
