"""The app's frame: what the tabs share, how errors end, and how the app is served."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
gr = pytest.importorskip("gradio")

from ftlab.lab import Lab  # noqa: E402, with gradio
from ftlab.records import BadInput  # noqa: E402
from ftlab.ui import comparison, parts, theme, words  # noqa: E402
from ftlab.ui.launch import launch  # noqa: E402

# --- errors ---


def test_bad_input_ends_in_its_own_sentence_without_html():
    @parts.told
    def event():
        raise BadInput("<b>x</b>.png: not an image")

    with pytest.raises(gr.Error) as caught:
        event()
    assert caught.value.message == "&lt;b&gt;x&lt;/b&gt;.png: not an image"
    assert not caught.value.print_exception


@pytest.mark.parametrize("wrapped", [lambda event: event, partial])
def test_what_nobody_foresaw_ends_in_one_sentence_and_the_log(caplog, wrapped):
    def event():
        raise RuntimeError("/secret/place is broken")

    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as caught:
        parts.told(wrapped(event))()
    assert caught.value.message == words.FAILED
    assert "/secret/place is broken" in caplog.text


# --- numbers ---


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (parts.percent(0.8141), "81.4 %"),
        (parts.percent(0.9, 0), "90 %"),
        (parts.percent(None), parts.NONE),
        (parts.points(0.0143), "+1.4 points"),
        (parts.points(-0.02), "-2.0 points"),
        (parts.interval({"mean": 0.814, "low": 0.782, "high": 0.841}), "81.4 % (78.2 to 84.1)"),
        (parts.interval({"mean": 0.5, "low": None, "high": None}), "50.0 %"),
        (parts.interval(None), parts.NONE),
        (parts.duration(3.14), "3.1 s"),
        (parts.duration(185), "3 min 05 s"),
        (parts.duration(7384), "2 h 03 min"),
        (parts.amount(98_200_000, "B"), "98.2 MB"),
        (parts.amount(512), "512"),
    ],
)
def test_numbers_are_said_with_their_units(shown, text):
    assert shown == text


# --- downloads ---


def test_tables_are_downloaded_under_their_own_name_and_hold_no_formulas(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    rows = [{"name": "=cmd()", "value": -1.5}, {"name": "a,b", "value": None}]
    first, second = (Path(parts.csv_file(rows, "table")) for _ in range(2))
    assert first.name == "table.csv" and first != second
    assert tmp_path in first.parents
    with open(first, encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    assert found == [["name", "value"], ["'=cmd()", "-1.5"], ["a,b", ""]]


def test_downloads_long_past_are_removed(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    old = Path(parts.csv_file([{"a": 1}], "old"))
    os.utime(old.parent, (1, 1))
    new = Path(parts.csv_file([{"a": 1}], "new"))
    assert new.exists() and not old.parent.exists()


# --- words ---


def test_every_term_is_one_sentence():
    for word, meaning in words.TERMS.items():
        assert meaning.endswith("."), word
        assert ". " not in meaning.replace("et al. ", ""), word


def test_a_term_can_be_reached_with_the_keyboard_and_escapes_what_it_shows():
    shown = parts.term("probability", "<i>")
    assert 'tabindex="0"' in shown and 'role="tooltip"' in shown and "&lt;i&gt;" in shown


def test_the_footer_explains_every_strategy_and_what_ftlab_is_not():
    rows = [{"name": "full", "summary": "Every weight learns.", "source": "A & B"}]
    foot = words.footer(rows)
    assert "not a medical device" in foot and "Every weight learns." in foot and "A &amp; B" in foot


# --- style ---


def _contrast(a, b):
    def luminance(colour):
        parts_ = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts_)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [":root", ".dark"])
def test_every_text_colour_can_be_read_on_both_grounds(scheme):
    css = theme.CSS[0].read_text(encoding="utf-8")
    block = css.split(f"{scheme} {{")[1].split("}")[0]
    colours = dict(re.findall(r"--ft-([\w-]+): (#\w{6})", block))
    for ground in ("ground", "sunken"):
        for text in ("ink", "muted", "accent", "good", "bad"):
            ratio = _contrast(colours[text], colours[ground])
            assert ratio >= 4.5, (scheme, text, ground, round(ratio, 2))


def test_no_style_or_sentence_asks_for_anything_elsewhere():
    for path in (*theme.CSS, *Path(theme.__file__).parent.glob("*.py")):
        found = path.read_text(encoding="utf-8")
        assert not re.search(r"url\(\W*http|@import|src=.?http|GoogleFont", found), path.name


# --- serving ---


class Quiet(Lab):
    def start_worker(self):
        return False


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(comparison, "warm", lambda lab: None)
    return Quiet(tmp_path)


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_the_app_serves_its_four_tabs_and_its_own_style(quiet):
    port = _free_port()
    demo = launch(quiet, port=port, block=False)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/config", timeout=60) as answer:
            config = json.load(answer)
    finally:
        demo.close()
    tabs = [c["props"].get("id") for c in config["components"] if c["type"] == "tabitem"]
    assert [t for t in tabs if t in ("compare", "finetune", "results", "data")] == [
        *("compare", "finetune", "results", "data")
    ]
    assert "--ft-accent" in config["css"] and ".ft-card" in config["css"]
    headers = [c["props"].get("value") for c in config["components"] if c["type"] == "html"]
    assert any("Not a medical device" in str(value) for value in headers)


def test_a_port_that_is_taken_is_a_sentence(quiet):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="Port .* is taken: choose another"):
            launch(quiet, port=taken.getsockname()[1], block=False)


def test_an_address_of_another_machine_is_a_sentence(quiet):
    with pytest.raises(BadInput, match="192.0.2.1 is no address of this machine"):
        launch(quiet, host="192.0.2.1", port=7999, block=False)


def test_the_app_refuses_gradios_editing_mode(quiet, monkeypatch):
    monkeypatch.setenv("GRADIO_VIBE_MODE", "1")
    with pytest.raises(BadInput, match="unset it"):
        launch(quiet, block=False)


def test_many_signals_at_once_end_the_app_like_one():
    """make passes SIGTERM on to a program that has had it from whoever ends them all."""
    program = (
        "import types; from ftlab.ui import launch; print('there', flush=True); "
        "launch._stay(types.SimpleNamespace(close=lambda **_: None))"
    )
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"there\n"
        until = time.monotonic() + 20
        while not _handles(process.pid, signal.SIGTERM):
            assert time.monotonic() < until
        while process.poll() is None and time.monotonic() < until:
            process.send_signal(signal.SIGTERM)
        assert process.poll() in (0, -signal.SIGTERM)
        process.stdout.close()


def _handles(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)
