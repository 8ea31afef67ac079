"""The Fine-tune tab on a fake lab: what is asked and shown of studies at work."""

from __future__ import annotations

import ast
import json
import re
import threading
from pathlib import Path

import gradio as gr
import httpx
import pytest
from browser import chromium, lacking, visiting
from trainers import ALL, FakeLab, values

from ftlab import search, strategies
from ftlab.modes import ONE
from ftlab.records import BadInput, Question, Search, Settings
from ftlab.ui import finetune, parts, progress, question, searching, watching


@pytest.fixture
def lab():
    return FakeLab()


@pytest.fixture
def form(lab):
    with gr.Blocks():
        form = question.build(lab.strategies(), [("resnet50", "resnet50")], [])
        question.build_more(form, lab.strategies())
        searching.build(form)
    return form


# --- the question ------------------------------------------------------------------------------


def test_an_untouched_form_asks_the_papers_question_with_every_default(form):
    asked = form.question(values(form))
    assert list(asked.strategies) == list(strategies.DAVILA)
    assert (asked.settings, list(asked.seeds), asked.knobs) == (Settings(), [0, 1, 2], {})
    assert (asked.weights, asked.name) == ("pretrained", "")


def test_every_setting_of_a_study_has_a_field(form):
    assert {*form.settings, "epochs"} == set(Settings.__dataclass_fields__)


def test_what_the_form_offers_is_what_training_knows():
    from ftlab import arithmetic, augment, device, train  # and with them torch

    assert question.CHOICES == {
        "augment": augment.PRESETS,
        "precision": (arithmetic.AUTO, *device.PRECISIONS),
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


def test_a_search_asks_for_a_unit_whatever_strategies_are_ticked(form):
    given = {"truncated__lr": "1e-3", "layer_wise__lr": "1e-2", "strategies": ["truncated"]}
    held = values(form, **given) | {form.search["strategy"]: "layer_wise"}
    asked = form.question(held, search=True)
    assert (asked.strategies, asked.search) == ([], Search("layer_wise"))
    assert asked.knobs == {"layer_wise": {"lr": 1e-2}}
    assert form.question(held).search is None


def test_the_search_offers_what_can_be_searched():
    found = {name: tuple(choices.values()) for name, (_, choices) in searching.FIELDS.items()}
    known = tuple(strategies.UNIT_KNOBS), search.HOW, search.METRICS
    assert found == dict(zip(("strategy", "how", "metric"), known, strict=True))


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
        ({"views": "abc"}, "Augmented views takes a number"),
        ({"patience": "2.5"}, "Patience, epochs takes a whole number"),
        ({"lr": "fast"}, "Learning rate takes a number such as 1e-4, not 'fast'"),
        ({"full__lr": "fast"}, "full's lr takes a number"),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(form, changes, message):
    with pytest.raises(BadInput, match=message):
        form.question(values(form, **changes))


def test_every_setting_of_the_page_reaches_the_question(form):
    given = {
        **{"size": 128, "batch": 16, "augment": "light", "precision": "float32", "flips": True},
        **{"optimizer": "sgd", "schedule": "constant", "select": "loss", "class_weights": True},
    }
    texts = {"lr": "0.01", "train_per_class": "50", "views": "4", "patience": "3"}
    asked = form.question(values(form, **given, **texts, weights="random"))
    numbers = {name: float(text) for name, text in texts.items()}
    assert {name: getattr(asked.settings, name) for name in (given | texts)} == given | numbers
    assert asked.weights == "random"
    assert {*given, *texts, "weights"} == set(question.ABOUT)


# --- time, data, weights -----------------------------------------------------------------------


@pytest.mark.parametrize("module", ["asking", "estimate", "evidence", "weights"])
def test_what_the_core_says_reads_well_where_there_is_no_command_line(module):
    source = Path(strategies.__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    said = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)]
    assert not [text for text in said if re.search(r"--\w|`ftlab [a-z]", str(text))]


CORE = ("context", "deleting", "files", "presence", "queue", "studies", "training", "tuning")


@pytest.mark.parametrize("module", [*CORE, "datasets/splits", "datasets/store", "datasets/images"])
def test_what_was_written_for_a_terminal_reads_well_on_the_page(module):
    source = Path(strategies.__file__).parent / f"{module}.py"
    said = map(parts.spoken, _sentences(source.read_text(encoding="utf-8")))
    assert not [text for text in said if re.search(r"--\w|`ftlab [a-z]", text)]


def _sentences(source: str) -> list[str]:
    """All texts of a module but its docstrings, what is filled in as an x."""
    tree = ast.parse(source)
    inside = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    docs = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    nodes = [node for node in ast.walk(tree) if id(node) not in inside | docs]
    whole = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    whole += [[node] for node in nodes if isinstance(node, ast.Constant)]
    filled = [[p.value if isinstance(p, ast.Constant) else "x" for p in text] for text in whole]
    return ["".join(map(str, text)) for text in filled]


def test_an_option_is_no_option_on_the_page():
    def refusing():
        raise BadInput("--batch is at least 2, not 1: see --train-per-class, or 2--3.")

    with pytest.raises(
        gr.Error, match="^'batch is at least 2, not 1: see train-per-class, or 2--3"
    ):
        parts.told(refusing)()


def test_the_time_is_told_before_the_start_or_why_there_is_none(lab, form):
    told = finetune._estimate(lab, form, values(form, strategies=["full"], epochs=5))
    assert "about 3 min 00 s" in told and "3 runs" in told and "measured on this" in told
    lab.estimate = lambda question: {"seconds": 1.0, "measured": False}
    guess = finetune._estimate(lab, form, values(form, strategies=["full"]))
    assert "judged by smaller batches on this machine" in guess
    with pytest.raises(BadInput, match="Choose a data set"):
        finetune._estimate(lab, form, values(form, data=None))


def test_backbones_say_what_they_need_and_the_ready_one_is_chosen(lab):
    with gr.Blocks():
        backbones = finetune._new_study(lab).form.backbones
    assert backbones.value == ["ftlab_mini"]
    assert dict(map(reversed, backbones.choices)) == {
        "resnet50": "resnet50 (needs a download of 98 MB)",
        "ftlab_mini": "ftlab_mini (ready)",
    }
    assert finetune._fetch_button(lab, ["resnet50", "ftlab_mini"]).visible
    after, button = finetune._fetch(lab, ["resnet50", "ftlab_mini"])
    assert lab.fetched == ["resnet50"] and not button.visible
    assert "resnet50 (ready)" in dict(after.choices)


def test_a_page_that_opens_fills_in_the_data_set_and_leaves_the_backbones_chosen(lab):
    data, backbones, about = finetune._choices(lab)
    assert data.value == "chest" and data.interactive and is_skip(about)
    assert "value" not in backbones.constructor_args and len(backbones.choices) == 2
    lab.datasets = list
    data, _, about = finetune._choices(lab)
    assert data.value is None and data.interactive and "Data tab" in about


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


def test_a_study_is_deleted_once_asked_and_never_another_thing_of_its_name(lab):
    name = started(lab, 12, "finished")
    assert watching._look(lab, name, {})[6].visible
    assert not watching._look(lab, started(lab, 1, "running", "two"), {})[6].visible
    deleted, asked_of = [], []
    lab.deletable = lambda *of: asked_of.append(of)
    lab.delete = lambda *of: deleted.append(of)
    asked, confirm, doomed = watching._ask(lab, name)
    assert "Delete <strong>one</strong> with all its runs for good?" in asked and confirm.visible
    with gr.Blocks():
        watching._delete(lab, doomed, {})
    assert deleted == asked_of == [("one", "study")]


def test_answers_that_overtake_each_other_leave_no_page_behind(lab):
    """What an older one left at the server neither refuses a choice nor says what is shown."""
    name = started(lab, 4, "stopped")
    with gr.Blocks(analytics_enabled=False) as demo:
        studies = watching.build()  # whose list, as the server has it, lacks that study
        watching.wire(lab, studies)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, _frontend=False)
    (tick,) = [id for id, fn in demo.fns.items() if "tick" in [event for _, event in fn.targets]]
    try:
        for seen in ({}, {"list": "older"}, "junk", None):
            asked = {"data": [name, seen], "fn_index": tick, "session_hash": "s"}
            answer = httpx.post(f"{address}gradio_api/run/predict", json=asked)
            assert answer.status_code == 200 and "4 of 12 epochs" in answer.json()["data"][1]
        asked["data"][1] = answer.json()["data"][-1]  # as the page has it, and not the session
        asked["session_hash"] = "another"
        again = httpx.post(f"{address}gradio_api/run/predict", json=asked).json()["data"]
        assert "epochs" not in str(again)
        asked["data"][0] = ["no name"]
        assert httpx.post(f"{address}gradio_api/run/predict", json=asked).status_code == 200
    finally:
        demo.close()


def test_what_is_deleted_is_what_was_asked_about_wherever_the_list_has_moved(lab):
    with gr.Blocks() as demo:
        studies = watching.build()
        watching.wire(lab, studies)
    of = {target: fn for fn in demo.fns.values() for target in fn.targets}
    ask, sure = of[studies.delete._id, "click"], of[studies.sure._id, "click"]
    assert studies.doomed in ask.outputs and sure.inputs[0] is studies.doomed
    assert studies.study not in sure.inputs


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


def test_runs_that_failed_can_be_tried_again_also_beside_others_that_finished(lab):
    watched = lab.watch(started(lab, 12, "finished"))
    assert not progress.resumable(watched)
    watched["runs"][0]["state"] = "failed"
    assert progress.resumable(watched)
    assert not progress.resumable({**watched, "state": "queued"})
    lab.watch = lambda name: watched
    assert watching._look(lab, "one", {})[3].visible


@pytest.mark.parametrize("state", ["stopped", "interrupted", "failed"])
def test_what_cannot_be_resumed_offers_no_resume(lab, state):
    name, watch = started(lab, 4, state), lab.watch
    assert ("press Resume" in progress.head(watch(name))) == (state != "failed")
    lab.watch = lambda name: {**watch(name), "resumable": False}
    shown = watching._look(lab, name, {})
    assert not shown[3].visible and "press Resume" not in shown[1] and state in shown[1]


def test_why_a_run_failed_is_told_in_words_and_escaped(lab):
    html = watching._look(lab, started(lab, 4, "failed"), {})[1]
    assert "The loss became &lt;NaN&gt;." in html


def test_why_a_run_failed_names_no_command(lab):
    watched = lab.watch(started(lab, 4, "failed"))
    watched["runs"][0]["reason"] = "No rate trains full; see `ftlab status`."
    watched["reason"] = "It has changed: start a new study with another --name."
    html = progress.head(watched)
    assert "No rate trains full.</li>" in html and "under another “Name”.</li>" in html


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


def test_no_change_of_a_field_asks_the_server_for_two_things(lab):
    with gr.Blocks() as demo:
        finetune.tab(lab, ONE).load(demo)
    asked = [
        target
        for event in demo.get_config_file()["dependencies"]
        if event["backend_fn"]
        for target in map(tuple, event["targets"])
        if target[1] == "change"
    ]
    assert len(asked) > 30 and len(asked) == len(set(asked))


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
        form = question.build(lab.strategies(), [("resnet50", "resnet50")], [])
        question.build_more(form, lab.strategies())
    assert ("mine: Something new", "mine") in form.strategies.choices
    assert form.knobs["mine", "strength"].info == "how strong."
    html = finetune._draw(lab, form, values(form, strategies=["mine"], mine__strength="3"))
    assert "at 3e-4" in html and "x = y" in html and "Me 2030" in html


@pytest.mark.skipif(bool(lacking()), reason=lacking() or "")
def test_what_is_chosen_before_the_form_is_filled_stays_and_is_what_is_drawn(lab):
    """The form's load event, and the drawing that belongs to it, answer when they are let."""
    filled, drawn, plan, datasets = threading.Event(), threading.Event(), lab.plan, lab.datasets
    lab.datasets = lambda: (filled.wait(30), datasets())[1]
    lab.plan = lambda *args, **knobs: (drawn.wait(30), plan(*args, **knobs))[1]
    with gr.Blocks(analytics_enabled=False) as demo:
        finetune.tab(lab, ONE).load(demo)
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, _frontend=False)
    try:
        with chromium() as browser, visiting(browser, address) as page:
            page.get_by_label("Backbone").click()
            page.get_by_role("option", name="resnet50").click()
            page.get_by_role("button", name="None", exact=True).click()
            page.get_by_role("checkbox", name=re.compile("^lp_ft")).check()
            drawn.set()
            page.locator(".ft-plan", has_text="lp_ft").wait_for()
            page.get_by_text("Drawn for ftlab_mini").wait_for()
            assert page.get_by_label("Data set").is_disabled()
            filled.set()
            page.get_by_text("440 images").wait_for()
            assert page.get_by_label("Data set").input_value() == "chest"
            chosen = page.locator(".token").all_inner_texts()
            assert [name.split()[0] for name in chosen] == ["ftlab_mini", "resnet50"]
            assert page.locator(".ft-plan figcaption").all_inner_texts() == ["lp_ft"]
    finally:
        demo.close()


def test_records_are_json_all_the_way(lab):
    assert json.loads(json.dumps(lab.strategies())) == lab.strategies()
