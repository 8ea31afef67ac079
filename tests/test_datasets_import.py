"""Importing: what is right goes in, what is wrong is named, and nothing half-made stays."""

import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from dirty import good_entries, lying, noise, png, refused, symlink_entry, tree, zipped

from ftlab.datasets import (
    dataset_names,
    delete_dataset,
    import_dataset,
    open_dataset,
    read_image,
    report,
    resize,
)
from ftlab.records import BadInput


def reasons(dataset):
    return {entry["file"]: entry["reason"] for entry in report(dataset)["skipped"]}


def test_class_folders_become_a_data_set_with_its_bytes_unchanged(tmp_path):
    source = tree(tmp_path / "in")
    ds = import_dataset(tmp_path / "data", str(source), "pets")
    assert ds.classes == ("cat", "dog") and len(ds.files) == 24 and not ds.grouped
    originals = sorted(p.read_bytes() for p in source.rglob("*.png"))
    assert sorted((ds.folder / f).read_bytes() for f in ds.files) == originals
    told = report(ds)
    assert told["classes"] == {"cat": 12, "dog": 12} and sum(told["splits"].values()) == 24
    assert any("No groups" in warning for warning in told["warnings"])
    json.dumps(told)


def test_the_same_source_and_seed_give_the_same_hash_and_another_seed_does_not(tmp_path):
    source = str(tree(tmp_path / "in"))
    one, two, other = (
        import_dataset(tmp_path / "data", source, name, seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one.hash == two.hash != other.hash


def test_the_array_is_what_reading_and_resizing_each_image_gives(tmp_path):
    ds = import_dataset(tmp_path / "data", str(tree(tmp_path / "in")), "pets")
    with ThreadPoolExecutor(4) as pool:  # several at once must not harm each other
        arrays = list(pool.map(ds.array, [16] * 4))
    one_by_one = np.stack([resize(read_image(ds.folder / f).pixels, 16) for f in ds.files])
    assert all(np.array_equal(array, one_by_one) for array in arrays)
    assert [p.name for p in (ds.folder / "arrays").iterdir()] == ["16.npy"]


def test_a_data_set_is_listed_opened_and_deleted(tmp_path):
    root = tmp_path / "data"
    with pytest.raises(BadInput, match="none is imported yet"):
        open_dataset(root, "pets")
    made = import_dataset(root, str(tree(tmp_path / "in")), "pets")
    (root / ".pets.1234.tmp").mkdir()
    (root / "half").mkdir()
    assert dataset_names(root) == ["pets"]
    again = open_dataset(root, "pets")
    assert again.hash == made.hash and np.array_equal(again.splits, made.splits)
    with pytest.raises(BadInput, match="'dogs'; imported are: pets"):
        open_dataset(root, "dogs")
    with pytest.raises(BadInput, match="already"):
        import_dataset(root, str(tmp_path / "in"), "pets")
    delete_dataset(root, "pets")
    assert dataset_names(root) == []


@pytest.mark.parametrize("name", ["", "../x", "a b", ".x", "a/b", "ä"])
def test_a_name_that_is_no_plain_folder_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="letters, digits"):
        import_dataset(tmp_path / "data", str(tmp_path), name)


# ---- class folders ----


def test_split_folders_are_kept_and_a_missing_val_is_carved_from_train(tmp_path):
    tree(tmp_path / "in" / "train", 20)
    tree(tmp_path / "in" / "test", 6)
    ds = import_dataset(tmp_path / "data", str(tmp_path / "in"), "x")
    splits = report(ds)["splits"]
    assert splits == {"train": 32, "val": 8, "test": 12}  # 0.16 / (0.16 + 0.64) of 40
    assert any("val images were taken from train" in w for w in report(ds)["warnings"])
    assert report(ds)["own_splits"]
    assert any("duplicates lie in different splits" in w for w in report(ds)["warnings"])


def test_clutter_is_ignored_and_other_files_are_named(tmp_path):
    source = tree(tmp_path / "in")
    for name in (".DS_Store", "cat/._0.png", "cat/Thumbs.db", "__MACOSX/cat/1.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"clutter")
    (source / "cat" / "notes.txt").write_text("x")
    (source / "loose.png").write_bytes(png(noise(5)))
    ds = import_dataset(tmp_path / "data", str(source), "x")
    assert set(reasons(ds)) == {"cat/notes.txt", "loose.png"} and len(ds.files) == 24


def test_what_a_data_set_lacks_is_said(tmp_path):
    refused(tmp_path, tmp_path / "nowhere", "no file or folder 'nowhere'")
    one = tree(tmp_path / "one", classes=("cat",))
    refused(tmp_path, one, "one class .cat")
    (one / "scan.nii.gz").write_bytes(b"a volume")
    refused(tmp_path, one, "one class .cat.*Not read were 1 .nii.gz")
    refused(tmp_path, tree(tmp_path / "few", 4), "each split needs at least 2")
    (tree(tmp_path / "hollow") / "fish").mkdir()
    refused(tmp_path, tmp_path / "hollow", "class folder 'fish'")
    (tmp_path / "void").mkdir()
    refused(tmp_path, tmp_path / "void", "neither class folders nor a CSV")


def test_more_than_a_twentieth_unreadable_stops_the_import(tmp_path):
    source = tree(tmp_path / "in", 20)
    (source / "cat" / "bad1.png").write_bytes(b"not a picture")
    (source / "cat" / "bad2.png").write_bytes(b"")
    ds = import_dataset(tmp_path / "ok", str(source), "x")  # 2 of 42
    assert reasons(ds)["cat/bad2.png"] == "the file is empty" and len(ds.files) == 40
    (source / "dog" / "bad3.png").write_bytes(png(noise(1))[:200])
    refused(tmp_path, source, r"3 of 43 images.*cat/bad1.png: not an image")


def test_class_names_that_nearly_clash_are_reported(tmp_path):
    source = tree(tmp_path / "in", 8, ("Cat", "cat", "dog"))
    warnings = report(import_dataset(tmp_path / "data", str(source), "x"))["warnings"]
    assert any("'Cat', 'cat'" in warning for warning in warnings)
    refused(tmp_path / "b", tree(tmp_path / "b" / "in", 8, ("a" * 81, "b")), "longer than 80")


# ---- npz ----


def medmnist(path, n=(16, 4, 4), shape=(28, 28), **change):
    chance = np.random.default_rng(0)
    arrays = {}
    for split, count in zip(("train", "val", "test"), n, strict=True):
        arrays[f"{split}_images"] = chance.integers(0, 256, (count, *shape), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(path, **{**arrays, **change})
    return {**arrays, **change}


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_an_npz_keeps_its_pixels_labels_and_splits(tmp_path, shape):
    arrays = medmnist(tmp_path / "x.npz", shape=shape)
    ds = import_dataset(tmp_path / "data", str(tmp_path / "x.npz"), "x")
    for split in ("train", "val", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].ravel()
        if len(shape) == 2:
            images = np.repeat(images[..., None], 3, axis=3)
        ours = {ds.array(28)[i].tobytes(): ds.labels[i] for i in ds.indices(split)}
        assert ours == {image.tobytes(): n for image, n in zip(images, labels, strict=True)}


def test_an_npz_of_another_kind_is_refused_in_words(tmp_path):
    file = tmp_path / "x.npz"
    medmnist(file, train_labels=np.ones((16, 14), int))
    refused(tmp_path, file, "14 labels each")
    medmnist(file, shape=(28, 28, 28))
    refused(tmp_path, file, r"uint8 \(16, 28, 28, 28\)")
    np.savez(file, x=np.zeros(3))
    refused(tmp_path, file, "holds x, but train_images")
    np.savez(file, train_images=np.zeros((4, 8, 8), np.uint8))
    refused(tmp_path, file, "has no train_labels, one label for each image")
    np.savez(file, train_images=np.array([{}, {}], dtype=object), train_labels=np.arange(2))
    refused(tmp_path, file, "plain arrays")
    file.write_bytes(file.read_bytes()[:90])
    refused(tmp_path, file, "plain arrays")


@pytest.mark.parametrize("called", ["train_images.npy", "train_images"])
def test_an_npz_of_too_many_images_is_refused_before_any_is_loaded(tmp_path, called):
    header = BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1, 1)}
    np.lib.format.write_array_header_1_0(header, shape)  # and none of the pixels it tells of
    zipped(tmp_path / "x.npz", {called: header.getvalue()})
    refused(tmp_path, tmp_path / "x.npz", "1,000,000,000 images, more than the 1,000,000 allowed")


def test_an_npz_is_counted_before_its_images_are_written_out(tmp_path):
    medmnist(tmp_path / "x.npz")
    told = []

    def stop(done, total):
        told.append((done, total))
        raise BadInput("Too many.")

    with pytest.raises(BadInput, match="Too many"):
        import_dataset(tmp_path / "data", str(tmp_path / "x.npz"), "x", drawing=stop)
    assert told == [(0, 24)] and not [*(tmp_path / "data").rglob("*.png")]


# ---- zips ----


def test_of_a_dirty_zip_the_right_goes_in_and_the_wrong_is_named(tmp_path):
    wrong = {
        "../escape.png": "outside",
        "/absolute.png": "absolute",
        "C:\\drive.png": "absolute",
        "cat/../../up.png": "outside",
        "cat/a\x07b.png": "control",
        "a/b/c/d/e/f/g/h/i/j/k/l/m/n.png": "more than 12 folders deep",
        "cat/readme.txt": "not a kind",
        "cat/broken.png": "damaged|cut short",
        "dog/page.png": "not an image",
    }
    path = tmp_path / "in" / "x.zip"
    path.parent.mkdir()
    entries = {name: png(noise(77)) for name in wrong}
    entries |= {"dog/page.png": b"<html>", "cat/broken.png": png(noise(3))[:300]}
    zipped(path, good_entries() | entries | {"__MACOSX/cat/._1.png": b"x", ".DS_Store": b"x"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(symlink_entry("cat/link.png"), "/etc/passwd")
    before = set(tmp_path.rglob("*"))
    ds = import_dataset(tmp_path / "data", str(path), "x")
    assert len(ds.files) == 60
    told = {name.replace("?", "\x07").replace("/drive", "\\drive"): r
            for name, r in reasons(ds).items()}  # fmt: skip
    wrong["cat/link.png"] = "link"
    assert told.keys() == wrong.keys()
    for name, reason in wrong.items():
        assert any(part in told[name] for part in reason.split("|")), (name, told[name])
    outside = {p for p in tmp_path.rglob("*") if ds.folder not in p.parents} - before
    assert outside == {tmp_path / "data", ds.folder}
    assert not (ds.folder / "unpacked").exists()


def test_a_folder_that_windows_wrote_into_a_zip_is_no_image(tmp_path):
    entries = {"cat\\": b"", **good_entries(12)}
    made = import_dataset(tmp_path / "data", str(zipped(tmp_path / "x.zip", entries)), "x")
    assert len(made.files) == 24 and not report(made)["skipped"]


def test_equal_images_that_are_too_many_for_one_split_are_called_so(tmp_path):
    source = tree(tmp_path / "in", 30)
    for number in range(12):
        (source / "cat" / f"blank{number}.png").write_bytes(png(np.zeros((24, 24), np.uint8)))
    made = import_dataset(tmp_path / "data", str(source), "x")
    (said,) = (w for w in report(made)["warnings"] if "not kept in one split" in w)
    assert said.startswith("12 images are equal in every pixel")


def test_a_zip_with_one_folder_around_all_or_with_a_table_inside_is_understood(tmp_path):
    zipped(tmp_path / "a.zip", {f"my/data/{n}": d for n, d in good_entries(8).items()})
    assert import_dataset(tmp_path / "data", str(tmp_path / "a.zip"), "a").classes == ("cat", "dog")
    rows = "path,label\n" + "".join(f"images/{i}.png,{'ab'[i % 2]}\n" for i in range(16))
    images = {f"images/{i}.png": png(noise(i)) for i in range(16)}
    zipped(tmp_path / "b.zip", images | {"labels.csv": rows.encode()})
    assert import_dataset(tmp_path / "data", str(tmp_path / "b.zip"), "b").classes == ("a", "b")


def test_a_zip_of_which_nothing_can_be_used_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, data in good_entries(2).items():
            archive.writestr(name, data)
        archive.writestr("/up.png", b"")
    packed = r"4 files \(packed in a way that is not read: zip it with Deflate\)"
    refused(tmp_path, path, rf"Left out were {packed}, 1 files \(an absolute path\)\.$")
    deep = {"a/" * 13 + name: data for name, data in good_entries(2).items()}
    refused(tmp_path, zipped(path, deep), r"4 files \(more than 12 folders deep\)")


@pytest.mark.parametrize("around", ["breast/slides/" * 3, "a/" * 11])
def test_a_zip_may_have_folders_within_folders(tmp_path, around):
    entries = {around + name: data for name, data in good_entries(8).items()}
    dataset = import_dataset(tmp_path / "data", str(zipped(tmp_path / "x.zip", entries)), "x")
    assert dataset.classes == ("cat", "dog") and reasons(dataset) == {}


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path):
    refused(tmp_path, zipped(tmp_path / "a.zip", {"a/0.png": bytes(60 * 2**20)}), "times its size")
    many = zipped(tmp_path / "b.zip", {f"a/{n}.png": b"" for n in range(20_001)})
    refused(tmp_path, many, "20001 entries")
    huge = zipped(tmp_path / "c.zip", good_entries(8))
    lying(huge, "cat/0.png", 3 * 2**30)
    refused(tmp_path, huge, "3.0 GB")


def test_a_header_that_lies_about_its_size_gains_nothing(tmp_path):
    entries = good_entries() | {"cat/liar.png": bytes(30 * 2**20)}
    path = zipped(tmp_path / "x.zip", entries)
    lying(path, "cat/liar.png", 1000)
    ds = import_dataset(tmp_path / "data", str(path), "x")
    assert reasons(ds) == {"cat/liar.png": "damaged inside the zip"} and len(ds.files) == 60


def test_a_file_too_large_for_a_picture_is_skipped_and_not_the_whole_zip(tmp_path):
    chance = np.random.default_rng(0)
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in good_entries(8).items():
            archive.writestr(name, data)
        archive.writestr("cat/huge.png", chance.bytes(2**20) * 101)
    ds = import_dataset(tmp_path / "data", str(path), "x")
    assert reasons(ds) == {"cat/huge.png": "larger than the 100 MB allowed"}


def test_overlapping_encrypted_and_cut_zips_are_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", good_entries(8))
    whole = path.read_bytes()
    directory = whole.find(b"PK\x01\x02")
    second = whole.find(b"PK\x01\x02", directory + 4)
    overlap = bytearray(whole)
    overlap[second + 42 : second + 46] = (5).to_bytes(4, "little")  # its local header's place
    path.write_bytes(overlap)
    refused(tmp_path, path, "overlap")
    encrypted = bytearray(whole)
    encrypted[directory + 8] |= 1
    path.write_bytes(encrypted)
    refused(tmp_path, path, "encrypted")
    path.write_bytes(whole[:-100])
    refused(tmp_path, path, "cannot be read as a zip")


def test_a_disk_that_cannot_be_written_is_said_without_a_path(tmp_path):
    source = tree(tmp_path / "in")
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(BadInput, match="cannot be stored") as refusal:
        import_dataset(tmp_path / "data", str(source), "x")
    assert str(tmp_path) not in str(refusal.value)


def test_a_crash_in_the_middle_leaves_nothing_behind(tmp_path):
    source = tree(tmp_path / "in")

    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_dataset(tmp_path / "data", str(source), "x", progress=interrupt)
    assert list((tmp_path / "data").iterdir()) == []
