"""Serving the app: what Gradio must be told before it is imported, and when it starts."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

from .. import homes
from ..records import BadInput
from . import journal, leftovers

# Only this machine comes here; elsewhere others may see the app, but not name files of it
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
WAITING = 64  # events, of all visitors together
SESSIONS = 500  # whose state is kept, the latest
SWEEP_SECONDS = 600
WORKER_SECONDS = 60  # within which a worker that was killed is replaced
KEPT_HOURS = 24  # of uploads and downloads, where the mode does not say
WELCOME = (  # Gradio's page says nothing of its own where there were too many tries
    "ftlab, for this class. Not a medical device. After ten tries in vain, wait a minute."
)
LEAVING_SECONDS = 2  # that an answer under way has when the app ends
HELD = ("data", "checkpoints", "people", "queue.sqlite")  # of a home: no event gives it away
QUIET = dict(
    footer_links=["api", "settings"],
    run_history=False,
    enable_monitoring=False,
    ssr_mode=False,
    pwa=False,
    share=False,  # whatever the environment says: images stay here
    show_error=False,
    mcp_server=False,
    strict_cors=True,
    state_session_capacity=SESSIONS,
    quiet=True,
    _frontend=False,  # asks for no look at itself, which a busy machine answers too late
    prevent_thread_lock=True,
)


def launch(
    lab,
    mode=None,
    host: str = "127.0.0.1",
    port: int = 7860,
    users: Path | None = None,
    block: bool = True,
):
    """Build the app and serve it; the Blocks, once it can be visited.

    Uploads and downloads live in the lab's cache and go a day after they came, or earlier where
    the mode says so. The app asks nothing of the network: no analytics, no fonts, no update check.

    Args:
        lab: a `ftlab.lab.Lab`.
        mode: default: for one person at this machine.
        host: a name or an address; one of IPv6 with or without its brackets.
        users: the file of those who may log in to a classroom.
        block: stay until Ctrl-C or SIGTERM.
    Raises:
        BadInput: the port is taken, the users' file cannot be used, or Gradio's editing mode is
            on, in which visitors may write.
    """
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    _prepare(lab.home, host)
    from ..modes import Mode
    from ..passwords import checker
    from ..people import People
    from . import build
    from .theme import CSS, theme

    mode = mode or Mode(paths=host in LOOPBACK)
    check = checker(users) if users else None
    _must_be_free(host, port)
    own = lab if mode.name == "one" else People(lab, mode, _whose(mode.name))
    demo = build(own, mode)
    demo.queue(default_concurrency_limit=4, max_size=WAITING, api_open=False)
    demo.launch(
        server_name=_written(host),
        server_port=port,
        auth=check,
        auth_message=WELCOME if check else None,
        theme=theme(),
        css_paths=CSS,
        max_file_size=mode.upload_bytes,
        blocked_paths=[str(Path(lab.home) / name) for name in HELD],
        app_kwargs=_around(lab.home, mode, host),
        **QUIET,
    )
    demo.server.config.timeout_graceful_shutdown = LEAVING_SECONDS
    _start_beside(lab, mode)
    at = demo.local_url.replace("[::]", "[::1]")  # as Gradio does with 0.0.0.0
    print(f"ftlab is at {at}  (Ctrl-C ends it; studies go on)", flush=True)
    if block:
        _stay(demo)
    return demo


def _written(host: str) -> str:
    """A host as it stands in an address: one of IPv6 in brackets, which Gradio does not add."""
    return f"[{host}]" if ":" in host else host


def _must_be_free(host: str, port: int) -> None:
    """Say what is wrong with an address before Gradio, which calls every fault a taken port."""
    try:
        for one in (host, LOOPBACK[0]):  # at which Gradio tries the port whatever the host is
            family = socket.AF_INET6 if ":" in one else socket.AF_INET
            socket.create_server((one, port), family=family).close()
    except OSError as error:
        reasons = {
            errno.EADDRINUSE: f"Port {port} is taken: choose another with --port.",
            errno.EACCES: f"Port {port} is not for everybody: choose one above 1023 with --port.",
        }
        away = f"{host} is no address of this machine: choose another with --host."
        raise BadInput(reasons.get(error.errno, away)) from None


def _prepare(home: Path, host: str) -> None:
    """The environment as Gradio and its server shall find it."""
    if os.environ.get("GRADIO_VIBE_MODE"):
        raise BadInput("GRADIO_VIBE_MODE lets every visitor change the program: unset it first.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.pop("GRADIO_ALLOWED_PATHS", None)
    os.environ.pop("GRADIO_SERVER_NAME", None)  # the host has been told, and may be of IPv6
    os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(home) / "cache" / "app"))
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")  # only a proxy that the host names is believed
    _pass_by_proxies(host)


def _pass_by_proxies(host: str) -> None:
    """Let no proxy stand before the app itself, which Gradio asks for its start; others stay.

    Where one of the two names is unset, what the other says holds for both, as it did before.
    """
    for name in ("no_proxy", "NO_PROXY"):
        there = os.environ.get(name) or os.environ.get(name.swapcase(), "")
        known = [*filter(None, there.split(",")), "localhost", "127.0.0.1", "::1", host]
        os.environ[name] = ",".join(dict.fromkeys(known))


def _around(home: Path, mode, host: str) -> dict:
    """What stands around Gradio's app: middleware, the outermost first, and /healthz."""
    from starlette.middleware import Middleware

    from . import health
    from .door import Door, Outside
    from .pace import Pace

    space = bool(os.environ.get("SPACE_ID"))
    local = mode.name == "one" and host in LOOPBACK
    middleware = [
        Middleware(Outside, space=space, local=local),
        Middleware(Pace, mode=mode, forwarded=space),
        Middleware(Door, cache=os.environ["GRADIO_TEMP_DIR"]),
    ]
    routes = [health.route(Path(home))]
    return {"middleware": middleware, "routes": routes, "openapi_url": None}


def _stay(demo) -> None:
    """Serve until Ctrl-C or SIGTERM; then take no new event and leave, the worker stays."""
    ended = SimpleQueue()  # a second signal may interrupt its put, but not an Event's set
    before = {
        number: signal.signal(number, lambda number, _: ended.put(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    ended.get()
    for number, handler in before.items():  # once more ends it at once
        signal.signal(number, handler)
    demo.close(verbose=False)
    journal.note("stop")
    sys.stdout.flush()
    os._exit(0)  # an interpreter that ends while a thread computes in torch aborts


def _whose(mode: str) -> Callable[[], str]:
    """What names the person whose event is being answered: a login, or a visitor's cookie."""
    from gradio.context import LocalContext

    from .door import visitor

    def who() -> str:
        request = LocalContext.request.get(None)
        if request is None:
            return ""
        return request.username or "" if mode == "classroom" else visitor(request.cookies)

    return who


def _start_beside(lab, mode) -> None:
    """What runs beside the pages: the log, the worker, the first answer, and tidying up."""
    from . import comparison

    if mode.name != "one":  # whose terminal shows errors in full
        os.umask(0o077)
        journal.begin()
        journal.note("start", mode=mode.name)
    Thread(target=_keep_working, args=(lab,), daemon=True).start()
    Thread(target=comparison.warm, args=(lab,), daemon=True).start()
    Thread(target=_sweep, args=(lab.home, mode), daemon=True).start()


def _keep_working(lab) -> None:
    while True:
        with contextlib.suppress(OSError):  # a full disk passes; studies must go on after it
            lab.start_worker()
        time.sleep(WORKER_SECONDS)


def _sweep(home: Path, mode) -> None:
    """Tidy up again and again: old uploads and downloads, and of the public the visitors' homes."""
    cache = Path(os.environ["GRADIO_TEMP_DIR"])
    while True:
        with contextlib.suppress(OSError):  # whatever stands in one's way must not end the other
            leftovers.sweep(cache, 3600 * (mode.idle_hours or KEPT_HOURS))
        if mode.name == "public" and mode.idle_hours:
            with contextlib.suppress(OSError):
                homes.sweep(home, 3600 * mode.idle_hours)
        time.sleep(SWEEP_SECONDS)
