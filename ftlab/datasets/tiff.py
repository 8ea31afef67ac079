"""A second reader for the TIFFs that Pillow cannot open."""

from __future__ import annotations

from io import BytesIO

import numpy as np

from ..records import BadInput
from .levels import to_uint8
from .picture import MAX_PIXELS, Picture, check_size

MAX_SAMPLES = 4  # of one pixel


def read_tiff(data: bytes) -> Picture:
    """The first page of a TIFF that Pillow could not open.

    Raises:
        BadInput: this reader cannot open it either; the reason names the encoding if it is known.
    """
    try:
        import tifffile
    except ImportError as error:
        raise BadInput(
            "this kind of TIFF needs another reader: pip install tifffile imagecodecs"
        ) from error
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            page = file.pages[0]
            check_size(page.imagewidth, page.imagelength)
            if page.size > MAX_SAMPLES * MAX_PIXELS:
                raise BadInput(f"{page.shape} values are more than one picture should hold")
            pixels, note = _rgb(page)
            frames = len(file.pages)
    except (BadInput, MemoryError):
        raise
    except ValueError as error:
        if "imagecodecs" in str(error):
            kind = page.compression.name
            raise BadInput(f"a TIFF compressed as {kind} needs pip install imagecodecs") from error
        raise BadInput("the TIFF is damaged or cut short") from error
    except Exception as error:  # as in decode: damaged bytes raise anything
        raise BadInput("the TIFF is damaged or of an unusual kind") from error
    notes = [f"the first of {frames} frames was used"] if frames > 1 else []
    return Picture(pixels, tuple(notes + ([note] if note else [])))


def _rgb(page) -> tuple[np.ndarray, str | None]:
    """(H, W, 3) uint8 from a tifffile page, and the grey rule in words."""
    values, kind = np.squeeze(page.asarray()), page.photometric.name
    if kind == "PALETTE":  # (3, 2**bits) of 16 bits each
        return (page.colormap.T[values] >> 8).astype(np.uint8), None
    if kind not in ("MINISBLACK", "MINISWHITE", "RGB"):
        raise BadInput(f"TIFFs with {kind} colours are not read")
    if values.ndim == 3 and values.shape[-1] not in (2, 3, 4):
        values = np.moveaxis(values, 0, -1)  # planes behind each other
    # 16 bits are how values are stored; how deep they are is not known
    bits = page.bitspersample if page.bitspersample < 16 else None
    grey, note = to_uint8(values, bits)
    if kind == "MINISWHITE":
        grey = 255 - grey
    if grey.ndim == 3 and kind == "RGB":
        return np.ascontiguousarray(grey[..., :3]), note
    grey = grey if grey.ndim == 2 else grey[..., 0]
    return np.repeat(grey[..., None], 3, axis=2), note
