"""WiSE-FT in the Compare tab, on a fake lab: what is asked of it, and what the page shows."""

from __future__ import annotations

import csv
import re

import pytest
from comparing import FakeLab, text

pytest.importorskip("gradio")

from ftlab.modes import ONE  # noqa: E402, with gradio
from ftlab.ui import blending, compare, comparison  # noqa: E402


@pytest.fixture
def lab(tmp_path):
    return FakeLab(tmp_path)


@pytest.fixture
def example(lab):
    return comparison.first(comparison.examples(lab, "reference"))


def test_runs_that_match_a_probe_can_be_chosen_and_what_was_blended_is_folded_away(
    lab, example, monkeypatch
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(lab.folder / "cache"))
    shown = compare._show(lab, ONE, example, "reference", "gradcam", "", "full-tiny-s0")
    run, button, said, result = shown[4:8]
    assert run.choices == [("full, tiny", "full-tiny-s0")] and run.value == "full-tiny-s0"
    assert button.visible and not said and not result.visible
    lab.blends = lambda study: []
    run, button, said, result = blending.choices(lab, "reference", None)
    assert not run.visible and not button.visible and "linear_probe" in said


def test_a_blend_shows_every_share_at_once_and_asks_for_maps_one_by_one(lab, example, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(lab.folder / "cache"))
    monkeypatch.setattr(blending, "_kept", blending.Kept())
    asked = [lab, example, "reference", "gradcam", "", "full-tiny-s0"]
    _, figure, words, file, slider, at_half = blending._blend(*asked)
    normal, nodule = figure.data
    assert list(nodule.y) == pytest.approx([20 + 7 * n for n in range(11)])
    assert (nodule.line.dash, normal.line.dash) == ("solid", "dash"), "at 1 and at 0"
    with open(file.value["path"], encoding="utf-8") as rows:
        said = [row["predicted"] for row in csv.DictReader(rows)]
    assert said == ["normal"] * 5 + ["nodule"] * 6
    shares = re.findall(r'data-alpha="(\d+)"( hidden)?>', slider)
    assert [int(n) for n, hidden in shares if not hidden] == [5] and len(shares) == 11
    assert "gradcam at α = 0.5 for nodule: strongest lower right" in text(at_half)
    blending._blend(*asked)
    blending._look(*asked[:4], "normal", "full-tiny-s0", 1.0)
    assert [each[2:] for each in lab.asked] == [
        (blending.ALPHAS, None, None),
        ((0.5,), "gradcam", None),
        ((1.0,), "gradcam", "normal"),
    ]
