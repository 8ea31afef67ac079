"""What the host of an app relies on: its health, its log, and that leftovers go."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")

import httpx  # noqa: E402, with gradio
from starlette.applications import Starlette  # noqa: E402

from ftlab import homes, queue  # noqa: E402
from ftlab.modes import CLASSROOM, ONE, PUBLIC  # noqa: E402
from ftlab.records import BadInput  # noqa: E402
from ftlab.ui import health, journal, launch, leftovers  # noqa: E402

Usage = namedtuple("Usage", "total used free")
DEAD = "http://127.0.0.1:9"  # a proxy that is not there
SERVED = """
import os, socket, sys
from pathlib import Path

import httpx

from ftlab.lab import Lab
from ftlab.ui import launch

launch._start_beside = lambda *_: None
for host in sys.argv[2:]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo = launch.launch(Lab(Path(sys.argv[1])), host=host, port=port, block=False)
    answer = httpx.get(f"{demo.local_url}healthz", trust_env=False)
    print(answer.status_code, demo.local_url.replace(str(port), "PORT"), flush=True)
    demo.close(verbose=False)
os._exit(0)
"""


class Tired(Exception):
    """Ends what would go on for ever."""


# --- health ---


def asked(home) -> tuple[int, dict]:
    transport = httpx.ASGITransport(Starlette(routes=[health.route(home)]))

    async def ask():
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            return await client.get("/healthz")

    answer = asyncio.run(ask())
    assert str(home) not in answer.text and answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json()


def wait_in(home) -> None:
    (home / "checkpoints" / "x").mkdir(parents=True)
    queue.add(home, home / "checkpoints" / "x", "ann")


def test_a_home_at_rest_is_well(tmp_path):
    status, found = asked(tmp_path)
    assert status == 200 and found["ok"] and (found["waiting"], found["worker"]) == (0, False)
    assert found["worker_seconds"] is None


def test_a_study_that_waits_for_no_worker_is_a_fault_and_with_one_it_is_none(tmp_path):
    wait_in(tmp_path)
    status, found = asked(tmp_path)
    assert (status, found["ok"], found["waiting"], found["worker"]) == (503, False, 1, False)
    with open(tmp_path / "worker.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(tmp_path / "worker.lock", (0, time.time() - 60))
        status, found = asked(tmp_path)
        assert (status, found["worker"]) == (200, True)
        assert 60 <= found["worker_seconds"] < 70


def test_a_disk_that_is_full_and_a_queue_that_cannot_be_used_are_faults(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(health.shutil, "disk_usage", lambda _: Usage(1, 1, 10**6))
        status, found = asked(tmp_path)
        assert status == 503 and found["queue"] and found["free_gb"] == 0

    def locked(home):
        raise BadInput("The queue cannot be used: database is locked.")

    with monkeypatch.context() as patched:
        patched.setattr(health.queue, "listed", locked)
        status, found = asked(tmp_path)
        assert (status, found["queue"]) == (503, False)
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(health.queue, "listed", lambda home: time.sleep(1))
    assert asked(tmp_path) == (503, {"ok": False, "queue": False})


# --- the address ---


def served(home, *hosts: str, **environment: str) -> list[str]:
    """What an app says and answers, in a process of its own, at one host after the other."""
    done = subprocess.run(
        [sys.executable, "-c", SERVED, str(home), *hosts],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_app_starts_behind_a_proxy_that_would_lead_elsewhere(tmp_path):
    names = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")
    behind = {**dict.fromkeys(names, DEAD), "no_proxy": "", "NO_PROXY": "", "all_proxy": ""}
    *_, answer = served(tmp_path, "127.0.0.1", **behind)
    assert answer == "200 http://127.0.0.1:PORT/"


def test_what_passes_by_proxies_already_still_does(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "intra.example,::1")
    monkeypatch.delenv("no_proxy", raising=False)
    for _ in range(2):
        launch._pass_by_proxies("10.0.0.7")
        for name in ("no_proxy", "NO_PROXY"):
            assert os.environ[name] == "intra.example,::1,localhost,127.0.0.1,10.0.0.7"


def test_a_port_that_gradio_would_find_taken_is_a_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(BadInput, match="Port .* is taken: choose another"):
            launch._must_be_free("127.0.0.2", taken.getsockname()[1])


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_an_address_of_ipv6_is_served_with_or_without_its_brackets(tmp_path):
    told = served(tmp_path, "::1", "[::1]", "::", GRADIO_SERVER_NAME="::1")
    assert [line.split(":")[0] for line in told[::2]] == ["ftlab is at http"] * 3
    assert all("//[::1]:" in line for line in told[::2])
    assert told[1::2] == ["200 http://[::1]:PORT/"] * 2 + ["200 http://[::]:PORT/"]


# --- the log ---


@pytest.fixture
def lines(monkeypatch):
    """Lines of the log, as the host sees them."""
    loggers = [logging.getLogger(name) for name in ("ftlab", "uvicorn")]
    before = [(logger, logger.handlers, logger.level) for logger in loggers]
    written = StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setattr(journal, "_refused", {})
    journal.begin()
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    for logger, handlers, level in before:
        logger.handlers = handlers
        logger.setLevel(level)


def fail(name: str) -> None:
    try:
        raise RuntimeError(f"/home/{name}/x.png cannot be read")
    except RuntimeError:
        logging.getLogger("ftlab.ui").exception("%s failed", name)


def test_an_error_is_logged_by_its_place_and_an_id_and_says_nothing_of_anybody(lines):
    for name in ("ann", "ben"):
        fail(name)
    first, second = lines()
    assert (first["event"], first["kind"], len(first["id"])) == ("error", "RuntimeError", 8)
    assert first["id"] == second["id"] and first["at"][0].startswith("test_host.py:")
    assert not {"ann", "ben", "home"} & set(
        json.dumps([first, second]).replace("/", '"').split('"')
    )


def test_a_warning_of_the_server_is_a_place_only(lines):
    logging.getLogger("uvicorn.error").warning("Invalid request from %s", "10.0.0.9")
    (line,) = lines()
    assert line["event"] == "warning" and "10.0.0.9" not in json.dumps(line)


def test_many_refusals_of_a_kind_are_one_line_a_second(lines, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(journal.time, "monotonic", lambda: now[0])
    for second in range(3):
        now[0] = 100.0 + 1.1 * second
        for _ in range(50):
            journal.refused("login_rate")
    journal.refused("file")
    told = [(line["kind"], line["times"]) for line in lines()]
    assert told == [("login_rate", 1), ("login_rate", 50), ("login_rate", 50), ("file", 1)]


# --- leftovers ---


def test_what_is_old_goes_and_what_is_new_or_anothers_stays(tmp_path):
    digest, run = "ab" * 32, "cd" * 8
    gone = [f"{digest}/x.png", "tmpab12_x", f"downloads/{run}/t.csv"]
    kept = ["notes.txt", "mine/x.png", "downloads/readme"]
    for name in (*gone, *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert leftovers.sweep(tmp_path, 60) == 0
    time.sleep(0.02)
    assert leftovers.sweep(tmp_path, 0.01) == len(gone)
    found = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    assert found == set(kept)
    assert not (tmp_path / digest).exists() and not (tmp_path / "downloads" / run).exists()
    assert leftovers.sweep(tmp_path / "nowhere", 0) == 0


def test_a_link_among_leftovers_leads_nowhere(tmp_path):
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "x.png").write_text("x")
    cache = tmp_path / "cache"
    (cache / ("ab" * 32)).mkdir(parents=True)
    (cache / ("ab" * 32) / "link").symlink_to(outside)
    (cache / ("cd" * 32)).symlink_to(outside)
    time.sleep(0.02)
    leftovers.sweep(cache, 0.01)
    assert (outside / "deep" / "x.png").exists()


def test_a_folder_that_goes_while_it_is_swept_keeps_no_other(tmp_path, monkeypatch):
    old = [tmp_path / ("ab" * 32), tmp_path / ("cd" * 32)]
    for folder in old:
        folder.mkdir()
        (folder / "x.png").touch()
    walk, failed = Path.rglob, []

    def going(folder, pattern):
        if not failed:
            failed.append(folder)
            raise FileNotFoundError(folder)
        return walk(folder, pattern)

    monkeypatch.setattr(Path, "rglob", going)
    time.sleep(0.02)
    leftovers.sweep(tmp_path, 0.01)
    assert [folder.exists() for folder in old] == [folder in failed for folder in old]
    assert leftovers.sweep(tmp_path, 0.01) == 1 and not any(tmp_path.iterdir())


def test_tidying_up_goes_on_after_whatever_stands_in_its_way(tmp_path, monkeypatch):
    begun = []

    def refused(what):
        def sweep(*_):
            begun.append(what)
            raise PermissionError(13, "Permission denied")

        return sweep

    def tired(seconds):
        if len(begun) >= 4:
            raise Tired

    monkeypatch.setattr(launch, "time", SimpleNamespace(sleep=tired))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(launch.leftovers, "sweep", refused("files"))
    monkeypatch.setattr(launch.homes, "sweep", refused("homes"))
    with pytest.raises(Tired):
        launch._sweep(tmp_path, PUBLIC)
    assert begun == ["files", "homes"] * 2


@pytest.mark.parametrize("mode", [ONE, CLASSROOM, PUBLIC], ids=lambda mode: mode.name)
def test_only_the_publics_homes_go_and_only_visitors(tmp_path, monkeypatch, mode):
    visitor, ann = (homes.personal(tmp_path, name) for name in ("0a" * 16, "ann"))
    upload = tmp_path / "cache" / "app" / ("cd" * 32) / "x.zip"
    upload.parent.mkdir(parents=True)
    upload.touch()
    for own in (visitor, ann):
        os.utime(own, (0, 0))
    time.sleep(0.02)

    def tired(seconds):
        raise Tired

    monkeypatch.setattr(launch, "time", SimpleNamespace(sleep=tired))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache" / "app"))
    with pytest.raises(Tired):
        launch._sweep(tmp_path, replace(mode, idle_hours=0.01 / 3600))
    assert visitor.exists() == (mode.name != "public") and ann.exists()
    assert not upload.exists()


def test_a_worker_is_looked_for_again_and_again_even_after_a_full_disk(monkeypatch):
    answers = iter((True, OSError(28, "No space left on device"), False, Tired()))

    class Lab:
        def start_worker(self):
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    monkeypatch.setattr(launch, "WORKER_SECONDS", 0)
    with pytest.raises(Tired):
        launch._keep_working(Lab())
    assert next(answers, None) is None
