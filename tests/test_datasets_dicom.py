"""DICOM pictures: pairs that must look the same, windows by another implementation, refusals."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from odd_images import dicom
from PIL import Image
from pydicom.pixels import apply_windowing
from pydicom.uid import JPEGLosslessSV1

from ftlab.datasets import import_dataset, read_image, report
from ftlab.datasets.dicom import read_dicom
from ftlab.records import BadInput

RAMP = np.tile(np.arange(256), (16, 1))


def grey(data):
    return read_image(BytesIO(data)).pixels[..., 0].astype(int)


def test_8_bits_look_the_same_as_dicom_and_as_png():
    file = BytesIO()
    Image.fromarray(RAMP.astype(np.uint8)).save(file, "PNG")
    assert np.array_equal(grey(dicom(RAMP.astype(np.uint8))), grey(file.getvalue()))


@pytest.mark.parametrize(
    "extra", [{}, {"WindowCenter": 1000, "WindowWidth": 800}, {"RescaleSlope": 2}]
)
def test_monochrome1_of_inverted_values_is_the_monochrome2_picture(extra):
    values = (RAMP * 16).astype(np.uint16)
    two = grey(dicom(values, bits=12, RescaleIntercept=0, **{"RescaleSlope": 1, **extra}))
    if "WindowCenter" in extra:  # the window has to be mirrored with the values
        extra = {"WindowCenter": 4095 - 1000 + 1, "WindowWidth": 800}
    inverted = (4095 - values).astype(np.uint16)
    one = grey(
        dicom(inverted, bits=12, PhotometricInterpretation="MONOCHROME1", RescaleIntercept=0,
              **{"RescaleSlope": 1, **extra})
    )  # fmt: skip
    assert np.abs(one - two).max() <= 1


@pytest.mark.parametrize("shape", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_rescale_then_window_agrees_with_pydicom(shape):
    values = (RAMP * 16).astype(np.int16)  # as a CT: 0..4080 stored, -1024..3056 HU
    data = dicom(values, WindowCenter=40, WindowWidth=400, RescaleSlope=1, RescaleIntercept=-1024,
                 VOILUTFunction=shape)  # fmt: skip
    ds = pydicom.dcmread(BytesIO(data))
    theirs = apply_windowing(values.astype(float) - 1024, ds)
    low, high = -(2**15) - 1024, 2**15 - 1 - 1024  # pydicom maps to the stored type's range
    assert np.abs(grey(data) - 255 * (theirs - low) / (high - low)).max() <= 0.6


def test_the_first_window_that_means_something_is_used():
    values = RAMP.astype(np.uint16)
    plain = grey(dicom(values, WindowCenter=100, WindowWidth=50))
    listed = grey(dicom(values, WindowCenter=[7, 100], WindowWidth=[0, 50]))
    assert np.array_equal(listed, plain)
    assert plain[0, 70] == 0 and plain[0, 130] == 255


def test_a_window_of_width_zero_counts_as_none():
    values = RAMP.astype(np.uint16)
    assert np.array_equal(grey(dicom(values, WindowCenter=5, WindowWidth=0)), grey(dicom(values)))


def test_signed_values_keep_their_order():
    levels = grey(dicom((RAMP - 128).astype(np.int16)))[0]
    assert levels[0] == 0 and levels[-1] == 255 and (np.diff(levels) >= 0).all()


def test_of_many_frames_the_middle_one_is_read():
    frames = np.stack([np.full((16, 16), level, np.uint8) for level in (10, 20, 30)])
    picture = read_image(BytesIO(dicom(frames)))
    assert (picture.pixels == 20).all()
    assert "the middle one of 3 frames was used" in picture.notes


def test_colour_and_palette_pictures_keep_their_colours():
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[:8] = 200, 30, 60
    rgb = dicom(colours[..., 0], SamplesPerPixel=3, PhotometricInterpretation="RGB",
                PlanarConfiguration=0, PixelData=colours.tobytes())  # fmt: skip
    assert np.array_equal(read_image(BytesIO(rgb)).pixels, colours)
    tables = {
        f"{c}PaletteColorLookupTable{part}": value
        for c, level in (("Red", 200), ("Green", 30), ("Blue", 60))
        for part, value in (
            ("Descriptor", [2, 0, 16]),
            ("Data", np.array([0, level * 257], np.uint16).tobytes()),
        )
    }
    index = np.zeros((16, 16), np.uint8)
    index[:8] = 1
    palette = dicom(index, PhotometricInterpretation="PALETTE COLOR", **tables)
    assert np.array_equal(read_image(BytesIO(palette)).pixels, colours)


def test_text_that_may_be_burned_in_is_noted():
    notes = read_image(BytesIO(dicom(RAMP.astype(np.uint8), Modality="US"))).notes
    assert any("burned" in note for note in notes)


@pytest.mark.parametrize(
    "elements, reason",
    [
        ({"Rows": 65535, "Columns": 65535}, "4295 megapixels"),
        ({"Rows": 7000, "Columns": 7000}, "cut short"),
        ({"NumberOfFrames": 1000}, "cut short"),
        ({"syntax": JPEGLosslessSV1}, r"JPEG Lossless.*pip install 'ftlab\[dicom\]'"),
        ({"syntax": "1.2.840.10008.1.2.1.99"}, "deflated DICOM files are not read"),
        ({"syntax": "1.2.840.10008.1.2.4.50"}, "JPEG Baseline.*damaged or need another decoder"),
        ({"syntax": "1.2.840.10008.1.2.4.100"}, "transfer syntax|no decoder"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused_in_words(elements, reason):
    with pytest.raises(BadInput, match=reason):
        read_image(BytesIO(dicom(RAMP.astype(np.uint8), **elements)))


def test_a_file_without_a_picture_or_cut_anywhere_is_refused():
    data = dicom(RAMP.astype(np.uint8))
    for length in range(132, len(data) - 1, 97):
        with pytest.raises(BadInput):
            read_dicom(data[:length])


def test_an_import_groups_by_patient_and_keeps_no_identifier(tmp_path):
    chance = np.random.default_rng(0)
    for label in ("healthy", "ill"):
        (tmp_path / "scans" / label).mkdir(parents=True)
        for n in range(24):
            values = chance.integers(0, 4096, (16, 16)).astype(np.uint16)
            data = dicom(values, bits=12, PatientID=f"SECRET-{label}-{n // 2}",
                         PatientName="CANARY^NAME")  # fmt: skip
            (tmp_path / "scans" / label / f"IM{n}").write_bytes(data)  # no suffix, as often
    ds = import_dataset(tmp_path / "data", str(tmp_path / "scans"), "scans")
    assert ds.grouped and len(set(ds.groups)) == 24
    assert all(len(set(ds.splits[ds.groups == g])) == 1 for g in set(ds.groups))
    kept = b"".join(p.read_bytes() for p in ds.folder.rglob("*") if p.is_file())
    assert b"SECRET" not in kept and b"CANARY" not in kept
    original = read_image(tmp_path / "scans" / "healthy" / "IM0")
    assert np.array_equal(read_image(ds.folder / ds.files[0]).pixels, original.pixels)
    assert any("DICOM" in note for note in report(ds)["notes"])


def scans(root, patient):
    """24 scans of each of two classes; patient: the PatientID of a number."""
    chance = np.random.default_rng(1)
    for label in ("healthy", "ill"):
        (root / label).mkdir(parents=True)
        for n in range(24):
            values = chance.integers(0, 4096, (16, 16)).astype(np.uint16)
            window = {"WindowCenter": 1000 + n, "WindowWidth": 800}
            data = dicom(values, bits=12, PatientID=patient(n), **window)
            (root / label / f"{n}.dcm").write_bytes(data)
    (root / "DICOMDIR").write_bytes(b"a list, no picture")
    return root


def test_lesions_of_one_patient_stay_together_whatever_the_table_calls_them(tmp_path):
    source = scans(tmp_path / "scans", lambda n: f"P{n // 4}")
    lines = ["file,label,lesion_id"]
    for label in ("healthy", "ill"):  # two lesions of a patient, and two images without one
        lesions = [f"{label}-{n // 4}-{n % 2}" if n % 4 < 2 else "" for n in range(24)]
        lines += [f"{label}/{n}.dcm,{label},{lesion}" for n, lesion in enumerate(lesions)]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    options = {"labels": tmp_path / "t.csv", "fractions": (0.4, 0.2, 0.4)}
    ds = import_dataset(tmp_path / "data", str(source), "x", **options)
    assert len(set(ds.groups)) == 6 and report(ds)["skipped"] == []
    assert any("18 groups were joined with others" in w for w in report(ds)["warnings"])


def test_one_patient_for_all_scans_is_nobody(tmp_path):
    source = scans(tmp_path / "scans", lambda n: "ANONYMOUS")
    ds = import_dataset(tmp_path / "data", str(source), "x")
    assert not ds.grouped
    assert any("the same PatientID: it was not used" in w for w in report(ds)["warnings"])
    assert report(ds)["notes"]["shown through the file's window … / …"] == 48
