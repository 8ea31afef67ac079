"""What the app costs beside the bare work: `python benchmarks/app.py`, in about three minutes.

Each time is measured beside its bare counterpart, in turns, and both are medians; the ratio is the
median over the turns, so that other work on the machine weighs on both sides. Nothing is written
but to a temporary folder that goes.

- comparison: an example image through the runs of the reference study that come with ftlab, with
  Grad-CAM, by `Lab.explain`: reading the file, all predictions, maps and overlays; the networks
  are in memory. Bare: the passes of these networks in plain torch, the image being a tensor
  already: forward to the logits, recorded by autograd as for any network just loaded, and the
  gradient of the explained logit by the output of the unit that Grad-CAM weighs; no map is made.
  The first comparison of a process also imports torch and restores the networks; it has no bare
  counterpart.
- start: a new process of `app.py` on an empty home until it has answered `/` and `/config`. Bare:
  a process that imports torch and timm and serves tests/bare_page.py, Gradio's components alone.
- cards: Chromium from the navigation to all cards of the comparison that the page opens on; the
  first visitor comes as soon as the app answers, the next one once the first has seen them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the app in a process of its own is the tests'

from browser import FILLED, chromium, lacking, serving, visiting  # noqa: E402

from ftlab.lab import Lab  # noqa: E402

STUDY, BOUND = "reference", 1.5
TURNS, STARTS = 30, 5  # of the comparison; of the app
BARE = "import timm, torch, runpy; runpy.run_path('tests/bare_page.py', run_name='__main__')"


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# --- comparison ----------------------------------------------------------------------------------


def comparison(home: Path) -> list[tuple]:
    lab = Lab(home)
    image = next(e["file"] for e in lab.examples() if e["modality"] == "chest_xray")
    first = timed(lambda: lab.explain(image, STUDY))
    answer = lab.explain(image, STUDY)
    bare = plain(lab, image, answer)
    turns = [(timed(lambda: lab.explain(image, STUDY)), timed(bare)) for _ in range(TURNS)]
    return [
        (f"comparison by {len(answer['runs'])} runs, ms", 1000, *zip(*turns, strict=True)),
        ("the first one of a process, s", 1, [first]),
    ]


def plain(lab: Lab, image: Path, answer: dict) -> Callable[[], None]:
    """The passes through the runs of an answer, in plain torch."""
    import torch

    from ftlab import explain, prediction
    from ftlab.datasets import read_image, resize

    passes = []
    for run in answer["runs"]:
        network, question = prediction.restore(
            lab.study_folder(STUDY) / run["run"], lab.home / "cache"
        )
        pixels = resize(read_image(image).pixels, question["settings"]["size"])
        x = network.prepare(torch.from_numpy(pixels[None].copy()))
        unit = explain.look(network, x).unit
        passes.append((network, x, unit, answer["classes"].index(run["target"])))

    def work() -> None:
        for network, x, unit, target in passes:
            features = network.run(x, upto=unit)
            logits = network.classify(network.run(features, after=unit))
            torch.autograd.grad(logits[0, target], features)

    return work


# --- the page ------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(home: Path, *command: str) -> Iterator[tuple[str, float]]:
    """(address, seconds from the start of the process until the page and its parts were there)."""
    begin = time.perf_counter()
    with serving(home, *command) as address:
        with urllib.request.urlopen(address + "config") as parts:
            parts.read()
        yield address, time.perf_counter() - begin


def start(scratch: Path) -> list[tuple]:
    ours, bare, first, later = [], [], [], []
    with contextlib.nullcontext() if lacking() else chromium() as browser:
        for turn in range(STARTS):
            with started(scratch / f"bare-{turn}", "-c", BARE) as (_, seconds):
                bare.append(seconds)
            with started(scratch / f"app-{turn}") as (address, seconds):
                ours.append(seconds)
                for visits in (first, later) if browser else ():
                    visits.append(timed(lambda: see(browser, address)))  # noqa: B023, called now
    rows = [("start until the page answers, s", 1, ours, bare)]
    if browser:
        rows.append(("cards before the first visitor, s", 1, first))
        rows.append(("cards before the next visitor, s", 1, later))
    return rows


def see(browser, address: str) -> None:
    with visiting(browser, address) as page:
        page.locator(*FILLED["Compare"]).wait_for()


# --- the table -----------------------------------------------------------------------------------


def line(what: str, scale: int, ours: Sequence[float], bare: Sequence[float] = ()) -> str:
    """A row of the table; seconds in, `scale` of the unit to a second."""
    shown = f"{what:38}{scale * median(ours):8.1f}"
    if not bare:
        return shown
    ratio = median(own / other for own, other in zip(ours, bare, strict=True))
    verdict = "ok" if ratio <= BOUND else "ABOVE"
    return f"{shown}{scale * median(bare):8.1f}{ratio:8.2f}   at most {BOUND}: {verdict}"


def main() -> None:
    os.chdir(ROOT)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when this began")
    print(f"{'':38}{'ours':>8}{'bare':>8}{'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="ftlab-") as scratch:
        for part in (comparison, start):
            for row in part(Path(scratch) / part.__name__):
                print(line(*row), flush=True)
    if lacking():
        print(f"Cards were not measured: {lacking()}")


if __name__ == "__main__":
    main()
