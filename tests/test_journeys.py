"""What a visitor does, in a real browser: skipped, with the reason, where there is none.

Every visit also asserts that nothing left the machine and that the console stayed without errors.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import DESK, TABLET, chromium, lacking, ours, serving, violations, visiting
from dirty import good_entries, png, zipped
from tiny import bands, trained

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "")

SETTLE_MS = 3000  # for a tab to be filled: the page polls, so its network is never idle
TABS = ("Compare", "Fine-tune", "Results", "Data")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a data set `bands` and a finished study of it, `reference`, of two strategies."""
    folder = tmp_path_factory.mktemp("journeys") / "home"
    folder.mkdir()
    bands(folder)
    trained(folder, ("full", "linear_probe"), name="reference")
    return folder


@pytest.fixture(scope="module")
def address(home):
    with serving(home) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def bare(browser, tmp_path_factory):
    """What axe finds on a bare Gradio page."""
    with serving(tmp_path_factory.mktemp("bare"), "tests/bare_page.py") as found:
        with visiting(browser, found) as page:
            page.get_by_role("button", name="Button", exact=True).wait_for()
            return violations(page)


@pytest.fixture
def dirty_zip(tmp_path):
    """Two classes of 40 images, one image twice, and four files that no data set should hold."""
    entries = good_entries(40)
    entries |= {"cat/again.png": entries["cat/0.png"], "cat/broken.png": b"not a picture"}
    entries |= {
        "<img src=x onerror=alert(1)>.txt": b"text",
        "../evil.png": png(np.zeros((8, 8, 3), np.uint8)),
    }
    return zipped(tmp_path / "dirty zip.zip", entries)


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def upload_zip(page, path):
    open_tab(page, "Data")
    page.get_by_role("radio", name="Upload", exact=True).check()
    page.locator("input[type=file][accept*='.zip']").set_input_files(path)
    page.get_by_text(path.stem[:5]).first.wait_for()
    page.get_by_role("button", name="Import", exact=True).click()


def draw_phantoms(page, name, per_class):
    open_tab(page, "Data")
    page.get_by_role("radio", name="Phantoms", exact=True).check()
    page.get_by_role("spinbutton", name="Images per class").fill(str(per_class))
    page.get_by_role("textbox", name=re.compile("^Name")).fill(name)
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_role("heading", name=name).wait_for()


def fits(page) -> bool:
    """Whether nothing sticks out of the window on the right."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_first_thing_seen_is_a_comparison(browser, address):
    with visiting(browser, address) as page:
        page.locator(".ft-card").nth(1).wait_for()
        assert re.search(r"(All|\d) .*say", page.locator(".ft-verdict").inner_text())
        names = page.locator(".ft-card h3").all_inner_texts()
        assert [name.split()[0] for name in names] == ["full", "linear_probe"]
        assert page.locator(".ft-card img:not([alt])").count() == 0
        assert re.search(
            r"\d %? ?\([\d.]+ to [\d.]+\)", page.locator(".ft-card").first.inner_text()
        )


def test_an_upload_is_compared_and_what_is_no_image_is_refused(browser, address, tmp_path):
    drawn = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    (tmp_path / "mine.png").write_bytes(png(drawn))
    (tmp_path / "mine.txt").write_bytes(b"no picture")
    with visiting(browser, address) as page:
        page.locator(".ft-card").nth(1).wait_for()
        page.locator("#ft-drop input[type=file]").set_input_files(tmp_path / "mine.png")
        page.locator(".ft-original", has_text="mine.png").wait_for()
        page.locator(".ft-card").nth(1).wait_for()
        page.locator("#ft-drop input[type=file]").set_input_files(tmp_path / "mine.txt")
        toast = page.get_by_test_id("toast-body")
        toast.wait_for()
        assert "mine.txt" in toast.inner_text()
        assert not re.search(r"/\w+/\w+", toast.inner_text())


def test_a_study_started_here_goes_on_when_the_page_is_closed(browser, address):
    with visiting(browser, address) as page:
        open_tab(page, "Fine-tune")
        page.locator(".ft-plan").nth(7).wait_for()  # those of the strategies ticked at first
        page.get_by_role("button", name="None", exact=True).click()
        page.locator(".ft-plan").first.wait_for(state="detached")
        page.get_by_role("checkbox", name=re.compile("^linear_probe")).check()
        page.get_by_role("spinbutton", name=re.compile("^Epochs")).fill("2")
        page.get_by_role("spinbutton", name=re.compile("^Seeds")).fill("1")
        page.get_by_role("textbox", name=re.compile("^Name")).fill("mine")
        page.locator(".ft-plan figcaption", has_text="linear_probe").wait_for()
        page.get_by_role("button", name="Start", exact=True).click()
        page.get_by_role("radio", name=re.compile(r"\bmine\b")).wait_for()
    with visiting(browser, address) as page:
        open_tab(page, "Fine-tune")
        page.get_by_role("tab", name="Studies", exact=True).click()
        page.get_by_role("radio", name=re.compile(r"\bmine\b")).check()
        page.get_by_text(re.compile("2 of 2 epochs")).first.wait_for()
    with visiting(browser, address) as page:
        page.get_by_label("Study", exact=True).first.click()
        page.get_by_role("option", name="mine").click()
        page.locator(".ft-card", has_text="linear_probe").wait_for()


def test_a_dirty_zip_becomes_a_data_set_with_a_report_and_goes_again(browser, address, dirty_zip):
    with visiting(browser, address) as page:
        upload_zip(page, dirty_zip)
        page.get_by_role("heading", name="dirty-zip").wait_for()
        text = page.locator(".ft-checkup").inner_text()
        assert "81 images of 2 classes" in text
        assert "1 pair of images are equal in every pixel" in text
        assert "3 files skipped" in text and "a path that leads outside" in text
        assert "<img src=x onerror=alert(1)>.txt" in text  # shown, not obeyed
        page.locator(".ft-samples img").nth(23).wait_for()
        assert page.locator(".ft-samples img[alt='']").count() == 0

        page.get_by_role("button", name="Delete this data set").click()
        page.get_by_role("button", name="Keep it").click()
        page.get_by_role("button", name="Delete this data set").click()
        page.get_by_role("button", name="Delete for good").click()
        page.get_by_role("heading", name="dirty-zip").wait_for(state="detached")
        assert page.get_by_role("radio", name="dirty-zip").count() == 0


def test_a_wrong_file_ends_in_a_sentence_and_no_path(browser, address, tmp_path):
    (tmp_path / "wrong.zip").write_bytes(b"not a zip")
    with visiting(browser, address) as page:
        upload_zip(page, tmp_path / "wrong.zip")
        toast = page.get_by_test_id("toast-body")
        toast.wait_for()
        assert "wrong.zip cannot be read as a zip" in toast.inner_text()
        assert not re.search(r"/\w+/\w+", toast.inner_text())


def test_phantoms_are_drawn_and_still_there_in_another_browser(browser, address):
    with visiting(browser, address) as page:
        draw_phantoms(page, "shared", 24)
        assert "synthetic" in page.locator(".ft-checkup").inner_text()
    with visiting(browser, address) as page:
        open_tab(page, "Data")
        page.get_by_role("radio", name="shared (96 images, 4 classes)").check()
        page.get_by_role("heading", name="shared").wait_for()


def test_the_form_of_the_data_tab_can_be_used_without_a_mouse(browser, address):
    with visiting(browser, address) as page:
        open_tab(page, "Data")
        page.get_by_role("radio", name="Upload", exact=True).focus()
        page.keyboard.press("Tab")  # to Phantoms: each of Gradio's radio buttons has its own stop
        page.keyboard.press("Space")
        page.get_by_text("Images per class").wait_for()
        page.get_by_role("textbox", name=re.compile("^Name")).focus()
        page.keyboard.type("a b")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        toast = page.get_by_test_id("toast-body")
        toast.wait_for()
        assert "cannot name a data set" in toast.inner_text()


@pytest.mark.parametrize("theme, size", [("light", DESK), ("dark", TABLET)])
@pytest.mark.parametrize("tab", TABS)
def test_no_tab_is_cut_off_or_less_accessible_than_gradio(browser, address, bare, tab, theme, size):
    with visiting(browser, address, theme, size) as page:
        open_tab(page, tab)
        page.get_by_role("tabpanel").first.wait_for()
        page.wait_for_timeout(SETTLE_MS)
        assert fits(page)
        assert ours(violations(page), bare) == []


def test_the_api_page_names_the_endpoints(browser, address):
    with visiting(browser, address) as page:
        page.get_by_role("button", name="Use via API").click()
        for endpoint in ("/predict", "/explain", "/start", "/status", "/studies"):
            page.get_by_text(endpoint, exact=True).first.wait_for()
