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
from collections.abc import Iterator
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, unquote

COOKIE = "ftlab_visitor"
LOGIN = "access-token"  # how the names of Gradio's login cookies begin
BODY_BYTES = 8 * 2**20  # of a request that is no upload
REMEMBERED = 100_000  # folders and sessions whose people are known
ELSEWHERE = re.compile(r"(/gradio_api)?/(proxy=|file=(?!/))")  # addresses the server would visit
TOLD_IN = (b"application/json", b"text/event-stream", b"text/html")
TAIL = 400  # bytes of an answer kept back, for an address that is cut in two
DAY = 86400


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
        headers = {name.lower(): value for name, value in scope["headers"]}
        cookies = _cookies(headers)
        fresh = b"text/html" in headers.get(b"accept", b"") and COOKIE not in cookies
        if fresh:
            cookies[COOKIE] = secrets.token_hex(16)
        who = _who(scope, cookies)
        asked = unquote(f"{scope['path']}?{scope['query_string'].decode('latin-1')}")
        if ELSEWHERE.match(asked):
            return await _refuse(send, 403, "This is not served here.")
        said, receive = await _read(scope, headers, receive)
        if said is None:
            return await _refuse(send, 413, "This request is too large.")
        named = (folder for text in (asked, *said) for folder in self._in(text))
        if not all(self.told.allows(who, folder) for folder in named):
            return await _refuse(send, 404, "There is no such file.")
        query = parse_qs(scope["query_string"].decode("latin-1"))
        for session in (*query.get("session_hash", ()), *_sessions(scope["path"], said)):
            if not self.sessions.claim(who, session):
                return await _refuse(send, 404, "There is no such session.")
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


def _cookies(headers: dict[bytes, bytes]) -> dict[str, str]:
    try:
        jar = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    except CookieError:
        return {}
    cookies = {name: morsel.value for name, morsel in jar.items()}
    if not _is_token(cookies.get(COOKIE, "")):
        cookies.pop(COOKIE, None)
    return cookies


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
    kind = headers.get(b"content-type", b"")
    if scope["method"] not in ("POST", "PUT", "PATCH") or kind.startswith(b"multipart/"):
        return [], receive
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return [], receive
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > BODY_BYTES:
            return None, receive
    once = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def again():
        return next(once, None) or await receive()

    try:
        return list(_texts(json.loads(body))), again
    except (ValueError, RecursionError):
        return [body.decode("latin-1")], again


def _texts(value) -> Iterator[str]:
    """Every text in a JSON value; a session's name as "session_hash=..."."""
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
            if isinstance(value.get("session_hash"), str):
                yield f"session_hash={value['session_hash']}"


def _sessions(path: str, texts: list[str]) -> list[str]:
    """The sessions that a request names in its body or, to be kept alive, in its path."""
    named = [text.partition("=")[2] for text in texts if text.startswith("session_hash=")]
    beat = re.search(r"/heartbeat/([^/]+)", path)
    return named + ([beat[1]] if beat else [])


async def _refuse(send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
