"""DICOM pictures: pairs that must look the same, windows by another implementation, refusals."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from odd_images import dicom
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.pixels import apply_windowing
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1

from ftlab.datasets import import_dataset, read_image, report
from ftlab.datasets.dicom import read_dicom
from ftlab.datasets.groups import of_images
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


@pytest.mark.parametrize("declared", [8, 16])
def test_a_palette_of_8_bit_colours_in_16_bits_each_is_not_dark(declared):
    """Also where the picture itself has only its dark ones."""
    tables = {
        f"{c}PaletteColorLookupTable{part}": value
        for c, colours in (("Red", [0, 200, 9]), ("Green", [0, 30, 255]), ("Blue", [0, 60, 9]))
        for part, value in (
            ("Descriptor", [3, 0, declared]),
            ("Data", np.array(colours, np.uint16).tobytes()),
        )
    }
    index = np.zeros((16, 16), np.uint8)
    index[:8] = 1
    picture = read_image(dicom(index, PhotometricInterpretation="PALETTE COLOR", **tables))
    assert picture.pixels[0, 0].tolist() == [200, 30, 60] and not picture.pixels[8:].any()


def enhanced(values, shared=None, frames=()):
    """An Enhanced file; shared and frames: what its functional groups say of window and rescale."""

    def group(said):
        of = Dataset()
        for name, value in said.items():
            at = "PixelValueTransformation" if name.startswith("Rescale") else "FrameVOILUT"
            inner = of.get(f"{at}Sequence") or [Dataset()]
            setattr(inner[0], name, value)
            setattr(of, f"{at}Sequence", inner)
        return of

    more = {"SharedFunctionalGroupsSequence": [group(shared or {})]}
    return dicom(values, PerFrameFunctionalGroupsSequence=[group(f) for f in frames], **more)


def test_an_enhanced_file_is_seen_through_the_window_of_its_frame():
    stored = np.stack([(RAMP * 16).astype(np.int16)] * 3)
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    window = {"WindowCenter": 40, "WindowWidth": 400}
    plain = read_image(dicom(stored[1], **rescale, **window))
    shared = read_image(enhanced(stored, {**rescale, **window}))
    other = {"WindowCenter": 900, "WindowWidth": 9}
    own = read_image(enhanced(stored, {**rescale, **other}, [other, window, other]))
    assert np.array_equal(plain.pixels, shared.pixels) and np.array_equal(plain.pixels, own.pixels)
    assert plain.notes[0] in own.notes and "window 40 / 400" in plain.notes[0]


@pytest.mark.parametrize(
    "padding",
    [
        {"PixelPaddingValue": -2000},
        {"PixelPaddingValue": -2048, "PixelPaddingRangeLimit": -1999},
        {"PixelPaddingValue": -1999, "PixelPaddingRangeLimit": -2048},
    ],
)
def test_padding_around_a_scan_leaves_its_levels_where_they_were(padding):
    scan = np.tile(np.linspace(-100, 200, 256), (64, 1)).astype(np.int16)
    padded = np.pad(scan, ((40, 40), (0, 0)), constant_values=-2000)
    alone = grey(dicom(scan))
    levels = grey(dicom(padded, **padding))
    assert np.array_equal(levels[40:-40], alone) and not levels[:40].any()
    assert np.ptp(grey(dicom(padded))[40:-40]) < 60  # which nothing but the header can tell


def test_padding_written_as_a_positive_number_or_nothing_but_padding_is_read():
    scan = np.tile(np.linspace(-100, 200, 256), (64, 1)).astype(np.int16)
    padded = np.pad(scan, ((40, 40), (0, 0)), constant_values=-2000)
    data = dicom(padded, PixelPaddingValue=-2000)
    at = data.index(b"\x28\0\x20\x01SS")
    unsigned = data[: at + 4] + b"US" + data[at + 6 :]
    assert np.array_equal(grey(unsigned), grey(data))
    assert not grey(dicom(np.full((16, 16), -2000, np.int16), PixelPaddingValue=-2000)).any()


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


def test_what_a_header_lacks_is_named():
    def without(*names):
        header = pydicom.dcmread(BytesIO(dicom(RAMP.astype(np.uint16), bits=12)))
        for name in names:
            delattr(header, name)
        file = BytesIO()
        header.save_as(file)
        return file.getvalue()

    two = ("PhotometricInterpretation", "BitsAllocated")
    for names in (two[:1], two, ("SamplesPerPixel",), ("BitsStored",), ("PixelRepresentation",)):
        with pytest.raises(BadInput) as refusal:
            read_image(without(*names))
        assert f"the DICOM file lacks {', '.join(names)}, without which" in str(refusal.value)


# --- without the preamble ---


def bare(data: bytes, syntax=None) -> bytes:
    """A file from its first element on, as old archives have them; syntax: without group 2 too."""
    if not syntax:
        return data[132:]
    header, file = pydicom.dcmread(BytesIO(data)), BytesIO()
    dcmwrite(file, Dataset(header), implicit_vr=syntax.is_implicit_VR, little_endian=True)
    return file.getvalue()


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_file_without_the_preamble_is_read(syntax):
    values = (RAMP * 16).astype(np.uint16)
    data = dicom(values, bits=12, WindowCenter=1000, WindowWidth=800, PatientID="P7",
                 SOPClassUID="1.2.840.10008.5.1.4.1.1.7")  # fmt: skip
    cut = bare(data, syntax)
    assert cut[0] == (8 if syntax else 2) and b"DICM" not in cut
    picture, whole = read_image(cut), read_image(data)
    assert np.array_equal(picture.pixels, whole.pixels)
    assert (picture.notes, picture.patient) == (whole.notes, whole.patient)


def test_an_import_of_files_without_the_preamble_keeps_no_identifier(tmp_path):
    source = scans(tmp_path / "scans", lambda n: f"SECRET-{n // 2}")
    for path in source.rglob("*.dcm"):
        path.write_bytes(bare(path.read_bytes()))
    ds = import_dataset(tmp_path / "data", str(source), "x")
    assert ds.grouped and len(set(ds.groups)) == 12 and report(ds)["skipped"] == []
    assert all(file.endswith(".png") for file in ds.files)
    kept = b"".join(p.read_bytes() for p in ds.folder.rglob("*") if p.is_file())
    assert b"SECRET" not in kept


def test_a_file_without_the_preamble_is_refused_wherever_it_is_cut():
    data = bare(dicom(RAMP.astype(np.uint8), Modality="MR"), ImplicitVRLittleEndian)
    for length in range(8, len(data) - 1, 97):
        with pytest.raises(BadInput, match="DICOM|cut short"):
            read_image(data[:length])


# --- imports ---


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


def names(patient):
    """What a reader tells of a PatientID: a digest, "" of a word for nobody, None without one."""
    return read_image(dicom(RAMP.astype(np.uint8), PatientID=patient)).patient


@pytest.mark.parametrize(
    "word",
    ["ANONYMOUS", "Anonymized", "anonymised^patient", "anon", "NA", "N/A", "0", "000", "?", "-",
     "xxx", "Unknown", "None", "PatientID", "de-identified", "REMOVED"],
)  # fmt: skip
def test_a_word_for_nobody_is_no_patient(word):
    assert names(word) == ""


@pytest.mark.parametrize("patient", ["P1", "10", "X1", "Nancy", "anon-0001", "ID7", "X", "id 03"])
def test_whoever_has_a_name_is_a_patient(patient):
    assert len(names(patient)) == 64
    assert names("") is None and names("  ") is None


def test_scans_of_nobody_are_not_one_patient(tmp_path):
    source = scans(tmp_path / "scans", lambda n: f"P{n // 4}" if n < 12 else "ANONYMOUS")
    ds = import_dataset(tmp_path / "data", str(source), "x")
    assert len(set(ds.groups)) == 3 + 24
    said = report(ds)["warnings"]
    assert any("24 DICOM files have a PatientID that stands for nobody" in w for w in said)
    assert any("24 images have no group; each counts as its own" in w for w in said)


def test_patients_are_set_aside_as_tables_and_folders_are(tmp_path):
    source = scans(tmp_path / "scans", lambda n: f"P{n // 2}")
    assert import_dataset(tmp_path / "data", str(source), "x").grouped
    ds = import_dataset(tmp_path / "data", str(source), "y", group_column="")
    assert not ds.grouped and len(set(ds.groups)) == 48
    assert report(ds)["options"]["group-column"] == ""


def test_a_patient_of_a_large_part_of_many_images_is_doubted():
    def doubted(patients):
        told = [((), patient) for patient in patients]
        warnings = of_images(told, [str(n) for n in range(len(told))])[2]
        return [w for w in warnings if "have the same PatientID, and stay in one split" in w]

    others = [f"P{n}" for n in range(79)]
    (said,) = doubted([*others, *["STUDY7"] * 21])
    assert said.startswith("21 of 100 images") and 'write "" with --group-column' in said
    assert not doubted([*others, "another", *["STUDY7"] * 20])
    assert not doubted([*others[:50], *["STUDY7"] * 40])  # few images
    assert not doubted([*others, *[""] * 21]) and not doubted([*others, *[None] * 21])


def test_one_patient_for_all_scans_is_nobody(tmp_path):
    source = scans(tmp_path / "scans", lambda n: "ANONYMOUS")
    ds = import_dataset(tmp_path / "data", str(source), "x")
    assert not ds.grouped
    assert any("the same PatientID: it was not used" in w for w in report(ds)["warnings"])
    assert report(ds)["notes"]["shown through the file's window … / …"] == 48
