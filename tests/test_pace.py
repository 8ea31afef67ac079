"""How often and how much: rates, sizes and open streams, of one person and of one address."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio")  # and with it Starlette

import httpx  # noqa: E402, with gradio
from starlette.formparsers import MultiPartException  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402

from ftlab.modes import CLASSROOM, ONE, PUBLIC  # noqa: E402
from ftlab.ui import door, pace  # noqa: E402

JOIN, UPLOAD, QUEUE = "/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/queue/data"
SMALL = replace(CLASSROOM, upload_bytes=1000, stored_bytes=2000)  # 4,000 at once, 10,000 a day
MULTIPART = {"content-type": "multipart/form-data; boundary=x"}
LOOP = asyncio.new_event_loop()


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves: `clock.now += 1`."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(pace.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(pace.time, "time", lambda: Clock.now)
    return Clock


@pytest.fixture
def app(clock):
    return served(CLASSROOM)


def served(mode, **options):
    """An app that takes anything, behind a pace; it answers an upload as Gradio does."""

    async def answer(scope, receive, send):
        try:
            size = sum([len(chunk) async for chunk in Request(scope, receive).stream()])
            response = PlainTextResponse(str(size))
        except MultiPartException as error:
            response = PlainTextResponse(error.message, 413)
        await response(scope, receive, send)

    return SimpleNamespace(serve=pace.Pace(answer, mode, **options), tokens={})


class Caller:
    """Whoever calls an app from an address; without a socket, since tests call a lot."""

    def __init__(self, app, address: str = "10.0.0.1"):
        self.app, self.address, self.cookies = app, address, {}

    def get(self, path):
        return LOOP.run_until_complete(self._ask(httpx.Request("GET", f"http://app{path}")))

    def post(self, path, **options):
        request = httpx.Request("POST", f"http://app{path}", **options)
        return LOOP.run_until_complete(self._ask(request))

    async def _ask(self, request):
        told, stream = [], aiter(request.stream)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())

        async def receive():
            chunk = await anext(stream, None)
            return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

        async def send(message):
            told.append(message)

        scope = {"type": "http", "method": request.method, "path": request.url.path}
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        headers += [(b"cookie", cookie.encode())] if cookie else []
        scope |= {"headers": headers, "client": (self.address, 1), "app": self.app}
        await self.app.serve(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in told).decode()
        given = {name.decode(): value.decode() for name, value in told[0]["headers"]}
        return SimpleNamespace(status=told[0]["status"], headers=given, text=text)


def browser(app, number: int = 0, address: str = "10.0.0.1") -> Caller:
    """A browser with a cookie of its own, behind an address."""
    caller = Caller(app, address)
    caller.cookies[door.COOKIE] = f"{number:032x}"
    return caller


def login(client, name: str = "ann"):
    return client.post("/login", data={"username": name, "password": "guess"})


def passed(post, times: int) -> int:
    answers = [post(number) for number in range(times)]
    assert {answer.status for answer in answers} <= {200, 429}
    return sum(answer.status == 200 for answer in answers)


# --- rates ---


def test_ten_logins_of_one_name_pass_in_a_minute_from_wherever_they_come(app, clock):
    clients = [browser(app, n, f"10.0.0.{n}") for n in range(25)]
    assert passed(lambda n: login(clients[n], " ann" if n % 2 else "ann"), 25) == 10
    refused = login(clients[0])
    assert refused.headers["retry-after"] == "6"
    assert json.loads(refused.text)["detail"] == "Too many logins: wait a minute."
    clock.now += 6
    assert login(clients[0]).status == 200 and login(clients[0]).status == 429
    clock.now += 60
    assert passed(lambda n: login(clients[n]), 25) == 10


def test_a_name_is_known_however_a_form_is_sent(app):
    client = browser(app)
    assert passed(lambda n: login(client), 10) == 10
    form = {"username": (None, "ann"), "password": (None, "guess")}
    assert client.post("/login", files=form).status == 429
    assert client.post("/login/", data={"username": "ann"}).status == 429
    assert login(client, "ben").status == 200


def test_a_class_of_thirty_behind_one_address_logs_in_at_once_and_a_guesser_does_not(app):
    assert passed(lambda n: login(browser(app, n), f"pupil{n}"), 30) == 30
    assert passed(lambda n: login(browser(app), f"name{n}"), 100) == 30  # 60 from one address


@pytest.mark.parametrize("body", [b"", b"username", b"username=", b"\xff" * 99, b"--x\r\n"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", MULTIPART["content-type"]])
def test_a_login_that_names_nobody_is_bound_by_its_address(app, body, kind):
    post = browser(app).post
    headers = {"content-type": kind}
    assert passed(lambda n: post("/login", content=body, headers=headers), 70) == 60


def test_a_login_is_short(app):
    assert login(browser(app), "a" * pace.FORM_BYTES).status == 413


@pytest.mark.parametrize(
    ("path", "most"),
    [(JOIN, 200), ("/gradio_api/call/predict", 200), ("/gradio_api/run/x", 200), (UPLOAD, 60)],
)
def test_one_person_is_bound_and_the_others_behind_their_address_are_not(app, path, most):
    ann, ben = browser(app, 1), browser(app, 2)
    assert passed(lambda n: ann.post(path), most + 5) == most
    assert json.loads(ann.post(path).text)["detail"].startswith("Too many")
    assert ben.post(path).status == 200


def test_thirty_pages_opened_at_once_are_served(app):
    clients = [browser(app, n) for n in range(30)]
    assert passed(lambda n: clients[n % 30].post(JOIN), 30 * 10) == 30 * 10


def test_whoever_drops_the_cookie_is_bound_by_the_address(app, monkeypatch):
    monkeypatch.setattr(pace, "LIMITS", {"event": pace.LIMITS["event"]._replace(by_address=1)})
    app = served(CLASSROOM)
    assert passed(lambda n: browser(app, n).post(JOIN), 250) == 200
    assert Caller(app, "10.0.0.1").post(JOIN).status == 429
    assert Caller(app, "10.0.0.2").post(JOIN).status == 200


def test_a_login_is_one_person_at_every_browser(app):
    app.tokens.update({"t1": "ann", "t2": "ann", "t3": "ben"})
    clients = [browser(app, n) for n in range(3)]
    for client, token in zip(clients, app.tokens, strict=True):
        client.cookies["access-token-x"] = token
    assert passed(lambda n: clients[n % 2].post(UPLOAD), 70) == 60
    assert clients[2].post(UPLOAD).status == 200


def test_looking_is_not_counted(app):
    client = browser(app)
    assert passed(lambda n: client.get("/config"), 300) == 300


def test_what_is_remembered_is_bounded(monkeypatch, clock):
    monkeypatch.setattr(pace, "KEPT", 10)
    buckets = pace.Buckets(pace.LIMITS["event"], 1)
    days = pace.Days(100)
    for number in range(1000):
        buckets.take(str(number))
        days.add(str(number), 1)
    assert len(buckets.left) == len(days.bytes) == 10 and "999" in buckets.left


# --- sizes ---


async def chunks(size: int):
    """A body without a length."""
    for start in range(0, size, 100):
        yield b"x" * min(100, size - start)


@pytest.mark.parametrize("sent", [lambda n: b"x" * n, chunks])
def test_an_upload_is_bound_with_a_length_and_without(clock, sent):
    post = browser(served(SMALL)).post
    assert post(UPLOAD, content=sent(4000), headers=MULTIPART).text == "4000"
    refused = post(UPLOAD, content=sent(4001), headers=MULTIPART)
    assert refused.status == 413
    assert "exceeds its maximum allowed size of 4 kB: send less at once." in refused.text


@pytest.mark.parametrize("sent", [lambda n: b"x" * n, chunks])
def test_a_days_uploads_are_bound_and_the_next_day_is_another(clock, sent):
    app = served(SMALL)
    ann, ben = browser(app, 1), browser(app, 2)
    statuses = [ann.post(UPLOAD, content=sent(3000), headers=MULTIPART).status for _ in range(5)]
    assert statuses == [200, 200, 200, 413, 413]
    refused = ann.post(UPLOAD, content=sent(3000), headers=MULTIPART)
    assert "A day's uploads exceed their maximum allowed size of 10 kB" in refused.text
    assert ben.post(UPLOAD, content=sent(3000), headers=MULTIPART).status == 200
    clock.now += pace.DAY
    assert ann.post(UPLOAD, content=sent(3000), headers=MULTIPART).status == 200


def test_one_person_at_this_machine_has_no_days():
    assert all(days.most is None for days in pace.Pace(None, ONE).days)
    assert [days.most for days in pace.Pace(None, PUBLIC).days] == [5 * 2**29, 150 * 2**29]


def test_an_upload_whose_sender_is_gone_ends_as_one_that_gradio_tidies_up(clock):
    told = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def receive():
        return next(told, {"type": "http.disconnect"})

    counted = pace.Pace(None, SMALL)._counted(("ann", "10.0.0.1"), receive)
    assert asyncio.run(counted())["body"] == b"x"
    with pytest.raises(MultiPartException, match="broke off"):
        asyncio.run(counted())


# --- streams ---


def test_open_streams_are_counted_while_they_are_open():
    async def watch():
        released = asyncio.Event()
        statuses = []

        async def app(scope, receive, send):
            await released.wait()

        async def send(message):
            statuses.append(message.get("status"))

        middle = pace.Pace(app, CLASSROOM)
        headers = [(b"cookie", f"{door.COOKIE}={1:032x}".encode())]
        scope = {"type": "http", "method": "GET", "path": QUEUE, "client": ("10.0.0.1", 1)}
        tasks = [
            asyncio.create_task(middle(scope | {"headers": headers}, None, send))
            for _ in range(pace.STREAMS + 3)
        ]
        await asyncio.sleep(0)
        alone = asyncio.create_task(middle(scope | {"headers": []}, None, send))
        await asyncio.sleep(0)
        refused = statuses.count(429)
        released.set()
        await asyncio.gather(*tasks, alone)
        return refused, middle.streams

    refused, left = asyncio.run(watch())
    assert refused == 3 and not left


# --- addresses ---


@pytest.mark.parametrize(
    ("peer", "told", "forwarded", "found"),
    [
        ("10.0.0.9", "9.9.9.9", False, "10.0.0.9"),  # anybody may write a header
        ("10.0.0.9", "9.9.9.9", True, "9.9.9.9"),
        ("10.0.0.9", "1.1.1.1, 9.9.9.9", True, "9.9.9.9"),  # the first is the client's own word
        ("10.0.0.9", "9.9.9.9, 10.1.2.3", True, "9.9.9.9"),  # the last is inside the house
        ("10.0.0.9", "<script>", True, "10.0.0.9"),
        ("10.0.0.9", "", True, "10.0.0.9"),
        ("2a00:1450:1:2:3:4:5:6", "", False, "2a00:1450:1:2::/64"),
        ("::ffff:9.9.9.9", "", False, "9.9.9.9"),
        ("", "", False, "unknown"),
    ],
)
def test_whose_address_counts(peer, told, forwarded, found):
    scope = {"client": (peer, 1) if peer else None}
    assert pace.address(scope, {b"x-forwarded-for": told.encode()}, forwarded) == found


def test_behind_a_believed_proxy_the_app_sees_the_clients(clock):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["client"][0])

    scope = {"type": "http", "method": "GET", "path": "/", "client": ("10.0.0.9", 1)}
    scope["headers"] = [(b"x-forwarded-for", b"9.9.9.9")]
    for forwarded in (True, False):
        asyncio.run(pace.Pace(app, PUBLIC, forwarded)(scope, None, None))
    assert seen == ["9.9.9.9", "10.0.0.9"]
