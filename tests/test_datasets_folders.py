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


def test_split_folders_are_set_aside_where_nobody_wants_them(tmp_path):
    for name, layout in (("a", "{s}/{c}/{n}.png"), ("b", "{c}/{s}/{n}.png")):
        names = [layout.format(s=s, c=c, n=n) for s in SPLITS for c in "xy" for n in range(10)]
        dataset = imported(tmp_path, put(tmp_path / name, *names), split_column="")
        assert dataset.classes == ("x", "y") and not report(dataset)["own_splits"]
        assert report(dataset)["splits"] == {"train": 38, "val": 10, "test": 12}


@pytest.mark.parametrize("stray", ["README", "overview.png"])
def test_a_stray_file_hides_neither_patients_nor_splits(tmp_path, stray):
    data = b"Read me." if stray == "README" else png(noise(1))
    patients = [f"{c}/p{p}/{n}.png" for c in "ab" for p in range(10) for n in range(4)]
    source = put(tmp_path / "p", *patients)
    (source / "a" / stray).write_bytes(data)
    assert report(imported(tmp_path, source))["groups"] == 10 + (stray != "README")
    for split in SPLITS:
        put(tmp_path / "s", *(f"{c}/{split}/{n}.png" for c in "ab" for n in range(6)))
    (tmp_path / "s/a" / stray).write_bytes(data)
    dataset = imported(tmp_path, tmp_path / "s")
    assert report(dataset)["splits"] == dict.fromkeys(SPLITS, 12)
    assert [s["file"] for s in report(dataset)["skipped"]] == [f"a/{stray}"]
    around = [f"p{p}/{c}/{n}.png" for p in range(12) for c in ("ill", "sane") for n in range(2)]
    source = put(tmp_path / "r", *around)
    (source / "p0" / stray).write_bytes(data)
    dataset = imported(tmp_path, source)
    assert set(dataset.classes) == {"ill", "sane"} and report(dataset)["groups"] == 12


@pytest.mark.parametrize(
    "around, names",
    [
        ("", [f"{c}/{n}.png" for c in ("yes", "no") for n in range(8)]),
        ("cells/", [f"{c}/{n}.png" for c in ("yes", "no") for n in range(8)]),
        (
            "",
            [f"{p}/{c}/{n}.png" for p in range(8860, 8872) for c in ("no", "yes") for n in (1, 2)],
        ),
    ],
    ids=["plain", "within a folder", "of patients"],
)
def test_a_second_copy_beside_the_class_folders_is_no_class(tmp_path, around, names):
    both = [f"{around}{copy}{name}" for copy in ("", "all_5/") for name in names]
    dataset = imported(tmp_path, put(tmp_path / "in", *both))
    assert set(dataset.classes) == {"yes", "no"} and len(dataset.files) == len(names)
    assert f"{len(names)} files were left out, those in 'all_5'" in warned(dataset)
    assert len(report(dataset)["skipped"]) == len(names)


def test_patients_called_as_classes_are_no_copies(tmp_path):
    names = [f"{p}/{c}/{n}.png" for p in range(12) for c in "12" for n in range(2)]
    dataset = imported(tmp_path, put(tmp_path / "in", *names))
    assert set(dataset.classes) == {"1", "2"} and len(dataset.files) == 48


def test_folders_below_the_classes_that_may_be_classes_are_named(tmp_path):
    below = {"colon": ("colon_aca", "colon_n"), "lung": ("lung_aca", "lung_n", "lung_scc")}
    names = [f"{c}/{b}/{n}.png" for c, each in below.items() for b in each for n in range(5)]
    dataset = imported(tmp_path, put(tmp_path / "in", *names))
    assert dataset.classes == ("colon", "lung") and not dataset.grouped
    assert "('colon_aca', 'colon_n', 'lung_aca' and so on) were not told apart" in warned(dataset)
    parts = {"lower": ("cecum", "ileum", "polyps", "rectum", "ulcer"),
             "upper": ("barrett", "pylorus", "stomach", "z-line", "grade-a")}  # fmt: skip
    names = [f"{c}/found/{b}/{n}.png" for c, each in parts.items() for b in each for n in range(3)]
    dataset = imported(tmp_path, put(tmp_path / "gi", *names))
    assert (
        "('found/barrett', 'found/cecum', 'found/grade-a' and so on) were taken for patients"
        in (warned(dataset))
    )
    patients = [f"{c}/{c}{p}/{n}.png" for c in "ab" for p in range(8) for n in range(3)]
    assert "Folders within" not in warned(imported(tmp_path, put(tmp_path / "p", *patients)))


# --- a table beside the folders ---


def written(path, head, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(",".join(row) for row in (head, *rows)))


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice, in small letters"])
def test_of_several_tables_the_one_that_names_nearly_all_images_rules(tmp_path, again):
    source = parts(tmp_path / "in")
    (source / "metadata.csv").rename(source / "HAM_metadata.csv")
    written(source / "hmnist.csv", ("pixel0", "label"), *[("1", "2")] * 40)
    written(source / "boxes.csv", ("image_id", "label"), ("ISIC_001", "box"))
    (source / "images_part_0").rename(source / "IMAGES_PART_0")
    if again:
        for path in list(source.glob("IMAGES_PART_0/*")):
            (source / "images_part_0").mkdir(exist_ok=True)
            (source / "images_part_0" / path.name).write_bytes(path.read_bytes())
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("a", "b") and report(dataset)["groups"] == 20
    assert len(dataset.files) == 40 and len(report(dataset)["skipped"]) == 20 * again
    assert ("20 files were left out, each a copy" in warned(dataset)) == again


def test_a_table_that_cannot_be_taken_is_refused_where_folders_say_nothing(tmp_path):
    def rows(n):
        return ("a|b" if n == 3 else "ab"[n % 2], f"p{n // 2}")

    source = parts(tmp_path / "in", label="Finding Labels", rows=rows)
    written(source / "boxes.csv", ("image_id", "label"), ("ISIC_001", "box"))
    refused(tmp_path, source, r'several labels \(a\|b\).* Write "" with --label-column to take')
    folders = imported(tmp_path, source, label_column="")
    assert folders.classes == ("images_part_0", "images_part_1")
    (source / "images_part_0").rename(source / "cat")
    told = imported(tmp_path, source)
    assert told.classes == ("cat", "images_part_1")
    assert "not the source's table: " in warned(told) and "several labels (a|b)" in warned(told)
    assert "Name one with --labels FILE.csv." in warned(told)


def test_where_none_of_several_tables_can_be_meant_the_folders_rule_with_a_warning(tmp_path):
    source = parts(tmp_path / "in")
    lines = (source / "metadata.csv").read_text()
    (source / "metadata.csv").rename(source / "one.csv")
    (source / "two.csv").write_text(lines.replace("dx", "sex"))
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("images_part_0", "images_part_1")
    assert "of several, not just one names nearly all images. Name one with" in warned(dataset)


@pytest.mark.parametrize(
    "table, photos", [("truth/x.csv", "photos"), ("in/annotations/labels.csv", "in/photos")]
)
def test_a_table_in_a_folder_of_its_own_makes_it_no_class(tmp_path, table, photos):
    source = put(tmp_path / "s", *(f"{photos}/{n}.png" for n in range(24)))
    written(source / table, ("image", "label"), *((f"{n}.png", "ab"[n % 2]) for n in range(24)))
    dataset = imported(tmp_path, source)
    assert dataset.classes == ("a", "b") and len(dataset.files) == 24


@pytest.mark.parametrize("splits", [("",), tuple(f"{split}/" for split in SPLITS)])
@pytest.mark.parametrize("table", ["info.csv", "info/info.csv"])
def test_a_table_beside_the_folder_around_all_leaves_it_no_class(tmp_path, splits, table):
    names = [f"in/photos/{s}{c}/{n}.png" for s in splits for c in ("cat", "dog") for n in range(8)]
    source = put(tmp_path / "s", *names)
    written(source / table, ("about", "value"), ("magnification", "40"))
    for options in ({}, {"label_column": ""}):
        dataset = imported(tmp_path, source, **options)
        assert dataset.classes == ("cat", "dog") and len(dataset.files) == len(names)
        assert report(dataset)["own_splits"] == (len(splits) > 1)
        assert "no column that looks like the path" in warned(dataset)


@pytest.mark.parametrize(
    "options",
    [{}, {"group_column": "patient_id"}, {"label_column": "", "group_column": "patient_id"},
     {"labels": "sub/patients.csv"}, {"label_column": "", "labels": "sub/patients.csv"}],
)  # fmt: skip
def test_a_table_without_labels_says_who_is_in_the_images_of_class_folders(tmp_path, options):
    names = [f"{c}/{n}.png" for c in ("cat", "dog") for n in range(20)]
    source = put(tmp_path / "in", *names)
    rows = [(name, f"p{at // 4}", "60") for at, name in enumerate(names)]
    written(source / "sub/patients.csv", ("file", "patient_id", "age"), *rows)
    dataset = imported(tmp_path, source, **options)
    assert dataset.classes == ("cat", "dog") and report(dataset)["groups"] == 10
    assert torn(dataset) == 0 and report(dataset)["skipped"] == []
    assert "label" not in warned(dataset)


def test_a_named_column_of_splits_goes_before_folders_and_no_label_needs_class_folders(tmp_path):
    names = [f"{s}/{c}/{n}.png" for s in ("train", "test") for c in "xy" for n in range(12)]
    source = put(tmp_path / "in", *names)
    rows = [(name, "test" if at % 3 == 0 else "train") for at, name in enumerate(names)]
    written(source / "t.csv", ("file", "part"), *rows)
    assert report(imported(tmp_path, source))["splits"]["test"] == 24
    assert report(imported(tmp_path, source, split_column="part"))["splits"]["test"] == 16
    flat = put(tmp_path / "flat", *(f"{n}.png" for n in range(9)))
    written(flat / "t.csv", ("file", "label"), ("0.png", "a"))
    refused(tmp_path / "b", flat, "no class folders: name", label_column="")


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
    assert folders.classes == ("images_part_0", "images_part_1")
    assert report(folders)["groups"] == 20 and torn(folders) == 0


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
