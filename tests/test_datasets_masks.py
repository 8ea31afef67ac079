"""Masks: kept with their images, never taken for one, and never in the way."""

import csv
from io import BytesIO

import numpy as np
import pytest
from dirty import noise, png, tree, zipped
from PIL import Image

from ftlab.datasets import import_dataset, open_dataset, report
from ftlab.datasets.masks import mask_names, read_mask
from ftlab.records import BadInput

N = 24


def square(at: int, size: int = 24) -> np.ndarray:
    """A mask (size, size) bool of 6 by 6 pixels."""
    mask = np.zeros((size, size), bool)
    mask[at : at + 6, at : at + 6] = True
    return mask


def source(root, change=None, head=("file", "label", "mask")):
    """Images 0..23 and their masks of the same names in folders of their own, and a table."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    rows = {}
    for i in range(N):
        (root / "images" / f"{i}.png").write_bytes(png(noise(i)))
        (root / "masks" / f"{i}.png").write_bytes(png(square(i % 18)))
        rows[i] = (f"{i}.png", "ab"[i % 2], f"masks/{i}.png")
    with open(root / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([head, *{**rows, **(change or {})}.values()])
    return root


def numbers(ds):
    """The number that each image had in its source."""
    made = {png(noise(i)): i for i in range(N)}
    return [made[(ds.folder / file).read_bytes()] for file in ds.files]


def imported(tmp_path, folder, **options):
    return import_dataset(tmp_path / "data", str(folder), "x", **options)


def test_a_column_called_mask_is_found_and_each_image_gets_its_own(tmp_path):
    ds = imported(tmp_path, source(tmp_path / "in"))
    assert len(ds.files) == N and set(ds.classes) == {"a", "b"} and report(ds)["masks"] == N
    for index, number in enumerate(numbers(ds)):
        mask = ds.mask(index)
        assert mask.dtype == bool and np.array_equal(mask, square(number % 18))
    assert not any("row in the table" in warning for warning in report(ds)["warnings"])
    again = open_dataset(tmp_path / "data", "x")
    assert again.masks == ds.masks and all(name.startswith("masks/") for name in ds.masks)


def test_a_column_of_another_name_is_named_and_a_wrong_name_is_refused(tmp_path):
    folder = source(tmp_path / "in", head=("file", "label", "where"))
    assert imported(tmp_path / "a", folder, labels="labels.csv").masks == ("",) * N
    assert all(imported(tmp_path / "b", folder, mask_column="where").masks)
    with pytest.raises(BadInput, match="no column 'seen'"):
        imported(tmp_path / "c", folder, mask_column="seen")


def test_masks_are_found_by_paths_of_another_machine_and_another_case(tmp_path):
    written = {i: (f"C:\\s\\{i}.PNG", "ab"[i % 2], f"C:\\s\\Masks\\{i}.PNG") for i in range(N)}
    ds = imported(tmp_path, source(tmp_path / "in", written))
    assert all(np.array_equal(ds.mask(at), square(n % 18)) for at, n in enumerate(numbers(ds)))


def test_masks_change_neither_the_hash_nor_the_splits(tmp_path):
    folder = source(tmp_path / "in")
    with_masks = imported(tmp_path / "a", folder)
    bare = imported(tmp_path / "b", source(tmp_path / "bare", head=("file", "label", "x")))
    assert with_masks.hash == bare.hash and any(with_masks.masks) and not any(bare.masks)
    assert np.array_equal(with_masks.splits, bare.splits)


def test_a_data_set_from_before_masks_still_opens(tmp_path):
    ds = imported(tmp_path, tree(tmp_path / "in"))
    items = ds.folder / "items.csv"
    lines = items.read_text().splitlines()
    assert lines[0].endswith(",mask")
    items.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    old = open_dataset(tmp_path / "data", "x")
    assert old.hash == ds.hash and old.masks == ("",) * 24 and old.mask(0) is None
    assert report(old)["masks"] == 0


def test_masks_that_cannot_be_used_leave_their_images_and_are_counted(tmp_path):
    change = {
        0: ("0.png", "a", ""),
        1: ("1.png", "b", "masks/none.png"),
        2: ("2.png", "a", "images/2.png"),  # the image itself
    }
    folder = source(tmp_path / "in", change)
    (folder / "masks" / "3.png").write_bytes(b"no picture")
    (folder / "masks" / "4.png").write_bytes(png(square(3, size=30)))
    ds = imported(tmp_path, folder)
    bare = {number for number, mask in zip(numbers(ds), ds.masks, strict=True) if not mask}
    assert len(ds.files) == N and bare == {0, 1, 2, 3, 4}
    assert [w for w in report(ds)["warnings"] if " masks " in w] == [
        "2 masks that the table names are not in the source: their images have none.",
        "3 masks (in a folder masks, or named x_mask, x_seg and the like beside x) were left out: "
        "name them in a table with --mask-column.",
        "2 masks cannot be read or are of another shape than their image: these images have none.",
    ]


def test_an_image_with_a_row_and_a_mask_for_each_lesion_keeps_them_all(tmp_path):
    ds = imported(tmp_path, source(tmp_path / "in", {N: ("0.png", "a", "masks/12.png")}))
    both = ds.mask(numbers(ds).index(0))
    assert np.array_equal(both, square(0) | square(12)) and len(ds.files) == N


def test_a_mask_in_the_table_of_images_is_no_image(tmp_path):
    ds = imported(tmp_path, source(tmp_path / "in", {N: ("masks/3.png", "a", "")}))
    assert len(ds.files) == N
    assert [s["file"] for s in report(ds)["skipped"]] == ["masks/3.png"]


@pytest.mark.parametrize(
    "name",
    ["masks/cat/{n}.png", "cat/masks/{n}.png", "cat/Masks/{n}.png", "cat/{n}_mask.png",
     "cat/{n}_mask_1.png"],
)  # fmt: skip
def test_in_class_folders_what_is_a_mask_by_its_name_is_no_image(tmp_path, name):
    folder = tree(tmp_path / "in")
    for n in range(12):
        mask = folder / name.format(n=n)
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.write_bytes(png(square(n)))
    ds = imported(tmp_path, folder)
    assert ds.classes == ("cat", "dog") and len(ds.files) == 24 and not any(ds.masks)
    assert any(w.startswith("12 masks") for w in report(ds)["warnings"])


def test_an_image_whose_name_only_sounds_like_a_mask_stays_an_image():
    files = ["cat/gas_mask.png", "mask/1.png", "cat/unmasked.png", "masks/labels.csv"]
    assert mask_names(files) == set()
    assert mask_names([*files, "cat/gas.jpg"]) == {"cat/gas_mask.png"}


def test_masks_come_out_of_a_zip_too(tmp_path):
    folder = source(tmp_path / "in")
    entries = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    ds = imported(tmp_path, zipped(tmp_path / "x.zip", entries))
    assert len(ds.files) == N and all(ds.masks)


@pytest.mark.parametrize(
    "kind", ["bool", "0/1", "0/255", "labels", "16 bit", "jpeg", "rgb", "alpha"]
)
def test_a_mask_is_read_however_it_was_saved(tmp_path, kind):
    mask = square(9, 48)
    grey = mask * np.uint8(255)
    data = {
        "bool": png(mask),
        "0/1": png(mask.astype(np.uint8)),
        "0/255": png(grey),
        "labels": png(mask * (1 + np.arange(48, dtype=np.uint8) // 12)),
        "16 bit": png(mask.astype(np.uint16) * 300),
        "rgb": png(np.stack([grey, grey * 0, grey * 0], axis=-1)),
        "alpha": png(np.stack([grey, grey, grey, grey * 0 + 255], axis=-1)),
    }
    file = BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=70)
    data["jpeg"] = file.getvalue()
    (tmp_path / "m").write_bytes(data[kind])
    read = read_mask(tmp_path / "m")
    assert read.dtype == bool and (read != mask).mean() < (0.01 if kind == "jpeg" else 1e-9)


def test_a_mask_that_was_lost_is_named(tmp_path):
    ds = imported(tmp_path, source(tmp_path / "in"))
    (ds.folder / ds.masks[2]).unlink()
    with pytest.raises(BadInput, match=f"x/{ds.masks[2]}: .* import the data set again"):
        ds.mask(2)


def test_what_is_transparent_in_a_mask_is_no_lesion(tmp_path):
    pixels = np.zeros((24, 24, 4), np.uint8)
    pixels[square(3)] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png") == square(3)).all()
    indexed = Image.fromarray(square(3).astype(np.uint8)).convert("P")
    indexed.putpalette([0, 0, 0, 255, 255, 255])
    indexed.save(tmp_path / "indexed.png", transparency=0)
    assert (read_mask(tmp_path / "indexed.png") == square(3)).all()


def test_folders_called_masks_at_their_end_are_masks_beside_images_alone():
    folders = ("images", "lung masks", "infection_mask", "mask")
    files = [f"Train/Normal/{folder}/{n}.png" for folder in folders for n in range(3)]
    assert mask_names(files) == set(files[3:])
    assert mask_names(["a/1.jpg", "a/mask/1.png", "a/mask/2.png"]) == {"a/mask/1.png"}
    faces = ["with_mask/1.jpg", "without_mask/1.jpg", "mask/1.jpg", "nomask/1.jpg"]
    assert mask_names(faces) == set(), "these are classes"


def test_folders_of_several_kinds_of_masks_below_classes_are_left_out_with_a_warning(tmp_path):
    for c in ("ill", "sane"):
        for folder, of in (("images", noise), ("lung masks", square), ("infection masks", square)):
            (tmp_path / "in" / c / folder).mkdir(parents=True)
            for n in range(12):
                pixels = of(n + 50 * (c == "ill")) if of is noise else of(n)
                (tmp_path / "in" / c / folder / f"{n}.png").write_bytes(png(pixels))
    ds = imported(tmp_path, tmp_path / "in")
    assert ds.classes == ("ill", "sane") and len(ds.files) == 24 and not any(ds.masks)
    assert any(w.startswith("48 masks") for w in report(ds)["warnings"])


@pytest.mark.parametrize("ending", ["segmentation", "seg", "GT", "mask_2"])
def test_masks_beside_their_images_have_usual_endings(ending):
    assert mask_names([f"a/x_{ending}.png", "a/x.jpg", "a/other_gt.png"]) == {f"a/x_{ending}.png"}
