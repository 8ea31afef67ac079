"""The Data tab without a browser: the report's HTML, what an import asks of the lab, the events."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from dirty import good_entries, zipped

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
gr = pytest.importorskip("gradio")

from ftlab.lab import Lab  # noqa: E402
from ftlab.modes import CLASSROOM, ONE, PUBLIC, Mode  # noqa: E402
from ftlab.records import BadInput  # noqa: E402
from ftlab.ui import checkup, data, importing  # noqa: E402

REPORT = {
    "name": "lungs",
    "images": 30,
    "classes": {"normal": 20, "<b>ill</b>": 10},
    "groups": 6,
    "splits": {"train": 18, "val": 6, "test": 6},
    "classes_by_split": {
        "train": {"normal": 12, "<b>ill</b>": 6},
        "val": {"normal": 4, "<b>ill</b>": 2},
        "test": {"normal": 4, "<b>ill</b>": 2},
    },
    "skipped": [{"file": f"<i>{n}</i>.txt", "reason": "in no class folder"} for n in "abcdefg"],
    "warnings": ["No groups are known: name them in a table with --group-column, or else."],
    "notes": {"the middle one of 3 frames was used": 2},
    "duplicates": {
        "exact": 1, "near": 0, "clusters": 1, "largest_cluster": 2,
        "differing_labels": 0, "across_splits": 1,
    },
    "source": "zip",
    "hash": "0",
}  # fmt: skip


class FakeLab:
    """Remembers what it was asked to import and delete."""

    def __init__(self, refuse: str = "", kind: str = "data set"):
        self.imported, self.deleted, self.refuse, self.kind = [], [], refuse, kind

    def import_data(self, source, name, **options):
        self.imported.append((source, name, options))
        if self.refuse:
            raise BadInput(self.refuse)

    def datasets(self):
        return [REPORT, {**REPORT, "name": "skin"}]

    def deletable(self, name, kind):
        if kind != self.kind:
            raise BadInput(f"There is no {kind} {name!r} of your own to delete.")
        return kind

    def delete(self, name, kind):
        self.deleted.append((name, self.deletable(name, kind)))

    def sample(self, name, n, seed=0):
        return [{"file": Path("a"), "label": "x", "split": "val", "mask": None}] * 2 + [
            {"file": Path("gone"), "label": "x", "split": "val", "mask": None}
        ]

    def picture(self, path):
        if path.name == "gone":
            raise BadInput("it is gone")
        return {"pixels": np.zeros((300, 400, 3), np.uint8), "notes": []}


@pytest.fixture
def form():
    with gr.Blocks():
        return importing.build(ONE)


def values(form, **given):
    """What an untouched form holds, and what was given; the folded part holds None."""
    fields = {field: getattr(field, "value", None) for field in form.fields()}
    fields |= dict.fromkeys(form.columns.values())
    for name, value in given.items():
        fields[getattr(form, name, None) or form.columns[name]] = value
    return fields


def imported(form, mode=ONE, **given):
    lab = FakeLab()
    name = importing.run(lab, mode, form, values(form, **given), lambda *a, **k: None)
    ((source, asked, options),) = lab.imported
    assert name == asked
    return source, name, options


# --- the report ----------------------------------------------------------------------------------


def test_the_report_says_what_the_checks_found():
    html = checkup.report(REPORT)
    for said in (
        *("30 images of 2 classes", "from a zip", "One warning", "6 groups", "7 files skipped"),
        *("1 pair of images are equal in every pixel", "1 of them across splits"),
        *("frames was used: 2 images", "2 more"),
    ):
        assert said in html, said


def test_nothing_of_a_strangers_file_becomes_html():
    html = checkup.report(REPORT)
    assert "<b>ill</b>" not in html and "&lt;b&gt;ill&lt;/b&gt;" in html
    assert "<i>a</i>" not in html and "&lt;i&gt;a&lt;/i&gt;.txt" in html
    grid = checkup.samples([{"uri": "data:,", "label": '"><script>', "split": "test"}])
    assert "<script>" not in grid and '""' not in grid


def test_the_balance_is_a_table_with_every_number_and_bars_to_one_scale():
    html = checkup.report(REPORT)
    for cell in (12, 4, 20, 6, 2, 10, 18, 30):
        assert f'<td class="ft-number">{cell}</td>' in html
    assert html.count("width:60.00%") == 1  # 12 training images of the 20 of the largest class
    assert html.count("width:30.00%") == 1 and html.count("width:10.00%") == 2


def test_a_data_set_without_faults_is_said_to_have_none():
    none = {"exact": 0, "near": 0, "across_splits": 0, "differing_labels": 0}
    clean = {
        **REPORT,
        "warnings": [],
        "notes": {},
        "skipped": [],
        "duplicates": none,
        "groups": None,
    }
    html = checkup.report(clean)
    assert "nothing to warn of" in html and "No duplicates" in html and "No <span" in html
    assert "skipped" not in html and "How images were read" not in html


def test_phantoms_are_called_synthetic():
    assert "synthetic" in checkup.report({**REPORT, "source": "phantom:chest_xray"})


@pytest.mark.parametrize(
    "sentence, page",
    [
        ("in a table with --group-column, or", "in a table in the field “Group column”, or"),
        ("by table, or say with --group-pattern what tells; else the", "by table, or the"),
        ("(name one with --path-column).", "(name one in the field “Path column”)."),
        ("name a table with --labels FILE.csv.", "name a table under “Table of labels”."),
        ("without --labels, --group-pattern and all --…-column.", "without the table of labels."),
        ("--per-class is at least 1, not 0.", "“Images per class” is at least 1, not 0."),
        ("Add images of others, or widen test in --fractions.", "Add images of others."),
        ("start a new study with another --name.", "start a new study under another “Name”."),
        ("worked on: `ftlab stop a-b` first.", "worked on: stop it first, under “Studies”."),
        (
            "already; `ftlab status x` shows how far it is, `ftlab stop x` stops it.",
            "already; “Studies” shows how far it is, and stops it.",
        ),
        ("There is no study 'x'; `ftlab studies` lists them.", "There is no study 'x'."),
        ("full: free some space, and the same command goes on.",
         "full: free some space, and “Resume” goes on."),
    ],
)  # fmt: skip
def test_sentences_name_the_pages_fields_and_no_option(sentence, page):
    assert checkup.on_page(sentence) == page


def test_every_image_of_the_grid_has_a_text(form):
    html = checkup.samples(data._sample(FakeLab(), "lungs", 0))
    assert html.count("<img") == 2  # the third can no longer be read
    assert html.count('alt="x, a validation image"') == 2


# --- import --------------------------------------------------------------------------------------


@pytest.fixture
def uploads(tmp_path):
    """A zip and a table of labels where Gradio keeps them: each in a folder of its own."""
    upload, table = tmp_path / "hash" / "ISIC 2019 (small).zip", tmp_path / "other" / "labels.csv"
    upload.parent.mkdir()
    table.parent.mkdir()
    table.write_text("file,label")
    return zipped(upload, {}), table


def test_an_upload_is_imported_under_its_own_name_and_then_forgotten(form, uploads):
    upload, table = uploads
    source, name, options = imported(form, file=str(upload), table=str(table), group=" patient ")
    assert (source, name) == (str(upload), "ISIC-2019-small")
    assert options["labels"] == table and options["group_column"] == "patient"
    assert options["path_column"] is options["group_pattern"] is None
    assert not upload.parent.exists() and not table.parent.exists()


def test_a_column_typed_as_none_is_none_and_one_left_empty_is_looked_for(form, tmp_path):
    upload = tmp_path / "hash" / "a.zip"
    upload.parent.mkdir()
    zipped(upload, {})
    *_, options = imported(form, file=str(upload), group=' "" ', label="  ")
    assert options["group_column"] == "" and options["label_column"] is None


def test_a_pattern_of_groups_is_taken_where_the_app_runs_for_one_person(form, tmp_path):
    for mode, taken in ((ONE, "p[0-9]+"), (CLASSROOM, None)):
        upload = tmp_path / mode.name / "a.zip"
        upload.parent.mkdir()
        zipped(upload, {})
        options = imported(form, mode, file=str(upload), pattern="p[0-9]+")[2]
        assert options.get("group_pattern") == taken


def test_an_upload_that_several_people_may_share_is_left_for_all_of_them(form, uploads):
    upload, table = uploads
    for mode in (CLASSROOM, PUBLIC):
        imported(form, mode, file=str(upload), table=str(table))
        assert upload.exists() and table.exists()


def test_an_upload_that_is_refused_stays_for_another_try(form, tmp_path):
    upload = zipped(tmp_path / "a.zip", {})
    lab = FakeLab(refuse="Name a table with --labels FILE.csv.")
    with pytest.raises(BadInput, match="under “Table of labels”"):
        importing.run(lab, ONE, form, values(form, file=str(upload)), lambda *a, **k: None)
    assert upload.exists()


def test_phantoms_are_asked_for_by_modality_number_and_seed(form):
    source, name, options = imported(
        form, kind=importing.PHANTOM, modality="histology", per_class=8, seed=3, name=" mine "
    )
    assert (source, name) == ("phantom:histology", "mine")
    assert (options["per_class"], options["seed"]) == (8, 3)
    assert "labels" not in options


def test_a_path_is_made_absolute_and_never_forgotten(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    source, name, _ = imported(form, kind=importing.PATH, path="owner/chest")  # no hub id
    assert (source, name) == (str(tmp_path / "owner" / "chest"), "chest")
    assert tmp_path.exists()


def test_a_path_is_refused_where_others_use_the_app(form):
    with pytest.raises(BadInput, match="Paths are read only"):
        imported(form, Mode("public", paths=False), kind=importing.PATH, path="/etc")
    with gr.Blocks():
        kinds = importing.build(Mode("public", paths=False)).kind.choices
    assert [value for _, value in kinds] == [importing.UPLOAD, importing.PHANTOM]


@pytest.mark.parametrize(
    "given, said",
    [
        ({}, "Choose a .zip or .npz file first."),
        ({"file": "/nowhere/a.zip"}, "choose the file again"),
        ({"kind": importing.PATH, "path": " "}, "Type the path"),
        ({"kind": importing.PATH, "path": "~nosuchuser/x"}, "no such home folder"),
    ],
)
def test_what_is_missing_is_said(form, given, said):
    with pytest.raises(BadInput, match=said):
        imported(form, **given)


def test_a_zip_goes_all_the_way_into_a_report(form, home, tmp_path):
    entries = good_entries(20) | {"notes.docx": b"x"}
    upload = zipped(tmp_path / "cats & dogs.zip", entries)
    seen = []
    lab = Lab(home)
    name = importing.run(
        lab, ONE, form, values(form, file=str(upload)), lambda at, *a, **k: seen.append(at)
    )
    html = checkup.report(lab.check(name))
    assert name == "cats-dogs" and seen[-1] == (40, 40)
    assert "40 images of 2 classes" in html and "notes.docx" in html


# --- the tab -------------------------------------------------------------------------------------


def test_the_list_keeps_what_is_chosen_and_falls_back_to_the_first():
    assert data._choices(FakeLab(), "skin").value == "skin"
    chosen = data._choices(FakeLab(), "gone")
    assert chosen.value == "lungs" and chosen.visible
    assert chosen.choices[0] == ("lungs (30 images, 2 classes)", "lungs")


def test_a_list_read_again_sets_the_choice_only_if_it_is_gone():
    for name in (None, "skin"):
        assert data._choices(FakeLab(), name, again=True).value is None
    assert data._choices(FakeLab(), "gone", again=True).value == "lungs"


def test_what_is_deleted_is_what_was_asked_about_whatever_is_chosen_since():
    lab = FakeLab()
    with gr.Blocks() as demo:
        chosen, shown = gr.Radio(["lungs", "skin"]), data._shown()
        data._wire_delete(lab, chosen, shown)
        of = {target: fn for fn in demo.fns.values() for target in fn.targets}
        ask, sure = of[shown.delete._id, "click"], of[shown.sure._id, "click"]
        asked = dict(zip(ask.outputs, ask.fn("gone"), strict=True))
        page = {shown.doomed: asked[shown.doomed], chosen: "skin"}
        update = sure.fn(*(page[field] for field in sure.inputs))
        lab.kind = "study"  # of the same name
        for event, given in ((ask, ["gone"]), (sure, ["gone", "skin"])):
            with pytest.raises(gr.Error, match="There is no data set &#x27;gone"):
                event.fn(*given)
    assert "Delete <strong>gone</strong>" in asked[shown.question]
    assert lab.deleted == [("gone", "data set")]
    assert update.value is None and ("skin (30 images, 2 classes)", "skin") in update.choices


def test_no_event_of_the_tab_is_public():
    with gr.Blocks() as demo:
        data.tab(FakeLab(), ONE).refresh(demo.load, demo.load)
    assert {event.api_visibility for event in demo.fns.values()} == {"private"}
