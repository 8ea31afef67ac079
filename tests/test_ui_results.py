"""The Results tab without a browser: picking, the verdict, tables, and whom Compare opens."""

from __future__ import annotations

import csv
import os

import findings
import numpy as np
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
gr = pytest.importorskip("gradio")

from ftlab import console  # noqa: E402
from ftlab.modes import ONE  # noqa: E402
from ftlab.records import BadInput  # noqa: E402
from ftlab.ui import answers, board, parts, ranking, results  # noqa: E402


class FakeLab:
    """Two finished studies and one that nobody has begun; images of the first data set only."""

    def __init__(self):
        self.answers = {
            "idle": findings.answer("idle", found=[], state="queued"),
            "moles": findings.answer("moles"),
            "chest": findings.answer("chest", found=findings.rows()[:5]),
        }

    def studies(self):
        return [{"study": name, "state": a["state"]} for name, a in self.answers.items()]

    def status(self, name):
        return self.answers[name]

    def evidence(self, name):
        rows = self.answers[name]["leaderboard"]["rows"]
        found = findings.evidence([row["strategy"] for row in rows])
        of_all = [image | {"votes": {}} for image in found["disagreements"]]
        found["disagreements_of"] = {"tiny": found["disagreements"], "wide": of_all}
        return found | {"disagreements": of_all}

    def diaries(self, name):
        return findings.diaries(self.answers[name]["runs"])

    def test_image(self, name, index):
        if name != "moles":
            raise BadInput("The data set is not on this machine.")
        return {"pixels": np.full((8, 8, 3), index, np.uint8), "truth": "benign"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


# --- what is picked ------------------------------------------------------------------------------


def test_the_first_finished_study_is_picked_and_a_choice_is_kept():
    lab = FakeLab()
    first = answers.find_studies(lab, [])
    assert first["value"] == ["moles"]
    assert first["choices"][0] == ("idle (queued)", "idle")
    assert answers.find_studies(lab, ["chest", "deleted"])["value"] == ["chest"]


def test_the_verdict_comes_first_and_names_the_cell_where_there_are_several():
    lab = FakeLab()
    says, body, got, cell = answers.pick(lab, ["moles"])
    assert says == ('<p class="ft-verdict">Undecided; learning rates were not tuned.</p>')
    assert body["visible"] and not cell["visible"] and cell["value"] == "moles, tiny"
    says, _, got, cell = answers.pick(lab, ["moles", "chest"])
    assert says.count("ft-verdict") == 2 and "<strong>chest, tiny:</strong>" in says
    assert cell["visible"] and [a["study"] for a in got] == ["moles", "chest"]


def test_what_was_chosen_stays_when_one_comes_back():
    lab = FakeLab()
    assert answers.pick(lab, ["moles", "chest"], "chest, tiny")[3]["value"] == "chest, tiny"
    assert answers.pick(lab, ["moles"], "chest, tiny")[3]["value"] == "moles, tiny"
    a, b, label = _event(answers.choices, "l1_sp", "gone", "gone", outputs=3)
    assert (a["value"], b["value"], label["value"]) == ("l1_sp", "full", findings.CLASSES[1])


def test_the_page_is_drawn_anew_only_where_a_run_has_ended_since():
    lab = FakeLab()
    before = answers.ended(answers.pick(lab, ["moles"])[2])
    lab.answers["moles"] |= {"epochs_done": 7, "seconds_left": 3.0}
    assert answers.ended(answers.pick(lab, ["moles"])[2]) == before != []
    lab.answers["moles"]["runs"][0] |= {"seconds": 41.0}
    assert answers.ended(answers.pick(lab, ["moles"])[2]) != before
    with gr.Blocks() as demo, gr.Tabs():
        with gr.Tab("Results") as page:
            results.tab(lab, ONE).refresh(page.select)
    shown = findings.after(demo, page)
    assert shown and not any(isinstance(each, (gr.Plot, gr.Gallery)) for each in shown)


@pytest.mark.parametrize(("studies", "said"), [([], "No results"), (["idle"], "No run has")])
def test_where_there_is_nothing_the_page_says_what_to_do(studies, said):
    says, body, got, cell = answers.pick(FakeLab(), studies)
    assert said in says and "Fine-tune" in says
    assert not body["visible"] and cell["value"] is None
    assert all(update["__type__"] == "update" for update in answers.tables(got))


def test_failed_missing_and_noted_runs_are_told():
    lab = FakeLab()
    lab.answers["moles"]["runs"][0] |= {"state": "failed", "reason": "Out of <memory>."}
    lab.answers["moles"]["runs"][1] |= {"note": "memory ran <out>"}
    lab.answers["moles"] |= {"state": "failed", "reason": "The data set <moles> is gone."}
    says = answers.pick(lab, ["moles"])[0]
    assert "moles failed: The data set &lt;moles&gt; is gone." in says
    noted = lab.answers["moles"]["runs"][1]["run"]
    assert f"{noted}: memory ran &lt;out&gt;." in says
    assert "38 of 39 runs have finished" in says
    assert "linear_probe-tiny-s0 failed: Out of &lt;memory&gt;." in says


# --- the leaderboard -----------------------------------------------------------------------------


def test_the_table_sorts_by_numbers_and_shows_intervals_and_marks():
    table = board.table(board.rows(board.cells([findings.answer()])))
    heads = table["headers"]
    assert heads[:3] == ["strategy", "balanced accuracy, %", "to full, points"]
    assert not {"study", "backbone", "p (Holm)"} & set(heads)
    shown = dict(zip(heads, table["metadata"]["display_value"][0], strict=True))
    assert table["data"][0][1] == pytest.approx(90)
    assert shown["balanced accuracy, %"] == "90.0 (87.0 to 93.0)"
    assert shown["to full, points"] == "+4.0 (+2.0 to +6.0)"
    assert shown["paired"] == "▲ above full"
    full = dict(zip(heads, table["metadata"]["display_value"][4], strict=True))
    assert (full["to full, points"], full["paired"]) == ("–", "◆ full itself")


def test_p_values_stand_where_there_are_five_seeds_and_are_excused_where_not():
    few, enough = (board.cells([findings.answer(seeds=n)]) for n in (3, 5))
    assert board.FEW_SEEDS in board.caption(few)
    assert board.CORRECTED in board.caption(enough)
    (shorter,) = board.cells([findings.answer("burns", seeds=3)])
    for row in shorter.rows:  # five seeds of which none differs from full in any image
        if row["to_full"]:
            row["to_full"] |= {"seeds": 5, "p": None, "p_holm": None}
    assert board.FEW_SEEDS not in board.caption([shorter]) and "Holm" not in board.caption(
        [shorter]
    )
    (shorter,) = board.cells([findings.answer("burns", seeds=3)])
    both = board.caption([shorter, *enough])
    assert board.CORRECTED in both and f"in burns, tiny there are {board.FEW_SEEDS}" in both
    table = board.table(board.rows(enough))
    assert table["metadata"]["display_value"][0][table["headers"].index("p (Holm)")] == "0.01"


@pytest.mark.parametrize(("seeds", "few"), [(3, True), (5, False)])
def test_a_terminal_says_the_same_of_rows_without_a_p(capsys, seeds, few):
    unseen = dict.fromkeys(("energy", "pointing", "road"))
    answer = findings.answer(found=[findings.row("l1_sp", 0.8, seeds, **unseen)])
    answer["leaderboard"]["rows"][0]["to_full"] |= {"p": None, "p_holm": None, "corrected": False}
    console.leaderboard(answer)
    said = capsys.readouterr().out
    assert (console.FEW_SEEDS in said) == few and "one seed, an ensemble: over images alone" in said


def test_the_caption_says_what_the_numbers_rest_on():
    caption = board.caption(board.cells([findings.answer()]))
    assert "200 test images, 3 seeds, computed in float32, learning rates not tuned);" in caption
    assert board.ONE_SEED not in caption
    assert board.ONE_SEED in board.caption(board.cells([findings.answer(seeds=1)]))


def test_without_full_nothing_is_said_of_it():
    alone = findings.answer(found=[findings.row("l1_sp", 0.8, difference=None)])
    table = board.table(board.rows(board.cells([alone])))
    assert not {"to full, points", "paired"} & set(table["headers"])
    assert board.FEW_SEEDS not in board.caption(board.cells([alone]))


def test_an_ensemble_and_the_scores_of_maps_stand_where_there_are_any():
    bare = board.table(board.rows(board.cells([findings.answer()])))
    assert not [head for head in bare["headers"] if "lesion" in head or "ROAD" in head]
    answer = findings.answer(found=[findings.row("full", 0.8, energy=findings.estimate(0.1, 3))])
    found = answer["leaderboard"]
    paired = {"difference": 0.05, "low": 0.01, "high": 0.09, "p": None, "p_holm": None}
    paired |= {"seeds": 3, "images": 200}
    found["ensembles"] = [
        {
            **{"backbone": "tiny", "runs": 39, "seconds": 90.0, "stored_bytes": 7.0},
            **{"balanced_accuracy": findings.estimate(0.85, 1), "to_full": paired},
            "auroc": findings.estimate(0.9, 1),
        }
    ]
    found["maps"] = {"method": "gradcam", "images": 120, "road_images": 0, "share": 0.04}
    (cell,) = board.cells([answer])
    table = board.table(board.rows([cell]))
    strategy, ensemble = (
        dict(zip(table["headers"], line, strict=True))
        for line in table["metadata"]["display_value"]
    )
    assert (strategy["in lesion, %"], ensemble["in lesion, %"]) == ("10.0", "–")
    assert ensemble["strategy"] == "ensemble of 39 runs" and ensemble["paired"] == "□ ensemble"
    assert (ensemble["seeds"], ensemble["rate"], ensemble["time"]) == ("–", "–", "1 min 30 s")
    assert "peak in lesion, %" not in table["headers"]
    caption = board.caption([cell])
    assert "no strategy" in caption and "4.0 % in it" in caption
    assert "its interval knows the test images alone" in caption
    figure, reading, facts = ranking.dots(cell, "balanced accuracy")
    assert list(figure.data[0].y) == ["full", "ensemble of 39 runs"]
    assert figure.data[0].marker.symbol[1] == "square-open"
    assert "39 runs, which took 1 min 30 s together" in reading and facts[0]["seeds"] == ""
    assert "its line knows the test images alone" in reading
    differences = ranking.dots(cell, "difference to full").reading
    assert "images alone" not in differences, "paired with each seed of full, it knows those, too"


def test_several_cells_have_a_heat_map_and_columns_that_tell_them_apart():
    lab = FakeLab()
    one = answers.tables([lab.status("moles")])
    assert one[3]["visible"] is False and one[4] is None
    two = answers.tables([lab.status("moles"), lab.status("chest")])
    assert two[3]["visible"] is True and "study" in two[0]["headers"]
    assert len(two[4].data[0].x) == 2


def test_the_file_holds_every_row_in_numbers_with_units():
    path = answers.tables([findings.answer("moles"), findings.answer("chest")])[2]
    assert path.endswith("leaderboard-moles-chest.csv")
    with open(path, encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 26
    assert float(lines[0]["balanced accuracy, low"]) == pytest.approx(87)
    assert lines[0]["learning rates"] == "not tuned"
    assert float(lines[0]["stored bytes"]) == 9_000_000


# --- the charts of one cell ----------------------------------------------------------------------


def _event(function, *rest, study: str = "moles", outputs: int = 2):
    lab = FakeLab()
    return answers.drawn(function, outputs)(lab, [lab.status(study)], f"{study}, tiny", *rest)


def test_a_is_the_best_on_validation_and_b_is_full():
    a, b, label = _event(answers.choices)
    assert (a["value"], b["value"]) == ("linear_probe", "full")
    assert label["value"] == findings.CLASSES[1] and len(a["choices"]) == 13


def test_where_full_is_best_it_is_held_against_the_next():
    found = [findings.row(n, m) for n, m in (("full", 0.9), ("lp_ft", 0.7), ("l1_sp", 0.8))]
    assert board.pair(findings.answer(found=found), "tiny", ["full", "lp_ft", "l1_sp"]) == [
        "full",
        "l1_sp",
    ]


@pytest.mark.parametrize(
    ("function", "rest", "charts"),
    [
        (answers.dots, ["AUROC"], 1),
        (answers.learning, ["training loss"], 1),
        (answers.cost, ["stored size"], 1),
        (answers.classes, ["full", "lp_ft"], 3),
        (answers.thresholds, ["full", "lp_ft", findings.CLASSES[1]], 3),
        (answers.two, ["full", "lp_ft", findings.CLASSES[1]], 6),
    ],
)
def test_every_chart_has_its_words(function, rest, charts):
    shown = _event(function, *rest, outputs=2 * charts)
    assert len(shown) == 2 * charts
    assert all("<table" in text and "ft-chart-text" in text for text in shown[1::2])


def test_without_a_cell_nothing_is_redrawn():
    lab = FakeLab()
    assert len(answers.drawn(answers.dots, 2)(lab, [], None, "AUROC")) == 2


# --- disagreements -------------------------------------------------------------------------------


def test_images_of_most_disagreement_are_shown_with_their_votes():
    images, gallery, votes, note, button, picked = _event(answers.disagreements, outputs=6)
    assert [image["index"] for image in images] == [30, 31, 32, 33, 34]  # not the one without
    assert gallery["value"][0][1] == "8 of 13 right"
    assert "&lt;i&gt;malignant&lt;/i&gt;</strong> 5: linear_probe, lp_ft, l2_sp" in votes
    assert button["visible"] and not button["interactive"] and picked is None


def test_a_chosen_image_can_be_opened_in_compare():
    lab = FakeLab()
    event = gr.SelectData(None, {"index": 1, "value": None})
    images = findings.evidence()["disagreements"]
    votes, note, button, picked = answers.choose(
        [lab.status("moles")], "moles, tiny", images, event
    )
    assert picked == ("moles", 31) and button["interactive"]
    assert votes.count("ft-chosen") == 1 and "Test image 31: benign, 8 of 13 right" in note


def test_an_image_that_is_gone_is_left_out_alone(monkeypatch):
    there = FakeLab.test_image

    def test_image(self, name, index):
        if index == 31:
            raise BadInput("31.png: not an image.")
        return there(self, name, index)

    monkeypatch.setattr(FakeLab, "test_image", test_image)
    images, gallery, votes, note, *_ = _event(answers.disagreements, outputs=6)
    assert [image["index"] for image in images] == [30, 32, 33, 34] and len(gallery["value"]) == 4
    assert ">31<" not in votes and answers.LEFT_OUT.format(1, 5) in note


def test_without_the_images_the_votes_are_still_there():
    shown = _event(answers.disagreements, study="chest", outputs=6)
    images, gallery, votes, note, button, _ = shown
    assert images == [] and gallery["visible"] is False and button["visible"] is False
    assert answers.ELSEWHERE in note and "<table" in votes


# --- the tab itself ------------------------------------------------------------------------------


def test_the_tab_builds_wires_itself_and_opens_no_endpoint():
    with gr.Blocks() as demo, gr.Tabs():
        with gr.Tab("Results") as page:
            tab = results.tab(FakeLab(), ONE)
        tab.refresh(page.select)
        assert isinstance(tab.open, gr.Button) and isinstance(tab.picked, gr.State)
    assert len(demo.fns) > 10
    assert {each.api_visibility for each in demo.fns.values()} == {"private"}
    assert {each.trigger_mode for each in demo.fns.values()} == {"always_last"}
    asked = [tuple(target) for each in demo.fns.values() for target in each.targets if target[0]]
    assert len(asked) == len(set(asked)), "no choice asks the server for two things"


def test_a_refusal_of_the_lab_is_one_sentence():
    class Refusing(FakeLab):
        def status(self, name):
            raise BadInput("There is no study <b>.")

    with pytest.raises(gr.Error, match="There is no study &lt;b&gt;"):
        parts.told(answers.pick)(Refusing(), ["moles"])
