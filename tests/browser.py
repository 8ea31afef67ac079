"""The app in a process of its own and Chromium before it, for the journeys.

A visit notes every error on the page's console and every request that leaves the machine; whoever
ends or shares it asserts that there were none. axe-core, which judges accessibility, comes with
axe-playwright-python.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

from tiny import FORKING, apart

ROOT = Path(__file__).parent.parent
CHROMIUM = os.environ.get("FTLAB_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LOG = "app.log"  # in its home
START_SECONDS, WAIT_SECONDS = 300, 60  # for the app; for anything on a page: machines may be busy
GRADIO_ASKS = ("monitoring/summary", "gradio_api/mcp/schema")  # its API page does; both are off
DESK, TABLET = ("light", 1280, 800), ("dark", 820, 1180)  # what people look at the app with
SHIPPED = 9  # runs of the reference study whose weights come with ftlab, each of a strategy
FILLED = {  # what a tab shows once it is filled; the page polls, so its network is never idle
    "Compare": [f".ft-card >> nth={SHIPPED - 1}"],
    "Fine-tune": [".ft-plan >> nth=7", ".ft-about-data b >> nth=0"],
    "Results": [".js-plotly-plot:visible >> nth=0"],
    "Inspect": [".ft-courses .ft-plan >> nth=12"],
    "Data": [".ft-samples img >> nth=23"],
}
FADE_MS = 500  # in which colours come to rest


def lacking() -> str | None:
    """What the journeys need and this machine lacks, as the reason to skip them."""
    for module in ("gradio", "playwright", "axe_playwright_python"):
        if find_spec(module) is None:
            return f"{module} is not installed: pip install -e .[dev]"
    return None if CHROMIUM else "there is no Chromium here: apt-get install chromium"


# --- the app -------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(home: Path, *command: str) -> Iterator[str]:
    """The address of the app (or of another script that reads FTLAB_PORT) with that home.

    Forked from an interpreter that has imported everything: `process_of` is the real thing.
    """
    port, environment = _place(home)
    script = FORKING.Process(target=_run, args=(command or ("app.py",), environment, home))
    script.start()
    try:
        yield _address(lambda: script.exitcode is None, port, home)
    finally:
        _end(home, script, script.join)


@contextlib.contextmanager
def process_of(home: Path, *command: str, **environment: str) -> Iterator[SimpleNamespace]:
    """{address, port, process, log} of the app, or of another script, once it answers."""
    port, own = _place(home)
    with open(home / LOG, "w") as log:
        process = subprocess.Popen(
            [sys.executable, *(command or ("app.py",))],
            env={**os.environ, **own, **environment},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = _address(lambda: process.poll() is None, port, home)
        yield SimpleNamespace(address=address, port=port, process=process, log=home / LOG)
    finally:
        _end(home, process, process.wait)


def _place(home: Path) -> tuple[int, dict[str, str]]:
    """A free port, and the environment of an app with that home."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home.mkdir(parents=True, exist_ok=True)
    own = {"FTLAB_HOME": str(home), "FTLAB_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return port, {**own, "HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}


def _run(command: tuple[str, ...], environment: dict[str, str], home: Path) -> None:
    apart(home / LOG, home / LOG)
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")


def _address(alive: Callable[[], bool], port: int, home: Path) -> str:
    """Of an app, once it answers."""
    address = f"http://127.0.0.1:{port}/"
    until = time.monotonic() + START_SECONDS
    while alive() and time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10):
            return address
        time.sleep(0.05)
    raise AssertionError(f"the app did not start:\n{(home / LOG).read_text()}")


def _end(home: Path, app, wait: Callable) -> None:
    """Ask an app to go, and kill what still works on its home: it, and the worker it leaves."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(app.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        wait(5)
    app.kill()
    mark = f"FTLAB_HOME={home}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)
    wait(10)


# --- the browser ---------------------------------------------------------------------------------


@contextlib.contextmanager
def chromium() -> Iterator:
    """A browser (playwright.sync_api.Browser)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def visiting(browser, address: str, looks=DESK) -> Iterator:
    """A new page (playwright.sync_api.Page) on the app, in a session of its own.

    Raises:
        AssertionError: at the end, an error on the console, or a request to anywhere else.
    """
    with staying(browser, address, looks) as (page, wrong):
        yield page
    assert not wrong, wrong


@contextlib.contextmanager
def staying(browser, address: str, looks=DESK) -> Iterator[tuple]:
    """(page, what has gone wrong on it so far): as `visiting`, for whoever asserts in between."""
    context = browser.new_context()
    context.set_default_timeout(1000 * WAIT_SECONDS)
    page = context.new_page()
    look(page, looks)
    wrong = []
    page.on("console", lambda m: wrong.append(_said(m)) if _is_error(m, address) else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if _inside(r.url, address) else wrong.append(_left(r)))
    page.goto(address)
    try:
        yield page, wrong
    finally:
        context.close()


def look(page, looks: tuple[str, int, int]) -> None:
    """Look at a page by night or by day and through a window of that size."""
    theme, width, height = looks
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": height})


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def filled(page, tab: str) -> None:
    """Open a tab and wait until all of it is there."""
    open_tab(page, tab)
    for part in FILLED[tab]:
        page.locator(part).wait_for()


def _is_error(message, address: str) -> bool:
    """Whether a console message is an error that is ours."""
    asked = [address + path for path in GRADIO_ASKS]
    return message.type == "error" and message.location["url"] not in asked


def _said(message) -> str:
    return f"{message.text} ({message.location['url']})"


def _left(request) -> str:
    return f"a request left the machine: {request.url}"


def _inside(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:", address.replace("http:", "ws:", 1)))


# --- accessibility -------------------------------------------------------------------------------


def violations(page) -> dict[tuple[str, str], str]:
    """(rule, element) -> where and why, of what axe finds serious or critical on a page.

    An element is its tag and classes without what Svelte adds, so that it is the same element on
    any page.
    """
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return {
        (rule["id"], _element(node["html"])): f"{node['target']}: {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    }


def _element(html: str) -> str:
    tag = re.match(r"<([\w-]+)", html)[1]
    classes = re.search(r'\bclass="([^"]*)"', html.split(">")[0])
    kept = [c for c in (classes[1].split() if classes else []) if not c.startswith("svelte-")]
    return ".".join([tag, *sorted(kept)])


def ours(found: dict[tuple[str, str], str], bare: dict[tuple[str, str], str]) -> list[str]:
    """Violations that Gradio's own components do not have on a bare page.

    Contrast is ours on every element, because the colours are.
    """
    return [
        f"{rule} on {element} at {where}"
        for (rule, element), where in found.items()
        if rule == "color-contrast" or (rule, element) not in bare
    ]
