"""The charts of the Results tab: every number where it belongs, and no label on another."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import cache, partial

import findings
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
pytest.importorskip("gradio")

from ftlab.ui import charts, classes, costs, curves, ranking  # noqa: E402

PAIR = ["linear_probe", "full"]


def cell(rows: list[dict] | None = None, study: str = "moles", **board) -> charts.Cell:
    rows = findings.rows() if rows is None else rows
    return charts.Cell(study, "tiny", {"tuned": "not tuned", "rates": "not tuned", **board}, rows)


def drawings() -> dict[str, Callable[[], charts.Chart]]:
    """How to draw one of each chart, of thirteen strategies."""
    answer = findings.answer()
    rows = findings.evidence()["per_strategy"]
    label, of = findings.CLASSES[1], "200 test images, 3 seeds pooled"
    learning = partial(curves.learning, findings.diaries(answer["runs"]), answer["runs"], "moles")
    return {
        **{f"dots {view}": partial(ranking.dots, cell(), view) for view in ranking.VIEWS},
        **{f"cost {axis}": partial(costs.cost, cell(), axis) for axis in costs.COSTS},
        **{view: partial(learning, view) for view in curves.LEARNING},
        "heat": lambda: ranking.heat_map([cell(), cell(study="chest")], findings.STRATEGIES),
        "roc": lambda: curves.roc(rows, PAIR, label, of),
        "precision": lambda: curves.precision_recall(rows, PAIR, label, of),
        "reliability": lambda: curves.reliability(rows, PAIR, of),
        "confusion": lambda: classes.confusion(rows[0], findings.CLASSES, of),
        "classes": lambda: classes.per_class(rows, PAIR, findings.CLASSES, of),
    }


DRAWINGS = drawings()


@cache
def drawn(name: str) -> charts.Chart:
    return DRAWINGS[name]()


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_chart_says_what_it_shows_what_it_rests_on_and_how_to_read_it(name):
    figure, reading, facts = drawn(name)
    layout = figure.layout
    assert len(layout.title.text) > 8 and layout.title.subtitle.text
    assert reading.endswith(".") and facts
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert not layout.showlegend


@pytest.mark.parametrize("name", sorted(set(DRAWINGS) - {"heat", "confusion"}))
def test_axes_are_named_with_their_units(name):
    layout = drawn(name).figure.to_dict()["layout"]
    axes = [layout[key] for key in layout if key[:5] in ("xaxis", "yaxis")]
    said = [axis["title"].get("text") for axis in axes]
    said += [label["text"] for label in layout.get("annotations", ())]
    assert any(unit in (text or "") for text in said for unit in ("%", "points", *UNITS))


UNITS = ("seconds", "parameters", "bytes", "nats")


@pytest.mark.parametrize("name", DRAWINGS)
def test_strangers_names_never_become_markup(name):
    assert "<i>malignant" not in drawn(name).figure.to_json()
    assert "<i>malignant" not in charts.text_equivalent(drawn(name))


@pytest.mark.parametrize("ground", ["ffffff", "f8fafc", "0f172a", "020617"])
@pytest.mark.parametrize("colour", [charts.TEAL, charts.ORANGE, charts.GREY])
def test_colours_stand_out_on_light_and_on_dark(colour, ground):
    light, dark = sorted((_luminance(colour[1:]), _luminance(ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def _luminance(colour: str) -> float:
    """Relative luminance, WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# --- ranking -------------------------------------------------------------------------------------


def test_dots_stand_at_the_means_with_their_intervals_best_on_top():
    figure, _, facts = ranking.dots(cell(), "balanced accuracy")
    dots = figure.data[0]
    assert dots.y[-1] == "linear_probe" and dots.x[-1] == pytest.approx(90)
    assert list(dots.x) == sorted(dots.x)
    assert dots.error_x.array == pytest.approx([3] * 13)
    assert dots.error_x.arrayminus == pytest.approx([3] * 13)
    assert facts[0] == {
        "strategy": "linear_probe",
        "balanced accuracy": "90.0 % (87.0 to 93.0)",
        "paired": "above full",
        "seeds": 3,
    }
    assert figure.layout.shapes[0].x0 == pytest.approx(86)  # full


def test_differences_are_drawn_around_full():
    figure, _, facts = ranking.dots(cell(), "difference to full")
    assert "full" not in figure.data[0].y
    assert figure.layout.shapes[0].x0 == 0
    assert facts[0]["difference to full"] == "+4.0 (+2.0 to +6.0)"


@pytest.mark.parametrize(
    ("difference", "seeds", "said"),
    [
        (0.03, 3, "above full"),
        (-0.03, 3, "below full"),
        (0.01, 3, "undecided"),
        (0.03, 1, "undecided"),  # with one seed the seed noise is unknown
        (float("nan"), 3, None),
        (None, 3, None),
    ],
)
def test_a_mark_is_what_the_paired_interval_says(difference, seeds, said):
    assert ranking.mark(findings.row("l1_sp", 0.8, seeds, difference)) == said


def test_with_five_seeds_a_mark_is_what_the_corrected_p_says():
    row = findings.row("l1_sp", 0.8, 5, 0.03)
    assert ranking.mark(row) == "above full"
    row["to_full"]["p_holm"] = 0.12  # the interval alone excludes 0
    assert ranking.mark(row) == "undecided"
    row["to_full"] |= {"p": None, "p_holm": None, "seeds": 4}  # one seed is lost
    assert ranking.mark(row) == "undecided", "fewer seeds decide nothing that more do not"


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((1, 1), "A dot is that of one seed, its line the 95 % interval over test images alone;"),
        ((1, 3), "over seeds and test images, of one seed over test images alone;"),
        ((3, 3), "over seeds and test images;"),
    ],
)
def test_an_interval_is_said_to_be_over_seeds_only_where_there_are_several(seeds, said):
    rows = [findings.row("full", 0.8, seeds[0], None), findings.row("l1_sp", 0.7, seeds[1])]
    assert said in ranking.dots(cell(rows), "AUROC").reading
    assert ("one seed" in said) == ("one seed" in ranking.dots(cell(rows), "AUROC").reading)


def test_full_is_not_compared_with_itself():
    assert ranking.mark(findings.row("full", 0.8, difference=None)) == "full itself"


def test_what_has_no_value_has_no_dot():
    rows = findings.rows()
    rows[0]["auroc"] = {**rows[0]["auroc"], "mean": float("nan")}
    figure, _, facts = ranking.dots(cell(rows), "AUROC")
    assert len(figure.data[0].x) == len(facts) == 12


def test_a_title_says_that_rates_were_not_tuned_and_how_many_seeds_there_were():
    uneven = [findings.row("full", 0.8, 1, None), findings.row("l1_sp", 0.7, 3)]
    subtitle = ranking.dots(cell(uneven), "AUROC").figure.layout.title.subtitle.text
    assert subtitle == "moles, tiny · 200 test images, 1 to 3 seeds · learning rates not tuned"
    many = [findings.row("full", 0.8, 8, None), findings.row("l1_sp", 0.7, 7)]
    assert charts.basis(many) == "200 test images, 7 to 8 seeds"
    assert charts.basis(many[:1]) == "200 test images, 8 seeds"
    words = {"tuned": "tuned on the same grid", "rates": "tuned on the same grid; mind its end"}
    tuned = ranking.dots(cell(**words), "AUROC").figure
    assert tuned.layout.title.subtitle.text.endswith(" · learning rates tuned on the same grid")


def test_the_heat_map_marks_the_best_of_each_column_and_leaves_blanks():
    other = [findings.row("full", 0.7, difference=None), findings.row("l1_sp", 0.72)]
    figure, _, facts = ranking.heat_map([cell(), cell(other, "chest")], findings.STRATEGIES)
    heat = figure.data[0]
    lines = dict(zip([name.strip() for name in heat.y], heat.text, strict=True))
    starred = [[name for name, line in lines.items() if "★" in line[c]] for c in (0, 1)]
    assert starred == [["linear_probe"], ["l1_sp"]]
    assert lines["truncated"][1] == "" and heat.z[10][1] is None
    assert heat.z[0][1] == pytest.approx(2)  # full is two points behind l1_sp there
    assert facts[0] == {
        "strategy": "full",
        "moles, tiny": "86.0 % (83.0 to 89.0)",
        "chest, tiny": "70.0 % (67.0 to 73.0)",
    }


# --- cost ----------------------------------------------------------------------------------------


def test_only_what_nothing_beats_in_both_is_on_the_frontier():
    rows = [
        findings.row("full", 0.90, seconds=80.0, difference=None),
        findings.row("lp_ft", 0.90, seconds=60.0),
        findings.row("linear_probe", 0.80, seconds=10.0),
        findings.row("surgical", 0.79, seconds=30.0),
    ]
    _, reading, facts = costs.cost(cell(rows), "training time")
    best = [fact["strategy"] for fact in facts if fact["not beaten in both"]]
    assert best == ["linear_probe", "lp_ft"]
    assert "linear_probe (10 s), lp_ft (1 min 00 s)" in reading


def _boxes(figure) -> list[tuple]:
    """Where labels stand in pixels of the smallest drawing area, from what Plotly is told."""
    layout = figure.layout
    boxes = []
    for label in layout.annotations:
        x = costs._pixel(label.x, layout.xaxis.range, costs.AREA[0]) + label.ax
        y = costs._pixel(label.y, layout.yaxis.range, costs.AREA[1]) - label.ay
        left = x if label.xanchor == "left" else x - 6.6 * len(label.text)
        boxes.append((left, y - 7, left + 6.6 * len(label.text), y + 7))
    return boxes


@pytest.mark.parametrize("step", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("axis", costs.COSTS)
def test_thirteen_labels_never_meet(axis, step):
    """All at one cost, or nearly, and with means that differ little or not at all."""
    rows = [findings.row(n, 0.9 - step * i) for i, n in enumerate(findings.STRATEGIES)]
    boxes = _boxes(costs.cost(cell(rows), axis).figure)
    assert len(boxes) == 13
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if costs._meet(a, b)]


def test_an_axis_is_logarithmic_where_costs_differ_by_orders():
    rows = findings.rows()
    rows[0]["trained_parameters"] = 2000.0
    wide, even = (costs.cost(cell(r), "trained parameters").figure for r in (rows, findings.rows()))
    assert wide.layout.xaxis.type == "log" and "log scale" in wide.layout.xaxis.title.text
    assert even.layout.xaxis.type == "linear"
    low, high = wide.layout.xaxis.range
    assert low < math.log10(2000) and math.log10(2e6) < high


# --- curves --------------------------------------------------------------------------------------


def test_a_learning_curve_is_the_mean_over_the_seeds_that_got_so_far():
    runs = findings.answer(found=[findings.row("lp_ft", 0.8)])["runs"]
    diaries = findings.diaries(runs)
    diaries[runs[2]["run"]] = diaries[runs[2]["run"]][:2]  # still running
    figure, _, facts = curves.learning(diaries, runs, "moles", "validation balanced accuracy")
    mean = next(trace for trace in figure.data if trace.name == "lp_ft")
    assert list(mean.y) == pytest.approx([51, 61, 70.5, 80.5])
    assert [shape.x0 for shape in figure.layout.shapes] == [2.5]  # where phase 2 begins
    assert facts[0]["best epoch"] == 4 and facts[0]["at the best epoch"] == "80.5"


def test_the_best_loss_is_the_least():
    runs = findings.answer(found=[findings.row("full", 0.8)])["runs"]
    _, _, facts = curves.learning(findings.diaries(runs), runs, "moles", "training loss")
    assert facts[0]["best epoch"] == 4 and facts[0]["at the best epoch"] == "0.25"


def test_runs_without_epochs_have_no_panel():
    runs = findings.answer()["runs"]
    diaries = findings.diaries(runs[:6])
    figure = curves.learning(diaries, runs, "moles", "training loss").figure
    names = [trace.name for trace in figure.data if trace.name]
    assert names == ["linear_probe", "gradual_last_first"]


def test_two_strategies_are_in_colour_and_all_behind_in_grey():
    figure, _, facts = drawn("roc")
    grey, a, b = figure.data
    assert (a.line.color, b.line.color) == (charts.TEAL, charts.ORANGE)
    assert a.line.dash != b.line.dash
    assert list(grey.x).count(None) == 13
    assert list(a.x) == [0, 20, 100] and list(a.y) == [0, 70, 100]
    assert "AUROC 90.0 %" in figure.layout.annotations[0].text
    assert len(facts) == 13


def test_chance_of_precision_is_the_share_of_the_class():
    figure, reading, facts = drawn("precision")
    assert figure.layout.shapes[0].y0 == pytest.approx(50)
    assert "50.0 % of the test images" in reading
    assert facts[0] == {"strategy": "full", "average precision": "80.0 %"}


def test_a_strategy_beside_itself_is_drawn_once():
    rows = findings.evidence(["full"])["per_strategy"]
    assert len(curves.roc(rows, ["full"], findings.CLASSES[1], "").figure.data) == 2


def test_reliability_is_right_over_stated():
    _, a, _ = drawn("reliability").figure.data
    assert (list(a.x), list(a.y)) == ([60, 90], [50, 80])
    assert a.marker.size[0] < a.marker.size[1]  # of 100 and of 500 predictions


# --- classes -------------------------------------------------------------------------------------


def test_a_confusion_matrix_has_counts_and_shares_of_the_true_class():
    figure, _, facts = drawn("confusion")
    assert list(map(list, figure.data[0].z)) == [[90, 10], [25, 75]]
    assert list(figure.data[0].text[1]) == ["75<br>25 %", "225<br>75 %"]
    assert facts[1]["found"] == "75.0 %"


def test_a_class_without_images_has_no_dot():
    figure, _, facts = drawn("classes")
    assert [len(trace.x) for trace in figure.data] == [26, 2, 2, 13, 1, 1]
    assert facts[-1]["specificity"] == "–"
