"""The Compare tab on a fake lab: what is asked of the runs, and what the page says of it."""

from __future__ import annotations

import base64
import csv
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, lacking
from comparing import CLASSES, MASKED, SAID, FakeLab, text
from PIL import Image

gr = pytest.importorskip("gradio")

from ftlab import maps  # noqa: E402, with gradio
from ftlab.modes import ONE, Mode  # noqa: E402
from ftlab.records import BadInput  # noqa: E402
from ftlab.ui import cards, compare, comparison, many, pictures  # noqa: E402
from ftlab.ui.comparison import Shown  # noqa: E402


@pytest.fixture
def lab(tmp_path):
    return FakeLab(tmp_path)


@pytest.fixture
def example(lab):
    return comparison.first(comparison.examples(lab, "reference"))


def picture(uri):
    return Image.open(BytesIO(base64.b64decode(uri.split(",")[1])))


# --- the page that opens ---


def test_the_page_opens_on_the_reference_study_and_an_example_with_a_lesion(lab):
    studies, opened, methods, gallery, rows, shown = compare._first(lab)
    assert [name for name, _ in studies.choices] == ["reference", "another"]
    assert studies.value == opened == "reference"
    assert ("scorecam (slow)", "scorecam") in methods.choices
    assert [row.label for row in rows] == ["normal", "nodule"]  # the brain is none of its classes
    assert (shown.label, shown.caption) == ("nodule", "Synthetic chest X-ray: nodule")
    assert len(gallery.value) == 2


def test_each_page_that_opens_has_examples_in_files_of_its_own(lab, monkeypatch):
    """Else the next page's would be written over what this one is still reading."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(lab.folder / "cache"))
    first, second = (
        [each["image"]["path"] for each in compare._examples(lab, "reference")[0].value]
        for _ in range(2)
    )
    assert first and len(first) == len(second) and not set(first) & set(second)
    assert all(np.asarray(Image.open(path)).max() == 90 for path in first + second)


def test_a_study_that_has_finished_since_can_be_chosen_and_opened(lab):
    studies, gone = compare._studies(lab, "another", "reference", 0)
    assert studies["choices"] == ["reference", "another"]
    assert "value" not in studies and gone == 0, "what is chosen stays, and what is shown of it"
    studies, gone = compare._studies(lab, "deleted", "deleted", 3)
    assert studies["value"] == "reference" and gone == 4, "it is turned to, which it is not by name"
    *_, gallery, rows, studies, target = compare._open(lab, ("another", 3))
    assert len(rows) == len(gallery.value), "the examples of the study that is opened"
    assert studies.preprocess("another") == "another" and studies.value == "another"


@pytest.mark.parametrize(
    "opened, turned",
    [
        (None, False),  # the tab is selected while the page opens
        ("reference", False),  # the page has opened, and its browser does not know it yet
        ("", True),  # there was no study, and now there is
    ],
)
def test_what_the_page_opens_with_is_compared_once(lab, opened, turned):
    studies, gone = compare._studies(lab, None, opened, 0)
    assert (gone == 1) == turned == ("value" in studies)


def test_without_a_study_the_page_says_what_to_do(lab):
    lab.runs = lambda: []
    studies, opened, *_, shown = compare._first(lab)
    assert studies.value is None and opened == ""
    _, said, made, *_ = compare._show(lab, ONE, shown, None, "gradcam", "")
    assert "Fine-tune" in said and "ftlab demo" in said and not made
    _, said, *_ = compare._show(lab, Mode("public"), shown, None, "gradcam", "")
    assert "Fine-tune" in said and "terminal" not in said


def test_a_study_of_other_classes_is_tried_on_its_own_test_images(lab):
    file = lab.folder / "example.png"
    lab.studies = lambda: [{"study": "own", "data": "xrays", "classes": ["ill", "well"]}]
    lab.sample = lambda data, n, split: [
        {"file": file, "label": data, "split": split, "mask": None}
    ]
    lab.data_of = lambda study: {"source": "folder"}
    (only,) = comparison.examples(lab, "own")
    assert (only.caption, only.label) == ("test image: xrays", "xrays")
    lab.data_of = lambda study: {"source": "phantom:oct"}
    (only,) = comparison.examples(lab, "own")
    assert only.caption == "Synthetic test image: xrays"


def test_of_a_data_set_that_has_changed_no_image_is_called_a_test_image(lab):
    """Imported again, split otherwise: the runs may have been trained on it."""
    file = lab.folder / "example.png"
    lab.data_of = lambda study: None
    lab.sample = lambda data, n, split: [
        {"file": file, "label": "nodule", "split": "test", "mask": None}
    ]
    assert [shown.caption for shown in comparison.examples(lab, "reference")] == [
        "Synthetic chest X-ray: normal",
        "Synthetic chest X-ray: nodule",
    ]


def test_real_images_are_shown_before_drawings_of_the_same_classes(lab):
    file = lab.folder / "example.png"
    lab.data_of = lambda study: {"source": "folder"}
    lab.sample = lambda data, n, split: [
        {"file": file, "label": "nodule", "split": "test", "mask": None}
    ]
    (only,) = comparison.examples(lab, "reference")
    assert only.caption == "test image: nodule"

    lab.data_of = lambda study: None  # it is not on this machine
    gallery, _ = compare._examples(lab, "reference")
    assert [each["caption"] for each in gallery.value] == [
        "Synthetic chest X-ray: normal",
        "Synthetic chest X-ray: nodule",
    ]


def test_an_example_that_is_gone_hides_no_other(lab, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(lab.folder / "cache"))
    first, *others = lab.examples()
    lab.examples = lambda: [{**first, "file": lab.folder / "gone.png"}, *others]
    studies, *_, gallery, rows, shown = compare._first(lab)
    assert [row.label for row in rows] == ["nodule"] and len(gallery.value) == 1
    assert shown == rows[0]


# --- one image ---


def test_each_strategy_has_a_card_with_what_its_first_seed_says(lab, example):
    view = comparison.compare(lab, example, "reference")
    assert lab.asked[0][4] == [f"{name}-tiny-s0" for name in SAID]
    found = re.findall(r"<article.*?</article>", view.cards, re.S)
    assert [re.search('aria-label="(.*?)"', card)[1] for card in found] == list(SAID)
    full, probe, l2_sp = map(text, found)
    for part in ("nodule 90.0 %", "✓ as labelled", "81.4 % (78.2 to 84.1)", "1 min 15 s", "25 %"):
        assert part in full
    assert "normal 80.0 %" in probe and "✗ not as labelled" in probe
    assert "no evidence for nodule" in l2_sp


def test_the_sentence_counts_the_strategies_and_names_the_label(lab, example):
    said = text(comparison.compare(lab, example, "reference").sentence)
    assert "2 of 3 strategies say nodule" in said
    assert "disagree more than on 90 % of the test images" in said
    assert "The label says nodule" in said


@pytest.mark.parametrize(
    ("agree", "of", "begins"),
    [(3, 3, "All 3 strategies say"), (1, 3, "1 of 3 strategies says"), (1, 1, "The one strategy")],
)
def test_the_sentence_is_grammatical(agree, of, begins):
    found = {"class": "a", "agree": agree, "of": of, "mean_probability": 0.5, "more_than": None}
    said = text(cards.consensus(found, None))
    assert said.strip().startswith(begins)
    assert "test images" not in said and "label" not in said


def test_of_several_backbones_networks_are_counted(lab, example):
    rows = lab.runs()
    lab.runs = lambda: [*rows, {**rows[0], "run": "full-wide-s0", "backbone": "wide"}]
    explain = lab.explain

    def explained(*given, **options):
        answer = explain(*given, **options)
        answer["runs"][-1]["backbone"] = "wide"
        return answer

    lab.explain = explained
    assert "2 of 3 networks say nodule" in text(
        comparison.compare(lab, example, "reference").sentence
    )
    table, _, _ = many.batch(lab, {"a.png": lab.folder / "example.png"}, "reference")
    assert "What the networks say" in text(table) and "strategies" not in text(table)


def test_the_notes_of_the_reader_and_absent_weights_are_told(lab, example):
    said = text(comparison.compare(lab, example, "reference").original)
    assert "The first of 2 frames was used." in said
    assert "1 run of this study is here without weights" in said


def test_maps_carry_their_words_and_share_a_scale_on_demand(lab, example):
    made = comparison.compare(lab, example, "reference").cards
    alts = re.findall(r'class="ft-own" src="[^"]*" alt="(.*?)"', made)
    assert alts[0] == "gradcam of full for nodule: strongest upper left"
    assert alts[2] == "gradcam of l2_sp for nodule: no evidence anywhere"
    own = [picture(u) for u in re.findall(r'class="ft-own" src="(.*?)"', made)]
    shared = [picture(u) for u in re.findall(r'class="ft-shared" src="(.*?)"', made)]
    assert np.array_equal(own[0], shared[0])  # the one with the most evidence
    own_peak, shared_peak = np.max(own[1]), np.max(shared[1])
    assert own_peak == pictures.LEVELS - 1
    assert shared_peak == round((pictures.LEVELS - 1) / 4)


def test_the_same_question_is_asked_of_the_runs_once(lab, example):
    first = comparison.compare(lab, example, "reference")
    assert comparison.compare(lab, example, "reference") is first
    comparison.compare(lab, example, "reference", target="normal")
    comparison.compare(lab, example, "reference", "scorecam")
    assert [asked[2:4] for asked in lab.asked] == [
        ("gradcam", None),
        ("gradcam", "normal"),
        ("scorecam", None),
    ]


def test_a_seed_that_has_ended_since_renews_what_is_said_of_the_strategy(lab, example):
    rows, first = lab.runs(), comparison.compare(lab, example, "reference")
    lab.runs = lambda: [*rows, {**rows[0], "run": "full-tiny-s2", "seed": 2}]
    assert comparison.compare(lab, example, "reference") is not first


def test_studies_of_one_name_but_of_two_labs_have_answers_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "_kept", comparison.Kept())
    labs = []
    for owner in "ab":
        (tmp_path / owner).mkdir()
        labs.append(FakeLab(tmp_path / owner))
    upload = Shown(str(labs[0].folder / "example.png"), "mine.png")
    for shown in (upload, Shown(caption="Test image 7", study="reference", index=7)):
        one, other = (comparison.compare(lab, shown, "reference") for lab in labs)
        assert one is not other
        assert comparison.compare(labs[1], shown, "reference") is other
    assert [len(lab.asked) for lab in labs] == [2, 2]


def test_people_who_share_a_study_and_an_example_share_its_answer(lab, tmp_path, monkeypatch):
    """Each reaches the examples through a link in a home of their own."""
    monkeypatch.setattr(comparison, "_kept", comparison.Kept())
    (tmp_path / "cache").symlink_to(tmp_path)
    files = [folder / "example.png" for folder in (tmp_path, tmp_path / "cache")]
    one, other = (
        comparison.compare(lab, Shown(str(file), "An example", "nodule"), "reference")
        for file in files
    )
    assert one is other and len(lab.asked) == 1


def test_what_is_kept_is_bounded():
    kept = comparison.Kept(bound=2)
    for question in "abca":
        kept.get(question, lambda q=question: q.upper())
    assert list(kept.answers) == ["c", "a"]


def test_names_of_strangers_are_no_html(lab):
    file = lab.folder / "x.png"
    Image.new("RGB", (20, 20)).save(file)
    view = comparison.compare(lab, Shown(str(file), "<img src=x onerror=alert(1)>"), "reference")
    assert "<img src=x" not in view.original and "&lt;img src=x" in view.original


def test_a_test_image_of_a_study_is_shown_with_its_label(lab):
    shown, *_, study, target = compare._open(lab, ("reference", 7))
    assert (study.value, target) == ("reference", "")
    view = comparison.compare(lab, shown, study.value)
    assert "The label says normal" in text(view.sentence)
    assert "Evidence inside" not in view.cards
    with pytest.raises(BadInput, match="Choose one"):
        compare._open(lab, None)


@pytest.mark.parametrize(
    ("source", "said"),
    [("phantom:oct", "Synthetic test image 7 of reference"), ("zip", "Test image 7 of reference")],
)
def test_a_drawn_test_image_is_said_to_be_one(lab, source, said):
    lab.data_of = lambda study: {"source": source}
    assert compare._open(lab, ("reference", 7))[0].caption == said


def test_a_test_image_with_a_mask_is_outlined_and_the_maps_are_scored_against_it(lab):
    shown, *_ = compare._open(lab, ("reference", MASKED))
    view = comparison.compare(lab, shown, "reference")
    assert lab.asked[0][-1] == lab.folder / "mask.png"
    assert "Evidence inside 25 %" in text(view.cards)
    assert 'class="ft-mask"' in view.original


def test_a_layer_over_a_picture_is_the_overlay_of_the_command_line():
    rows, columns = np.mgrid[0 : pictures.LAYER, 0 : pictures.LAYER] / pictures.LAYER
    values = np.float32((rows + columns) / 2)
    photo = np.full((*values.shape, 3), 120, np.uint8)
    over = picture(pictures.layer(values)).convert("RGBA")
    shown = Image.alpha_composite(Image.fromarray(photo).convert("RGBA"), over).convert("RGB")
    expected = maps.overlay(photo, values, opacity=1.0)
    assert np.abs(np.int16(shown) - np.int16(expected)).max() <= 9  # a palette of 64 levels


def test_an_outline_lies_on_the_border_of_the_mask():
    mask = np.zeros((50, 50), bool)
    mask[10:30, 20:40] = True
    drawn = np.asarray(picture(pictures.outline(mask)))
    assert drawn[10, 30] and drawn[29, 30] and drawn[20, 20]
    assert not drawn[20, 30] and not drawn[5, 5]


@pytest.mark.parametrize(
    ("row", "column", "where"),
    [(0, 0, "upper left"), (4, 4, "centre"), (8, 4, "lower"), (4, 8, "right")],
)
def test_places_are_named(row, column, where):
    values = np.zeros((9, 9))
    values[row, column] = 1
    assert pictures.place(values) == where


# --- tables ---


def test_the_heat_table_marks_each_rows_largest_and_ends_with_the_mean(lab, example):
    view = comparison.compare(lab, example, "reference")
    lines = re.findall(r"<tr>.*?</tr>", view.table.split("<tbody>")[1])
    assert "<strong>90.0 %</strong>" in lines[0] and "<strong>80.0 %</strong>" in lines[1]
    assert "mean" in lines[3] and "60.0 %" in lines[3] and len(lines) == 4


def test_the_csv_holds_what_the_page_shows(lab, example, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    *_, button, target = compare._show(lab, ONE, example, "reference", "gradcam", "")
    with open(button.value["path"], encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["strategy"] for row in rows] == list(SAID)
    assert [row["predicted"] for row in rows] == ["nodule", "normal", "nodule"]
    assert float(rows[1]["probability normal"]) == 0.8
    assert [value for _, value in target.choices] == ["", "own", *CLASSES]


RUNS_OUT = """[...document.querySelectorAll('.ft-verdict, .ft-legend, .ft-cards *')].filter(
    part => part.clientWidth && getComputedStyle(part).display != 'inline'
        && part.scrollWidth > part.clientWidth + 1).map(part => part.className)"""


@pytest.mark.skipif(bool(lacking()), reason=lacking() or "")
def test_long_names_of_classes_stay_within_the_cards():
    name = "adenocarcinoma_left.lower.lobe_T2_N0_M0_Ib"
    row = {"strategy": "full", "backbone": "tiny", "summary": "", "classes": [name, "x"]}
    row |= {"probs": [0.9, 0.1], "target": 0, "method": "gradcam", "method_summary": "gradcam."}
    row |= {"map": np.zeros((8, 8)), "peak": 0.0, "native": (2, 3), "test": None, "seconds": 1.0}
    found = {"class": name, "agree": 1, "of": 1, "mean_probability": 0.9}
    shown = cards.consensus(found, name)
    shown += cards.grid([row] * 3, np.zeros((40, 60, 3), np.uint8), None, name)
    folder = Path(compare.__file__).parent
    style = "".join((folder / f"{each}.css").read_text() for each in ("style", "compare"))
    with chromium() as browser:
        for width in (320, 640):
            page = browser.new_page(viewport={"width": width, "height": 700})
            page.set_content(f"<style>{style}</style>{shown}")
            assert page.evaluate(RUNS_OUT) == []


def test_the_tab_builds_and_all_its_events_are_private(lab):
    with gr.Blocks(analytics_enabled=False) as demo:
        built = compare.tab(lab, ONE)
        built.load(demo)
    assert {event.api_visibility for event in demo.fns.values()} == {"private"}


def test_an_event_before_the_tab_is_filled_has_a_method(lab):
    with gr.Blocks(analytics_enabled=False) as demo:
        compare.tab(lab, ONE)
    labelled = {b.label: b for b in demo.blocks.values() if hasattr(b, "label")}
    assert labelled["Saliency map by"].value == comparison.METHOD


@pytest.mark.parametrize("study", ["reference", "deleted"])
def test_where_nothing_can_be_compared_a_sentence_stands_for_what_was_shown(lab, example, study):
    def refuses(*given, **options):
        raise BadInput("No run of <this study> has weights here.")

    def known(name):
        if name == "deleted":
            raise BadInput("There is no study 'deleted'.")
        return lab.folder / name

    lab.explain, lab.study_folder = refuses, known
    shown = compare._show(lab, ONE, example, study, "gradcam", "", "full-tiny-s0")
    original, sentence, made, table, run, button, said, result, button_csv, _ = shown
    assert example.caption in original and "ft-card" not in made
    told = "There is no study" if study == "deleted" else "&lt;this study&gt; has weights"
    assert told in made and not (sentence or table or said)
    assert not any(each["visible"] for each in (run, button, result, button_csv))


def test_an_image_that_is_gone_is_not_shown_beside_the_sentence_that_says_so(lab):
    gone = Shown(str(lab.folder / "gone.png"), "gone.png")
    original, sentence, made, *_ = compare._show(lab, ONE, gone, "reference", "gradcam", "")
    assert not original and not sentence and "gone.png: not an image" in made


def test_the_legend_names_the_size_of_every_map(lab, example):
    explained = lab.explain

    def of_two_sizes(*given, **options):
        answer = explained(*given, **options)
        answer["runs"][1]["native"] = [7, 8]
        return answer

    lab.explain = of_two_sizes
    said = text(comparison.compare(lab, example, "reference", "scorecam").cards)
    assert "made of 3 × 2 or 8 × 7 places by" in said
