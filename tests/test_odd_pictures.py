"""Odd pictures through the door: every one comes out as the standards say."""

import numpy as np
import odd_images
import pytest

from ftlab.datasets import read_image

KINDS = ("pngs", "bmps", "modes", "tiffs", "oriented", "several", "dicoms")
CASES = [(kind, *case) for kind in KINDS for case in getattr(odd_images, kind)()]


@pytest.mark.parametrize(
    "data, expected, tolerance",
    [pytest.param(*case[2:], id=f"{case[0]}: {case[1]}") for case in CASES],
)
def test_an_odd_picture_is_read_right(data, expected, tolerance):
    pixels = read_image(data).pixels
    expected = np.asarray(expected)
    if expected.ndim == 2:
        expected = np.repeat(expected[..., None], 3, axis=2)
    assert pixels.dtype == np.uint8 and (pixels.shape == expected.shape or not expected.ndim)
    assert np.abs(pixels - expected.astype(float)).max() <= tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".dcm", ".tif", ".txt", ""])
@pytest.mark.parametrize("kind", ["pngs", "bmps", "modes", "tiffs", "oriented", "dicoms"])
def test_a_wrong_suffix_changes_nothing(tmp_path, kind, suffix):
    _, data, _, _ = next(getattr(odd_images, kind)())
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(data)
    assert np.array_equal(read_image(path).pixels, read_image(data).pixels)
