"""Tables of labels as people have them: which columns say what, found by name or by content."""

import csv

import pytest
from dirty import noise, png, refused, tree, zipped

from ftlab.datasets import import_dataset, report


def table(path, rows, head=("path", "label", "group", "split")):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def flat(root, n=24):
    root.mkdir()
    for i in range(n):
        (root / f"{i}.png").write_bytes(png(noise(i)))
    return root


def placed(root, names):
    """A folder with pictures of these names, which all differ."""
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(noise(i)))
    return root


def test_a_table_gives_labels_groups_and_splits(tmp_path):
    split = ["train", "valid", "TEST"]
    rows = [(f"{i}.png", "ab"[i % 2], f"p{i // 4}", split[i // 8]) for i in range(24)]
    labels = table(tmp_path / "labels.csv", rows)
    source = flat(tmp_path / "in")
    options = dict(labels=labels, group_column="group", split_column="split")
    ds = import_dataset(tmp_path / "data", str(source), "x", **options)
    assert report(ds)["splits"] == {"train": 8, "val": 8, "test": 8} and report(ds)["groups"] == 6
    for file, label in zip(ds.files, ds.labels, strict=True):
        i = next(i for i in range(24) if (ds.folder / file).read_bytes() == png(noise(i)))
        assert label == i % 2


def test_a_table_may_leave_out_suffix_and_folders_and_use_semicolons(tmp_path):
    (tmp_path / "in").mkdir()
    flat(tmp_path / "in" / "photos")
    lines = ["image_id;dx"] + [f"{i};{'ab'[i % 2]}" for i in range(24)]
    (tmp_path / "in" / "labels.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert len(import_dataset(tmp_path / "data", str(tmp_path / "in"), "x").files) == 24


def test_class_folders_rule_over_a_table_of_some_unless_a_column_is_named(tmp_path):
    source = tree(tmp_path / "in", 16)
    rows = [(f"{c}/{n}.png", "new" if n % 2 else "old", f"p{n}") for c in ("cat", "dog")
            for n in range(12)]  # fmt: skip
    table(source / "labels.csv", rows, ("file", "label", "group"))
    assert import_dataset(tmp_path / "data", str(source), "a").classes == ("cat", "dog")
    grouped = import_dataset(tmp_path / "data", str(source), "b", group_column="group")
    assert grouped.classes == ("new", "old") and grouped.grouped


@pytest.mark.parametrize(
    "change, options, match",
    [
        ({}, {"label_column": "grade"}, "no column 'grade'; its columns are path, label, group"),
        ({}, {"label_column": "label,group"}, "one label per image"),
        ({0: ("0.png", "a|b", "", "train")}, {}, "several labels"),
        ({1: ("0.png", "c", "", "train")}, {}, "listed as 'a' and as 'c'"),
        ({0: ("0.png", "a", "", "later")}, {"split_column": "split"}, "'later'"),
        ({i: (f"{i}.gif.png", "a", "", "") for i in range(3)}, {}, "3 of 24 rows"),
        ({0: ("../secret.png", "a", "", ""), 1: ("/etc/x.png", "a", "", "")}, {}, "2 of 24 rows"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_words(tmp_path, change, options, match):
    rows = [change.get(i, (f"{i}.png", "ab"[i % 2], "", "train")) for i in range(24)]
    labels = table(tmp_path / "labels.csv", rows)
    refused(tmp_path, flat(tmp_path / "in"), match, labels=labels, **options)


def test_a_table_of_more_images_than_there_are_is_no_reason_to_stop(tmp_path):
    rows = [(f"{i}.png", "ab"[i % 2], "", "") for i in range(60)]
    labels = table(tmp_path / "labels.csv", rows)
    ds = import_dataset(tmp_path / "data", str(flat(tmp_path / "in")), "x", labels=labels)
    told = report(ds)
    assert len(ds.files) == 24 and told["skipped"] == []
    assert any("36 of 60 rows of the table name an image that" in w for w in told["warnings"])


# ---- groups by name ----


def named(root):
    """24 images in two class folders, four of each of six patients, two of them in both classes."""
    for i in range(24):
        folder = root / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"patient_{i // 4}-{i}.png").write_bytes(png(noise(500 + i)))
    return root


@pytest.mark.parametrize("pattern", ["patient_[0-9]+", "patient_([0-9]+)-", "_(.+?)-"])
def test_a_pattern_finds_the_patient_in_a_name(tmp_path, pattern):
    ds = import_dataset(
        *(tmp_path / "data", str(named(tmp_path / "in")), "x"),
        group_pattern=pattern,
        fractions=(0.34, 0.33, 0.33),
    )
    told = report(ds)
    assert told["groups"] == 6 and not any("No groups" in w for w in told["warnings"])
    assert told["notes"] == {f"in one split with all in whose names {pattern!r} finds the same": 24}
    assert all(len(set(ds.splits[ds.groups == group])) == 1 for group in ds.groups)


def test_names_in_which_a_pattern_finds_nothing_are_counted(tmp_path):
    source = tree(named(tmp_path / "in"), 6, ("c", "d"))
    ds = import_dataset(tmp_path / "data", str(source), "x", group_pattern="patient_[0-9]+")
    assert "12 images have no group; each counts as its own." in report(ds)["warnings"]


def test_a_pattern_goes_before_a_column_that_nobody_named_and_an_empty_name_is_none(tmp_path):
    rows = [(f"{c}/patient_{i // 4}-{i}.png", c, f"p{i}") for i in range(24) for c in "ab"[i % 2]]
    labels = table(tmp_path / "labels.csv", rows, ("file", "label", "patient"))
    source, groups = str(named(tmp_path / "in")), {}
    thirds = dict(labels=labels, fractions=(0.34, 0.33, 0.33))
    for name, option in (
        ("pattern", {"group_pattern": "patient_[0-9]+"}),
        ("found", {}),
        ("none", {"group_column": ""}),
    ):
        ds = import_dataset(tmp_path / "data", source, name, **thirds, **option)
        groups[name] = report(ds)["groups"]
    assert groups == {"pattern": 6, "found": 24, "none": None}


@pytest.mark.parametrize(
    "options, match",
    [
        ({"group_pattern": "p("}, "'p\\(' is no regular expression"),
        (
            {"group_pattern": "case_[0-9]+"},
            "finds nothing in the names .*the first is 'a/patient_",
        ),
        ({"group_pattern": "p", "group_column": "x"}, "give one of them"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused_in_words(tmp_path, options, match):
    refused(tmp_path, named(tmp_path / "in"), match, **options)


# ---- columns that nobody named ----


def imported(tmp_path, rows, head, **options):
    labels = table(tmp_path / "labels.csv", rows, head)
    ds = import_dataset(
        tmp_path / "data", str(flat(tmp_path / "in")), "x", labels=labels, **options
    )
    return ds, report(ds)


DIAGNOSES = ("MEL", "NV", "BCC", "UNK")  # as the challenges of ISIC have them


def marked(*of_each, one="1.0", zero="0.0"):
    return [(f"{i}", *(one if i in each else zero for each in of_each)) for i in range(24)]


@pytest.mark.parametrize("named", [None, "MEL, NV, BCC, UNK"])
def test_a_column_for_each_class_of_which_one_is_marked(tmp_path, named):
    rows = marked(range(8), range(8, 16), range(16, 24), ())
    ds, told = imported(tmp_path, rows, ("image", *DIAGNOSES), label_column=named)
    assert told["classes"] == {"BCC": 8, "MEL": 8, "NV": 8}
    assert told["notes"] == {
        "labelled by which of the columns MEL, NV, BCC holds 1; none has UNK": 24
    }


def test_some_columns_of_marks_are_named_beside_others(tmp_path):
    rows = [(*row, "60") for row in marked(range(12), range(12, 22), one="1", zero="0")]
    ds, told = imported(tmp_path, rows, ("image", "a", "b", "age"), label_column="a,b")
    assert told["classes"] == {"a": 12, "b": 10}
    assert [s["reason"] for s in told["skipped"]] == ["it has no label in the table"] * 2


def test_marks_that_are_no_labels_are_refused_in_words(tmp_path):
    for n, (rows, named, match) in enumerate(
        (
            (marked(range(13), range(12, 24)), None, "no column that looks like the label"),
            (marked(range(13), range(12, 24)), "a,b", r"12.png has several labels \(a\|b\)"),
            (marked(range(12), range(12, 24), one="yes"), "a,b", "hold other things than 0 and 1"),
            (marked(range(12), range(12, 24)), "a,c", "no column 'a,c'; its columns are"),
        )
    ):
        here = tmp_path / str(n)
        here.mkdir()
        labels = table(here / "labels.csv", rows, ("image", "a", "b"))
        refused(here, flat(here / "in"), match, labels=labels, label_column=named)


def test_a_column_of_patients_is_used_and_said_and_can_be_set_aside(tmp_path):
    head = ("image_name", "Patient ID", "lesion_id", "diagnosis")
    rows = [(f"{i}", f"p{i // 2}", f"l{i}", "ab"[i % 2]) for i in range(24)]
    ds, told = imported(tmp_path, rows, head)
    assert ds.grouped and told["groups"] == 12
    assert told["notes"] == {"in one split with all of the same 'Patient ID'": 24}
    assert all(len(set(ds.splits[ds.groups == group])) == 1 for group in ds.groups)
    for name, column, groups in (("y", "lesion_id", 24), ("z", "image_name", None)):
        again = import_dataset(
            *(tmp_path / "data", str(tmp_path / "in"), name),
            labels=tmp_path / "labels.csv",
            group_column=column,
        )
        assert report(again)["groups"] == groups and again.grouped == bool(groups)


def test_a_column_of_splits_is_kept_where_every_row_says_one(tmp_path):
    said = ["train"] * 16 + ["test"] * 8
    rows = [(f"{i}", "ab"[i % 2], said[i]) for i in range(24)]
    ds, told = imported(tmp_path, rows, ("file", "label", "Split"))
    assert told["splits"]["test"] == 8
    assert any("own splits were kept" in warning for warning in told["warnings"])
    options = dict(labels=tmp_path / "labels.csv", split_column="")
    again = import_dataset(tmp_path / "data", str(tmp_path / "in"), "y", **options)
    assert report(again)["splits"]["test"] == 4


@pytest.mark.parametrize(
    "said, warned",
    [
        (["train"] * 16 + [""] * 8, True),
        (["test"] * 24, True),
        (["A", "B"] * 12, False),
    ],
)
def test_another_column_of_that_name_is_left_alone(tmp_path, said, warned):
    rows = [(f"{i}", "ab"[i % 2], said[i]) for i in range(24)]
    ds, told = imported(tmp_path, rows, ("file", "label", "set"))
    assert told["splits"]["test"] == 4
    assert warned == any("splits in 'set' were not kept" in w for w in told["warnings"])


# --- what tables say of patients ---


def groups_of(tmp_path, rows, name="x", head=("path", "label", "patient")):
    labels = table(tmp_path / f"{name}.csv", rows, head)
    source = tmp_path / "in"
    ds = import_dataset(tmp_path / "data", str(source), name, labels=labels)
    return dict(zip((number(ds, f) for f in ds.files), ds.groups, strict=True)), ds


def number(ds, file):
    return next(i for i in range(24) if (ds.folder / file).read_bytes() == png(noise(i)))


def test_a_patient_written_in_two_ways_is_one(tmp_path):
    flat(tmp_path / "in")
    spelled = ("Patient {}", "patient  {}")
    rows = [(f"{i}.png", "ab"[i % 2], spelled[i % 2].format(i // 2)) for i in range(24)]
    groups, ds = groups_of(tmp_path, rows)
    assert len(set(groups.values())) == 12 and groups[0] == groups[1] == "Patient 0"
    assert any("12 groups are written in several ways" in w for w in report(ds)["warnings"])


def test_where_the_patient_is_blank_the_lesion_says_what_belongs_together(tmp_path):
    flat(tmp_path / "in")
    rows = [(f"{i}.png", "ab"[i % 2], "p0" if i == 0 else "", f"{i // 2}") for i in range(24)]
    groups, ds = groups_of(tmp_path, rows, head=("path", "label", "patient_id", "lesion_id"))
    assert len(set(groups.values())) == 12
    assert groups[0] == groups[1] == "p0" and groups[2] == groups[3] == "lesion_id 1"
    note = "in one split with all of the same 'patient_id', or where it is blank of the same"
    assert report(ds)["notes"] == {f"{note} 'lesion_id'": 24}
    named = import_dataset(
        *(tmp_path / "data", str(tmp_path / "in"), "named"),
        labels=tmp_path / "x.csv",
        group_column="patient_id",
    )
    assert report(named)["groups"] == 24, "a column that was named is the only one"


def test_an_image_of_two_lesions_joins_them_and_one_of_two_splits_is_refused(tmp_path):
    flat(tmp_path / "in")
    rows = [(f"{i}.png", "ab"[i % 2], f"l{i // 2}") for i in range(24)]
    groups, ds = groups_of(tmp_path, [*rows, ("0.png", "a", "l11")])
    assert groups[0] == groups[1] == groups[22] == groups[23] and len(set(groups.values())) == 11
    assert any("1 groups were joined" in w for w in report(ds)["warnings"])
    split = [(*row, "test" if i < 8 else "train") for i, row in enumerate(rows)]
    labels = table(
        tmp_path / "s.csv", [*split, (*rows[0], "train")], ("path", "label", "l", "split")
    )
    refused(
        tmp_path / "b", tmp_path / "in", "0.png is listed as 'test' and as 'train'", labels=labels
    )


# --- how tables write paths ---


@pytest.mark.parametrize(
    "write, warned",
    [
        ("C:\\Users\\Anna\\study\\{}.png", "'study'"),
        ("/home/anna/study/{}.png", "'study'"),
        ("./{}.PNG", ""),
    ],
)
def test_paths_of_another_machine_and_another_case_are_found(tmp_path, write, warned):
    flat(tmp_path / "in")
    rows = [(write.format(i), "ab"[i % 2]) for i in range(24)]
    labels = table(tmp_path / "t.csv", rows, ("path", "label"))
    ds = import_dataset(tmp_path / "data", str(tmp_path / "in"), "x", labels=labels)
    assert len(ds.files) == 24
    said = [w for w in report(ds)["warnings"] if "folder that the source lacks" in w]
    assert len(said) == bool(warned) and all(warned in w for w in said)


def test_paths_that_several_files_share_are_said_to_be_that(tmp_path):
    (tmp_path / "in").mkdir()
    flat(tmp_path / "in" / "part 1"), flat(tmp_path / "in" / "PART 2")
    labels = table(
        tmp_path / "t.csv", [(f"{i}.png", "ab"[i % 2]) for i in range(24)], ("path", "label")
    )
    refused(tmp_path, tmp_path / "in", "image that is there in several folders", labels=labels)


def test_what_excel_leaves_in_a_table_is_no_row(tmp_path):
    flat(tmp_path / "in")
    rows = "".join(f"{i};{i % 2},0;{1 - i % 2},0\n" for i in range(24))
    (tmp_path / "in" / "t.csv").write_text(f"sep=;\nimage;ill;sane\n{rows};;\n;;;;\n", "utf-8-sig")
    ds = import_dataset(tmp_path / "data", str(tmp_path / "in"), "x")
    assert set(ds.classes) == {"ill", "sane"} and report(ds)["skipped"] == []


@pytest.mark.parametrize("around", ["", "set/"])
def test_without_a_column_of_splits_the_folders_say_who_is_tested(tmp_path, around):
    """As train/0.png, test/1.png and one table of labels, or with class folders in these."""
    names = [f"{around}{'train' if i % 3 else 'test'}/{i}.png" for i in range(36)]
    source = placed(tmp_path / "in", names)
    labels = table(tmp_path / "t.csv", [(n, "ab"[i % 2]) for i, n in enumerate(names)], ("f", "l"))
    options = dict(labels=labels, path_column="f", label_column="l")
    ds = import_dataset(tmp_path / "data", str(source), "x", **options)
    tested = {(ds.folder / ds.files[i]).read_bytes() for i in ds.indices("test")}
    assert tested == {png(noise(i)) for i in range(0, 36, 3)}
    assert report(ds)["notes"]["in the split that a folder around it is called by"] == 36
    free = import_dataset(tmp_path / "data", str(source), "y", split_column="", **options)
    assert {(free.folder / free.files[i]).read_bytes() for i in free.indices("test")} != tested


def test_patients_of_the_sources_own_table_count_where_folders_give_splits_and_classes(tmp_path):
    names = [f"{'train' if i % 3 else 'test'}/{'ab'[i % 2]}/{i}.png" for i in range(48)]
    source = placed(tmp_path / "in", names)
    rows = [(n, "ab"[i % 2], f"p{i % 3 == 0}{i // 6}") for i, n in enumerate(names)]
    table(source / "metadata.csv", rows, ("file", "label", "patient_id"))
    ds = import_dataset(tmp_path / "data", str(source), "x")
    assert report(ds)["groups"] == 16 and report(ds)["splits"]["test"] == 16


def tables_of_splits(source, whole=False, **changed):
    """9 pictures in each of train and test, and in both a metadata.csv with their names."""
    placed(source, [f"{s}/{i}.png" for i in range(9) for s in ("train", "test")])
    for folder in ("train", "test"):
        rows = [(f"{folder}/{i}.png" if whole else f"{i}.png", "xy"[i % 2]) for i in range(9)]
        head = changed.get(folder, ("file_name", "label"))
        table(source / folder / "metadata.csv", rows, head)
    return source


@pytest.mark.parametrize("whole", [False, True], ids=["as ImageFolder", "from above"])
def test_tables_in_the_folders_of_splits_are_read_together(tmp_path, whole):
    source = tables_of_splits(tmp_path / "in", whole)
    ds = import_dataset(tmp_path / "data", str(source), "x")
    assert ds.classes == ("x", "y") and len(ds.files) == 18 and report(ds)["skipped"] == []
    tested = {(ds.folder / ds.files[i]).read_bytes() for i in ds.indices("test")}
    assert tested == {(source / f"test/{i}.png").read_bytes() for i in range(9)}


def test_tables_of_one_name_with_other_columns_are_refused(tmp_path):
    source = tables_of_splits(tmp_path / "in", test=("file_name", "dx"))
    refused(tmp_path, source, "several tables called metadata.csv, with other columns each")
    entries = {str(p.relative_to(source)): p.read_bytes() for p in source.rglob("*.*")}
    zipped(tmp_path / "x.zip", entries)
    refused(tmp_path, tmp_path / "x.zip", "several tables called metadata.csv, with other columns")


def test_a_data_set_remembers_the_options_it_was_imported_by(tmp_path):
    labels = table(tmp_path / "t.csv", [(f"{i}.png", "ab"[i % 2], i // 2) for i in range(24)],
                   ("file", "label", "who"))  # fmt: skip
    options = dict(group_column="who", split_column="", positive="a")
    ds = import_dataset(tmp_path / "d", str(flat(tmp_path / "in")), "x", labels=labels, **options)
    told = {"group-column": "who", "split-column": "", "positive": "a", "labels": "t.csv"}
    assert report(ds)["options"] == told, "of the table its name, not where it lies"
