"""Serving the app: what Gradio must be told before it is imported, and when it starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from .. import homes
from ..records import BadInput

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # others may see the app, but not name files here
WAITING = 64  # events, of all visitors together
SWEEP_SECONDS = 600
QUIET = dict(
    footer_links=["api", "settings"],
    run_history=False,
    enable_monitoring=False,
    ssr_mode=False,
    pwa=False,
    share=False,  # whatever the environment says: images stay here
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
        users: the file of those who may log in to a classroom.
        block: stay until Ctrl-C.
    Raises:
        BadInput: the port is taken, the users' file cannot be used, or Gradio's editing mode is
            on, in which visitors may write.
    """
    if os.environ.get("GRADIO_VIBE_MODE"):
        raise BadInput("GRADIO_VIBE_MODE lets every visitor change the program: unset it first.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(lab.home) / "cache" / "app"))
    from starlette.middleware import Middleware

    from ..modes import Mode
    from ..passwords import checker
    from ..people import People
    from . import build
    from .door import Door
    from .theme import CSS, theme

    mode = mode or Mode(paths=host in LOOPBACK)
    check = checker(users) if users else None
    own = lab if mode.name == "one" else People(lab, mode, _whose(mode.name))
    demo = build(own, mode).queue(default_concurrency_limit=4, max_size=WAITING)
    try:
        demo.launch(
            server_name=host,
            server_port=port,
            auth=check,
            auth_message="ftlab, for this class. Not a medical device." if check else None,
            theme=theme(),
            css_paths=CSS,
            max_file_size=mode.upload_bytes,
            app_kwargs={"middleware": [Middleware(Door, cache=os.environ["GRADIO_TEMP_DIR"])]},
            **QUIET,
        )
    except OSError:
        raise BadInput(f"Port {port} is taken: choose another with --port.") from None
    _start_beside(lab, mode)
    print(f"ftlab is at {demo.local_url}  (Ctrl-C ends it; studies go on)", flush=True)
    if block:
        demo.block_thread()
    return demo


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
    """What runs beside the pages: the worker, the first answer, and tidying up."""
    from . import comparison

    lab.start_worker()
    Thread(target=comparison.warm, args=(lab,), daemon=True).start()
    if mode.idle_hours:
        Thread(target=_sweep, args=(lab.home, 3600 * mode.idle_hours), daemon=True).start()


def _sweep(home: Path, idle_seconds: float) -> None:
    while True:
        homes.sweep(home, idle_seconds)
        time.sleep(SWEEP_SECONDS)
