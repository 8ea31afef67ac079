"""What is taken away: networks that answer as their runs do, cards and reports that say the same
numbers as the leaderboard, and neither a script nor a path in them."""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tiny
import yaml
from conftest import TINY
from test_ui_hostile import HOSTILE, Markup, renamed
from typer.testing import CliRunner

from ftlab import about, card, demo, export, files, report, runs, studies
from ftlab.__main__ import app
from ftlab.commands import parse_knobs
from ftlab.lab import PROJECT, Lab
from ftlab.records import BadInput
from ftlab.ui import document
from ftlab.ui.keeping import Found, Hard

STRATEGIES = ("full", "linear_probe", "truncated", "transfusion")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Lab:
    """A home with a finished study of a tiny network, four strategies and two seeds."""
    home = tmp_path_factory.mktemp("takeaway") / "home"
    home.mkdir()
    tiny.bands(home)
    tiny.trained(home, STRATEGIES, (0, 1), name="bands")
    return Lab(home)


@pytest.fixture(scope="module")
def found(lab) -> Found:
    return report.look_up(lab, "bands")


@pytest.fixture(scope="module")
def page(found) -> str:
    return document.page(found, "")


def _run(strategy: str, seed: int = 0) -> str:
    return f"{strategy}-{TINY}-s{seed}"


# --- networks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["full", "linear_probe"])
def test_a_timm_file_answers_on_the_test_images_as_the_run_did(lab, tmp_path, strategy):
    import timm
    import torch
    from safetensors.torch import load_file

    record = lab.export("bands", _run(strategy), "safetensors", tmp_path / "net.safetensors")
    told = json.loads((tmp_path / "net.safetensors.json").read_text())
    model = timm.create_model(TINY, num_classes=2).eval()
    model.load_state_dict(load_file(tmp_path / "net.safetensors"))
    tested = runs.predictions(lab.study_folder("bands") / _run(strategy))
    pixels = _array(lab)[tested["index"]]
    x = (pixels.astype(np.float32) / 255 - np.float32(told["mean"])) / np.float32(told["std"])
    with torch.no_grad():
        probs = model(torch.from_numpy(x).permute(0, 3, 1, 2)).softmax(1).numpy()
    assert np.abs(probs - tested["probs"]).max() < 1e-5
    assert record["check"]["images"] == len(tested["probs"])
    assert record["check"]["balanced_accuracy"] == told["test"]["balanced_accuracy"]
    assert told["classes"] == ["class0", "class1"]


@pytest.mark.parametrize("strategy", ["truncated", "transfusion"])
def test_an_onnx_file_holds_cut_and_slim_networks_and_takes_any_number_of_pixels(
    lab, tmp_path, strategy
):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "net.onnx"
    lab.export("bands", _run(strategy), "onnx", path)
    tested = runs.predictions(lab.study_folder("bands") / _run(strategy))
    images = _array(lab)[tested["index"]].transpose(0, 3, 1, 2).astype(np.float32) / 255
    session = runtime.InferenceSession(str(path))
    for n in (1, len(images)):
        (probs,) = session.run(["probabilities"], {"images": images[:n]})
        assert np.abs(probs - tested["probs"][:n]).max() < 1e-5
    told = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(told["classes"]) == ["class0", "class1"]
    assert "RGB in 0..1" in told["input"] and told["strategy"] == strategy


def _array(lab) -> np.ndarray:
    from ftlab.datasets import open_dataset

    return open_dataset(lab.data, "bands").array(tiny.QUICK.size)


def test_a_cut_network_is_no_timm_model_and_its_refusal_says_what_to_take(lab, tmp_path):
    with pytest.raises(BadInput, match="cut after unit .* take --format onnx"):
        lab.export("bands", _run("truncated"), "safetensors", tmp_path / "x")
    with pytest.raises(BadInput, match="made slim from unit .* take --format onnx"):
        lab.export("bands", _run("transfusion"), "safetensors", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_answers_otherwise_is_not_kept(lab, tmp_path, monkeypatch):
    """One weight of the head is off by a tenth on its way to the file."""
    from safetensors.torch import load, save

    written = export.FORMATS["safetensors"]

    def altered(network, question, record, path: Path):
        written.write(network, question, record, path)
        tensors = load(path.read_bytes())
        tensors["fc.weight"][0, 0] += 0.1
        path.write_bytes(save(tensors))

    monkeypatch.setitem(export.FORMATS, "safetensors", written._replace(write=altered))
    with pytest.raises(BadInput, match="The file was not kept: its probabilities differ"):
        lab.export("bands", _run("full"), "safetensors", tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_probabilities_that_are_no_numbers_are_no_agreement():
    nan = np.array([[np.nan, 0.5]])
    with pytest.raises(BadInput, match="not kept"):
        export._compared(np.array([[0.5, 0.5]]), nan, None)


def test_without_the_packages_onnx_is_refused_in_one_sentence(lab, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BadInput, match="need onnx, which is not installed: pip install"):
        lab.export("bands", _run("full"), "onnx", tmp_path / "x")


def test_every_backbone_of_the_table_is_said_as_timm_makes_it():
    """So that the plain timm call beside a file makes a network of the same tensors."""
    import timm
    import torch

    from ftlab import backbones

    for name in ("ftlab_mini", "resnet18", "mobilenetv2_100"):
        asked = export._arguments({"backbone": name, "data": {"classes": "ab"}})
        with torch.device("meta"):
            plain = timm.create_model(**asked).state_dict()
            ours = backbones.create(name)
            ours.reset_classifier(2)
        assert {k: v.shape for k, v in plain.items()} == {
            k: v.shape for k, v in ours.state_dict().items()
        }


# --- the run that is taken -----------------------------------------------------------------------


def test_the_run_taken_is_of_the_best_on_validation_and_has_its_weights(lab):
    folder = lab.study_folder("bands")
    values = {
        strategy: np.mean(
            [
                files.read_json(folder / _run(strategy, seed) / "result.json")["val"][
                    "balanced_accuracy"
                ]
                for seed in (0, 1)
            ]
        )
        for strategy in STRATEGIES
    }
    best = max(values, key=values.get)
    assert about.chosen_run(folder, studies.read(folder)).name == _run(best, 0)
    assert lab.exportable("bands")[0] == _run(best, 0)
    assert len(lab.exportable("bands")) == 8
    with pytest.raises(BadInput, match="no finished run 'x'"):
        lab.card("bands", "x")


# --- the model card ------------------------------------------------------------------------------


def test_a_card_is_read_by_the_hubs_client_and_says_the_leaderboards_numbers(lab):
    from huggingface_hub import ModelCard

    text = lab.card("bands", _run("full", 1))
    read = ModelCard(text)
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["pipeline_tag"] == "image-classification" and front["license"] == "other"
    assert read.data.library_name == "timm" and "ftlab" in read.data.tags
    answer = lab.answer(lab.study_folder("bands"))
    run = next(r for r in answer["runs"] if r["run"] == _run("full", 1))
    said = {m["type"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    for own, (kind, _) in card.INDEX.items():
        assert said[kind] == run["test"][own]
    row = next(r for r in answer["leaderboard"]["rows"] if r["strategy"] == "full")
    mean, low, high = (100 * row["balanced_accuracy"][k] for k in ("mean", "low", "high"))
    assert f"{mean:.1f} ({low:.1f} to {high:.1f})" in text
    assert about.NOT_A_DEVICE in text and "## Out of scope" in text and "## Limits" in text
    assert answer["leaderboard"]["verdicts"][TINY].split(",")[0] in text


def test_a_card_says_of_one_seed_of_settings_and_of_splits_what_is_so(lab, monkeypatch):
    found = deepcopy(lab.answer(lab.study_folder("bands")))
    for row in found["leaderboard"]["rows"]:
        row["seeds"] = row["seeds"][:1]
    monkeypatch.setattr(Lab, "answer", lambda lab, folder: found)
    own = {**lab.check("bands"), "own_splits": True}
    monkeypatch.setattr(Lab, "check", lambda lab, name: own)
    text = lab.card("bands", _run("full"))
    assert "so does that of the strategy, which has one seed" in text and "over 1 seeds" not in text
    assert "flips off" in text and "augment none" in text and "- Of the strategy: lr" in text
    assert "It came with splits of its own" in text


def test_what_validation_chose_besides_is_among_the_limits(lab, tmp_path):
    study, board = studies.read(lab.study_folder("bands")), {"rows": [], "tuning": None}
    files.write_json(tmp_path / "search.json", {"strategy": "truncated"})
    chosen = "the unit of truncated was chosen on validation, too"
    assert chosen in " ".join(about.limits(tmp_path, study, board, None))
    soups = replace(study, strategies=("full", "soup_uniform", "soup_greedy"))
    greedy = "the unit of truncated and what a greedy soup is made of was chosen on validation, too"
    assert greedy in " ".join(about.limits(tmp_path, soups, board, None))
    (tmp_path / "search.json").unlink()
    assert "nothing else was tuned" in " ".join(about.limits(tmp_path, study, board, None))


def test_the_lines_of_a_card_load_the_file_it_tells_of(lab, tmp_path, monkeypatch, capsys):
    from PIL import Image

    lab.export("bands", _run("full"), "safetensors", tmp_path / "model.safetensors")
    tested = runs.predictions(lab.study_folder("bands") / _run("full"))
    first = int(tested["index"][0])
    Image.fromarray(np.asarray(_array(lab)[first])).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", lab.card("bands", _run("full")), re.S)[1]
    exec(code, {})
    said = eval(capsys.readouterr().out)
    assert list(said.values()) == pytest.approx(tested["probs"][0].tolist(), abs=1e-5)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_text_in_a_card(name):
    assert not re.search(r"[<>\[\]`|*$&\n](?!#)", card.safe(name).replace("&#", ""))


# --- the report ----------------------------------------------------------------------------------


class Tables(HTMLParser):
    """The tables of a section as lists of rows of texts."""

    def __init__(self, html: str, section: str):
        super().__init__()
        self.tables, self.cell = [], None
        self.feed(html.split(f'<section id="{section}">')[1].split("</section>")[0])

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.cell = True

    def handle_endtag(self, tag):
        self.cell = self.cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.cell:
            self.tables[-1][-1][-1] += data


def test_every_section_is_there_in_order_and_the_verdict_comes_first(lab, page):
    titles = re.findall(r"<section id=[^>]*><h2>([^<]*)</h2>", page)
    assert titles == [title for title in document.SECTIONS if title != "Which unit"]
    verdict = lab.answer(lab.study_folder("bands"))["leaderboard"]["verdicts"][TINY]
    assert page.index(verdict) < page.index("<section")
    for section in page.split("<section id=")[1:]:
        body = section.split("</h2>", 1)[1]
        assert len(re.sub(r"<[^>]*>", "", body).strip()) > 40, section[:40]


def test_the_reports_table_says_the_leaderboards_numbers(lab, page):
    head, *lines = Tables(page, "leaderboard").tables[0]
    board = lab.answer(lab.study_folder("bands"))["leaderboard"]
    (ensemble,), rows = board["ensembles"], board["rows"]
    names = [row["strategy"] for row in rows]
    assert [line[0] for line in lines] == [*names, f"ensemble of {ensemble['runs']} runs"]
    rows = [*rows, ensemble]
    for line, row in zip(lines, rows, strict=True):
        said = dict(zip(head, line, strict=True))
        numbers = re.findall(r"-?[\d.]+", said["balanced accuracy, %"])
        wanted = [100 * row["balanced_accuracy"][key] for key in ("mean", "low", "high")]
        assert [float(n) for n in numbers] == pytest.approx(wanted, abs=0.051)
        if row["to_full"]:
            numbers = re.findall(r"[+-][\d.]+", said["to full, points"])
            wanted = [100 * row["to_full"][key] for key in ("difference", "low", "high")]
            assert [float(n) for n in numbers] == pytest.approx(wanted, abs=0.051)


def test_the_reports_confusion_counts_every_test_image_of_every_seed(lab, page):
    tested = runs.predictions(lab.study_folder("bands") / _run("full"))
    tables = Tables(page, "confusion").tables
    assert len(tables) == len(STRATEGIES)
    for table in tables:
        counts = [int(n) for line in table[1:] for n in line[1:]]
        assert sum(counts) == 2 * len(tested["y_true"])


def test_a_report_shows_data_limits_commands_images_and_maps(lab, page):
    assert "not tuned" in page and "There are 2 seeds" in page
    assert "No patients or groups are known" in page
    line = re.search(r"python -m ftlab compare [^<]*", page)[0]
    assert "--strategies full,linear_probe,truncated,transfusion --seeds 2" in line
    options = "--epochs 2 --size 32 --batch 8 --precision float32 --weights random --name bands"
    assert options in line and "<dt>computed in</dt><dd>float32</dd>" in page
    images = page.count('src="data:image/jpeg')
    shown = page.count('<div class="hard">')
    assert shown and images == shown * (1 + len(STRATEGIES))
    assert about.NOT_A_DEVICE in page


def test_a_drawn_data_set_is_drawn_again_by_the_command_that_is_given(lab):
    study = studies.read(lab.study_folder("bands"))
    told = {"source": "phantom:dermoscopy", "seed": 4, "fractions": [0.5, 0.25, 0.25]}
    told |= {"options": {}, "images": 36, "classes": dict.fromkeys("abc", 12)}
    first, _ = about.commands(study, told)
    draws = "--per-class 12 --seed 4 --fractions 0.5,0.25,0.25"
    assert first == f"python -m ftlab import phantom:dermoscopy bands {draws}"
    given = lab.check("bands")
    options = f"--seed {given['seed']} --fractions 0.64,0.16,0.2"
    assert about.commands(study, given)[0] == f"python -m ftlab import SOURCE bands {options}"
    given |= {"options": {"labels": "t.csv", "split-column": "", "group-pattern": "p[0-9]+"}}
    options += " --labels t.csv --split-column '' --group-pattern 'p[0-9]+'"
    assert about.commands(study, given)[0] == f"python -m ftlab import SOURCE bands {options}"


def test_seeds_that_compare_would_not_count_to_are_trained_one_by_one(lab):
    study = replace(studies.read(lab.study_folder("bands")), strategies=("full",))
    knobs = {"l2_sp": {"alpha": 0.5}}  # of another strategy of the study
    (line,) = about.commands(replace(study, seeds=(3,), knobs=knobs), lab.check("bands"))[1:]
    given = re.findall(r"--set (\S+)", line)
    assert parse_knobs(given, "full") == knobs
    for seeds, told in (((0, 1), ["compare"]), ((3,), ["train"]), ((0, 4), ["compare", "train"])):
        lines = about.commands(replace(study, seeds=seeds), lab.check("bands"))[1:]
        assert [line.split()[3] for line in lines] == told
        given = [int(re.search(r"--seeds? (\d+)", line)[1]) for line in lines]
        counted = range(given[0]) if told[0] == "compare" else ()
        assert (*counted, *given[bool(counted) :]) == seeds


def test_a_report_holds_no_script_no_address_and_no_path(lab, page):
    tags = {tag for tag, *_ in Markup(page).tags}
    assert not tags & {"script", "link", "iframe", "object", "form", "a", "base"}
    assert 'http-equiv="Content-Security-Policy" content="default-src &#x27;none&#x27;' in page
    assert not re.search(r"url\((?!\"?#)|@import|https?://", page)
    assert str(lab.home) not in page and str(PROJECT) not in page and "/tmp" not in page


def test_a_report_opens_from_a_file_and_asks_for_nothing(lab, found, tmp_path):
    """In Chromium, on a screen and as on A4: no request, no error, nothing wider than the page."""
    import browser

    if reason := browser.lacking():
        pytest.skip(reason)
    style = "\n".join((report.HERE / file).read_text() for file in report.STYLES)
    path = tmp_path / "report.html"
    path.write_text(document.page(found, style), encoding="utf-8")
    asked, errors = [], []
    with browser.chromium() as chromium:
        page = chromium.new_page(viewport={"width": 800, "height": 900})
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(path.as_uri())
        for media, width in (("screen", 800), ("print", 680)):
            page.emulate_media(media=media)
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("svg.still").count() >= 7
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        pages = page.pdf(prefer_css_page_size=True)
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert errors == [] and pages.startswith(b"%PDF")


def _called(found: Found, words: Sequence[str]) -> str:
    """The page of the same study, whose classes, strategies and backbone are called otherwise."""
    names = dict(zip(("class0", "class1", *STRATEGIES, TINY), words, strict=True))
    answer = renamed(found.answer, names)
    answer["leaderboard"]["verdicts"] = {names[TINY]: f"{words[0]} is best."}
    new = {
        key: renamed(getattr(found, key), names)
        for key in ("data", "evidence", "questions", "layouts", "origins", "strategies")
    }
    study = replace(found.study, classes=words[:2], strategies=words[2:-1])
    hard = [
        Hard(renamed(dict(each.votes), names), each.pixels, words[0], renamed(each.maps, names))
        for each in found.hard
    ]
    said = {"limits": words[:1], "commands": words[:1], "version": words[0]}
    return document.page(replace(found, study=study, answer=answer, hard=hard, **new, **said), "")


@pytest.mark.parametrize("names", [HOSTILE[:7], HOSTILE[6:]], ids=["tags", "others"])
def test_hostile_names_are_texts_in_a_report(found, names):
    """The same tags as of harmless names of the same lengths, which decide where labels lie."""
    plain = Markup(_called(found, ["abcdefg"[n] * len(name) for n, name in enumerate(names)]))
    hostile = Markup(_called(found, names))
    assert hostile.tags == plain.tags
    said = " ".join(" ".join(hostile.words).split())
    assert not [name for name in names if " ".join(name.split()) not in said]


def test_without_a_finished_run_there_is_no_report(lab):
    tiny.ask(lab.home, name="idle")
    for verb in (lab.report, lab.card):
        with pytest.raises(BadInput, match="No run of the study idle has finished"):
            verb("idle")
    assert lab.exportable("idle") == []


def test_the_shipped_study_has_its_report_where_its_data_set_is_not(home):
    """Its pictures are known to be drawn by the hash of what `ftlab demo` draws."""
    shipped = studies.read(PROJECT / "checkpoints" / "reference")
    assert shipped.data_hash == demo.HASH
    text = Lab(home).report("reference")
    assert "demo_chest_xray (synthetic" in text and "not on the machine that wrote" in text
    assert "import phantom:chest_xray demo_chest_xray --per-class 200 --seed 1" in text
    assert len(Tables(text, "leaderboard").tables[0]) == 1 + 13 + 1  # and the ensemble
    assert len(text.encode()) < 1_000_000


# --- the command line ----------------------------------------------------------------------------


def test_the_commands_write_what_the_verbs_say(lab, page, tmp_path, monkeypatch):
    monkeypatch.setenv("FTLAB_HOME", str(lab.home))

    def call(*arguments) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*map(str, arguments)])
        return done.exit_code, done.output

    code, said = call("report", "bands", "--out", tmp_path / "r.html", "--json")
    written = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert code == 0 and json.loads(said)["bytes"] == len(written.encode())
    assert written.split("<section", 1)[1] == page.split("<section", 1)[1]
    code, said = call("card", "bands", "--run", _run("full"), "--out", tmp_path / "README.md")
    assert code == 0 and (tmp_path / "README.md").read_text() == lab.card("bands", _run("full"))
    asked = ("export", _run("full"), "--study", "bands", "--format")
    code, said = call(*asked, "safetensors", "--out", tmp_path / "n", "--json")
    assert code == 0 and json.loads(said)["check"]["largest_difference"] < 1e-5
    assert call(*asked, "pth", "--out", tmp_path / "n")[0] == 2
    assert call("report", "bands", "--out", tmp_path)[0] == 2
    os.mkfifo(tmp_path / "pipe")  # as a device, it would be replaced by a file
    assert call("report", "bands", "--out", tmp_path / "pipe")[0] == 2
    assert (tmp_path / "pipe").is_fifo()


# --- the app -------------------------------------------------------------------------------------


def test_the_app_hands_out_each_file_under_an_address_of_its_own(lab, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    from ftlab.ui import takeaway

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    answers = [{"study": "bands"}]
    study, run, *_ = takeaway._choices(lab, answers)
    assert study["value"] == "bands" and run["value"] in run["choices"]
    stays = takeaway._choices(lab, answers, "bands")
    assert "value" not in stays[0] and "value" not in stays[1] and stays[2]["__type__"] == "update"
    assert "visible" not in stays[2], "what was made can still be saved"
    first, again = (takeaway._card(lab, "bands", run["value"], "onnx")[0] for _ in "ab")
    assert Path(first["value"]).parent != Path(again["value"]).parent
    shown, said = takeaway._network(lab, "bands", _run("full"), "safetensors")
    with zipfile.ZipFile(shown["value"]) as archive:
        held = ["README.md", "model.safetensors", "model.safetensors.json"]
        assert sorted(archive.namelist()) == held and archive.testzip() is None
    assert "checked on" in said
    with pytest.raises(BadInput, match="weights of this study's runs are not here"):
        takeaway._network(lab, "bands", None, "onnx")


def test_the_card_in_a_zip_tells_of_the_file_beside_it(lab):
    for form, library in (("onnx", "onnx"), ("safetensors", "timm")):
        text = lab.card("bands", "full-test_resnet-s0", form)
        assert f"library_name: {library}" in text and f"--out model.{form}" in text
