"""The door: who may fetch which file, whose a session is, and what is never served."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("gradio")  # and with it Starlette

from starlette.applications import Starlette  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.responses import (  # noqa: E402
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    StreamingResponse,
)
from starlette.routing import Route  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from ftlab.ui import door  # noqa: E402

DIGEST, OTHER = "ab" * 32, "cd" * 32
PAGE = {"accept": "text/html"}


@pytest.fixture
def app(tmp_path):
    """An app in Gradio's form that would give anything to anybody."""
    cache = tmp_path / "cache" / "app"
    for digest in (DIGEST, OTHER):
        (cache / digest).mkdir(parents=True)

    def told(request):
        return JSONResponse([{"path": f"{cache}/{DIGEST}/x.png"}])

    def streamed(request):
        text = f'data: {{"path": "{cache}/{DIGEST}/ü.png"}}\n\n'.encode()
        return StreamingResponse(iter((text[:40], text[40:])), media_type="text/event-stream")

    async def echo(request):
        return JSONResponse({"size": len(await request.body())})

    async def uploaded(request):
        await request.body()
        return told(request)

    routes = [
        Route("/", lambda request: HTMLResponse("<p>page</p>")),
        Route("/told", told),
        Route("/streamed", streamed),
        Route("/echo", echo, methods=["POST"]),
        Route("/gradio_api/upload", uploaded, methods=["POST"]),
        Route("/{path:path}", lambda request: PlainTextResponse("served")),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(door.Door, cache=cache)])
    app.cache = cache
    return app


def visit(app, **options) -> TestClient:
    """A browser that has opened the page."""
    client = TestClient(app, **options)
    client.get("/", headers=PAGE)
    return client


def served(client, path) -> bool:
    response = client.get(f"/gradio_api/file={path}")
    assert response.status_code in (200, 404)
    return response.status_code == 200


@pytest.mark.parametrize("how", ["/told", "/streamed"])
def test_a_file_is_served_to_whom_the_app_told_of_it_and_to_nobody_else(app, how):
    ann, ben = visit(app), visit(app)
    path = f"{app.cache}/{DIGEST}/x.png"
    assert not served(ann, path) and not served(ben, path)
    ann.get(how)
    assert served(ann, path) and not served(ben, path)
    assert not served(ann, f"{app.cache}/{OTHER}/x.png")


def test_an_upload_is_its_uploaders(app):
    ann, ben = visit(app), visit(app)
    ann.post("/gradio_api/upload", files={"files": ("x.png", b"picture")})
    path = f"{app.cache}/{DIGEST}/x.png"
    assert served(ann, path) and not served(ben, path)


@pytest.mark.parametrize(
    "spelling",
    [
        "{cache}/{digest}/x.png",
        "{cache}/./{digest}/x.png",
        "{cache}//{digest}/../{digest}/x.png",
        "{cache}/%64{digest_but_one}/x.png",
        "/proc/self/root{cache}/{digest}/x.png",
        "{link}/{digest}/x.png",
    ],
)
def test_no_spelling_of_a_path_gets_at_anothers_file(app, spelling, tmp_path):
    (tmp_path / "link").symlink_to(app.cache)
    path = spelling.format(
        cache=app.cache, digest=OTHER, digest_but_one=OTHER[1:], link=tmp_path / "link"
    )
    if "%64" in path:  # the first letter of the digest, written as a d
        path = path.replace("%64", "%63")
    assert not served(visit(app), path)


def test_anothers_file_is_no_input_either_wherever_it_stands_in_a_request(app):
    ann, ben = visit(app), visit(app)
    ann.get("/told")
    path = f"{app.cache}/{DIGEST}/x.png"
    relative = os.path.relpath(path, Path.cwd())
    for body in (
        {"data": [{"path": path}]},
        {"data": [[{"deep": {"path": path, "meta": {}}}]]},
        {"data": [relative]},
        {path: 1},
        {"data": [{"url": f"http://x/gradio_api/file={path}"}]},
    ):
        assert ben.post("/echo", json=body).status_code == 404
        assert ann.post("/echo", json=body).status_code == 200
    raw = json.dumps({"path": path}).replace("/", "\\/").replace("cache", "\\u0063ache")
    assert ben.post("/echo", content=raw).status_code == 404


def test_a_request_passes_unchanged_and_one_that_is_too_large_does_not(app, monkeypatch):
    client = visit(app)
    body = json.dumps({"data": ["no path"] * 100}).encode()
    assert client.post("/echo", content=body).json() == {"size": len(body)}
    assert client.post("/echo", content=b"no JSON").json() == {"size": 7}
    monkeypatch.setattr(door, "BODY_BYTES", 100)
    assert client.post("/echo", content=body).status_code == 413


def test_a_session_is_whoevers_began_it(app):
    ann, ben = visit(app), visit(app)
    assert ann.post("/echo", json={"session_hash": "abc"}).status_code == 200
    for request in (
        lambda who: who.post("/echo", json={"session_hash": "abc"}),
        lambda who: who.get("/gradio_api/queue/data?session_hash=abc"),
        lambda who: who.get("/gradio_api/heartbeat/abc"),
    ):
        assert request(ben).status_code == 404 and request(ann).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1/x",
        "/gradio_api/file=https://example.org/x",
        "/gradio_api/file=HTTP%3A//example.org",
        "/gradio_api/file=ftp://x",
        "/gradio_api/file=relative/x",
        "/gradio_api/proxy=https://example.org/",
        "/proxy=https://example.org/",
        "/monitoring/summary",
        "/gradio_api/vibe-edit",
        "/gradio_api/component_server",
    ],
)
def test_the_server_visits_no_address_for_anybody(app, path):
    response = visit(app).get(path)
    assert response.status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1:80/x.png", "https://example.org/x.png", "HTTPS://example.org"),
        *("http://169.254.169.254/latest", "ftp://example.org/x", "file:///etc/passwd"),
        *(" http://rebound.example/x.png", "http://[::1]/x.png"),
    ],
)
def test_no_file_is_fetched_from_an_address_to_be_an_input(app, address):
    ann = visit(app)
    for data in ({"path": address}, [[{"deep": {"path": address, "meta": {}}}]]):
        assert ann.post("/echo", json={"data": [data]}).status_code == 403
    assert ann.post("/echo", json={"data": [f"see {address}"]}).status_code == 200


def test_a_browser_is_known_by_a_cookie_that_no_script_reads(app):
    client = TestClient(app)
    header = client.get("/", headers=PAGE).headers["set-cookie"]
    assert "HttpOnly" in header and "SameSite=Lax" in header and "Secure" not in header
    assert "set-cookie" not in client.get("/", headers=PAGE).headers
    name = door.visitor(client.cookies)
    assert len(name) == 32 and client.cookies[door.COOKIE] not in name
    assert "set-cookie" not in TestClient(app).get("/told").headers


def test_a_page_in_anothers_frame_has_a_cookie_of_its_own(app):
    header = (
        TestClient(app)
        .get("/", headers={**PAGE, "x-forwarded-proto": "https"})
        .headers["set-cookie"]
    )
    assert "SameSite=None; Secure; Partitioned" in header


@pytest.mark.parametrize("token", ["", "../../x", "A" * 32, "a" * 31, "a" * 33])
def test_a_cookie_that_is_none_of_ours_names_nobody(token):
    assert door.visitor({door.COOKIE: token}) == ""


def test_two_logins_at_one_browser_are_two(app):
    client = visit(app)
    client.cookies.set("access-token-x", "ann")
    client.get("/told")
    path = f"{app.cache}/{DIGEST}/x.png"
    assert served(client, path)
    client.cookies.set("access-token-x", "ben")
    assert not served(client, path)


def test_whoever_sends_no_cookie_is_known_by_their_address(app):
    near, far = TestClient(app), TestClient(app, client=("10.0.0.9", 1))
    near.get("/told")
    path = f"{app.cache}/{DIGEST}/x.png"
    assert served(near, path) and not served(far, path)


# --- pages of other sites ---


def outside(**options) -> TestClient:
    """An app that takes anything, and notes what it took."""

    async def take(request):
        return PlainTextResponse("taken")

    routes = [Route("/{path:path}", take, methods=["GET", "POST"])]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(door.Outside, **options)]))


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin", "origin": "https://elsewhere.example"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://testserver"}, True),
        ({"origin": "https://ftlab.example", "x-forwarded-host": "ftlab.example"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site", "origin": "http://localhost:3000"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://testserver.evil.example"}, False),
        ({"origin": "null"}, False),
    ],
)
def test_a_page_of_another_site_changes_nothing(headers, taken):
    client = outside()
    assert client.post("/gradio_api/upload", headers=headers).status_code == (200 if taken else 403)
    assert client.get("/", headers=headers).status_code == 200
    assert outside(space=True).post("/", headers=headers).status_code == 200


def test_no_other_site_frames_the_app_but_the_page_of_its_space():
    for space, who in ((False, "'self'"), (True, "'self' https://huggingface.co")):
        answer = outside(space=space).get("/")
        assert answer.headers["content-security-policy"] == f"frame-ancestors {who}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("host", "served"),
    [
        ("localhost:7860", True),
        ("127.0.0.1", True),
        ("[::1]:7860", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:7860", False),
        ("", False),
    ],
)
def test_one_persons_app_answers_to_no_name_that_a_stranger_points_at_it(host, served):
    answer = outside(local=True).get("/", headers={"host": host})
    assert (answer.status_code == 200) is served
    assert "content-security-policy" in answer.headers
