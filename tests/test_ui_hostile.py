"""Names that strangers choose, in every view: classes, data sets, studies, files and captions.

A view says the same of a hostile name as of a harmless one: its tags and attributes are the same,
and the name stands in its text as it was typed.
"""

from __future__ import annotations

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import findings
import pytest
from comparing import CLASSES, FakeLab
from PIL import Image
from test_ui_data import REPORT
from test_ui_inspect import LAYOUT, course, flip, moved, search, seen

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
gr = pytest.importorskip("gradio")

from ftlab import console  # noqa: E402, with gradio
from ftlab.ui import (  # noqa: E402
    blending,
    board,
    cards,
    changes,
    charts,
    checkup,
    classes,
    comparison,
    costs,
    curves,
    cuts,
    finetune,
    happened,
    insights,
    parts,
    progress,
    ranking,
    rules,
)

HARMLESS = "lesion"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></textarea><b>",
    "&lt;i&gt; &#60;b&#62; <!-- ]]>",
    '<a href="javascript:alert(1)">x</a>',
    "[x](javascript:alert(1))",
    "$\\frac{1}{2}$ \\(x\\)",
    "\u202eexe.gnp\u2066",
    "\x1b[31mred\x1b]8;;http://x\x07",
    "=cmd|' /C calc'!A0",
    "\t=1+1",
    "{{7*7}} ${7*7} %{x}",
)
FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1")


def renamed(value, names: dict[str, str]):
    """A record with other names in it, wherever they stand."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, dict):
        return {renamed(k, names): renamed(v, names) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(renamed(v, names) for v in value)
    return value


class NamedLab:
    """The fake lab of the Compare tab, whose classes and data are called otherwise."""

    def __init__(self, lab: FakeLab, name: str):
        self.lab, self.names = lab, dict(zip(CLASSES, (name, f"{name}2"), strict=True))
        self.names |= {"chest": f"{name}3", "the first of 2 frames was used": f"{name}4"}

    def __getattr__(self, verb):
        def answer(*args, **options):
            if verb == "consensus":
                args = renamed(args, {v: k for k, v in self.names.items()})
            return renamed(getattr(self.lab, verb)(*args, **options), self.names)

        return answer

    def check(self, name):
        return renamed(REPORT, {"normal": name}) | {"name": name}


def pages(name: str, folder: Path) -> dict[str, str]:
    """HTML of every view that shows a name, by the view."""
    names = dict(zip(findings.CLASSES, (name, f"{name}2"), strict=True)) | {"moles": name}
    answer = renamed(findings.answer(), names)
    answer["leaderboard"]["verdicts"] = {"tiny": f"{name} is best."}
    failed = {**answer["runs"][0], "state": "failed", "reason": name}
    votes = renamed(findings.evidence()["disagreements"], names)
    cell = board.cells([answer])
    report = renamed(REPORT, {"normal": name, "in no class folder": name}) | {"name": name}
    report |= {"skipped": [{"file": name, "reason": name}], "notes": {name: 2}, "warnings": [name]}
    watched = {"study": name, "epochs_done": 1, "epochs": 2, "state": "failed", "reason": name}
    watched |= {"seconds_left": None, "ahead": 0, "runs": [{**failed, "run": name}]}
    batch = {"file": name, "class": name, "agree": 1, "of": 2, "mean_probability": 0.5}
    return {
        **compared(name, folder),
        "batch": cards.batch_table([batch], [(name, name)]),
        "report": checkup.report(report),
        "samples": checkup.samples([{"uri": "data:,", "label": name, "split": "test"}]),
        "verdicts": board.verdicts([*cell, *cell]),
        "state": board.state([{**answer, "runs": [failed, *answer["runs"]]}]),
        "caption": board.caption(cell),
        "votes": board.votes(votes),
        "progress": progress.head(watched),
        "about data": finetune._about_data(NamedLab(None, name), name),
        "empty": parts.empty(name, name),
        "error": str(parts.refusal(name).message),
        "courses": happened.gallery([course(name)], LAYOUT),
        "blend": blending.slider(blended(name)),
        "without weights": insights._absent({"without_weights": [name]}),
        "said alone": insights.said_alone(name, 3)[1],
    }


def blended(name: str) -> dict:
    """An answer of `lab.blend` whose classes and strategy are called so."""
    points = [{"alpha": a, "probs": [a, 1 - a], "target": name} for a in blending.ALPHAS]
    who = {"strategy": name, "backbone": name, "seed": 0}
    return {"classes": [name, f"{name}2"], **who, "statistics": 0, "points": points}


def compared(name: str, folder: Path) -> dict[str, str]:
    folder.mkdir()
    file = folder / "x.png"
    Image.new("RGB", (20, 20)).save(file)
    lab = NamedLab(FakeLab(folder), name)
    view = comparison.compare(lab, comparison.Shown(str(file), name, name), "reference")
    return {
        "original": view.original,
        "sentence": view.sentence,
        "cards": view.cards,
        "heat table": view.table,
    }


def drawn(name: str) -> dict[str, charts.Chart]:
    """One of each chart that shows a name."""
    names = dict(zip(findings.CLASSES, (name, f"{name}2"), strict=True))
    rows = renamed(findings.evidence()["per_strategy"], names)
    both, pair = list(names.values()), ["linear_probe", "full"]
    cell = charts.Cell(name, "tiny", {"tuned": "not tuned", "rates": "not tuned"}, findings.rows())
    runs = findings.answer()["runs"]
    return {
        "dots": ranking.dots(cell, next(iter(ranking.VIEWS))),
        "cost": costs.cost(cell, next(iter(costs.COSTS))),
        "heat": ranking.heat_map([cell, charts.Cell("b", *cell[1:])], findings.STRATEGIES),
        "learning": curves.learning(
            findings.diaries(runs), runs, name, next(iter(curves.LEARNING))
        ),
        "roc": curves.roc(rows, pair, both[1], name),
        "precision": curves.precision_recall(rows, pair, both[1], name),
        "reliability": curves.reliability(rows, pair, name),
        "confusion": classes.confusion(rows[0], both, name),
        "classes": classes.per_class(rows, pair, both, name),
        **inspected(name),
    }


def inspected(name: str) -> dict[str, charts.Chart]:
    answer = {"runs": [seen(name, 0.5)], "data": name, "images": 9, "split": "test"}
    points = [each | {"label": name} for each in search()["points"]]
    ruled = {**course("auto_rgn"), "strategy": name}
    return {
        "drift": changes.drift([moved(name, 0.0, 0.5)], "kernels", name),
        "similarity": changes.similarity(answer, "CKA", name),
        "flips": changes.flips([flip(name, "full", [1], [2])], [name, "full"], name),
        "multipliers": rules.multipliers([ruled], name),
        "cuts": cuts.curve(search(points=points, study=name, how=name)),
        "blend": blending.curve(blended(name), name),
    }


class Markup(HTMLParser):
    """The tags of a text with the names of their attributes, and its words."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, *(name for name, _ in attributes)))
        self.words += [value or "" for _, value in attributes]
        links = [v for k, v in attributes if k in ("href", "src") and v]
        assert all(v.startswith(("data:", "#")) for v in links), links

    def handle_comment(self, data):
        self.tags.append(("comment",))

    def handle_data(self, data):
        self.words.append(data)


def texts(value) -> list[str]:
    """Every text in a figure, which Plotly reads as a little HTML."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in texts(v)] if isinstance(value, list | tuple) else []


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harmless")
    return pages(HARMLESS, folder / "x"), drawn(HARMLESS)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_text_on_every_page(harmless, tmp_path, name):
    for view, html in pages(name, tmp_path / "x").items():
        found, wanted = Markup(html), Markup(harmless[0][view])
        assert found.tags == wanted.tags, view
        if HARMLESS in " ".join(wanted.words):
            assert " ".join(name.split()) in " ".join(" ".join(found.words).split()), view


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_text_in_every_chart(harmless, name):
    for view, chart in drawn(name).items():
        found, wanted = (
            [Markup(text).tags for text in texts(c.figure.to_plotly_json())]
            for c in (chart, harmless[1][view])
        )
        assert sum(found, []) == sum(wanted, []), view
        text, plain = (Markup(charts.text_equivalent(c)).tags for c in (chart, harmless[1][view]))
        assert text == plain, view


def test_the_views_show_the_names_that_they_are_given(harmless):
    """So that no view passes because the name is not in it."""
    absent = {"caption"}
    assert {view for view, html in harmless[0].items() if HARMLESS not in html} == absent
    assert all(HARMLESS in chart.figure.to_json() for chart in harmless[1].values())


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_a_table_is_a_formula_its_heading_neither(monkeypatch, tmp_path, text):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = parts.csv_file([{text: text, "plain": -1.5}], "table")
    with open(path, encoding="utf-8", newline="") as file:
        head, line = csv.reader(file)
    assert head == [f"'{text}", "plain"] and line == [f"'{text}", "-1.5"]


def test_a_name_gives_a_terminal_no_orders(capsys):
    console.say("a\x1b[31mred\x1b]8;;http://x\x07\u202ex\x9b31m\tb\nc")
    assert capsys.readouterr().out == "a�[31mred�]8;;http://x��x�31m\tb\nc\n"
    console.say("M\udcfcller.png")  # bytes of a name that are no text
    assert capsys.readouterr().out == "M?ller.png\n"


def test_old_downloads_are_emptied_by_several_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    for number in range(200):
        (old := tmp_path / "downloads" / str(number)).mkdir(parents=True)
        (old / "table.csv").write_text("a")
        os.utime(old, (0, 0))
    with ThreadPoolExecutor(8) as pool:
        fresh = list(pool.map(lambda _: parts.cache_folder(), range(8)))
    assert sorted((tmp_path / "downloads").iterdir()) == sorted(fresh)
