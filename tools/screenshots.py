"""Take the pictures of the app that docs/app.md shows: `python tools/screenshots.py`.

The app runs on a home of its own, which goes afterwards, with the study that comes with ftlab, two
data sets of drawn images, and a small study that trains while its picture is taken. Another folder
than docs/images and another window are arguments: `python tools/screenshots.py /tmp 820x1180`.
"""

from __future__ import annotations

import re
import sys
import tempfile
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the app in a process of its own is the tests'

from browser import DESK, FADE_MS, chromium, filled, open_tab, serving, visiting  # noqa: E402

from ftlab.lab import Lab  # noqa: E402
from ftlab.records import Question, Settings  # noqa: E402

THEMES = ("light", "dark")
PICTURES = {"compare": "Compare", "finetune": "Fine-tune", "results": "Results"}
PICTURES |= {"inspect": "Inspect", "data": "Data"}
MODALITIES, PER_CLASS = ("brain_mri", "dermoscopy"), 60
STUDY = Question(
    "brain_mri",
    ["ftlab_mini"],
    ["full", "gradual_last_first"],
    seeds=range(2),
    settings=Settings(epochs=12, size=96, lr=0.003),
    name="brain",
)
DONE = re.compile(r"running.*(2[4-9]|[34]\d) of 48 epochs")  # well under way
TRAINED_MS = 600_000  # in which it surely is, on a busy machine too
COLOURS = 256  # of a palette, which takes a third of the bytes


def save(page, path: Path) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(FADE_MS)
    shot = Image.open(BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    shot.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB", flush=True)


def tabs(browser, address: str, folder: Path, size: tuple[int, int]) -> None:
    for theme in THEMES:
        with visiting(browser, address, theme, size) as page:
            for name, tab in PICTURES.items():
                filled(page, tab)
                save(page, folder / f"app-{name}-{theme}.png")


def running(browser, address: str, folder: Path, size: tuple[int, int]) -> None:
    """The study at work, in both themes at nearly the same epoch."""
    with ExitStack() as open_pages:
        pages = {
            theme: open_pages.enter_context(visiting(browser, address, theme, size))
            for theme in THEMES
        }
        for page in pages.values():
            open_tab(page, "Fine-tune")
        for theme, page in pages.items():
            page.locator(".ft-study", has_text=DONE).wait_for(timeout=TRAINED_MS)
            save(page, folder / f"app-running-{theme}.png")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    size = tuple(map(int, sys.argv[2].split("x"))) if len(sys.argv) > 2 else DESK
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ftlab-") as scratch:
        lab = Lab(Path(scratch) / "home")
        for modality in MODALITIES:
            lab.import_data(f"phantom:{modality}", modality, per_class=PER_CLASS, seed=1)
        with serving(lab.home) as address, chromium() as browser:
            tabs(browser, address, folder, size)
            lab.enqueue(STUDY)
            running(browser, address, folder, size)


if __name__ == "__main__":
    main()
