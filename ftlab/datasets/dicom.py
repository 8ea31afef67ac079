"""DICOM files as pictures. Nothing but the pixels leaves this module, save a patient's digest."""

from __future__ import annotations

import re
from hashlib import sha256
from io import BytesIO

import numpy as np

from ..records import BadInput
from .levels import to_uint8, unit_to_uint8
from .picture import Picture, check_size

DEFLATED = b"1.2.840.10008.1.2.1.99"  # pydicom would unpack such a file whole, whatever its size
BURNED_IN = ("US", "SC", "OT")  # modalities that often print text into the picture
# What anonymisation leaves for a PatientID: its letters, small, and its digits.
NOBODY = re.compile(
    "0*|xx+|(anon|anonym|anonymi[sz]ed|anonymous|deidentified|unknown)?(patient)?(id)?"
    "|na|nan|nil|none|noid|null|redacted|removed"
)
# An element of group 2 or 8, its length or kind behind it: so a file without the preamble begins.
BARE = re.compile(rb"[\x02\x08]\0.\0(?:[A-Z]{2}|.\0\0\0)", re.DOTALL)
NEEDED = ("PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated")
NEEDED_OF_INTEGERS = ("BitsStored", "PixelRepresentation")  # above 16 bits they may be floats


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM by its first bytes, with the preamble or without."""
    return data[128:132] == b"DICM" or BARE.match(data) is not None


def read_dicom(data: bytes) -> Picture:
    """The picture in a DICOM file, its middle frame where there are several.

    In the standard's order (PS3.3 C.11): stored values -> rescale -> window -> 8 bits, and only
    then MONOCHROME1 is turned over.

    Raises:
        BadInput: no picture in it, a declared size that its bytes cannot hold, no decoder.
    """
    try:
        return _read(_whole(data))
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # damaged files raise anything
        raise BadInput("the DICOM file is damaged or cut short") from error


def _whole(data: bytes) -> bytes:
    """A file with its preamble, and with group 2, which names the transfer syntax."""
    if data[128:132] == b"DICM":
        return data
    if data[0] == 2:
        return bytes(128) + b"DICM" + data
    explicit = data[4:6].isalpha()  # what kind of value it is; else its length stands here
    syntax = b"1.2.840.10008.1.2.1\0" if explicit else b"1.2.840.10008.1.2\0"
    named = b"\2\0\x10\0UI" + len(syntax).to_bytes(2, "little") + syntax
    return bytes(128) + b"DICM" + named + data


def _read(data: bytes) -> Picture:
    import pydicom
    from pydicom.pixels import apply_color_lut, pixel_array

    if DEFLATED in data:
        raise BadInput("deflated DICOM files are not read: save it in another transfer syntax")
    header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
    if "Rows" not in header or "Columns" not in header:
        raise BadInput("the DICOM file holds no picture")
    check_size(header.Columns, header.Rows)
    _check_elements(header)
    frames = int(header.get("NumberOfFrames") or 1)
    _check_length(header, frames, len(data))
    syntax = header.file_meta.TransferSyntaxUID
    _check_decoder(syntax)
    try:
        values = pixel_array(BytesIO(data), index=frames // 2)
    except Exception as error:
        if not syntax.is_compressed:
            raise
        raise BadInput(
            f"its pixels, stored as {syntax.name}, are damaged or need another decoder: "
            "pip install 'ftlab[dicom]'"
        ) from error
    notes = [f"the middle one of {frames} frames was used"] if frames > 1 else []
    if header.get("BurnedInAnnotation") == "YES" or header.get("Modality") in BURNED_IN:
        notes.append("text may be burned into the picture: look before you share it")
    colour = header.PhotometricInterpretation
    if colour == "PALETTE COLOR":
        pixels, note = to_uint8(apply_color_lut(values, header)[..., :3], bits=_depth(header))
    elif header.SamplesPerPixel > 1:
        pixels, note = to_uint8(values[..., :3], bits=header.BitsStored)
    else:
        _take_over(header, frames // 2)
        grey, note = _grey(values, header)
        grey = 255 - grey if colour == "MONOCHROME1" else grey
        pixels = np.repeat(grey[..., None], 3, axis=2)
    notes += [note] if note else []
    return Picture(np.ascontiguousarray(pixels), tuple(notes), _patient(header))


def _patient(header) -> str | None:
    """A digest of the PatientID, fit to compare patients with and for nothing else.

    None where there is no PatientID; "" where it is a word for nobody, such as ANONYMOUS.
    """
    identifier = str(header.get("PatientID") or "").strip()
    if not identifier:
        return None
    if NOBODY.fullmatch("".join(filter(str.isalnum, identifier.casefold()))):
        return ""
    return sha256(identifier.encode()).hexdigest()


def _check_elements(header) -> None:
    """Refuse a header that does not say how the pixels are stored."""
    lacking = [name for name in NEEDED if header.get(name) in (None, "")]
    if not lacking and header.BitsAllocated <= 16:
        lacking = [name for name in NEEDED_OF_INTEGERS if header.get(name) is None]
    if lacking:
        raise BadInput(
            f"the DICOM file lacks {', '.join(lacking)}, without which its pixels cannot be read"
        )


def _take_over(header, frame: int) -> None:
    """Write into a header what an Enhanced file says of one frame's rescale and window."""
    shared = header.get("SharedFunctionalGroupsSequence") or []
    of_frames = header.get("PerFrameFunctionalGroupsSequence") or []
    for group in (*shared[:1], *of_frames[frame : frame + 1]):
        for what in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for said in (group.get(what) or [])[:1]:
                header.update(said)


def _check_length(header, frames: int, length: int) -> None:
    """Refuse a header that declares more uncompressed pixels than the file has bytes."""
    if header.file_meta.TransferSyntaxUID.is_compressed:
        return
    bits = header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated
    if header.get("PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits * 2 // 3
    if bits * frames // 8 > length:
        raise BadInput(
            f"the picture is cut short: its header declares {header.Columns} x {header.Rows} "
            f"pixels in {frames} frame(s), more than the file holds"
        )


def _check_decoder(syntax) -> None:
    from pydicom.pixels import get_decoder

    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise BadInput(f"its transfer syntax ({syntax.name}) is not one of pictures") from error
    if not available:
        raise BadInput(
            f"its pixels are stored as {syntax.name}, for which no decoder is installed: "
            "pip install 'ftlab[dicom]'"
        )


def _grey(values: np.ndarray, header) -> tuple[np.ndarray, str | None]:
    """Stored values (H, W) -> 8 bits, MONOCHROME1 not yet turned over."""
    from pydicom.pixels import apply_modality_lut, apply_voi

    rescaled = apply_modality_lut(values, header)
    if header.get("VOILUTSequence"):
        table = header.VOILUTSequence[0]
        looked_up = apply_voi(np.rint(rescaled).astype(np.int64), header)
        return unit_to_uint8(looked_up / (2 ** int(table.LUTDescriptor[2]) - 1)), None
    window = _window(header)
    if window:
        centre, width = window
        shape = header.get("VOILUTFunction", "LINEAR")
        note = f"shown through the file's window {centre:g} / {width:g}"
        return unit_to_uint8(_through(rescaled, centre, width, shape)), note
    if values.dtype == np.uint8 and np.array_equal(values, rescaled):
        return to_uint8(values, bits=header.BitsStored)
    return to_uint8(rescaled.astype(np.float64), aside=_padding(values, header))


def _padding(values: np.ndarray, header) -> np.ndarray | None:
    """Which of the stored values (H, W) are no part of the picture; None where no header says."""
    if header.get("PixelPaddingValue") is None or values.dtype.kind == "f":
        return None
    told = [header.PixelPaddingValue, header.get("PixelPaddingRangeLimit")]
    # some files write the bits of a negative value as a positive one
    ends = np.array([end for end in told if end is not None], np.int64).astype(values.dtype)
    return (values >= ends.min()) & (values <= ends.max())


def _depth(header) -> int:
    """How many bits a palette's colours have: some are of 8 bits where the header says 16."""
    from pydicom.pixels import apply_color_lut

    entries, first, _ = header.RedPaletteColorLookupTableDescriptor
    colours = apply_color_lut(first + np.arange(entries or 2**16), header)[..., :3]
    return 8 if colours.max() < 2**8 else 16


def _window(header) -> tuple[float, float] | None:
    """The first window (centre, width) whose width means something."""
    centres, widths = header.get("WindowCenter"), header.get("WindowWidth")
    if centres is None or widths is None:
        return None
    pairs = zip(np.atleast_1d(centres), np.atleast_1d(widths), strict=False)
    return next(((float(c), float(w)) for c, w in pairs if float(w) > 0), None)


def _through(x: np.ndarray, centre: float, width: float, shape: str) -> np.ndarray:
    """Values seen through a window, 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if shape == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (x - centre) / width))
    if shape == "LINEAR_EXACT":
        return (x - centre) / width + 0.5
    return (x - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
