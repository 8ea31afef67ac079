"""read_image: grey levels, orientation and colours by arithmetic; refusals by their reason."""

import struct
import time
import zlib
from io import BytesIO

import numpy as np
import pytest
import tifffile
from PIL import Image

from ftlab.datasets import images, read_image, resize
from ftlab.datasets.images import decode
from ftlab.records import BadInput

RAMP = np.tile(np.arange(256, dtype=np.uint8), (16, 1))  # (16, 256)
CORNER = np.zeros((10, 20, 3), np.uint8)  # red top left, green top right
CORNER[:5, :10], CORNER[:5, 10:] = (255, 0, 0), (0, 255, 0)


def saved(image, format, **options):
    file = BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        file, format, **options
    )
    file.seek(0)
    return file


def tiff(values, **options):
    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    file.seek(0)
    return file


def grey(picture):
    assert (picture.pixels == picture.pixels[..., :1]).all()
    return picture.pixels[..., 0]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "GIF"])
def test_an_8_bit_ramp_comes_back_level_by_level(format):
    assert np.array_equal(grey(read_image(saved(RAMP, format))), RAMP)


@pytest.mark.parametrize("bits", [12, 14, 16])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_deep_ramp_is_scaled_by_its_depth_and_says_so(bits, format):
    deep = np.tile(np.linspace(0, 2**bits - 1, 256), (16, 1)).astype(np.uint16)
    picture = read_image(saved(deep, format))
    assert np.abs(grey(picture).astype(int) - RAMP).max() <= 1
    assert f"{bits}-bit" in picture.notes[0]


def test_16_bit_values_are_v_over_257_rounded():
    values = np.full((8, 8), 65535, np.uint16)
    values[0, :4] = 0, 257, 385, 386  # 385 / 257 = 1.498, 386 / 257 = 1.502
    assert grey(read_image(saved(values, "PNG")))[0, :5].tolist() == [0, 1, 1, 2, 255]


def test_a_float_ramp_is_stretched_between_its_percentiles():
    values = np.tile(np.linspace(-3, 7, 201, dtype=np.float32), (16, 1))
    picture = read_image(saved(values, "TIFF"))
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.clip((values - low) / (high - low), 0, 1) * 255
    assert np.abs(grey(picture) - expected).max() <= 0.51
    assert "percentiles" in picture.notes[0]


def test_a_float_picture_with_nan_is_refused():
    values = np.ones((16, 16), np.float32)
    values[3, 3] = np.nan
    with pytest.raises(BadInput, match="not a number"):
        read_image(saved(values, "TIFF"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_constant_picture_does_not_divide_by_zero(dtype):
    with np.errstate(all="raise"):
        assert np.ptp(read_image(saved(np.full((16, 16), 7, dtype), "TIFF")).pixels) == 0


@pytest.mark.parametrize("values", [RAMP, RAMP.astype(np.uint16) * 257, RAMP.astype(np.float32)])
def test_white_is_zero_gives_the_same_picture_as_black_is_zero(values):
    black = read_image(tiff(values, photometric="minisblack"))
    white = read_image(tiff(values.max() - values, photometric="miniswhite"))
    assert np.abs(grey(white).astype(int) - grey(black)).max() <= 1


def test_colours_survive_cmyk_palette_and_lab():
    cmyk = read_image(saved(Image.fromarray(CORNER).convert("CMYK"), "TIFF")).pixels
    palette = read_image(saved(Image.fromarray(CORNER).quantize(4), "PNG")).pixels
    assert np.array_equal(cmyk, CORNER)
    assert np.array_equal(palette, CORNER)
    white = Image.merge("LAB", [Image.new("L", (16, 16), v) for v in (255, 128, 128)])
    assert read_image(saved(white, "TIFF")).pixels.min() >= 250


def test_one_bit_is_black_and_white():
    bits = RAMP > 100
    assert np.array_equal(grey(read_image(saved(bits, "PNG"))), bits * 255)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(format, orientation):
    stored = {  # how a camera held that way lays the upright picture down, by numpy alone
        1: CORNER,
        2: CORNER[:, ::-1],
        3: CORNER[::-1, ::-1],
        4: CORNER[::-1],
        5: CORNER.transpose(1, 0, 2),
        6: np.rot90(CORNER, 1),
        7: np.rot90(CORNER, 2).transpose(1, 0, 2),
        8: np.rot90(CORNER, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}
    file = saved(np.ascontiguousarray(stored), format, exif=exif, **options.get(format, {}))
    pixels = read_image(file).pixels.astype(int)
    assert pixels.shape == CORNER.shape
    assert np.abs(pixels - CORNER)[[1, 1, -2, -2], [1, -2, 1, -2]].max() <= 8


def test_half_transparent_black_on_white_is_grey_and_noted():
    picture = read_image(saved(Image.new("RGBA", (16, 16), (0, 0, 0, 128)), "PNG"))
    assert abs(int(picture.pixels[0, 0, 0]) - 127) <= 1
    assert "transparent" in picture.notes[0]
    opaque = read_image(saved(Image.new("RGBA", (16, 16), (9, 9, 9, 255)), "PNG"))
    assert opaque.notes == () and (opaque.pixels == 9).all()


def test_a_transparent_palette_colour_becomes_white():
    image = Image.fromarray(CORNER).quantize(4)
    black = image.getpixel((0, 9))
    pixels = read_image(saved(image, "PNG", transparency=black)).pixels
    assert pixels[9, 0].tolist() == [255] * 3 and pixels[0, 0].tolist() == [255, 0, 0]


def test_of_an_animation_the_first_frame_is_read():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    picture = read_image(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]
    assert picture.notes == ("the first of 3 frames was used",)


def test_the_second_reader_opens_what_pillow_cannot():
    doubles = np.tile(np.linspace(0, 1, 256), (16, 1))  # float64: Pillow has no such mode
    assert np.ptp(grey(read_image(tiff(doubles)))) == 255
    deep = np.tile(np.arange(256, dtype=np.uint16)[None, :, None] * 257, (16, 1, 3))
    planar = read_image(tiff(deep.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"))
    assert np.array_equal(grey(planar), RAMP)


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}])
def test_colours_in_16_bits_are_scaled_by_their_depth_as_greys_are(bits, options):
    deep = np.tile(np.linspace(0, 2**bits - 1, 256), (16, 1)).astype(np.uint16)
    deep = np.stack([deep, deep // 2, np.zeros_like(deep)], axis=2)
    exif = (0x0112, "H", 1, 3, True)  # turned by half
    picture = read_image(tiff(deep, photometric="rgb", extratags=[exif], **options))
    shown = np.stack([RAMP, RAMP // 2, RAMP * 0], axis=2)[::-1, ::-1]
    assert np.abs(picture.pixels.astype(int) - shown).max() <= 1
    assert (f"{bits}-bit values were scaled to 8 bits" in picture.notes) == (bits in (12, 14))


def test_dark_colours_of_a_compression_without_a_decoder_are_still_read(monkeypatch):
    def lacking(data):
        raise BadInput("a TIFF compressed as LZW needs pip install imagecodecs")

    monkeypatch.setattr(images.tiff, "read_tiff", lacking)
    deep = np.full((16, 16, 3), 4095, np.uint16)
    assert (decode(tiff(deep, photometric="rgb").getvalue()).pixels == 15).all()


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}])
def test_whole_numbers_of_32_bits_do_not_turn_negative(options):
    values = np.tile(np.linspace(0, 2**32 - 1, 256), (16, 1)).astype(np.uint32)
    levels = grey(read_image(tiff(values, photometric="minisblack", **options))).astype(int)
    assert np.abs(levels - RAMP).max() <= 3 and (np.diff(levels[0]) >= 0).all()


def test_the_whole_picture_is_squashed_and_nothing_cropped():
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :2] = 255  # two of 80 columns at the border
    square = resize(pixels, 20)
    assert square.shape == (20, 20, 3) and square.dtype == np.uint8
    assert square[:, 0].min() > 60 and square[:, 5:].max() == 0
    # antialiased: the mean survives, where skipping pixels would lose or double the columns
    assert abs(square.mean() - pixels.mean()) < 1


def png_header(width, height):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n"


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"hello, this is text", "not an image this program reads"),
        (EPS, "not an image this program reads"),
        (png_header(13000, 13000), "169 megapixels are more than the 50 allowed"),
        (png_header(7100, 7100), "50.4 megapixels are more than the 50 allowed"),
        (png_header(60000, 60000), "3600 megapixels are more than the 50 allowed"),
        (png_header(7, 100), "7 x 100 pixels are fewer than 8"),
        (png_header(16, 900), "16 x 900 pixels are a strip"),
        (png_header(4000, 4000), "cut short"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 50, "cut short|damaged"),
        (saved(RAMP, "JPEG").getvalue()[:400], "cut short|damaged"),
        (saved(RAMP, "TIFF").getvalue()[:300], "cut short|damaged"),
        (b"II*\0" + b"\xff" * 60, "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(data, reason):
    start = time.monotonic()
    with pytest.raises(BadInput, match=reason):
        read_image(BytesIO(data))
    assert time.monotonic() - start < 20


def test_a_missing_file_is_refused_without_its_path(tmp_path):
    with pytest.raises(BadInput) as refusal:
        read_image(tmp_path / "gone.png")
    assert str(tmp_path) not in str(refusal.value)


def test_flipped_bytes_give_a_picture_or_a_reason_and_nothing_else():
    chance = np.random.default_rng(0)
    seeds = [saved(RAMP, f).getvalue() for f in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")]
    for data in seeds * 30:
        broken = np.frombuffer(data, np.uint8).copy()
        broken[chance.integers(0, len(broken), 5)] = chance.integers(0, 256, 5)
        try:
            assert read_image(BytesIO(broken.tobytes())).pixels.dtype == np.uint8
        except BadInput as refusal:
            assert str(refusal)
