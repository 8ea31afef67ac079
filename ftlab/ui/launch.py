"""Serving the app: what Gradio must be told before it is imported, and when it starts."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

from ..records import BadInput

LOOPBACK = ("127.0.0.1", "localhost", "::1")  # others may see the app, but not name files here
WAITING = 64  # events, of all visitors together


def launch(lab, mode=None, host: str = "127.0.0.1", port: int = 7860, block: bool = True):
    """Build the app and serve it; the Blocks, once it can be visited.

    Uploads and downloads live in the lab's cache and go a day after they came. The app asks
    nothing of the network: no analytics, no fonts, no update check.

    Args:
        lab: a `ftlab.lab.Lab`.
        mode: default: for one person at this machine.
        block: stay until Ctrl-C.
    Raises:
        BadInput: the port is taken, or Gradio's editing mode is on, in which visitors may write.
    """
    if os.environ.get("GRADIO_VIBE_MODE"):
        raise BadInput("GRADIO_VIBE_MODE lets every visitor change the program: unset it first.")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("GRADIO_TEMP_DIR", str(Path(lab.home) / "cache" / "app"))
    from . import build, comparison
    from .mode import Mode
    from .theme import CSS, theme

    mode = mode or Mode(paths=host in LOOPBACK)
    demo = build(lab, mode).queue(default_concurrency_limit=4, max_size=WAITING)
    try:
        demo.launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css_paths=CSS,
            footer_links=["api", "settings"],
            max_file_size=mode.upload_bytes,
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            share=False,  # whatever the environment says: images stay here
            quiet=True,
            _frontend=False,  # asks for no look at itself, which a busy machine answers too late
            prevent_thread_lock=True,
        )
    except OSError:
        raise BadInput(f"Port {port} is taken: choose another with --port.") from None
    lab.start_worker()
    Thread(target=comparison.warm, args=(lab,), daemon=True).start()
    print(f"ftlab is at {demo.local_url}  (Ctrl-C ends it; studies go on)", flush=True)
    if block:
        demo.block_thread()
    return demo
