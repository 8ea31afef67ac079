"""What a visitor does, in a real browser: skipped, with the reason, where there is none.

Every visit also asserts that nothing left the machine and that the console stayed without errors.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import (
    DESK,
    FILLED,
    SHIPPED,
    TABLET,
    filled,
    lacking,
    open_tab,
    ours,
    serving,
    violations,
    visiting,
)
from dirty import good_entries, png, zipped

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "")


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


def compared(page) -> list[str]:
    """The strategies on the cards, once all are there."""
    page.locator(*FILLED["Compare"]).wait_for()
    return [name.split()[0] for name in page.locator(".ft-card h3").all_inner_texts()]


def test_the_first_thing_seen_is_a_comparison_by_the_study_that_comes_with_it(browser, address):
    with visiting(browser, address) as page:
        strategies = compared(page)
        assert len(set(strategies)) == SHIPPED and "truncated" in strategies
        verdict = page.locator(".ft-verdict").inner_text()
        assert re.match(rf"(All|\d of) {SHIPPED} strategies say \w+, mean probability", verdict)
        assert page.locator(".ft-card img:not([alt])").count() == 0
        card = page.locator(".ft-card").first.inner_text()
        assert re.search(r"\d %? ?\([\d.]+ to [\d.]+\)", card)

        rows = page.locator(".ft-heat tbody tr").all_inner_texts()
        assert [row.split()[0] for row in rows] == [*strategies, "mean"]
        for row in rows:
            assert sum(map(float, re.findall(r"[\d.]+(?= %)", row))) == pytest.approx(100, abs=0.3)


def test_an_example_goes_through_every_strategy(browser, address):
    with visiting(browser, address) as page:
        compared(page)
        before = page.locator(".ft-card img").first.get_attribute("src")
        page.locator(".ft-examples").get_by_text("effusion").first.click()
        page.locator(".ft-original", has_text="effusion").wait_for()
        assert len(compared(page)) == SHIPPED
        assert page.locator(".ft-card img").first.get_attribute("src") != before
        assert "The label says effusion." in page.locator(".ft-verdict").inner_text()


def test_an_upload_is_compared_and_what_is_no_image_is_refused(browser, address, tmp_path):
    drawn = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    (tmp_path / "mine.png").write_bytes(png(drawn))
    (tmp_path / "mine.txt").write_bytes(b"no picture")
    with visiting(browser, address) as page:
        compared(page)
        page.locator("#ft-drop input[type=file]").set_input_files(tmp_path / "mine.png")
        page.locator(".ft-original", has_text="mine.png").wait_for()
        assert len(compared(page)) == SHIPPED
        page.locator("#ft-drop input[type=file]").set_input_files(tmp_path / "mine.txt")
        toast = page.get_by_test_id("toast-body")
        toast.wait_for()
        assert "mine.txt" in toast.inner_text()
        assert not re.search(r"/\w+/\w+", toast.inner_text())


def windowed_dicom(path):
    """A MONOCHROME2 picture of 12 bits, a ramp, of whose levels a window shows some."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    ramp = np.tile(np.arange(0, 4096, 32, dtype=np.uint16), (128, 1))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.PatientName = "Schmidt^Anna"
    dataset.set_pixel_data(ramp, "MONOCHROME2", 12)
    dataset.WindowCenter, dataset.WindowWidth = 1000, 800
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_dicom_upload_is_compared_and_says_through_which_window(browser, address, tmp_path):
    with visiting(browser, address) as page:
        compared(page)
        file = windowed_dicom(tmp_path / "mine.dcm")
        page.locator("#ft-drop input[type=file]").set_input_files(file)
        shown = page.locator(".ft-original", has_text="mine.dcm")
        shown.get_by_text("Shown through the file's window 1000 / 800.").wait_for()
        assert len(compared(page)) == SHIPPED
        assert "Schmidt" not in page.content()


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
        draw_phantoms(page, "shared", 12)
        assert "synthetic" in page.locator(".ft-checkup").inner_text()
    with visiting(browser, address) as page:
        open_tab(page, "Data")
        page.get_by_role("radio", name="shared (48 images, 4 classes)").check()
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
def test_no_tab_is_cut_off_or_less_accessible_than_gradio(browser, address, bare, theme, size):
    with visiting(browser, address, theme, size) as page:
        for tab in FILLED:
            filled(page, tab)
            assert fits(page), tab
            complaints = page.locator(".toast-body").all_inner_texts()
            assert (tab, complaints, ours(violations(page), bare)) == (tab, [], [])


def test_what_a_strategy_froze_is_exactly_0_in_the_heat_map_of_the_inspect_tab(browser, address):
    with visiting(browser, address) as page:
        filled(page, "Inspect")
        open_tab(page, "Weights")
        page.locator(".js-plotly-plot:visible").wait_for()
        page.get_by_text("The numbers as a table").click()
        rows = page.locator(".ft-chart-text:visible tbody tr").all_inner_texts()
        cells = {row.split()[0]: row.split()[1:] for row in rows}
        assert len(cells) == SHIPPED
        assert cells["linear_probe"][:-1] == ["0"] * 5 and float(cells["linear_probe"][-1]) > 0
        assert all(float(cell) > 0 for cell in cells["full"])
        assert "surgical-ftlab_mini-s0" in page.locator(".ft-muted:visible").all_inner_texts()[1]


def test_the_api_page_names_the_endpoints(browser, address):
    with visiting(browser, address) as page:
        page.get_by_role("button", name="Use via API").click()
        for endpoint in ("/predict", "/explain", "/start", "/status", "/studies"):
            page.get_by_text(endpoint, exact=True).first.wait_for()
