"""Run `make app` until it has answered.

The page opens, an endpoint lists the strategies, and the runs that come with ftlab say what they
see in a drawn image and where they look.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from math import isclose
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from ftlab.phantoms import phantom

URL, PATIENCE_SECONDS = "http://127.0.0.1:7860", 240
RUNS = 9  # of the reference study, whose weights come with ftlab


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


def compare(client: Client, scratch: Path) -> None:
    """Send a drawn chest X-ray through the reference study."""
    drawn = phantom("chest_xray", seed=7, index=2)
    Image.fromarray(drawn.pixels).save(scratch / "drawn.png")
    image = handle_file(scratch / "drawn.png")
    answer = client.predict(image, "reference", api_name="/predict")
    assert drawn.label in answer["classes"], answer["classes"]
    probs = [run["probs"] for run in answer["images"][0]["runs"]]
    assert len(probs) == RUNS and all(isclose(sum(p), 1, abs_tol=1e-6) for p in probs), probs
    runs = client.predict(image, "reference", api_name="/explain")["runs"]
    overlays = [np.asarray(Image.open(run["overlay"])) for run in runs]
    assert [overlay.shape for overlay in overlays] == RUNS * [drawn.pixels.shape]
    assert any((overlay != drawn.pixels).any() for overlay in overlays)


def main() -> None:
    app = subprocess.Popen(["make", "app"], start_new_session=True)
    try:
        print(f"The page is there after {wait():.1f} s.")
        with tempfile.TemporaryDirectory() as scratch:
            client = Client(URL, verbose=False, download_files=scratch)
            names = [row["name"] for row in client.predict(api_name="/strategies")]
            assert len(names) == 13, names
            print(f"It knows {', '.join(names)}.")
            start = time.monotonic()
            compare(client, Path(scratch))
            print(f"{RUNS} runs compared an image in {time.monotonic() - start:.1f} s.")
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
