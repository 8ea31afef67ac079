"""The door of an app that several people use: it knows who comes, and what each may fetch.

Gradio gives a file to whoever knows its address, and a session to whoever knows its name. Here an
address counts only for those the app told it to, or who uploaded the file themselves, and a session
only for the one who began it. All of it is ASGI middleware, so that no page or endpoint can forget.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, unquote

from . import journal

COOKIE = "ftlab_visitor"
LOGIN = "access-token"  # how the names of Gradio's login cookies begin
BODY_BYTES = 8 * 2**20  # of a request that is no upload
FETCHED = re.compile(r"path=\s*\w+://")  # a file that the server would fetch for its input
UPLOAD = "/gradio_api/upload"  # the path that takes files
REMEMBERED = 100_000  # folders and sessions whose people are known
# What is not served: addresses the server would visit, and what this app does not use of Gradio
ELSEWHERE = re.compile(
    r"(/gradio_api)?/(proxy=|file=(?!/)|component_server|deep_link|vibe-|undo-vibe|monitoring)"
)
TOLD_IN = (b"application/json", b"text/event-stream", b"text/html")
TAIL = 400  # bytes of an answer kept back, for an address that is cut in two
DAY = 86400
HERE = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")  # what this machine calls itself
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))
FRAMED_BY = {True: b"'self' https://huggingface.co", False: b"'self'"}  # in a Space, elsewhere


class Outside:
    """ASGI middleware against pages of other sites: what they may frame, send and pass for.

    space: a Hugging Face Space, which its own page frames and which other pages may ask.
    local: the app of one person at this machine, to whom no other name can lead.
    """

    def __init__(self, app, space: bool = False, local: bool = False):
        self.app, self.space, self.local = app, space, local
        framed = (b"content-security-policy", b"frame-ancestors " + FRAMED_BY[space])
        self.headers = [*HEADERS, framed]

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def headed(message):
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                more = [header for header in self.headers if header[0] not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        headers = headers_of(scope)
        if self.local and not HERE.fullmatch(headers.get(b"host", b"").decode("latin-1")):
            return await refuse(headed, 403, "This app is at http://localhost.", "host")
        changes = scope["method"] not in ("GET", "HEAD")
        if changes and not self.space and _foreign(headers):
            return await refuse(headed, 403, "Pages of other sites cannot do this.", "foreign")
        return await self.app(scope, receive, headed)


def _foreign(headers: dict[bytes, bytes]) -> bool:
    """Whether a page of another site sends a request; a program that is no browser sends none."""
    if site := headers.get(b"sec-fetch-site"):
        return site in (b"cross-site", b"same-site")
    origin = headers.get(b"origin")
    hosts = (headers.get(b"host"), headers.get(b"x-forwarded-host"))
    return origin is not None and origin.partition(b"//")[2] not in hosts


class Door:
    """ASGI middleware; `cache` is the folder of the app's uploads and files."""

    def __init__(self, app, cache: Path):
        self.app = app
        inside = re.escape(os.path.basename(os.path.realpath(cache)))
        self.folder = re.compile(rf"/{inside}/((?:downloads/)?[0-9a-f]{{16,64}})\b")
        self.told, self.sessions = Owners(), Owners()

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = headers_of(scope)
        cookies = cookies_of(headers)
        fresh = b"text/html" in headers.get(b"accept", b"") and COOKIE not in cookies
        if fresh:
            cookies[COOKIE] = secrets.token_hex(16)
        who = _who(scope, cookies)
        asked = unquote(f"{scope['path']}?{scope['query_string'].decode('latin-1')}")
        if ELSEWHERE.match(asked):
            return await refuse(send, 403, "This is not served here.", "elsewhere")
        said, receive = await _read(scope, headers, receive)
        if said is None:
            return await refuse(send, 413, "This request is too large.", "body_bytes")
        if any(map(FETCHED.match, said)):
            return await refuse(send, 403, "Upload the file itself.", "elsewhere")
        named = (folder for text in (asked, *said) for folder in self._in(text))
        if not all(self.told.allows(who, folder) for folder in named):
            return await refuse(send, 404, "There is no such file.", "file")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        for session in (*query.get("session_hash", ()), *_sessions(scope["path"], said)):
            if not self.sessions.claim(who, session):
                return await refuse(send, 404, "There is no such session.", "session")
        cookie = [_cookie(scope, cookies[COOKIE])] if fresh else []
        return await self.app(scope, receive, self._telling(send, who, cookie))

    def _in(self, text: str) -> Iterator[str]:
        """The cache's folders that a text names, however it spells their paths."""
        yield from self.folder.findall(text)
        path = text.partition("file=")[2] or text
        if "/" in path and len(path) < 4096 and "\0" not in path:
            yield from self.folder.findall(os.path.realpath(path))

    def _telling(self, send, who: str, cookie: list):
        """`send`, with the header of a cookie, noting which files it tells of."""
        listening, tail = False, b""

        async def telling(message):
            nonlocal listening, tail
            if message["type"] == "http.response.start":
                kind = dict(message["headers"]).get(b"content-type", b"")
                listening = kind.startswith(TOLD_IN)
                message = {**message, "headers": [*message["headers"], *cookie]}
            elif listening:
                heard = tail + message.get("body", b"")
                tail = heard[-TAIL:]
                for folder in self.folder.findall(heard.decode(errors="replace")):
                    self.told.add(who, folder)
            await send(message)

        return telling


class Owners:
    """Who knows what, of the last things told."""

    def __init__(self):
        self.known: OrderedDict[str, set[str]] = OrderedDict()

    def add(self, who: str, thing: str) -> None:
        self.known.setdefault(thing, set()).add(who)
        self.known.move_to_end(thing)
        while len(self.known) > REMEMBERED:
            self.known.popitem(last=False)

    def allows(self, who: str, thing: str) -> bool:
        return who in self.known.get(thing, ())

    def claim(self, who: str, thing: str) -> bool:
        """Whether a thing is one's own; what is nobody's becomes one's own."""
        if thing not in self.known:
            self.add(who, thing)
        return self.allows(who, thing)


def visitor(cookies) -> str:
    """The name of a visitor's home, from the cookies of a request; "" where they bear none."""
    token = cookies.get(COOKIE, "")
    return hashlib.sha256(token.encode()).hexdigest()[:32] if _is_token(token) else ""


def _is_token(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{32}", text) is not None


def headers_of(scope) -> dict[bytes, bytes]:
    """A request's headers by their names in lower case; the last of those that are repeated."""
    return {name.lower(): value for name, value in scope["headers"]}


def cookies_of(headers: dict[bytes, bytes]) -> dict[str, str]:
    """A request's cookies; the visitor's only where it is one of ours."""
    try:
        jar = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return {}
    cookies = {name: morsel.value for name, morsel in jar.items()}
    if not _is_token(cookies.get(COOKIE, "")):
        cookies.pop(COOKIE, None)
    return cookies


def person(scope, cookies: dict[str, str]) -> str:
    """Who is to share fairly: a login by its name, else a browser; "" for anybody else."""
    logins = getattr(scope.get("app"), "tokens", {})  # Gradio's, by the values of their cookies
    names = {logins.get(value, "") for name, value in cookies.items() if name.startswith(LOGIN)}
    return f"login:{name}" if (name := max(names, default="")) else visitor(cookies)


def _who(scope, cookies: dict[str, str]) -> str:
    """Who asks: a browser by its cookie, anybody else by their address; and each login apart."""
    client = cookies.get(COOKIE) or "address:" + (scope.get("client") or ("",))[0]
    logins = sorted(value for name, value in cookies.items() if name.startswith(LOGIN))
    return "|".join((client, *logins))


def _cookie(scope, token: str) -> tuple[bytes, bytes]:
    """The header that makes a browser known; inside another page's frame it needs to be secure."""
    forwarded = dict(scope["headers"]).get(b"x-forwarded-proto", b"").decode("latin-1")
    secure = (forwarded or scope.get("scheme", "http")) == "https"
    reach = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    text = f"{COOKIE}={token}; Path=/; Max-Age={30 * DAY}; HttpOnly; {reach}"
    return b"set-cookie", text.encode()


async def _read(scope, headers, receive):
    """(every text in a JSON request's body, `receive` that gives the body once more).

    The texts are None where the body is too large. Uploads pass unread.
    """
    multipart = headers.get(b"content-type", b"").startswith(b"multipart/")
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return [], receive
    if multipart and scope["path"].rstrip("/") == UPLOAD:
        return [], receive
    body, again = await read_body(receive, BODY_BYTES)
    if body is None:
        return None, receive
    try:
        return list(_texts(json.loads(body))), again
    except (ValueError, RecursionError):
        return [body.decode("latin-1")], again


async def read_body(receive, most: int):
    """(a request's body, `receive` that gives it once more); None where it is too large."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            return None, receive
    once = iter([{"type": "http.request", "body": bytes(body), "more_body": more}])

    async def again():
        return next(once, None) or await receive()

    return bytes(body), again


def _texts(value) -> Iterator[str]:
    """Every text in a JSON value; a session's name and a file's path also as "name=..."."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            yield from value
            for name in ("session_hash", "path"):
                if isinstance(value.get(name), str):
                    yield f"{name}={value[name]}"


def _sessions(path: str, texts: list[str]) -> list[str]:
    """The sessions that a request names in its body or, to be kept alive, in its path."""
    named = [text.partition("=")[2] for text in texts if text.startswith("session_hash=")]
    beat = re.search(r"/heartbeat/([^/]+)", path)
    return named + ([beat[1]] if beat else [])


async def refuse(send, status: int, sentence: str, kind: str, more: Sequence = ()) -> None:
    """Answer with a sentence, and log its kind; `more` are headers."""
    journal.refused(kind)
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    head = {"type": "http.response.start", "status": status, "headers": [*headers, *more]}
    await send(head)
    await send({"type": "http.response.body", "body": body})
