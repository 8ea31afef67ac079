"""The drawing of plans: who learns when, at which rate, as pictures and in words."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import gradio as gr
import pytest
from trainers import ALL, RESNET, FakeLab, values

from ftlab import strategies
from ftlab.records import Phase, Plan, Stage, plan_record
from ftlab.ui import drawing, finetune, question


@pytest.fixture
def lab():
    return FakeLab()


@pytest.fixture
def form(lab):
    with gr.Blocks():
        form = question.build(lab.strategies(), [b["name"] for b in lab.backbones()])
        question.build_more(form, lab.strategies())
    return form


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


def test_a_neck_is_slim_where_the_network_is():
    neck = Stage("neck", (18,))
    plan = plan_record(Plan((Phase(10, {"neck": 1e-3}),), slim_from=17))
    assert all(drawing._state(neck, unit, plan["phases"][0], plan)[1] for unit in neck.units)


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
