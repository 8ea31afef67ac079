"""How often and how much one person, and one address, may ask of the app.

A class of thirty sits behind one address, so an address may do what a class does. Whoever sends
neither a login nor a cookie is bound by their address alone. What is remembered is bounded too.
"""

from __future__ import annotations

import ipaddress
import math
import re
import time
from collections import Counter, OrderedDict
from typing import NamedTuple

from starlette.formparsers import MultiPartException
from starlette.requests import Request

from ..console import amount
from ..modes import Mode
from . import journal
from .door import cookies_of, headers_of, person, read_body, refuse

CLASS = 30  # people behind one address
KEPT = 20_000  # people and addresses remembered of each kind; who was here longest ago goes first
FORM_BYTES = 8192  # of a login
REQUEST_FILES = 4  # of the largest size that one upload may hold
DAY_STORES = 5  # how often a day one may fill one's share with uploads
DAY = 86400


class Limit(NamedTuple):
    """What a path may be asked: so often at once, and then so often a minute."""

    asked: str
    at_once: int
    per_minute: int
    by_address: int  # times as often from one address
    said: str


LIMITS = {
    "login": Limit(r"/login/?", 10, 10, 6, "Too many logins: wait a minute."),
    "upload": Limit(
        r"/gradio_api/upload/?",
        *(60, 60, CLASS, "Too many uploads at once: wait a minute."),
    ),
    "event": Limit(
        r"/gradio_api/(queue/join|(call|run|api)/.+)",
        *(200, 600, CLASS, "Too many requests at once: wait a few seconds."),
    ),
}
STREAM = re.compile(r"/gradio_api/(queue/data|heartbeat/.+|call/.+|upload_progress|startup-events)")
STREAMS = 40  # open at once: twenty tabs of one person
TOO_MANY_STREAMS = "Too many pages of this app are open: close some of them."


class Pace:
    """ASGI middleware; `forwarded`: a proxy that can be believed says who the clients are."""

    def __init__(self, app, mode: Mode, forwarded: bool = False):
        self.app, self.forwarded = app, forwarded
        self.buckets = {
            kind: (Buckets(limit, 1), Buckets(limit, limit.by_address))
            for kind, limit in LIMITS.items()
        }
        self.streams: Counter[str] = Counter()
        self.request_bytes = REQUEST_FILES * mode.upload_bytes
        stored = mode.stored_bytes
        self.days = [Days(stored and n * DAY_STORES * stored) for n in (1, CLASS)]

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = headers_of(scope)
        who = person(scope, cookies_of(headers)), address(scope, headers, self.forwarded)
        if self.forwarded:  # so that whoever sends no cookie is told apart further in, too
            scope = {**scope, "client": (who[1], 0)}
        if scope["method"] == "GET" and STREAM.fullmatch(scope["path"]):
            return await self._stream(who, scope, receive, send)
        kind = _kind(scope)
        if kind == "login":
            body, receive = await read_body(receive, FORM_BYTES)
            if body is None:
                return await refuse(send, 413, "This login is too long.", "login_bytes")
            who = await _username(scope, body), who[1]
        if wait := kind and self._take(kind, who):
            retry = [(b"retry-after", str(wait).encode())]
            return await refuse(send, 429, LIMITS[kind].said, f"{kind}_rate", retry)
        if kind == "upload":
            told = headers.get(b"content-length", b"0")
            if too_large := self._too_large(who, int(told) if told.isdigit() else 0):
                return await refuse(send, 413, too_large, "upload_bytes")
            receive = self._counted(who, receive)
        return await self.app(scope, receive, send)

    def _take(self, kind: str, who: tuple[str, str]) -> int:
        """Take a token of the person's and of the address's; else seconds until both have one."""
        pairs = [(b, name) for b, name in zip(self.buckets[kind], who, strict=True) if name]
        wait = max(buckets.wait(name) for buckets, name in pairs)
        if not wait:
            for buckets, name in pairs:
                buckets.take(name)
        return math.ceil(wait)

    async def _stream(self, who: tuple[str, str], scope, receive, send):
        names = [name for name in who if name]
        most = (STREAMS, CLASS * STREAMS)[-len(names) :]
        if any(self.streams[name] >= n for name, n in zip(names, most, strict=True)):
            return await refuse(send, 429, TOO_MANY_STREAMS, "streams", [(b"retry-after", b"10")])
        self.streams.update(names)
        try:
            return await self.app(scope, receive, send)
        finally:
            self.streams.subtract(names)
            for name in names:
                if not self.streams[name]:
                    del self.streams[name]

    def _too_large(self, who: tuple[str, str], size: int) -> str:
        """Why an upload of that size is refused, "" where it is not."""
        if size > self.request_bytes:
            most = amount(self.request_bytes)
            return f"An upload exceeds its maximum allowed size of {most}B: send less at once."
        for days, name in zip(self.days, who, strict=True):
            if days.most and name and days.spent(name) + size > days.most:
                most = amount(days.most)
                return (
                    f"A day's uploads exceed their maximum allowed size of {most}B: go on tomorrow."
                )
        return ""

    def _counted(self, who: tuple[str, str], receive):
        """`receive` that breaks an upload off where it grows too large or its sender is gone.

        It does so by the error on which Gradio deletes the part that has come already.
        """
        size, whole = 0, False

        async def counted():
            nonlocal size, whole
            message = await receive()
            if whole:
                return message
            if message["type"] == "http.disconnect":
                raise MultiPartException("The upload broke off.")
            came, whole = len(message.get("body", b"")), not message.get("more_body", False)
            size += came
            for days, name in zip(self.days, who, strict=True):
                days.add(name, came)
            if too_large := self._too_large(who, 0) or self._too_large(("", ""), size):
                journal.refused("upload_bytes")
                raise MultiPartException(too_large)
            return message

        return counted


class Buckets:
    """Token buckets by name, each full at first and filled up steadily."""

    def __init__(self, limit: Limit, times: int):
        self.full, self.per_second = times * limit.at_once, times * limit.per_minute / 60
        self.left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at what time

    def _now(self, name: str) -> float:
        tokens, then = self.left.get(name, (self.full, 0.0))
        return min(tokens + (time.monotonic() - then) * self.per_second, self.full)

    def wait(self, name: str) -> float:
        """Seconds until there is a token."""
        return max(1 - self._now(name), 0) / self.per_second

    def take(self, name: str) -> None:
        _remember(self.left, name, (self._now(name) - 1, time.monotonic()))


class Days:
    """Bytes by name and day; `most` is a day's limit, None for none."""

    def __init__(self, most: int | None):
        self.most = most
        self.bytes: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def spent(self, name: str) -> int:
        day, spent = self.bytes.get(name, (0, 0))
        return spent if day == time.time() // DAY else 0

    def add(self, name: str, size: int) -> None:
        if self.most and name:
            _remember(self.bytes, name, (int(time.time() // DAY), self.spent(name) + size))


def _remember(known: OrderedDict, name: str, value) -> None:
    known[name] = value
    known.move_to_end(name)
    if len(known) > KEPT:
        known.popitem(last=False)


def _kind(scope) -> str | None:
    """Which limit a request falls under."""
    if scope["method"] != "POST":
        return None
    return next(
        (k for k, limit in LIMITS.items() if re.fullmatch(limit.asked, scope["path"])), None
    )


async def _username(scope, body: bytes) -> str:
    """The name that a login's form holds, "" where it holds none."""

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    alone = {key: value for key, value in scope.items() if key != "app"}
    try:
        name = (await Request(alone, receive).form()).get("username")
    except (MultiPartException, ValueError, KeyError):
        return ""
    name = name.strip()[:64] if isinstance(name, str) else ""
    return name and f"name:{name}"


def address(scope, headers: dict[bytes, bytes], forwarded: bool) -> str:
    """Whose address a request comes from; of IPv6 the half that a household shares.

    What a header says of it counts only where a proxy writes it: there the last public one.
    """
    told = headers.get(b"x-forwarded-for", b"").decode("latin-1").split(",") if forwarded else []
    peer = (scope.get("client") or ("",))[0]
    found = (_parsed(text) for text in (*reversed(told), peer))
    known = [each for each in found if each]
    best = next((each for each in known if each.is_global), known[-1] if known else None)
    if best and best.version == 6:
        return str(ipaddress.ip_network((best, 64), strict=False))
    return str(best or peer or "unknown")


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
