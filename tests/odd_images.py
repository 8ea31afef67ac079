"""Pictures of every odd kind, made by arithmetic, each with the pixels that are right for it.

A case is (name, bytes, expected, tolerance): `expected` is (H, W) or (H, W, 3) of 8-bit values,
worked out here from what the formats' standards say, not by the code under test.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

H, W = 12, 16
RAMP = (np.arange(H * W).reshape(H, W) * 255 // (H * W - 1)).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)  # no symmetry, no two pixels alike
Case = tuple[str, bytes, np.ndarray, float]


def saved(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    file = BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, format, **options)
    return file.getvalue()


def tiff(values: np.ndarray, **options) -> bytes:
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def stretched(values: np.ndarray) -> np.ndarray:
    """Numbers without a scale of their own, from their 0.5 and 99.5 percentiles to 0 and 255."""
    values = values.astype(float)
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1) * 255


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


# --- PNG, written here bit by bit ----------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width: int, height: int, depth: int, kind: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of any header; `rows` are the rows as they are packed, `extra` other chunks."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def bits_png(samples: np.ndarray, depth: int, kind: int, *extra: bytes) -> bytes:
    """A PNG of (H, W, channels) samples that have `depth` bits each."""
    shifts = np.arange(depth - 1, -1, -1)
    bits = (samples.reshape(len(samples), -1, 1).astype(int) >> shifts) & 1
    rows = np.packbits(bits.reshape(len(samples), -1), axis=1)
    filtered = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1)
    return raw_png(samples.shape[1], len(samples), depth, kind, filtered.tobytes(), *extra)


def pngs() -> Iterator[Case]:
    for depth in (1, 2, 4, 8, 16):
        top = 2**depth - 1
        grey = RAMP.astype(int) * top // 255
        key = grey[5, 5]
        shown = grey * 255 / top
        yield f"grey {depth}", bits_png(grey[..., None], depth, 0), shown, 0.51
        if depth <= 8:
            keyed = chunk(b"tRNS", struct.pack(">H", key))
            white = np.where(grey == key, 255, shown)
            yield f"grey {depth} keyed", bits_png(grey[..., None], depth, 0, keyed), white, 0.51
            index = RAMP.astype(int) * top // 255
            table = np.arange(3 * (top + 1)).reshape(-1, 3) * 255 // (3 * top + 2)
            palette = chunk(b"PLTE", table.astype(np.uint8).tobytes())
            colours = table[index]
            yield f"palette {depth}", bits_png(index[..., None], depth, 3, palette), colours, 0
            alpha = np.linspace(0, 255, top + 1).astype(np.uint8)
            clear = chunk(b"tRNS", alpha.tobytes())
            data = bits_png(index[..., None], depth, 3, palette, clear)
            yield f"palette {depth} alpha", data, on_white(colours, alpha[index]), 1.01
        if depth >= 8:
            deep = COLOURS.astype(int) * top // 255
            alpha = RAMP.T.reshape(H, W)
            both = np.concatenate([deep, alpha[..., None].astype(int) * top // 255], axis=2)
            yield f"colour {depth}", bits_png(deep, depth, 2), COLOURS, 1
            yield f"colour {depth} alpha", bits_png(both, depth, 6), on_white(COLOURS, alpha), 2
            data = bits_png(np.stack([grey, both[..., 3]], 2), depth, 4)
            yield f"grey {depth} alpha", data, on_white(np.repeat(shown[..., None], 3, 2), alpha), 2


# --- BMP, written here ---------------------------------------------------------------------------


def bmps() -> Iterator[Case]:
    for bits in (1, 4, 8, 24, 32):
        for downwards in (False, True):
            if bits <= 8:
                top = 2**bits - 1
                values = RAMP.astype(int) * top // 255
                table = np.arange(top + 1) * 255 // top
                palette = np.stack([table] * 3 + [0 * table], 1).astype(np.uint8).tobytes()
                shown, shifts = table[values], np.arange(bits - 1, -1, -1)
                rows = np.packbits((values[..., None] >> shifts & 1).reshape(H, -1), axis=1)
            else:
                palette, shown = b"", COLOURS
                filler = np.zeros((H, W, bits // 8 - 3), np.uint8)
                rows = np.concatenate([COLOURS[..., ::-1], filler], 2).reshape(H, -1)
            rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
            body = (rows if downwards else rows[::-1]).tobytes()
            height = -H if downwards else H
            info = struct.pack("<IiiHHIIiiII", 40, W, height, 1, bits, 0, len(body), 0, 0, 0, 0)
            start = 14 + len(info) + len(palette)
            data = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start)
            yield f"{bits} bits{' downwards' * downwards}", data + info + palette + body, shown, 0


# --- every mode of Pillow in every format that takes it ------------------------------------------

LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "GIF": {}, "WEBP": {"lossless": True, "exact": True}}


def modes() -> Iterator[Case]:
    grey, colour, alpha = (Image.fromarray(v) for v in (RAMP, COLOURS, RAMP[::-1]))
    clear = on_white(COLOURS, RAMP[::-1])
    palette = colour.quantize(16, dither=0)
    inks = Image.merge("CMYK", [*colour.split(), Image.fromarray(RAMP // 3)])
    ink, black = 255 - COLOURS.astype(float), 255 - (RAMP // 3)[..., None].astype(float)
    grey_clear = on_white(np.repeat(RAMP[..., None], 3, 2), RAMP[::-1])
    deep = RAMP.astype(np.uint16) * 257
    made = {
        "1": (Image.fromarray(RAMP > 99), (RAMP > 99) * 255, 0),
        "L": (grey, RAMP, 0),
        "P": (palette, np.asarray(palette.convert("RGB")), 0),
        "RGB": (colour, COLOURS, 0),
        "RGBA": (Image.merge("RGBA", [*colour.split(), alpha]), clear, 1.01),
        "LA": (Image.merge("LA", [grey, alpha]), grey_clear, 1.01),
        "CMYK": (inks, ink * black / 255, 1.01),
        "I;16": (Image.fromarray(deep), RAMP, 0),
        "I": (Image.fromarray(deep.astype(np.int32)), RAMP, 0),
        "F": (Image.fromarray(RAMP.astype(np.float32)), stretched(RAMP), 0.51),
    }
    for mode, (image, expected, tolerance) in made.items():
        for format, options in LOSSLESS.items():
            if (format, mode) in (("GIF", "RGB"), ("GIF", "RGBA"), ("GIF", "LA"), ("BMP", "RGBA")):
                continue  # GIF takes a palette of it; Pillow's BMP of it is read without alpha
            if format in ("GIF", "WEBP") and mode[0] in "IF":
                continue  # Pillow itself cuts the values down to 8 bits
            try:
                data = saved(image, format, **options)
            except (OSError, ValueError):  # the format does not know the mode
                continue
            if format == "WEBP" and mode == "CMYK":
                expected, tolerance = np.asarray(image.convert("RGB")), 0
            yield f"{format} {mode}", data, expected, tolerance


# --- TIFF: numbers, white, planes, strips, bytes -------------------------------------------------

NUMBERS = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")


def tiffs() -> Iterator[Case]:
    for number in NUMBERS:
        kind, size = number[0], int(number[1])
        values = RAMP.astype(float) - (0 if kind == "u" else 100)
        values = (values * (1 if size == 1 else 0.5 if kind == "f" else 16)).astype(number)
        if kind == "i" and size == 1:
            values = (RAMP // 2).astype(np.int8) - np.int8(60)
        shown = {"u1": RAMP, "u2": values / 4095 * 255, "u4": values / 4095 * 255}
        expected = shown.get(number, stretched(values))
        ways = {"": {}, " strips": {"rowsperstrip": 5}, " deflated": {"compression": "zlib"}}
        ways[" tiles"] = {"tile": (16, 16)}
        ways[" predicted"] = {"compression": "zlib", "predictor": kind != "f"}
        for way, options in ways.items():
            for order in "<>":
                data = tiff(values, photometric="minisblack", byteorder=order, **options)
                yield f"{number} {order}{way}", data, expected, 0.51
        if kind == "u":
            turned = tiff(values.max() - values, photometric="miniswhite")
            white = 255 - (values.max() - values) / (255 if size == 1 else 4095) * 255
            yield f"{number} white is zero", turned, white, 0.51
    for number, scale in (("u1", 1), ("u2", 257)):
        deep = (COLOURS.astype(int) * scale).astype(number)
        planes = deep.transpose(2, 0, 1)
        for order in "<>":
            options = {"photometric": "rgb", "byteorder": order}
            yield f"rgb {number} {order}", tiff(deep, **options), COLOURS, 1
            data = tiff(planes, planarconfig="separate", **options)
            yield f"rgb {number} {order} planes", data, COLOURS, 1


# --- orientation, frames, lossy formats ----------------------------------------------------------


def laid_down(upright: np.ndarray) -> dict[int, np.ndarray]:
    """EXIF orientation -> how a camera held that way stores the upright picture."""
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]}
    stored[5], stored[6] = upright.swapaxes(0, 1), np.rot90(upright, 1)
    stored[7], stored[8] = np.rot90(upright, 2).swapaxes(0, 1), np.rot90(upright, -1)
    return stored


def oriented() -> Iterator[Case]:
    kinds = {"grey": RAMP, "colour": COLOURS, "16 bits": RAMP.astype(np.uint16) * 257}
    for what, upright in kinds.items():
        for number, stored in (laid_down(upright) | {9: upright, 0: upright}).items():
            exif = Image.Exif()
            exif[0x0112] = number
            for format in ("PNG", "TIFF", "WEBP", "JPEG"):
                if format in ("WEBP", "JPEG") and what == "16 bits":
                    continue
                lossy = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
                options = lossy.get(format, {}) | {"exif": exif}
                data = saved(np.ascontiguousarray(stored), format, **options)
                right = COLOURS if what == "colour" else RAMP
                yield f"{format} {what} {number}", data, right, 4 if format == "JPEG" else 0


def several() -> Iterator[Case]:
    frames = [Image.fromarray(np.full((H, W, 3), level, np.uint8)) for level in (40, 90, 200)]
    for format in ("GIF", "TIFF", "WEBP", "PNG"):
        options = {"lossless": True} if format == "WEBP" else {}
        for count in (2, 3):
            more = {"save_all": True, "append_images": frames[1:count]}
            yield f"{format} {count} frames", saved(frames[0], format, **more, **options), 40, 0
    smooth = np.repeat(np.linspace(0, 255, 32)[None], 16, 0).astype(np.uint8)
    for progressive in (False, True):
        for mode in ("L", "RGB", "CMYK"):
            image = Image.fromarray(smooth).convert("RGB").convert(mode)
            data = saved(image, "JPEG", quality=98, progressive=progressive)
            yield f"JPEG {mode}{' progressive' * progressive}", data, smooth, 4


# --- DICOM ---------------------------------------------------------------------------------------


def dicom(values, bits: int | None = None, **elements) -> bytes:
    """A DICOM file; `values` (H, W) or (frames, H, W) of the stored type."""
    values = np.asarray(values)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    ds.Rows, ds.Columns = values.shape[-2:]
    if values.ndim == 3:
        ds.NumberOfFrames = len(values)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = 8 * values.dtype.itemsize
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(values.dtype.kind == "i")
    ds.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(ds, name, value)
    if meta.TransferSyntaxUID.is_compressed:
        ds.PixelData = encapsulate([ds.PixelData])
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def dicoms() -> Iterator[Case]:
    """Depths, signs, rescale, windows, both directions of grey, and rubbish above the high bit."""
    windows = (None, (0, 1), (100, 50), (1000, 801))
    for bits in (8, 10, 12, 14, 16):
        for signed in (False, True):
            kind = ("i" if signed else "u") + ("1" if bits == 8 else "2")
            stored = RAMP.astype(int) * (2**bits - 1) // 255 - signed * 2 ** (bits - 1)
            for slope, offset in ((1, 0), (1, -1024), (2.5, 5)):
                for window in windows:
                    for one in (False, True):
                        more = {"RescaleSlope": slope, "RescaleIntercept": offset}
                        if window:
                            more |= {"WindowCenter": window[0], "WindowWidth": window[1]}
                        if one:
                            more["PhotometricInterpretation"] = "MONOCHROME1"
                        right = _shown(stored * slope + offset, stored, bits, more)
                        name = f"{kind} {bits} bits * {slope} + {offset} {window} {1 if one else 2}"
                        yield name, dicom(stored.astype(kind), bits, **more), right, 1.01
    for bits in (10, 12, 14):
        stored = RAMP.astype(np.uint16) * (2**bits - 1) // 255
        rubbish = stored | np.where(RAMP % 2, 2**15, 0).astype(np.uint16)
        window = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits}
        right = _shown(stored, stored, bits, window)
        yield f"{bits} bits under an overlay", dicom(rubbish, bits, **window), right, 1.01


def _shown(values: np.ndarray, stored: np.ndarray, bits: int, header: dict) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, word for word; without a window as 8 bits are, or by percentiles."""
    if "WindowWidth" in header:
        c, w = header["WindowCenter"], header["WindowWidth"]
        ramp = ((values - (c - 0.5)) / (w - 1 or 1) + 0.5) * 255
        below, above = values <= c - 0.5 - (w - 1) / 2, values > c - 0.5 + (w - 1) / 2
        shown = np.where(below, 0, np.where(above, 255, ramp))
    elif bits == 8 and np.array_equal(values, stored) and stored.min() >= 0:
        shown = values.astype(float)
    else:
        shown = stretched(values)
    return 255 - shown if header.get("PhotometricInterpretation") == "MONOCHROME1" else shown
