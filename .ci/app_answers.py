"""Run `make app` until it has answered: the page opens, and an endpoint lists the strategies."""

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from gradio_client import Client

URL, PATIENCE_SECONDS = "http://127.0.0.1:7860", 240


def wait() -> float:
    """Seconds until the page is there."""
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE_SECONDS:
        try:
            with urllib.request.urlopen(URL, timeout=5) as page:
                assert page.status == 200
                return time.monotonic() - start
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"No page at {URL} within {PATIENCE_SECONDS} s.")


def main() -> None:
    app = subprocess.Popen(["make", "app"], start_new_session=True)
    try:
        print(f"The page is there after {wait():.1f} s.")
        names = [row["name"] for row in Client(URL, verbose=False).predict(api_name="/strategies")]
        assert len(names) == 13, names
        print(f"It knows {', '.join(names)}.")
    finally:
        os.killpg(app.pid, signal.SIGTERM)
        app.wait()
        end_worker()


def end_worker() -> None:
    """End the worker that the app leaves behind for studies that go on; here there is none."""
    home = f"FTLAB_HOME={Path(__file__).resolve().parent.parent}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if home in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGTERM)


if __name__ == "__main__":
    main()
