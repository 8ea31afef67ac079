"""Every event of the page, whatever is sent for what it expects: an answer, soon, and no file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
pytest.importorskip("gradio")

import httpx  # noqa: E402, with gradio

from ftlab.lab import Lab  # noqa: E402
from ftlab.modes import ONE  # noqa: E402
from ftlab.ui import build  # noqa: E402

ALL = os.environ.get("FTLAB_ALL_VALUES")  # every value to every event, not one or two to each
SECONDS = 30  # for one answer, on a machine that may be busy
FILE = '"meta": {"_type": "gradio.FileData"}'
JSON = {"content-type": "application/json"}
PLACES = {tempfile.gettempdir(), Path.home(), Path(__file__).parent.parent, sys.prefix}
MACHINE = (*map(str, PLACES), "site-packages")  # no refusal says where something lies
VALUES = {  # as JSON
    "nothing": "null",
    "a number": "1e308",
    "no number": "NaN",
    "text": json.dumps("\0<script>\u202e" + "x" * 10_000),
    "truth": "true",
    "lists": "[[null, null], [1]]",
    "depth": "[" * 500 + "]" * 500,
    "a record": '{"a": {"b": [1]}}',
    "a file": f'{{"path": "/etc/passwd", {FILE}}}',
    "a file by its address": f'{{"path": "x", "url": "file:///etc/passwd", {FILE}}}',
}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(client, events that have inputs) of the whole app, whose events can be called directly."""
    home = tmp_path_factory.mktemp("page") / "home"
    home.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(home / "cache" / "app")
    demo = build(Lab(home), ONE)
    _, address, _ = demo.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    with httpx.Client(base_url=address, timeout=SECONDS) as client:
        events = client.get("config").json()["dependencies"]
        yield client, [event for event in events if event["backend_fn"] and event["inputs"]]
    demo.close()
    del os.environ["GRADIO_TEMP_DIR"]


def test_no_event_falls_over_or_gives_a_file_away(page):
    client, events = page
    tried, slowest = 0, 0.0
    for number, event in enumerate(events):
        for kind in VALUES if ALL else {[*VALUES][number % len(VALUES)], "a file"}:
            data = ", ".join([VALUES[kind]] * len(event["inputs"]))
            body = f'{{"fn_index": {event["id"]}, "session_hash": "s", "data": [{data}]}}'
            began = time.monotonic()
            answer = client.post("gradio_api/run/predict", content=body, headers=JSON)
            slowest, tried = max(slowest, time.monotonic() - began), tried + 1
            about = (event["id"], kind, answer.text[:300])
            assert answer.status_code in (200, 422, 500), about
            assert "root:" not in answer.text and "Traceback" not in answer.text, about
            if answer.status_code != 200:
                assert not any(folder in answer.text for folder in MACHINE), about
    print(f"{tried} values to {len(events)} events, {slowest:.1f} s at most")
    assert tried > 100 and client.get("config").status_code == 200
