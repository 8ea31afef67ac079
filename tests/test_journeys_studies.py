"""What a visitor does with studies, in a real browser: start, leave, watch, stop, resume, read.

Every visit also asserts that nothing left the machine and that the console stayed without errors.
"""

from __future__ import annotations

import re

import pytest
from browser import filled, lacking, open_tab, visiting

pytestmark = pytest.mark.skipif(bool(lacking()), reason=lacking() or "")

LONG = 400  # epochs, of a moment each: it is stopped among them, however busy the machine is
STUDY_MS = 180_000  # in which a study of this file surely ends, on a busy machine too
STRATEGIES = 13  # of the study that comes with ftlab
REPORTS = ("Learning curves", "Classes and curves", "Cost")  # tabs of charts beside the leaderboard


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


def test_a_study_started_here_goes_on_when_the_page_is_closed(browser, address):
    with visiting(browser, address) as page:
        start(page, "mine", "linear_probe", 2)
    with visiting(browser, address) as page:
        watch(page, "mine")
        told(page, "2 of 2 epochs")
    with visiting(browser, address) as page:
        page.get_by_label("Study", exact=True).first.click()
        page.get_by_role("option", name="mine").click()
        page.locator(".ft-card", has_text="linear_probe").wait_for()


def test_two_pages_show_one_study_which_one_stops_and_the_other_resumes(browser, address):
    with visiting(browser, address) as one, visiting(browser, address) as other:
        start(one, "long", "full", LONG)
        watch(other, "long")
        told(other, rf"running.*[1-9]\d* of {LONG} epochs")
        other.get_by_role("button", name="Stop", exact=True).click()
        done = [epochs_told(page, "stopped: press Resume") for page in (one, other)]
        assert 0 < done[0] == done[1] < LONG
        assert epochs_drawn(one, "full") == list(range(1, done[0] + 1))

        one.get_by_role("button", name="Resume", exact=True).click()
        later = "|".join(map(str, range(done[0] + 1, LONG)))
        for page in (one, other):
            told(page, rf"running.*(?<!\d)({later}) of {LONG} epochs")
            drawn = epochs_drawn(page, "full")
            assert drawn == list(range(1, len(drawn) + 1)) and len(drawn) > done[0]
        one.get_by_role("button", name="Stop", exact=True).click()
        told(other, "stopped: press Resume")


def test_the_results_tab_opens_on_the_study_that_comes_with_it(browser, address):
    with visiting(browser, address) as page:
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
