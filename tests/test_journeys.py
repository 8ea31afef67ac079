"""What a visitor does, in a real browser: skipped, with the reason, where there is none.

Every test also asserts that nothing left the machine and that the console stayed without errors.
Most follow each other on one page, as a visitor's steps do, since it takes long to open.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from browser import (
    DESK,
    FADE_MS,
    FILLED,
    SHIPPED,
    TABLET,
    filled,
    lacking,
    look,
    open_tab,
    ours,
    serving,
    staying,
    violations,
    visiting,
)
from dirty import good_entries, png, windowed_dicom, zipped

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "")

STRATEGIES = 13  # of the study that comes with ftlab
REPORTS = ("Learning curves", "Classes and curves", "Cost")  # tabs of charts beside the leaderboard
LONG = 400  # epochs, of a moment each: it is stopped among them, however busy the machine is
STUDY_MS = 180_000  # in which a study of this file surely ends, on a busy machine too


@pytest.fixture(scope="module")
def opened(browser, address):
    with staying(browser, address) as found:
        yield found


@pytest.fixture
def page(opened):
    """The page that most tests share, on which nothing may go wrong."""
    page, wrong = opened
    yield page
    page.wait_for_timeout(0)  # for what has been noted to be told
    found, wrong[:] = list(wrong), []
    assert not found


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
    page.get_by_text(path.stem[:5]).locator("visible=true").first.wait_for()
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


def complaint(page, text: str) -> str:
    """What a message says in which a text stands, which is never where a file is."""
    found = page.get_by_test_id("toast-body").filter(has_text=text)
    found.wait_for()
    assert not re.search(r"/\w+/\w+", found.inner_text())
    return found.inner_text()


def compared(page) -> list[str]:
    """The strategies on the cards of the Compare tab, once all are there."""
    open_tab(page, "Compare")
    page.locator(*FILLED["Compare"]).wait_for()
    return [name.split()[0] for name in page.locator(".ft-card h3").all_inner_texts()]


def verdict(page) -> str:
    return page.locator(".ft-verdict:visible").inner_text()


def test_the_first_thing_seen_is_a_comparison_by_the_study_that_comes_with_it(page):
    strategies = compared(page)
    assert len(set(strategies)) == SHIPPED and "truncated" in strategies
    assert re.match(rf"(All|\d of) {SHIPPED} strategies say \w+, mean probability", verdict(page))
    assert page.locator(".ft-card img:not([alt])").count() == 0
    card = page.locator(".ft-card").first.inner_text()
    assert re.search(r"\d %? ?\([\d.]+ to [\d.]+\)", card)

    rows = page.locator(".ft-heat tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == [*strategies, "mean"]
    for row in rows:
        assert sum(map(float, re.findall(r"[\d.]+(?= %)", row))) == pytest.approx(100, abs=0.3)


def test_no_tab_is_cut_off_or_less_accessible_than_gradio(page, bare):
    for tab in FILLED:
        filled(page, tab)
        for looks in (TABLET, DESK):
            look(page, looks)
            page.wait_for_timeout(FADE_MS)
            assert fits(page), (tab, looks)
            complaints = page.locator(".toast-body").all_inner_texts()
            assert (tab, complaints, ours(violations(page), bare)) == (tab, [], [])


def test_the_results_tab_opens_on_the_study_that_comes_with_it(page):
    open_tab(page, "Results")
    names = page.locator(".ft-board [role=gridcell][aria-colindex='1']")
    names.nth(STRATEGIES - 1).wait_for()
    shown = STRATEGIES + 1  # the ensemble beside them
    assert len(set(names.all_inner_texts())) == names.count() == shown
    page.get_by_text(re.compile(r"95 % CI .* 5 seeds, 480 test images")).first.wait_for()
    for report in REPORTS:
        open_tab(page, report)
        page.locator(".js-plotly-plot:visible").first.wait_for()
    open_tab(page, "Disagreements")
    page.get_by_text(re.compile("Votes of each strategy's first seed")).wait_for()


def test_an_example_goes_through_every_strategy(page):
    compared(page)
    before = page.locator(".ft-card img").first.get_attribute("src")
    page.locator(".ft-examples").get_by_text("effusion").first.click()
    page.locator(".ft-original", has_text="effusion").wait_for()
    assert len(compared(page)) == SHIPPED
    assert page.locator(".ft-card img").first.get_attribute("src") != before
    assert "The label says effusion." in verdict(page)


def test_an_upload_is_compared_and_what_is_no_image_is_refused(page, tmp_path):
    drawn = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    (tmp_path / "mine.png").write_bytes(png(drawn))
    (tmp_path / "mine.txt").write_bytes(b"no picture")
    compared(page)
    page.locator("#ft-drop input[type=file]").set_input_files(tmp_path / "mine.png")
    page.locator(".ft-original", has_text="mine.png").wait_for()
    assert len(compared(page)) == SHIPPED
    page.locator("#ft-drop input[type=file]").set_input_files(tmp_path / "mine.txt")
    assert complaint(page, "mine.txt")


def test_a_dicom_upload_is_compared_and_says_through_which_window(page, tmp_path):
    compared(page)
    file = windowed_dicom(tmp_path / "mine.dcm")
    page.locator("#ft-drop input[type=file]").set_input_files(file)
    shown = page.locator(".ft-original", has_text="mine.dcm")
    shown.get_by_text("Shown through the file's window 1000 / 800.").wait_for()
    assert len(compared(page)) == SHIPPED
    assert "Schmidt" not in page.content()


def test_a_dirty_zip_becomes_a_data_set_with_a_report_and_goes_again(page, dirty_zip):
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


def test_a_wrong_file_ends_in_a_sentence_and_no_path(page, tmp_path):
    (tmp_path / "wrong.zip").write_bytes(b"not a zip")
    upload_zip(page, tmp_path / "wrong.zip")
    assert complaint(page, "wrong.zip cannot be read as a zip")


def test_phantoms_are_drawn_and_still_there_in_another_browser(browser, address, page):
    draw_phantoms(page, "shared", 12)
    assert "synthetic" in page.locator(".ft-checkup").inner_text()
    with visiting(browser, address, TABLET) as other:
        open_tab(other, "Data")
        other.get_by_role("radio", name="shared (48 images, 4 classes)").check()
        other.get_by_role("heading", name="shared").wait_for()
        assert fits(other)


def test_the_form_of_the_data_tab_can_be_used_without_a_mouse(page):
    open_tab(page, "Data")
    page.get_by_role("radio", name="Upload", exact=True).focus()
    page.keyboard.press("Tab")  # to Phantoms: each of Gradio's radio buttons has its own stop
    page.keyboard.press("Space")
    page.get_by_text("Images per class").wait_for()
    page.get_by_role("textbox", name=re.compile("^Name")).focus()
    page.keyboard.type("a b")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert complaint(page, "cannot name a data set")


def test_what_a_strategy_froze_is_exactly_0_in_the_heat_map_of_the_inspect_tab(page):
    filled(page, "Inspect")
    open_tab(page, "Weights")
    page.locator(".js-plotly-plot:visible").wait_for()
    page.locator("summary:visible", has_text="The numbers as a table").click()
    rows = page.locator(".ft-chart-text:visible tbody tr").all_inner_texts()
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert len(cells) == SHIPPED
    assert cells["linear_probe"][:-1] == ["0"] * 5 and float(cells["linear_probe"][-1]) > 0
    assert all(float(cell) > 0 for cell in cells["full"])
    assert "surgical-ftlab_mini-s0" in page.locator(".ft-muted:visible").all_inner_texts()[1]


# --- studies ---


def start(page, name: str, strategy: str, epochs: int) -> None:
    """Ask for a study of one run on small images, and start it."""
    filled(page, "Fine-tune")
    page.get_by_role("button", name="None", exact=True).click()
    page.locator(".ft-plan").first.wait_for(state="detached")
    page.get_by_role("checkbox", name=re.compile(f"^{strategy}")).check()
    page.get_by_role("spinbutton", name=re.compile("^Epochs")).fill(str(epochs))
    page.get_by_role("spinbutton", name=re.compile("^Seeds")).fill("1")
    page.get_by_role("textbox", name=re.compile("^Name")).fill(name)
    page.get_by_role("button", name="More settings").click()
    page.get_by_role("spinbutton", name=re.compile("^Image size")).fill("48")
    page.locator(".ft-plan figcaption", has_text=strategy).wait_for()
    page.get_by_role("button", name="Start", exact=True).click()
    page.get_by_role("radio", name=re.compile(rf"\b{name}\b")).wait_for()


def watch(page, name: str) -> None:
    open_tab(page, "Fine-tune")
    open_tab(page, "Studies")
    page.get_by_role("radio", name=re.compile(rf"\b{name}\b")).check()


def told(page, text: str) -> str:
    """What stands at the head of the study that is watched, once a text is part of it."""
    head = page.locator(".ft-study", has_text=re.compile(text))
    head.wait_for(timeout=STUDY_MS)
    return head.inner_text()


def epochs_told(page, state: str) -> int:
    return int(re.search(r"(\d+) of \d+ epochs", told(page, state))[1])


def epochs_drawn(page, strategy: str) -> list[int]:
    """The epochs of a strategy's mean, in the chart of the study that is watched."""
    plot = page.locator(".ft-plot .js-plotly-plot")
    return plot.evaluate(
        "(plot, name) => Array.from(plot._fullData.find(trace => trace.name == name).x)", strategy
    )


def test_a_study_started_here_goes_on_when_the_page_is_closed(browser, address, page):
    with visiting(browser, address) as closed:
        start(closed, "mine", "linear_probe", 2)
    watch(page, "mine")
    told(page, "2 of 2 epochs")
    with visiting(browser, address) as later:
        later.get_by_label("Study", exact=True).first.click()
        later.get_by_role("option", name="mine").click()
        later.locator(".ft-card", has_text="linear_probe").wait_for()


def test_two_pages_show_one_study_which_one_stops_and_the_other_resumes(browser, address, page):
    other = page
    with visiting(browser, address) as one:
        start(one, "long", "full", LONG)
        watch(other, "long")
        told(other, rf"running.*[1-9]\d* of {LONG} epochs")
        other.get_by_role("button", name="Stop", exact=True).click()
        done = [epochs_told(each, "stopped: press Resume") for each in (one, other)]
        assert 0 < done[0] == done[1] < LONG
        assert epochs_drawn(one, "full") == list(range(1, done[0] + 1))

        one.get_by_role("button", name="Resume", exact=True).click()
        later = "|".join(map(str, range(done[0] + 1, LONG)))
        for each in (one, other):
            told(each, rf"running.*(?<!\d)({later}) of {LONG} epochs")
            drawn = epochs_drawn(each, "full")
            assert drawn == list(range(1, len(drawn) + 1)) and len(drawn) > done[0]
        one.get_by_role("button", name="Stop", exact=True).click()
        told(other, "stopped: press Resume")


def test_the_api_page_names_the_endpoints(page):
    page.get_by_role("button", name="Use via API").click()
    for endpoint in ("/predict", "/explain", "/start", "/status", "/studies"):
        page.get_by_text(endpoint, exact=True).first.wait_for()
