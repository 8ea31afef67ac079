"""The Fine-tune tab on a fake lab: what is asked, drawn and shown of studies at work."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import gradio as gr
import pytest

from ftlab import strategies
from ftlab.asking import Question
from ftlab.records import BadInput, Layout, Settings, Stage, plan_record
from ftlab.ui import drawing, finetune, progress, question, watching
from ftlab.ui.mode import ONE
from ftlab.ui.progress import METRIC

RESNET = Layout(
    (
        Stage("stem", (1,)),
        Stage("layer1", (2, 3, 4)),
        Stage("layer2", (5, 6, 7, 8)),
        Stage("layer3", (9, 10, 11, 12, 13, 14)),
        Stage("layer4", (15, 16, 17)),
        Stage("head"),
    )
)
ALL = list(strategies.STRATEGIES)


class FakeLab:
    """A lab of one data set, whose studies train when they are told to."""

    def __init__(self):
        self.asked: dict[str, Question] = {}
        self.states: dict[str, str] = {}
        self.done: dict[str, int] = {}
        self.owners: list[str] = []
        self.fetched: list[str] = []

    def strategies(self):
        return [strategies.describe(name) for name in ALL]

    def backbones(self):
        return [{"name": "resnet50"}, {"name": "ftlab_mini"}]

    def weights_state(self, backbone):
        ready = backbone == "ftlab_mini" or backbone in self.fetched
        return {"ready": ready, "download_bytes": None if ready else 98_000_000}

    def fetch(self, backbone):
        self.fetched.append(backbone)

    def layout(self, backbone):
        return RESNET

    def plan(self, strategy, backbone, epochs, **knobs):
        plan = strategies.write_plan(strategy, RESNET, epochs, **knobs)
        return {"strategy": strategy, "backbone": backbone, **plan_record(plan)}

    def datasets(self):
        return [self.check("chest")]

    def check(self, name):
        return {
            "name": name,
            "images": 440,
            "classes": {"normal": 220, "<b>nodule": 220},
            "groups": 101,
            "splits": {"train": 264, "val": 88, "test": 88},
            "skipped": [],
            "warnings": ["2 duplicates"],
        }

    def estimate(self, question):
        runs = len(question.backbones) * len(question.strategies) * len(question.seeds)
        return {"seconds": 12.0 * runs * question.settings.epochs, "measured": True}

    def enqueue(self, question, owner=""):
        name = question.name or "chest-abc123"
        self.asked[name], self.states[name], self.done[name] = question, "queued", 0
        self.owners.append(owner)
        return name

    def resume(self, study):
        self.states[study] = "queued"

    def stop(self, study):
        self.states[study] = "stopped"
        return True

    def studies(self):
        return [{"study": s, "data": "chest", "state": state} for s, state in self.states.items()]

    def watch(self, study):
        asked, rows = self.asked[study], []
        cells = [(s, seed) for seed in asked.seeds for s in asked.strategies]
        for number, (strategy, seed) in enumerate(cells):
            epochs = self._epochs(study, number)
            state = "finished" if epochs == asked.settings.epochs else "queued"
            if 0 < epochs < asked.settings.epochs:
                state = self.states[study]
            row = dict(run=f"{strategy}-{seed}", strategy=strategy, backbone="resnet50", seed=seed)
            each = asked.settings.epochs
            row |= {"epochs_done": epochs, "epochs": each, "reason": None}
            rows.append({**row, "state": state})
        if self.states[study] == "failed":
            rows[0] |= {"state": "failed", "reason": "The loss became <NaN>."}
        total = len(cells) * asked.settings.epochs
        done = min(self.done[study], total)
        left = 3.0 * (total - done) if done else None
        known = {"study": study, "state": self.states[study], "runs": rows}
        known |= {"reason": None, "ahead": 2 if self.states[study] == "queued" else None}
        return {**known, "epochs_done": done, "epochs": total, "seconds_left": left}

    def diaries(self, study):
        return {
            row["run"]: [
                {"epoch": e, "phase": 0, "val": {METRIC: 0.5 + 0.03 * e + 0.01 * row["seed"]}}
                for e in range(self._epochs(study, number))
            ]
            for number, row in enumerate(self.watch_rows(study))
        }

    def watch_rows(self, study):
        asked = self.asked[study]
        cells = [(s, seed) for seed in asked.seeds for s in asked.strategies]
        return [{"run": f"{strategy}-{seed}", "seed": seed} for strategy, seed in cells]

    def _epochs(self, study, number):
        each = self.asked[study].settings.epochs
        return max(0, min(each, self.done[study] - number * each))


@pytest.fixture
def lab():
    return FakeLab()


@pytest.fixture
def form(lab):
    with gr.Blocks():
        form = question.build(lab.strategies(), [b["name"] for b in lab.backbones()])
        question.build_more(form, lab.strategies())
    return form


def values(form, **changes):
    """What an untouched form holds, by component, with changes by the form's names."""
    held = {component: component.value for component in form.fields()}
    held[form.data], held[form.backbones] = "chest", ["resnet50"]
    for name, value in changes.items():
        own = getattr(form, name, None) or form.settings.get(name)
        held[own if own is not None else form.knobs[tuple(name.split("__"))]] = value
    return held


# --- the question ------------------------------------------------------------------------------


def test_an_untouched_form_asks_the_papers_question_with_every_default(form):
    asked = form.question(values(form))
    assert list(asked.strategies) == list(strategies.DAVILA)
    assert (asked.settings, list(asked.seeds), asked.knobs) == (Settings(), [0, 1, 2], {})
    assert (asked.weights, asked.name) == ("pretrained", "")


def test_every_setting_of_a_study_has_a_field(form):
    assert {*form.settings, "epochs"} == set(Settings.__dataclass_fields__)


def test_what_the_form_offers_is_what_training_knows():
    from ftlab import augment, device, train  # and with them torch

    assert question.CHOICES == {
        "augment": augment.PRESETS,
        "precision": device.PRECISIONS,
        "optimizer": tuple(train.OPTIMIZERS),
        "schedule": ("cosine", "constant"),
        "select": tuple(train.SELECT),
    }
    assert set(train.SCHEDULES) == {"cosine", "constant"}


def test_every_knob_of_every_strategy_has_a_field_and_given_ones_are_asked(form):
    assert set(form.knobs) == {(s, k) for s in ALL for k in strategies.knobs(s)}
    changes = {"l2_sp__alpha": "0.5", "lp_ft__eval_batchnorm": True, "truncated__cut": "12"}
    changes |= {"surgical__stage": "layer3", "auto_rgn__mode": "faithful", "full__lr": "1e-4"}
    asked = form.question(values(form, strategies=ALL, **changes))
    assert asked.knobs == {
        "lp_ft": {"eval_batchnorm": True},
        "l2_sp": {"alpha": 0.5},
        "auto_rgn": {"mode": "faithful"},
        "surgical": {"stage": "layer3"},
        "truncated": {"cut": 12},
    }
    assert type(asked.knobs["truncated"]["cut"]) is int
    few = form.question(values(form, strategies=["full"], **changes))
    assert few.knobs == {}


def test_what_may_be_empty_is_none_or_its_number(form):
    assert form.question(values(form)).settings.patience is None
    asked = form.question(values(form, patience="3", train_per_class="100")).settings
    assert (asked.patience, asked.train_per_class) == (3, 100)


@pytest.mark.parametrize("text, lr", [("", None), ("auto", "auto"), ("3e-4", 3e-4), ("1", 1.0)])
def test_a_rate_is_a_number_auto_or_each_strategys_default(form, text, lr):
    assert form.question(values(form, lr=text)).settings.lr == lr


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": None}, "Choose a data set"),
        ({"backbones": []}, "Choose a backbone"),
        ({"strategies": []}, "at least one strategy"),
        ({"epochs": None}, "Epochs takes a whole number"),
        ({"seeds": 2.5}, "Seeds takes a whole number"),
        ({"size": None}, "Image size, pixels takes a whole number"),
        ({"patience": "long"}, "Patience, epochs takes a number such as 1e-4, not 'long'"),
        ({"patience": "2.5"}, "Patience, epochs takes a whole number"),
        ({"lr": "fast"}, "Learning rate takes a number such as 1e-4, not 'fast'"),
        ({"full__lr": "fast"}, "full's lr takes a number"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(form, changes, message):
    with pytest.raises(BadInput, match=message):
        form.question(values(form, **changes))


# --- the drawing -------------------------------------------------------------------------------


def pictures(html: str) -> dict[str, ElementTree.Element]:
    """strategy -> its picture, from the gallery's HTML."""
    found = {}
    for svg in re.findall(r'<svg viewBox="0 0 204.*?</svg>', html, re.S):
        picture = ElementTree.fromstring(svg)
        found[picture.get("aria-label").split(":")[0]] = picture
    return found


def drawn(lab, names, **knobs):
    about = {record["name"]: record for record in lab.strategies()}
    plans = [lab.plan(name, "resnet50", 10, **knobs) for name in names]
    return drawing.gallery(plans, RESNET, about)


def rects(picture, kind):
    rows = picture.findall("rect")
    if kind == "learns":
        return [r for r in rows if r.get("style")]
    return [r for r in rows if r.get("class") == kind]


def test_a_picture_shows_who_learns_when_at_which_rate(lab):
    found = pictures(drawn(lab, ALL))
    assert set(found) == set(ALL)
    assert (len(rects(found["full"], "learns")), len(rects(found["full"], "ft-frozen"))) == (6, 0)
    probe = found["linear_probe"]
    assert (len(rects(probe, "learns")), len(rects(probe, "ft-frozen"))) == (1, 5)
    gradual = found["gradual_last_first"]
    assert len(rects(gradual, "learns")) == 6 + 5 + 4 + 3 + 2
    assert len(rects(gradual, "ft-frozen")) == 4 + 3 + 2 + 1
    lp_ft = rects(found["lp_ft"], "learns")
    assert len({r.get("style") for r in lp_ft}) == 2  # a tenth of the probe's rate after it
    texts = [text.text for text in found["lp_ft"].findall("text")]
    assert {"1e-3", "1e-4", "0", "5", "10"} <= set(texts)


def test_cut_slim_and_ruled_parts_are_drawn_as_what_they_are(lab):
    found = pictures(drawn(lab, ALL))
    cut = found["truncated"]
    assert [t.text for t in cut.findall("text") if t.get("class") == "ft-gone"] == ["layer4"]
    assert len(rects(cut, "learns")) == 5
    tall = {float(r.get("height")) for r in rects(found["transfusion"], "learns")}
    assert tall == {drawing.ROW, drawing.ROW / 2}
    assert len(rects(found["auto_rgn"], "ft-ruled")) == 5  # the head keeps the full rate
    assert (
        len(rects(pictures(drawn(lab, ["auto_rgn"], mode="faithful"))["auto_rgn"], "ft-ruled")) == 6
    )


def test_a_stage_that_learns_in_part_is_drawn_in_part(lab):
    picture = pictures(drawn(lab, ["layer_wise"], freeze=6))["layer_wise"]
    halves = [r for r in picture.findall("rect") if float(r.get("height")) == drawing.ROW / 2]
    frozen, learns = sorted(halves, key=lambda r: -float(r.get("y")))
    assert frozen.get("class") == "ft-frozen" and learns.get("style")


def test_every_part_of_a_picture_lies_inside_it(lab):
    for picture in pictures(drawn(lab, ALL)).values():
        _, _, width, height = map(float, picture.get("viewBox").split())
        for rect in picture.findall("rect"):
            x, y, w, h = (float(rect.get(key)) for key in ("x", "y", "width", "height"))
            assert 0 <= x and x + w <= width and 0 <= y and y + h <= height


def test_plans_are_told_in_words(lab):
    words = {name: drawing.words(lab.plan(name, "resnet50", 10), RESNET) for name in ALL}
    assert words["full"] == "epochs 1 to 10: everything learns at 1e-4."
    assert words["lp_ft"] == (
        "epochs 1 to 5: head learns at 1e-3; epochs 6 to 10: everything learns at 1e-4."
    )
    assert "epochs 3 to 4: layer3 joins at 1e-4" in words["gradual_last_first"]
    assert "L2 pull to the start (α 0.1, β 0.01)" in words["l2_sp"]
    assert "up to 1e-3" in words["auto_rgn"]
    assert "everything learns" in words["truncated"] and "cut after unit 14" in words["truncated"]


def test_a_strategy_is_said_in_a_sentence_without_equation_and_citation():
    said = [drawing.sentence(strategies.describe(name)["summary"]) for name in ALL]
    assert said[0] == "Every weight learns"
    assert said[2] == "Unfreeze from the last trunk stage down to the first"
    assert not [text for text in said if re.search(r"\d{4}|et al|`", text)]


def test_equations_are_set_in_the_letters_they_stand_for():
    written = strategies.describe("l2_sp")["equation"]
    assert drawing.equation(written) == "L + α/2 |w - w₀|² + β/2 |v|²"


@pytest.mark.parametrize(
    "lr, text", [(1e-4, "1e-4"), (3e-5, "3e-5"), (0.01, "0.01"), (0.00025, "2.5e-4"), (1.0, "1")]
)
def test_rates_read_as_people_write_them(lr, text):
    assert drawing.rate(lr) == text


def test_what_cannot_be_drawn_is_said_beside_what_can(lab, form):
    html = finetune._draw(lab, form, values(form, epochs=1))
    assert "lp_ft needs at least 2 epochs" in html
    assert set(pictures(html)) == set(strategies.DAVILA) - {"lp_ft"}
    assert "Choose a backbone" in finetune._draw(lab, form, values(form, backbones=[]))
    assert "Tick one" in finetune._draw(lab, form, values(form, strategies=[]))


def test_the_drawing_follows_knobs_and_rate(lab, form):
    html = finetune._draw(lab, form, values(form, strategies=["truncated"], truncated__cut="8"))
    assert "cut after unit 8" in html
    assert "at 3e-4" in finetune._draw(lab, form, values(form, strategies=["full"], lr="3e-4"))
    assert "auto searches" in finetune._draw(lab, form, values(form, lr="auto"))


# --- time, data, weights -----------------------------------------------------------------------


def test_the_time_is_told_before_the_start_or_why_there_is_none(lab, form):
    told = finetune._estimate(lab, form, values(form, strategies=["full"], epochs=5))
    assert "about 3 min 00 s" in told and "3 runs" in told and "measured" in told
    with pytest.raises(BadInput, match="Choose a data set"):
        finetune._estimate(lab, form, values(form, data=None))


def test_backbones_say_what_they_need_and_the_ready_one_is_chosen(lab):
    data, backbones = finetune._choices(lab)
    assert data.value == "chest" and backbones.value == ["ftlab_mini"]
    assert dict(map(reversed, backbones.choices)) == {
        "resnet50": "resnet50 (needs a download of 98 MB)",
        "ftlab_mini": "ftlab_mini (ready)",
    }
    assert finetune._fetch_button(lab, ["resnet50", "ftlab_mini"]).visible
    after, button = finetune._fetch(lab, ["resnet50", "ftlab_mini"])
    assert lab.fetched == ["resnet50"] and not button.visible
    assert "resnet50 (ready)" in dict(after.choices)


def test_a_data_set_is_told_in_a_line_and_its_names_are_escaped(lab):
    line = finetune._about_data(lab, "chest")
    assert "440 images" in line and "264 train, 88 val, 88 test" in line and "1 warning" in line
    assert "&lt;b&gt;nodule" in line and "<b>nodule" not in line
    assert "Data tab" in finetune._about_data(lab, None)


# --- studies at work ---------------------------------------------------------------------------


def started(lab, epochs_done=0, state="running", name="one", seeds=2, epochs=3):
    chosen = ["full", "lp_ft"]
    lab.enqueue(
        Question("chest", ["resnet50"], chosen, range(seeds), Settings(epochs=epochs), name=name)
    )
    lab.states[name], lab.done[name] = state, epochs_done
    return name


def is_skip(update) -> bool:
    return update == gr.skip()


def test_a_page_shows_the_whole_state_once_and_then_only_what_changed(lab):
    name = started(lab, 4)
    first = watching._look(lab, name, {})
    assert "4 of 12 epochs" in first[1] and "about 24 s left" in first[1]
    assert (first[2].visible, first[3].visible, first[4].visible) == (True, False, True)
    again = watching._look(lab, name, first[-1])
    assert all(map(is_skip, again))
    lab.done[name] = 5
    moved = watching._look(lab, name, first[-1])
    assert is_skip(moved[0]) and "5 of 12 epochs" in moved[1]
    lab.done[name] = 4
    assert watching._look(lab, name, {})[-1] == first[-1]  # whatever a page saw before


@pytest.mark.parametrize(
    "state, stop, resume",
    [
        ("running", True, False),
        ("queued", True, False),
        ("stopped", False, True),
        ("interrupted", False, True),
        ("failed", False, True),
        ("finished", False, False),
    ],
)
def test_stop_and_resume_are_offered_where_they_mean_something(lab, state, stop, resume):
    shown = watching._look(lab, started(lab, 4, state), {})
    assert (shown[2].visible, shown[3].visible) == (stop, resume)


def test_why_a_run_failed_is_told_in_words_and_escaped(lab):
    html = watching._look(lab, started(lab, 4, "failed"), {})[1]
    assert "The loss became &lt;NaN&gt;." in html


def test_a_new_page_opens_on_the_study_at_work(lab):
    assert is_skip(watching.arrive(lab))
    assert "No study yet" in watching._look(lab, None, {})[1]
    started(lab, 12, "finished", "old")
    assert is_skip(watching.arrive(lab))
    assert watching._look(lab, None, {})[0].value == "old"
    started(lab, 2, "running", "late")
    assert watching.arrive(lab).selected == "studies"
    shown = watching._look(lab, None, {})
    assert shown[0].value == "late" and "2 of 12 epochs" in shown[1]


def test_what_a_person_chose_meanwhile_is_not_chosen_back(lab):
    started(lab, 2, "running", "late")
    seen = watching._look(lab, started(lab, 12, "finished", "old"), {})[-1]
    lab.states["late"] = "finished"
    update = watching._look(lab, "old", seen)[0]
    assert "value" not in update.constructor_args


def test_a_study_that_was_deleted_elsewhere_gives_way_to_another_or_to_an_empty_page(lab):
    other, name = started(lab, 12, "finished", "other"), started(lab, 4)
    seen = watching._look(lab, name, {})[-1]
    del lab.states[name]
    assert watching._look(lab, name, seen)[0].value == other
    del lab.states[other]
    shown = watching._look(lab, name, seen)
    assert shown[0].value is None and "No study yet" in shown[1] and not shown[4].visible


def test_curves_have_a_panel_a_strategy_that_has_begun(lab):
    name = started(lab, 12)
    chart = progress.learning(lab.watch(name), lab.diaries(name))
    means = {trace.name: trace for trace in chart.figure.data if trace.name}
    assert set(means) == {"full", "lp_ft"}
    assert means["full"].y == pytest.approx([50.5, 53.5, 56.5])
    assert chart.figure.layout.uirevision == name
    lab.done[name] = 2
    alone = progress.learning(lab.watch(name), lab.diaries(name))
    assert [fact["strategy"] for fact in alone.facts] == ["full"]
    lab.done[name] = 0
    assert progress.learning(lab.watch(name), lab.diaries(name)) is None


def test_several_backbones_have_panels_and_rows_of_their_own(lab):
    name = started(lab, 12)
    watched = lab.watch(name)
    for row in watched["runs"][:1]:
        row["backbone"] = "vgg19"
    facts = progress.learning(watched, lab.diaries(name)).facts
    assert {fact["strategy"] for fact in facts} == {
        *("full, vgg19", "full, resnet50", "lp_ft, resnet50"),
    }
    assert "full, vgg19" in progress.table(watched, lab.diaries(name))


def test_a_study_that_waits_says_how_many_come_first(lab):
    assert "2 studies first" in progress.head(lab.watch(started(lab, 0, "queued")))


def test_the_table_has_a_row_a_strategy_and_a_column_a_seed(lab):
    name = started(lab, 4)
    html = progress.table(lab.watch(name), lab.diaries(name))
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    assert len(rows) == 3 and "seed 0" in rows[0] and "seed 1" in rows[0]
    assert "56.0 %" in rows[1] and "queued" in rows[1]
    assert "50.0 %, running, 1 of 3 epochs" in rows[2]


# --- the tab as a whole ------------------------------------------------------------------------


def test_the_tab_builds_offers_no_endpoint_and_its_polling_waits_in_no_queue(lab):
    with gr.Blocks() as demo:
        finetune.tab(lab, ONE).load(demo)
    config = demo.get_config_file()
    assert all(event["api_visibility"] == "private" for event in config["dependencies"])
    ticks = [e for e in config["dependencies"] if any(t[1] == "tick" for t in e["targets"])]
    assert len(ticks) == 1 and ticks[0]["queue"] is False
    assert ticks[0]["show_progress"] == "hidden"


def test_a_strategy_that_is_new_appears_with_its_knobs(lab, monkeypatch):
    def mine(layout, epochs, lr: float = 1e-4, strength: float = 2.0):
        """Something new:  x = y.

        lr: how fast. strength: not a line of its own.
        strength: how strong.
        """
        return strategies.full(layout, epochs, lr * strength)

    mine.__annotations__ |= {"lr": "float", "strength": "float"}
    monkeypatch.setitem(strategies.SOURCES, mine, "Me 2030")
    monkeypatch.setitem(strategies.STRATEGIES, "mine", mine)
    lab.strategies = lambda: [strategies.describe(name) for name in strategies.STRATEGIES]
    with gr.Blocks():
        form = question.build(lab.strategies(), ["resnet50"])
        question.build_more(form, lab.strategies())
    assert ("mine: Something new", "mine") in form.strategies.choices
    assert form.knobs["mine", "strength"].info == "how strong."
    html = finetune._draw(lab, form, values(form, strategies=["mine"], mine__strength="3"))
    assert "at 3e-4" in html and "x = y" in html and "Me 2030" in html


def test_records_are_json_all_the_way(lab):
    assert json.loads(json.dumps(lab.strategies())) == lab.strategies()
