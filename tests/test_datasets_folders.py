"""Folders as people have them: what is a class, a split, a patient, and what lies beside them."""

import os
from zlib import crc32

import pytest
from dirty import noise, png, refused, tree

from ftlab.datasets import import_dataset, report


def put(root, *names):
    """A picture of its own for each name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(noise(crc32(name.encode()))))
    return root


def imported(tmp_path, source, **options):
    number = len(list((tmp_path / "data").glob("*")))
    return import_dataset(tmp_path / "data", str(source), f"x{number}", **options)


def warned(dataset) -> str:
    return " ".join(report(dataset)["warnings"])


def torn(dataset) -> int:
    """How many groups have images in several splits."""
    return sum(len(set(dataset.splits[dataset.groups == g])) > 1 for g in set(dataset.groups))


SPLITS = ("train", "val", "test")


@pytest.mark.parametrize(
    "names, beside",
    [
        (SPLITS, "chest_xray/train/sick"),  # a copy of all, as in a well-known zip
        (SPLITS, "single_prediction"),
        (("Train ", "Validation", "TEST"), ""),
        (("train_set", "valid_set", "test_set"), ""),
        (("training images", "dev-data", "testing"), ""),
    ],
)
def test_folders_of_splits_are_no_classes(tmp_path, names, beside):
    source = tmp_path / "in" / "chest_xray"
    for split in names:
        put(source, *(f"{split}/{c}/{n}.png" for c in ("sick", "well") for n in range(8)))
    if beside:
        put(source, f"{beside}/0.png", f"{beside}/1.png")
    dataset = imported(tmp_path, tmp_path / "in")
    assert set(dataset.classes) == {"sick", "well"}
    assert report(dataset)["splits"] == dict.fromkeys(SPLITS, 16)
    assert ("2 files beside the folders of train and test" in warned(dataset)) == bool(beside)
    assert len(report(dataset)["skipped"]) == 2 * bool(beside)


def test_splits_may_lie_within_the_classes(tmp_path):
    for split in SPLITS:
        put(tmp_path / "in", *(f"{c}/{split}/{n}.png" for c in "ab" for n in range(6)))
    dataset = imported(tmp_path, tmp_path / "in")
    assert dataset.classes == ("a", "b") and report(dataset)["splits"] == dict.fromkeys(SPLITS, 12)
    assert "own splits were kept" in warned(dataset)


def test_a_folder_for_each_patient_within_a_class_keeps_the_patient_whole(tmp_path):
    names = [f"{c}/set/p{p}/{n}.png" for c in "ab" for p in range(8) for n in range(4)]
    source = put(tmp_path / "in", *names)
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("a", "b") and report(dataset)["groups"] == 8
    assert torn(dataset) == 0 and "No groups" not in warned(dataset)
    assert any("folders of one name, as 'p0'" in note for note in report(dataset)["notes"])
    assert not imported(tmp_path, source, group_column="").grouped
    by_name = imported(tmp_path, source, group_pattern="^./set/p.")
    assert report(by_name)["groups"] == 16


def test_folders_of_patients_around_the_classes_are_told_by_the_names_that_recur(tmp_path):
    names = [
        f"patient{p}/{c}/{n}.png" for p in range(12) for c in ("ill", "sane") for n in range(2)
    ]
    dataset = imported(tmp_path, put(tmp_path / "in", *names))
    assert set(dataset.classes) == {"ill", "sane"} and report(dataset)["groups"] == 12
    assert torn(dataset) == 0
    assert "'patient0', 'patient1' and so on were taken for patients" in warned(dataset)


@pytest.mark.parametrize("tops", [("ill", "sane"), tuple("01234")])
def test_views_within_classes_are_neither_classes_nor_patients(tmp_path, tops):
    names = [f"{c}/{view}/{n}.png" for c in tops for view in ("left", "right") for n in range(8)]
    dataset = imported(tmp_path, put(tmp_path / "in", *names))
    assert sorted(dataset.classes) == sorted(tops) and not dataset.grouped


@pytest.mark.parametrize("beside", ["LICENSE", "README", "photos/LICENSE"])
def test_a_licence_beside_the_only_folder_makes_it_no_class(tmp_path, beside):
    names = [f"photos/{c}/IM{n:03}" for c in ("cat", "dog") for n in range(8)]
    source = put(tmp_path / "in", *names)  # without a suffix, as DICOM files often are
    (source / beside).write_text("free for all")
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("cat", "dog") and len(dataset.files) == 16
    assert report(dataset)["skipped"] == [{"file": beside, "reason": "it lies in no class folder"}]


# --- a table beside the folders ---


def parts(root, label="dx", rows=lambda n: ("ab"[n % 2], f"l{n // 2}")):
    """Images in two folders that mean nothing, and a table that tells of all of them."""
    put(root, *(f"images_part_{n // 20}/ISIC_{n:03}.png" for n in range(40)))
    lines = [f"lesion_id,image_id,{label}"]
    lines += [f"{rows(n)[1]},ISIC_{n:03},{rows(n)[0]}" for n in range(40)]
    (root / "metadata.csv").write_text("\n".join(lines))
    return root


def test_a_table_that_names_all_images_rules_over_folders_that_part_them_otherwise(tmp_path):
    source = parts(tmp_path / "in")
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("a", "b") and report(dataset)["groups"] == 20
    assert "'images_part_0', 'images_part_1'" in warned(dataset)
    put(source, "ISIC_040.png")
    with open(source / "metadata.csv", "a") as file:
        file.write("\nl20,ISIC_040,a")
    loose = imported(tmp_path, source)
    assert len(loose.files) == 41 and report(loose)["skipped"] == []
    folders = imported(tmp_path, source, label_column="")
    assert folders.classes == ("images_part_0", "images_part_1") and not folders.grouped


def test_where_table_and_folders_agree_folders_name_the_classes_and_the_table_the_patients(
    tmp_path,
):
    source = parts(tmp_path / "in", rows=lambda n: (str(n // 20), f"p{n // 4}"))
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("images_part_0", "images_part_1")
    assert report(dataset)["groups"] == 10 and torn(dataset) == 0


def agreeing(root, change):
    """Four images of each of ten patients and a table that parts them as their folders do."""
    put(root, *(f"{'cat' if n < 20 else 'dog'}/{n}.png" for n in range(40)))
    split = {0: "val", 1: "test"}
    rows = [[f"{n}.png", str(n // 20), f"p{n // 4}", split.get(n // 4 % 5, "train")]
            for n in range(40)]  # fmt: skip
    lines = ["file,label,patient_id,split", *(",".join(row) for row in change(rows))]
    (root / "metadata.csv").write_text("\n".join(lines))
    return root


def test_a_table_that_lacks_an_image_says_who_is_in_the_others_but_not_who_is_tested(tmp_path):
    dataset = imported(tmp_path, agreeing(tmp_path / "in", lambda rows: rows[:-1]))
    told = report(dataset)
    assert told["classes"] == {"cat": 20, "dog": 20} and told["skipped"] == []
    assert told["groups"] == 11 and torn(dataset) == 0
    assert "1 images without a label in the table have that of their folder." in told["warnings"]
    assert "1 images have no group" in warned(dataset) and "left out" not in warned(dataset)
    assert "splits in the table were not kept: 1 images have no row in it." in warned(dataset)
    assert "own splits" not in warned(dataset)


@pytest.mark.parametrize("label", ["NA", ""])
def test_a_row_without_a_label_says_who_is_in_an_image_of_a_class_folder(tmp_path, label):
    def change(rows):
        return [[file, label if file == "39.png" else of, *rest] for file, of, *rest in rows]

    dataset = imported(tmp_path, agreeing(tmp_path / "in", change))
    told = report(dataset)
    assert told["classes"] == {"cat": 20, "dog": 20} and told["skipped"] == []
    assert told["groups"] == 10 and told["splits"] == {"train": 24, "val": 8, "test": 8}
    assert "1 images without a label in the table have that of their folder." in told["warnings"]


def test_what_agreeing_table_and_folders_both_leave_out_is_named(tmp_path):
    source = agreeing(tmp_path / "in", lambda rows: [*rows, ["40.png", "1", "p9", "train"]])
    put(source, "40.png")
    dataset = imported(tmp_path, source)
    assert len(dataset.files) == 40 and dataset.grouped
    assert report(dataset)["skipped"] == [
        {"file": "40.png", "reason": "it lies in no class folder"}
    ]


def test_a_table_of_masks_leaves_patients_to_their_folders(tmp_path):
    names = [f"{c}/p{p}/{n}.png" for c in ("cat", "dog") for p in range(12) for n in range(3)]
    source = put(tmp_path / "in", *names, *(f"masks/{n.replace('/', '-')}" for n in names))
    lines = [f"{name},{name[:3]},masks/{name.replace('/', '-')}" for name in names]
    (source / "labels.csv").write_text("\n".join(["file,label,mask", *lines]))
    dataset = imported(tmp_path, source)
    assert report(dataset)["groups"] == 12 and torn(dataset) == 0 and all(dataset.masks)
    assert any("folders of one name, as 'p0'" in note for note in report(dataset)["notes"])


def test_a_table_that_rules_leaves_out_what_it_does_not_label(tmp_path):
    source = parts(tmp_path / "in")
    table = source / "metadata.csv"
    table.write_text(table.read_text().replace("ISIC_039,b", "ISIC_039,NA"))
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("a", "b") and len(dataset.files) == 39
    left_out = {"file": "ISIC_039", "reason": "it has no label in the table"}
    assert report(dataset)["skipped"] == [left_out]


def test_a_table_of_some_images_or_without_labels_leaves_the_folders_be(tmp_path):
    source = parts(tmp_path / "in", label="age")
    assert imported(tmp_path, source).classes == ("images_part_0", "images_part_1")
    lines = (source / "metadata.csv").read_text().replace("age", "dx").splitlines()
    (source / "metadata.csv").write_text("\n".join(lines[:30]))
    again = imported(tmp_path, source)
    assert again.classes == ("images_part_0", "images_part_1")
    left_out = {"file": "metadata.csv", "reason": "the folders give the labels"}
    assert report(again)["skipped"] == [left_out]


# --- names ---


def test_names_that_are_no_text_are_read_as_old_windows_wrote_them(tmp_path):
    source = tree(tmp_path / "in", classes=("a", "b"))
    os.rename(os.fsencode(source / "a"), os.fsencode(source) + b"/Geschw\xfcr")
    dataset = imported(tmp_path, source)
    assert set(dataset.classes) == {"Geschwür", "b"} and len(dataset.files) == 24


def test_a_refusal_tells_what_was_noticed_and_what_was_not_read(tmp_path):
    source = tmp_path / "in"
    put(
        source,
        *(f"train/NORMAL/{n}.png" for n in range(9)),
        *(f"train/x/{n}.png" for n in range(9)),
    )
    put(source, *(f"test/Normal/{n}.png" for n in range(9)), *(f"test/x/{n}.png" for n in range(9)))
    refused(tmp_path, source, "at least 2.*differ only in case or spaces: 'NORMAL', 'Normal'")
    for name in ("a/1.nii.gz", "b/2.nii.gz", "b/3.mha"):
        (tmp_path / "volumes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "volumes" / name).write_bytes(b"volume")
    refused(tmp_path, tmp_path / "volumes", "Not read were 2 .nii.gz, 1 .mha: save their pictures")
    put(tmp_path / "volumes", "a/0.png")
    refused(tmp_path, tmp_path / "volumes", "class folder 'b'.*Not read were 2 .nii.gz")


def test_a_misspelt_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    refused(tmp_path, "scans/ches", "no file or folder 'ches' to import.$")
