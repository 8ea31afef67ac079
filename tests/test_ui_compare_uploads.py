"""Uploads in the Compare tab: one image, several, zips, and what is refused."""

from __future__ import annotations

import csv
import re
import threading
import zipfile

import pytest
from browser import chromium, lacking, visiting
from comparing import SAID, FakeLab, text
from PIL import Image

gr = pytest.importorskip("gradio")

from ftlab.modes import ONE, Mode  # noqa: E402, with gradio
from ftlab.records import BadInput  # noqa: E402
from ftlab.ui import compare, comparison, many  # noqa: E402
from ftlab.ui.comparison import Shown  # noqa: E402


@pytest.fixture
def lab(tmp_path):
    return FakeLab(tmp_path)


@pytest.fixture
def example(lab):
    return comparison.first(comparison.examples(lab, "reference"))


@pytest.fixture
def page(lab, monkeypatch, tmp_path):
    """The tab in a browser, comparing an example."""
    if lacking():
        pytest.skip(lacking())
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    with gr.Blocks(analytics_enabled=False) as demo:
        compare.tab(lab, ONE).load(demo)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, _frontend=False)
    try:
        with chromium() as browser, visiting(browser, address) as page:
            page.locator(".ft-card").nth(2).wait_for()
            yield page
    finally:
        demo.close()


def test_one_upload_is_shown_and_several_make_a_table(lab, example, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    file = str(lab.folder / "example.png")
    shown, table, _, lines = compare._take(lab, ONE, [file], "reference", example)
    assert shown == Shown(file, "example.png") and not table.visible
    assert lines == []

    broken = lab.folder / "notes.txt"
    broken.write_text("no image")
    files = [file, str(broken), str(_zip(lab.folder, 2))]
    still, table, button, lines = compare._take(lab, ONE, files, "reference", example)
    said = text(table.value)
    assert still is example and table.visible
    assert "3 images" in said and "2 of 3" in said and "Left out: notes.txt: not an image" in said
    with open(button.value["path"], encoding="utf-8") as rows:
        assert len(list(csv.DictReader(rows))) == 3 * len(SAID)  # a line an image and strategy


def test_an_upload_that_cannot_be_read_is_refused_before_it_is_shown(lab, example):
    (lab.folder / "notes.txt").write_text("no image")
    with pytest.raises(BadInput, match="notes.txt: not an image"):
        compare._take(lab, ONE, [str(lab.folder / "notes.txt")], "reference", example)


def test_two_zips_of_the_same_names_are_all_their_images_and_what_is_left_out_is_named(
    lab, example, monkeypatch, tmp_path
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    first = _zip(lab.folder, 2).rename(lab.folder / "ill.zip")
    with zipfile.ZipFile(first, "a") as archive:
        archive.writestr("in/phone.heic", b"x")
    second = _zip(lab.folder, 2).rename(lab.folder / "well.zip")
    files = [str(first), str(second), str(lab.folder / "example.png")]
    *_, table, _, lines = compare._take(lab, ONE, files, "reference", example)
    names = ["ill/in/0.png", "ill/in/1.png", "well/in/0.png", "well/in/1.png", "example.png"]
    assert [line.caption for line in lines] == names
    assert "Left out: ill/in/phone.heic" in text(table.value)


def test_a_zip_without_an_image_says_why_its_first_file_is_none(lab, example):
    with zipfile.ZipFile(lab.folder / "phone.zip", "w") as archive:
        archive.writestr("phone.heic", b"x")
    with pytest.raises(BadInput, match=r"holds no images.* phone\.heic: "):
        compare._take(lab, ONE, [str(lab.folder / "phone.zip")], "reference", example)


def test_a_line_of_the_table_is_an_image_that_can_be_compared_until_it_is_swept(
    lab, example, monkeypatch, tmp_path
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    files = [str(lab.folder / "example.png"), str(_zip(lab.folder, 2))]
    _, table, _, lines = compare._take(lab, ONE, files, "reference", example)
    names = re.findall(r'data-row="(\d)".*?<button type="button".*?>(.*?)</button>', table.value)
    assert names == [("0", "example.png"), ("1", "in/0.png"), ("2", "in/1.png")]
    picked = compare._pick_line(lab, lines, _picked(2))
    assert picked.caption == "in/1.png"
    assert comparison.compare(lab, picked, "reference").rows[0]["image"] == "in/1.png"
    assert (tmp_path / "cache").as_posix() in picked.file
    for file in (tmp_path / "cache").rglob("*"):
        file.unlink() if file.is_file() else None
    with pytest.raises(BadInput, match=r"in/0.png is no longer kept here: send it once more"):
        compare._pick_line(lab, lines, _picked(1))


def _picked(index):
    return gr.SelectData(None, {"index": index, "value": None})


def test_too_many_images_are_refused_with_the_limit(lab, example):
    with pytest.raises(BadInput, match="3 images are more than the 2 that can be compared") as told:
        compare._take(lab, Mode(batch_images=2), [str(_zip(lab.folder, 3))], "reference", example)
    assert "ftlab" not in str(told.value), "a visitor has no command line"


def test_a_batch_without_an_image_is_refused(lab, example):
    broken = lab.folder / "a.txt"
    broken.write_text("x")
    with pytest.raises(BadInput, match="None of the 2 files"):
        compare._take(lab, ONE, [str(broken), str(lab.folder / "b.txt")], "reference", example)


def test_another_study_brings_its_examples_and_leaves_an_upload(lab, example):
    _, rows, shown, target, table, _ = compare._turn(lab, "another", example)
    assert shown == comparison.first(rows) and target == "" and not table.visible
    upload = Shown("x.png", "x.png")
    assert compare._turn(lab, "another", upload)[2] is upload


def _zip(folder, images):
    with zipfile.ZipFile(folder / "many.zip", "w") as archive:
        for number in range(images):
            archive.write(folder / "example.png", f"in/{number}.png")
    return folder / "many.zip"


def test_lines_of_the_table_are_picked_by_mouse_and_keyboard(lab, page):
    """The last one that is picked is the one that is shown, however slow an answer is."""
    explain, let = lab.explain, threading.Event()
    page.locator("#ft-drop input[type=file]").set_input_files(_zip(lab.folder, 3))
    page.get_by_role("button", name="in/1.png").wait_for()
    shown = page.locator(".ft-original figcaption")
    page.get_by_role("button", name="in/1.png").focus()
    page.keyboard.press("Enter")
    shown.get_by_text("in/1.png").wait_for()
    lab.explain = lambda *args, **options: (let.wait(30), explain(*args, **options))[1]
    try:
        page.locator("tr", has_text="in/2.png").get_by_role("cell").last.click()
        page.wait_for_timeout(500)
        page.get_by_role("button", name="in/0.png").click()
        pressed = page.locator("[aria-pressed=true]")
        assert pressed.all_inner_texts() == ["in/0.png"]
    finally:
        let.set()
    shown.get_by_text("in/0.png").wait_for()
    page.wait_for_timeout(500)
    assert shown.inner_text() == "in/0.png"


def test_what_is_refused_leaves_the_page_as_it_was_and_comes_not_again(lab, page):
    (lab.folder / "notes.txt").write_text("no image")
    Image.new("RGB", (20, 20)).save(lab.folder / "mine.png")
    send, shown = page.locator("#ft-drop input[type=file]"), page.locator("figcaption")
    before = shown.inner_text()
    send.set_input_files(lab.folder / "notes.txt")
    page.get_by_text("notes.txt: not an image").wait_for()
    assert shown.inner_text() == before and page.locator(".ft-card").count() == 3
    send.set_input_files(lab.folder / "mine.png")
    shown.get_by_text("mine.png").wait_for()
    assert not page.locator(".ft-batch").count(), "it came alone"


def test_a_table_of_images_asks_the_runs_that_it_shows_and_no_other(lab):
    asked, predict = [], lab.predict
    lab.predict = lambda images, study, chosen: (
        asked.append(chosen) or predict(images, study, chosen)
    )
    many.batch(lab, {"a.png": lab.folder / "example.png"}, "reference")
    assert asked == [[f"{name}-tiny-s0" for name in SAID]]
