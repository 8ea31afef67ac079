"""The Inspect tab without a browser: its charts against numbers by hand, its wiring, its words."""

from __future__ import annotations

import csv
import math
import os
from types import SimpleNamespace

import findings
import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
gr = pytest.importorskip("gradio")

from ftlab.modes import ONE, PUBLIC  # noqa: E402
from ftlab.records import BadInput, Layout, Stage  # noqa: E402
from ftlab.ui import changes, cuts, happened, insights, inspect, rules  # noqa: E402

LAYOUT = Layout((Stage("stem", (1,)), Stage("layer1", (2, 3)), Stage("head")))
ARMS = ("full", "linear_probe", "auto_rgn")
GONE = "auto_rgn-tiny-s1"  # its weights are elsewhere


def phase(epochs: int, lrs: dict, rule: str | None = None) -> dict:
    rates = rule and {"name": rule, "batches": 5}
    about = {"penalty": None, "rates": rates, "weight_decay": 0.0, "eval_batchnorm": False}
    return {"epochs": epochs, "lrs": lrs, **about}


def course(strategy: str, seed: int = 0) -> dict:
    """Two phases of two epochs, of which the last never came; layer1 is frozen in the first."""
    rule = "auto_rgn" if strategy == "auto_rgn" else None
    phases = [phase(2, {"head": 0.1}), phase(2, {"stem": 0.1, "layer1": 0.1, "head": 0.1}, rule)]
    plan = {"strategy": strategy, "backbone": "tiny", "cut_after": None, "slim_from": None}
    means = {"layer1": {"mean": 0.5, "low": 0.2, "high": 1.0}}
    rates = [
        {"epoch": 0, "phase": 0, "lrs": {"stem": 0.0, "layer1": 0.0, "head": 0.1}},
        {"epoch": 1, "phase": 0, "lrs": {"stem": 0.0, "layer1": 0.0, "head": 0.05}},
        {"epoch": 2, "phase": 1, "lrs": {"stem": 0.1, "layer1": 0.05, "head": 0.1}},
    ]
    rates = [r | {"best": r["epoch"] == 1, "multipliers": None} for r in rates]
    rates[2]["multipliers"] = means if rule else None
    run = f"{strategy}-tiny-s{seed}"
    who = {"run": run, "strategy": strategy, "backbone": "tiny", "seed": seed}
    return {**who, "best_epoch": 1, "plan": {**plan, "phases": phases}, "rates": rates}


def moved(strategy: str, *kernels: float | None) -> dict:
    rows = [
        {"stage": s, "new": s == "head", "kernels": k, "norm": None, "statistics": 0.1}
        for s, k in zip(LAYOUT.names, kernels, strict=False)
    ]
    return {"strategy": strategy, "backbone": "tiny", "rounded": False, "change": rows}


def seen(strategy: str, area: float, **more) -> dict:
    svcca = {"area": area, "unpaired": area / 2}
    rows = [{"stage": s, "svcca": svcca, "cka": area**2} for s in ("stem", "layer1")]
    return {"strategy": strategy, "backbone": "tiny", "rows": rows, **more}


def flip(before: str, after: str, corrected: list[int], broken: list[int]) -> dict:
    per_class = [
        {"class": "benign", "images": 50, "corrected": 1.0, "broken": 0.0},
        {"class": "malignant", "images": 50, "corrected": 2.0, "broken": 3.0},
    ]
    pair = {"backbone": "tiny", "before": before, "after": after, "images": 100}
    found = {"corrected": corrected, "broken": broken, "changed": [0] * len(broken)}
    return {**pair, "seeds": list(range(len(broken))), **found, "per_class": per_class}


def point(unit: int, mean: float, **more) -> dict:
    estimate = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}
    return {
        **{"unit": unit, "stage": "layer1", "label": f"unit {unit}", "step": "coarse"},
        **{"val": estimate, "test": {"balanced_accuracy": estimate}, "stored_bytes": 1000},
        **{"parameters": 100 * unit, "macs": 1000 * unit, "latency": {"1": 2.0 * unit, "32": 9.0}},
        **{"pareto": unit < 3, "trained": True, **more},
    }


def search(**more) -> dict:
    """Four cuts, of which one was not trained; the coarse step took 4, the fine one 2."""
    points = [point(1, 0.7), point(2, 0.9), point(4, 0.85)]
    points.insert(2, point(3, 0.8, trained=False, val=None, test=None, latency=None))
    return {
        **{"study": "cut", "strategy": "truncated", "backbone": "tiny", "done": True},
        **{"metric": "balanced_accuracy", "how": "coarse, then fine", "seeds": [0, 1]},
        **{"points": points, "coarse": 4, "chosen": 2, "chosen_runs": [], "trained": 3, "of": 4},
        **{
            "share_of_cost": 0.62,
            "pareto_by": "parameters",
            "ranking": [{"unit": 2, "score": 0.5}],
            **more,
        },
    }


class FakeLab:
    """Three strategies, two seeds; the data elsewhere, and the weights of one run too."""

    def __init__(self, folder):
        self.folder, self.asked, self.done = folder, [], False

    def studies(self):
        return [{"study": n, "data": "moles"} for n in ("another", "reference")]

    def datasets(self):
        return [{"name": "drawn"}, {"name": "moles"}]

    def runs(self):
        rows = [
            {"study": "reference", **{k: course(s, n)[k] for k in ("run", "strategy", "backbone")}}
            | {"seed": n, "state": "finished", "seconds": 9.0}
            for n in (1, 0)
            for s in ARMS
        ]
        return [*rows, {**rows[0], "study": "another", "state": "running"}]

    def study_folder(self, name):
        return self.folder / name

    def layout(self, backbone):
        return LAYOUT

    def cuts(self, name):
        raise BadInput(f"The study {name} is no search.")

    def courses(self, name, runs):
        self.asked.append(("courses", runs))
        return [course(run.split("-")[0]) for run in runs]

    def drift(self, name, runs):
        self.asked.append(("drift", runs))
        rows = [moved(run.split("-")[0], 0.0, 0.5, 1.0) for run in runs]
        rows = [
            row | ({"change": None} if run == GONE else {})
            for row, run in zip(rows, runs, strict=True)
        ]
        return {"runs": rows, "without_weights": [run for run in runs if run == GONE]}

    def similarity(self, name, runs, *, data, images, known=False, progress=None):
        self.asked.append(("similarity", runs, data, images, known))
        if not known and data is None:
            raise BadInput("The data set moles of the study reference is not on this machine.")
        self.done |= not known
        if progress:
            progress(5, 10)
        found = [seen(r.split("-")[0], 0.5, run=r) for r in runs if self.done and r != GONE]
        about = {"data": data or "moles", "images": 12, "split": "test"}
        return {**about, "runs": found, "without_weights": [r for r in runs if r == GONE]}

    def flips(self, name):
        return [flip("full", "linear_probe", [4, 6], [10, 20])]


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(insights, "_kept", insights.Kept())
    return FakeLab(tmp_path)


def event(lab, function, *rest, strategies=ARMS, seed=0, outputs=3):
    drawn = insights.drawn(function, outputs)
    return drawn(lab, "reference", "tiny", seed, list(strategies), *rest)


# --- charts against numbers by hand --------------------------------------------------------------


def test_drift_is_in_per_cent_on_a_logarithmic_scale_and_what_is_frozen_is_grey():
    runs = [moved("full", 0.01, 0.1, 1.0), moved("linear_probe", 0.0, 0.0, None)]
    figure, reading, facts = changes.drift(runs, "kernels", "moles")
    coloured, grey = figure.data
    assert list(coloured.z[0]) == pytest.approx([0, 0.5, 1])
    assert list(coloured.z[1]) == [None] * 3 and list(grey.z[1]) == [0, 0, None]
    assert facts[0] == {"strategy": "full", "stem": "1", "layer1": "10", "head": "100"}
    assert facts[1] == {"strategy": "linear_probe", "stem": "0", "layer1": "0", "head": "–"}
    assert "half precision" not in reading
    halved = [runs[0] | {"rounded": True}]
    assert "half precision" in changes.drift(halved, "kernels", "moles").reading


def test_a_network_that_was_cut_has_blanks_where_it_ends():
    figure = changes.drift([moved("full", 0.1, 0.2, 0.3), moved("truncated", 0.1)], "kernels", "x")
    assert list(figure.figure.data[0].z[1])[1:] == [None, None]


@pytest.mark.parametrize(("view", "said"), [("SVCCA", "0.60"), ("CKA", "0.36")])
def test_similarity_shows_what_was_measured_and_on_which_images(view, said):
    answer = {"runs": [seen("full", 0.6)], "images": 200, "data": "moles", "split": "test"}
    figure, _, facts = changes.similarity(answer, view, "a study")
    assert figure.data[0].text[0][0] == said
    assert "200 images of moles, test" in figure.layout.title.subtitle.text
    assert float(facts[0]["stem"]) == pytest.approx(float(said))


def test_a_rule_s_multipliers_have_a_panel_a_stage_with_their_range():
    figure, _, facts = rules.multipliers([course("full"), course("auto_rgn")], "moles")
    low, high, mean = figure.data
    assert [(list(t.x), list(t.y)) for t in (low, high, mean)] == [
        ([3], [0.2]),
        ([3], [1.0]),
        ([3], [0.5]),
    ]
    assert facts[-1] == {"strategy": "auto_rgn", "epoch": 3, "layer1": "0.5 (0.2 to 1)"}
    assert rules.multipliers([course("full")], "moles") is None


def test_flips_are_shares_of_the_images_wrong_by_the_line_and_right_by_the_column():
    pairs = [flip("full", "linear_probe", [4, 6], [10, 20])]
    figure, _, facts = changes.flips(pairs, ["full", "linear_probe"], "moles")
    assert [list(line) for line in figure.data[0].text] == [["", "5"], ["15", ""]]
    assert list(figure.data[0].z[1]) == [1, None]
    assert figure.data[0].z[0][1] == pytest.approx(1 / 3)
    assert (facts[0]["corrected"], facts[0]["broken"]) == ("5.0", "15.0")
    assert facts[0]["most in class"] == "malignant"
    assert changes.flips(pairs, ["full"], "moles") is None


def test_what_happened_is_drawn_as_a_plan_of_phases_that_last_an_epoch():
    went = happened.as_plan(course("auto_rgn"))
    assert [p["epochs"] for p in went["phases"]] == [1, 1, 1]
    assert went["phases"][0]["lrs"] == {"head": 0.1}, "what has no rate is frozen"
    assert went["phases"][2]["lrs"] == {"stem": 0.1, "layer1": 0.05, "head": 0.1}
    said = happened.said(course("auto_rgn"))
    assert said.startswith("Best on validation: epoch 2 of 3; 4 were planned")
    assert "a new phase from epoch 3" in said
    html = happened.gallery([course("full")], LAYOUT)
    assert html.count('class="ft-drawn"') == 2 and html.count("ft-frozen") >= 2 * 2
    facts = happened.facts([course("full")])
    assert facts[0]["layer1"] == "frozen" and facts[1]["best"] == "yes"
    average = {**course("full"), "rates": [], "best_epoch": 0}
    assert "average of other runs" in happened.said(average)


def test_a_cut_curve_has_means_with_intervals_costs_in_per_cent_and_marks():
    figure, reading, facts = cuts.curve(search())
    _, dots, tests, parameters, macs, latency = figure.data
    assert list(dots.x) == [1, 2, 4] and list(dots.y) == pytest.approx([70, 90, 85])
    assert list(dots.error_y.array) == pytest.approx([2, 2, 2])
    assert list(dots.marker.symbol) == ["circle", "circle", "circle-open"]
    assert list(tests.y) == pytest.approx([70, 90, 85])
    assert list(parameters.y) == [25, 50, 75, 100] and list(macs.y) == [25, 50, 75, 100]
    assert list(latency.x) == [1, 2, 4] and list(latency.y) == [25, 50, 100]
    assert {shape.x0 for shape in figure.layout.shapes} == {2, 4}
    assert [fact["marked"] for fact in facts] == ["", "chosen", "", "coarse"]
    assert facts[1]["ranking score"] == "0.5" and facts[2]["validation"] == "–"
    assert "62 % of trying every unit" in reading


def test_how_much_to_freeze_is_asked_in_its_own_words_and_costs_what_learns():
    points = [point(u, 0.5, trained_parameters=400 - 100 * u) for u in (1, 2, 3)]
    record = search(strategy="layer_wise", pareto_by="trained_parameters", points=points)
    figure, _, facts = cuts.curve(record)
    assert figure.layout.title.text.startswith("How much to freeze")
    assert "frozen" in figure.layout.xaxis2.title.text
    assert list(figure.data[3].y) == pytest.approx([100, 200 / 3, 100 / 3])
    assert [fact["learned parameters"] for fact in facts] == ["300", "200", "100"]


def test_a_search_at_work_says_so_and_has_no_cut_yet():
    record = search(done=False, chosen=None, coarse=None, share_of_cost=None, ranking=None)
    for each in record["points"]:
        each |= {"val": None, "test": None, "latency": None, "trained": False, "macs": None}
    figure, _, facts = cuts.curve(record)
    assert "not done: 3 of 4 trained" in figure.layout.title.subtitle.text
    assert not figure.layout.shapes and not figure.data[1].x and len(facts) == 4


def test_a_single_seed_has_no_interval():
    one = {"mean": 0.7, "low": math.nan, "high": math.nan}
    record = search(points=[point(1, 0.7, val=one)])
    assert list(cuts.curve(record).figure.data[1].error_y.array) == [0]


# --- what is picked and what is shown ------------------------------------------------------------


def test_the_reference_study_is_picked_with_its_lowest_seed_and_all_strategies(lab):
    assert insights.find(lab, None) == gr.update(choices=["reference"], value="reference")
    said, body, *own, searched, seen = insights.pick(lab, "reference")
    backbone, seed, strategies, data = own
    assert said == "" and body["visible"] and not backbone["visible"]
    assert (seed["value"], seed["choices"]) == (0, [0, 1])
    assert strategies["value"] == list(ARMS)
    assert data["choices"] == [("moles, as trained on", ""), ("drawn", "drawn"), ("moles", "moles")]
    assert not searched["visible"], "it is no search"
    assert seen[0] == "reference" and len(seen[1]) == 2 * len(ARMS)


def test_what_is_chosen_of_a_study_stays_and_of_another_begins_anew(lab):
    chosen = "tiny", 1, list(ARMS)[:2], "drawn"
    seen = insights.pick(lab, "reference")[-1]
    same = insights.pick(lab, "reference", seen, *chosen)[2:6]
    assert [update["value"] for update in same[1:]] == [1, list(ARMS)[:2], "drawn"]
    other = insights.pick(lab, "reference", ("another", ()), *chosen)[2:6]
    assert [update["value"] for update in other[1:]] == [0, list(ARMS), ""]
    gone = insights.pick(lab, "reference", seen, "tiny", 7, list(ARMS), "gone")[2:6]
    assert [update["value"] for update in gone[1:]] == [0, list(ARMS), ""]


def test_the_page_is_drawn_anew_only_where_a_run_has_ended_since(lab):
    seen = insights.pick(lab, "reference")[-1]
    chosen = "tiny", 0, ["full"], ""
    assert insights.pick(lab, "reference", seen, *chosen)[-1] == seen
    rows = lab.runs()
    lab.runs = lambda: [*rows, {**rows[0], "run": "l2_sp-tiny-s0", "strategy": "l2_sp"}]
    *_, strategies, _, _, later = insights.pick(lab, "reference", seen, *chosen)
    assert later != seen
    assert strategies["value"] == ["full", "l2_sp"], "what nobody could tick before is ticked"
    assert insights.pick(lab, None, later, *chosen)[-1] is None
    with gr.Blocks() as demo, gr.Tabs():
        with gr.Tab("Inspect") as page:
            inspect.tab(lab, ONE).refresh(page.select)
    shown = findings.after(demo, page)
    assert shown and not any(isinstance(each, gr.Plot) for each in shown)


def test_without_a_study_the_page_says_what_to_do(lab):
    said, body, *_ = insights.pick(lab, None)
    assert "Fine-tune" in said and not body["visible"]
    assert (
        insights.drawn(insights.drift, 3)(lab, None, None, None, [], "kernels") == [gr.skip()] * 3
    )
    said = event(lab, insights.drift, "kernels", strategies=[])[1]
    assert "tick a strategy" in said


def test_of_a_study_that_was_deleted_since_the_page_says_so(lab):
    def gone(name):
        raise BadInput(f"There is no study {name!r}; there is none <yet>.")

    said, body, *_ = insights.pick(lab, "another")
    assert "No run of the study another has finished yet" in said and not body["visible"]
    lab.study_folder = gone
    said, body, *_, seen = insights.pick(lab, "deleted")
    assert "There is no study" in said and "&lt;yet&gt;" in said
    assert not body["visible"] and seen is None, "what was drawn is of another"


def test_a_search_shows_where_to_cut(lab):
    lab.cuts = lambda name: search()
    assert insights.pick(lab, "reference")[-2]["visible"]
    assert "Where to cut" in event(lab, insights.cut_curve)[0]["value"].layout.title.text


def test_every_chart_has_its_words_and_its_numbers_as_a_file(lab):
    lab.done = True
    for function, rest in (
        (insights.drift, ["kernels"]),
        (insights.alike, ["", "CKA", ONE]),
        (insights.multipliers, []),
        (insights.flips, []),
    ):
        figure, text, file = event(lab, function, *rest)
        assert figure["visible"] and "<table" in text and file["visible"]
        with open(file["value"], encoding="utf-8") as rows:
            assert len(list(csv.DictReader(rows))) >= 1
    html, file = event(lab, insights.plans, outputs=2)
    assert html.count("ft-course") >= 3 and file["value"].endswith("rates-reference.csv")


def test_the_lab_is_asked_once_for_one_choice(lab):
    for view in changes.DRIFTS:
        event(lab, insights.drift, view)
    event(lab, insights.plans, outputs=2)
    event(lab, insights.multipliers)
    assert [asked[0] for asked in lab.asked] == ["drift", "courses"]
    event(lab, insights.drift, "kernels", strategies=["full"])
    assert lab.asked[-1] == ("drift", ("full-tiny-s0",))


def test_runs_without_weights_are_named_and_left_out(lab):
    figure, text, _ = event(lab, insights.drift, "kernels", seed=1)
    assert f"left out: {GONE}." in text
    assert len(figure["value"].data[0].z) == 2
    alone = event(lab, insights.drift, "kernels", seed=1, strategies=["auto_rgn"])
    assert not alone[0]["visible"] and "weights" in alone[1]


def test_similarity_waits_for_its_button_and_says_where_the_images_are_missing(lab):
    figure, text, _ = event(lab, insights.alike, "", "SVCCA", ONE)
    assert not figure["visible"] and "0 of 3 runs are known" in text
    with pytest.raises(BadInput, match="not on this machine. Choose another data set beside"):
        event(lab, insights.look, "", "SVCCA", ONE, lambda done, of: None)
    told = []
    look = event(lab, insights.look, "drawn", "SVCCA", PUBLIC, lambda *at: told.append(at))
    assert look[0]["visible"] and told == [(5, 10)]
    assert lab.asked[-1] == ("similarity", tuple(f"{a}-tiny-s0" for a in ARMS), "drawn", 100, False)
    assert event(lab, insights.alike, "drawn", "CKA", ONE)[0]["visible"], "it is known by now"
    assert lab.asked[-1][3:] == (insights.IMAGES, True)


def test_where_the_images_are_not_here_the_page_says_what_to_do_before_a_press(lab):
    lab.datasets = lambda: []
    figure, text, _ = event(lab, insights.alike, "", "SVCCA", ONE)
    assert not figure["visible"] and "images of moles are not on this machine" in text


def test_the_tab_builds_wires_itself_and_opens_no_endpoint(lab):
    with gr.Blocks() as demo, gr.Tabs():
        with gr.Tab("Inspect") as page:
            built = inspect.tab(lab, ONE)
        built.refresh(page.select)
    assert isinstance(built, SimpleNamespace) and len(demo.fns) > 20
    assert {each.api_visibility for each in demo.fns.values()} == {"private"}
    asked = [tuple(target) for each in demo.fns.values() for target in each.targets if target[0]]
    assert len(asked) == len(set(asked)), "no choice asks the server for two things"
    bounded = [e for e in demo.fns.values() if e.concurrency_id == "similarity"]
    assert [each.concurrency_limit for each in bounded] == [1]
