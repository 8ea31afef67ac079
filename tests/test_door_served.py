"""The door of a classroom as it is served: what is open, what is refused, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("gradio")

import httpx  # noqa: E402, with gradio
from browser import ROOT, process_of  # noqa: E402

from ftlab.passwords import give  # noqa: E402

SCALE = int(os.environ.get("FTLAB_DOOR_SCALE", "1"))  # times as many guesses and broken uploads
UPLOAD = "/gradio_api/upload"
PART = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
OWN_FILES = ("/etc/passwd", "{home}/queue.sqlite", "{home}/class.txt", "{root}/app.py")
SPELLINGS = (
    "{path}",
    "/..{path}",
    "{cache}/../..{path}",
    "{cache}/%2e%2e/%2e%2e{path}",
    "//{path}",
    "/proc/self/root{path}",
    "{path}%00.png",
    "file://{path}",
    "../../../../../../../../..{path}",
    "{cache}/..%5c..{path}",
)

LISTENER = """
import os, sys

def note(event, about):
    if event == "socket.connect":
        host = about[1][0] if isinstance(about[1], tuple) else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        host = about[-1][0] if event == "socket.sendto" else about[0]
    else:
        return
    if str(host) not in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "None"):
        with open(os.environ["HEARD"], "a") as file:
            file.write(f"{event} {host} {sys.argv}\\n")

sys.addaudithook(note)
"""


@pytest.fixture(scope="module")
def listened(tmp_path_factory):
    """{PYTHONPATH, HEARD}: every interpreter that has them writes down whom it calls."""
    folder = tmp_path_factory.mktemp("listener")
    (folder / "sitecustomize.py").write_text(LISTENER)
    return {"PYTHONPATH": str(folder), "HEARD": str(folder / "heard.txt")}


@pytest.fixture(scope="module")
def room(tmp_path_factory, listened):
    """A classroom in a process of its own, whose uploads are of 100 kB at most."""
    folder = tmp_path_factory.mktemp("class")
    home = folder / "home"
    home.mkdir()
    users = home / "class.txt"
    passwords = give(users, ["ann", "ben"])
    command = ("app.py", "--classroom", str(users), "--limit", "upload_bytes=100000")
    asks = {"HF_HUB_OFFLINE": "0", "GRADIO_ANALYTICS_ENABLED": "True"}  # as far as one can
    with process_of(home, *command, GRADIO_ALLOWED_PATHS="/", **asks, **listened) as served:
        served.address = served.address.rstrip("/")
        served.home, served.passwords = home, passwords
        yield served


@pytest.fixture(scope="module")
def ann(room):
    client = httpx.Client(base_url=room.address, timeout=60)
    form = {"username": "ann", "password": room.passwords["ann"]}
    assert client.post("/login", data=form).status_code == 200
    return client


def cached(room) -> set[str]:
    files = (room.home / "cache" / "app").rglob("*")
    return {str(file) for file in files if file.is_file()}


def line(room, client, head: str) -> socket.socket:
    """A connection on which an upload begins."""
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    asked = (
        f"POST {UPLOAD} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\nConnection: close\r\n"
    )
    asked += f"Content-Type: multipart/form-data; boundary=x\r\n{head}\r\n\r\n"
    opened = socket.create_connection(("127.0.0.1", room.port), timeout=30)
    opened.sendall(asked.encode())
    return opened


def raw(room, client, head: str, *parts: bytes) -> bytes:
    """What the server answers to bytes as they stand."""
    heard = b""
    with line(room, client, head) as opened, contextlib.suppress(OSError):
        with contextlib.suppress(OSError):
            for part in parts:
                opened.sendall(part)
        while more := opened.recv(65536):
            heard += more
    return heard


def becomes(true, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while not (now := true()) and time.monotonic() < until:
        time.sleep(0.05)
    return now


# --- what is open ---


def test_health_is_told_to_anybody_and_gives_nothing_away(room):
    answer = httpx.get(f"{room.address}/healthz")
    found = answer.json()
    assert answer.status_code == 200 and found["ok"] and found["queue"] and found["free_gb"] > 1
    assert found.keys() == {"ok", "queue", "waiting", "free_gb", "worker", "worker_seconds"}
    assert str(room.home) not in answer.text and "ann" not in answer.text


@pytest.mark.parametrize(
    "path",
    ["/config", "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/file=/etc/passwd"],
)
def test_without_a_login_there_is_nothing_to_see(room, path):
    assert httpx.get(room.address + path).status_code in (401, 403)


@pytest.mark.parametrize(
    "path",
    [
        *("/monitoring", "/monitoring/summary", "/gradio_api/runs", "/openapi.json", "/docs"),
        *("/gradio_api/vibe-code/", "/gradio_api/component_server", "/gradio_api/mcp/schema"),
        *("/gradio_api/deep_link", "/gradio_api/proxy=https://example.org", "/static/../app.py"),
    ],
)
def test_what_gradio_has_besides_is_shut(ann, path):
    assert ann.get(path).status_code in (403, 404)


def test_every_answer_bears_the_headers_of_safety(room, ann):
    for answer in (ann.get("/"), ann.get("/gradio_api/nothing"), httpx.get(room.address + "/")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"


def test_an_event_is_called_through_the_queue_and_not_around_it(ann):
    for name in ("studies", "predict", "page_0", "page_1"):
        for way in ("run", "api"):
            assert ann.post(f"/gradio_api/{way}/{name}", json={"data": []}).status_code == 404
    event = ann.post("/gradio_api/call/strategies", json={"data": []}).json()["event_id"]
    assert "linear_probe" in ann.get(f"/gradio_api/call/strategies/{event}").text


# --- files ---


def test_no_path_is_served_or_read_however_it_is_spelt(room, ann):
    tried = leaked = 0
    for file in OWN_FILES:
        path = file.format(home=room.home, root=ROOT)
        for spelling in SPELLINGS:
            spelt = spelling.format(path=path, cache=room.home / "cache" / "app")
            answer = ann.get(f"/gradio_api/file={spelt}")
            data = {"path": spelt, "meta": {"_type": "gradio.FileData"}}
            asked = ann.post("/gradio_api/call/predict", json={"data": [data, "reference"]})
            if asked.status_code == 200:
                event = asked.json()["event_id"]
                heard = ann.get(f"/gradio_api/call/predict/{event}").text
                leaked += "event: complete" in heard or "root:" in heard
            tried += 1
            leaked += answer.status_code not in (400, 403, 404) or "root:" in answer.text
    assert (tried, leaked) == (40, 0)


def test_an_upload_of_another_sites_page_is_refused_and_leaves_nothing(room, ann):
    before = cached(room)
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
    ):
        for path in (UPLOAD, "/gradio_api/queue/join", "/login"):
            files = {"files": ("x.png", str(headers).encode())}
            answer = ann.post(path, files=files, headers=headers)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers
    assert cached(room) == before


# --- sizes ---


def test_an_upload_that_is_too_large_is_refused_and_leaves_nothing(room, ann):
    before = cached(room)
    end = b"\r\n--x--\r\n"
    declared = raw(room, ann, "Content-Length: 400001")
    chunk = b"%x\r\n%s\r\n"
    several = [chunk % (len(p), p) for p in 5 * [PART + b"z" * 90_000 + b"\r\n"]]
    unsaid = raw(room, ann, "Transfer-Encoding: chunked", *several, b"0\r\n\r\n")
    one = PART + b"z" * 100_001 + end
    single = raw(room, ann, f"Content-Length: {len(one)}", one)
    many = b"".join(PART + b"z\r\n" for _ in range(1001)) + end[2:]
    parts = raw(room, ann, f"Content-Length: {len(many)}", many)
    long = PART.replace(b"a.png", b"a" * 100_000) + b"z" + end
    header = raw(room, ann, f"Content-Length: {len(long)}", long)
    statuses = [answer.split(b" ")[1] for answer in (declared, unsaid, single, parts, header)]
    assert statuses[:3] == [b"413"] * 3 and set(statuses[3:]) <= {b"400", b"413"}
    assert b"maximum allowed size" in declared and b"maximum allowed size" in unsaid
    assert cached(room) == before


def test_uploads_that_break_off_leave_nothing(room, ann):
    before = cached(room)
    for _ in range(min(5 * SCALE, 40)):
        with line(room, ann, "Content-Length: 90000") as opened:
            opened.sendall(PART + b"z" * 50_000)
            assert becomes(lambda: cached(room) != before), "nothing has come"
        assert becomes(lambda: cached(room) == before), "what has come is still there"


def test_the_app_answers_while_many_hold_a_line_and_say_nothing(room, ann):
    with contextlib.ExitStack() as lines:
        for _ in range(200):
            silent = socket.create_connection(("127.0.0.1", room.port), timeout=10)
            lines.enter_context(silent).sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert ann.get("/healthz").status_code == 200


# --- logins, and the end ---


def test_guesses_are_refused_after_ten(room):
    with httpx.Client(base_url=room.address, timeout=60) as client:
        began, statuses = time.monotonic(), []
        for number in range(20 * SCALE):
            form = {"username": "ben", "password": f"guess{number}"}
            statuses.append(client.post("/login", data=form).status_code)
        allowed = 10 + (time.monotonic() - began) / 6
    print(f"{statuses.count(400)} of {len(statuses)} guesses were tried")
    assert set(statuses) == {400, 429} and 10 <= statuses.count(400) <= allowed + 1


def test_sigterm_ends_the_app_within_seconds_and_leaves_the_worker(room, ann):
    """The last test of this module: a page stays open while the app is told to go."""

    def listen():
        with contextlib.suppress(httpx.HTTPError):
            ann.get("/gradio_api/heartbeat/anns")

    threading.Thread(target=listen, daemon=True).start()
    time.sleep(0.5)
    room.process.send_signal(signal.SIGTERM)
    assert room.process.wait(10) == 0
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{room.address}/healthz")
    lock = room.home / "worker.lock"
    inode = re.compile(rf"FLOCK .*:{lock.stat().st_ino} ")
    with open("/proc/locks") as locks:
        assert inode.search(locks.read()), "no worker holds its lock"


def test_the_log_tells_what_happened_and_of_nobody(room):
    text = room.log.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [line["event"] for line in (lines[0], lines[-1])] == ["start", "stop"]
    kinds = {line["kind"] for line in lines if line["event"] == "refused"}
    assert kinds >= {"foreign", "elsewhere", "upload_bytes", "login_rate"}
    for secret in ("ann", "ben", "a.png", "guess", "127.0.0.1", str(room.home)):
        assert not any(secret in json.dumps(line) for line in lines), secret


def test_it_called_nobody_outside_this_machine(room, listened):
    """Neither the app nor its worker, all tests of this module long; what would is heard."""
    heard = Path(listened["HEARD"])
    assert not heard.exists() or not heard.read_text()
    call = "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))"
    subprocess.run([sys.executable, "-c", call], env=os.environ | listened, check=False)
    assert "socket.connect 192.0.2.1" in heard.read_text()
    heard.unlink()
