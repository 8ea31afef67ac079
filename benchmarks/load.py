"""Many people at one app while it trains: `python benchmarks/load.py --predictions 10000`.

Starts the app in a process of its own on this machine, with a home that goes afterwards, and a
worker that trains `ftlab_mini` on phantoms without end.

- LOAD-01: --clients clients send images to /predict of the reference study, one after another, each
  as soon as the last is answered; the run at work is timed before and meanwhile.
- LOAD-02: as many send a zip of --zip-mb megabytes in the same moment, while a page is asked for.
- LOAD-03: what the app's process holds (memory, files, threads, children) before, every few
  predictions, and when all is quiet again; then --sessions visits open the page and leave.
- LOAD-06: more people at once than the queue takes: everybody has an answer or a sentence, soon.

The app's first predictions load networks: the slope of its memory is that behind --warm of them, or
behind half of those that were reached in --minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from statistics import quantiles

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the app in a process of its own is the tests'

import httpx  # noqa: E402, with gradio
import numpy as np  # noqa: E402
from browser import process_of  # noqa: E402
from PIL import Image  # noqa: E402

from ftlab import queue, runs  # noqa: E402
from ftlab.lab import Lab  # noqa: E402
from ftlab.records import Question, Settings  # noqa: E402

API = "gradio_api"
IMAGES, SIDE = 30, 224
PATIENCE = 600.0  # seconds for one answer
QUIET_SECONDS = 20  # after which nothing is at work any more
BEFORE_SECONDS = 40  # of training alone
EVERY = 10  # predictions: how often the app's memory is looked at
MB = 1e6


def pictures() -> list[bytes]:
    """PNG files, all different."""
    noise = np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    files = [BytesIO() for _ in noise]
    for file, pixels in zip(files, noise, strict=True):
        Image.fromarray(pixels).save(file, "PNG")
    return [file.getvalue() for file in files]


# --- one person ----------------------------------------------------------------------------------


def predicted(client: httpx.Client, picture: bytes) -> str:
    """ "answered", or what was heard instead."""
    sent = client.post(f"{API}/upload", files={"files": ("x.png", picture, "image/png")})
    if sent.status_code != 200:
        return f"{sent.status_code}: {sent.text[:60]}"
    image = {"path": sent.json()[0], "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
    asked = client.post(f"{API}/call/predict", json={"data": [image, "reference"]})
    if asked.status_code != 200:
        return f"{asked.status_code}: {asked.text[:60]}"
    heard = client.get(f"{API}/call/predict/{asked.json()['event_id']}").text
    whole = "event: complete" in heard and heard.count('"probs"') >= 9
    return "answered" if whole else heard[-120:]


def timed(client: httpx.Client, picture: bytes) -> tuple[float, str]:
    began = time.perf_counter()
    try:
        said = predicted(client, picture)
    except httpx.HTTPError as error:
        said = type(error).__name__
    return time.perf_counter() - began, said


def visit(address: str) -> bool:
    """A page that is opened, whose heartbeat is heard, and that is closed; whether it was there."""
    session = os.urandom(5).hex()
    try:
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            found = [client.get(path).status_code for path in ("", "config")]
            with client.stream("GET", f"{API}/heartbeat/{session}") as beat:
                next(beat.iter_lines())
    except (httpx.HTTPError, StopIteration):
        return False
    return found == [200, 200]


# --- what the app holds --------------------------------------------------------------------------


def held(pid: int, cache: Path) -> dict[str, float]:
    """{rss_mb, files, threads, children, temporary} of the app's process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {
        "rss_mb": rss_mb(pid),
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "children": len(children),
        "temporary": sum(path.is_file() for path in cache.rglob("*")),
    }


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def slope(points: list[tuple[int, float]]) -> float | None:
    """Least squares, MB for 1,000 predictions."""
    if len(points) < 3:
        return None
    n, mb = np.array(points, float).T
    return float(np.polyfit(n, mb, 1)[0] * 1000)


def speed(folder: Path, seconds: float) -> float:
    """Epochs a minute that a study trains from now on, for so long."""
    before, began = epochs(folder), time.monotonic()
    time.sleep(seconds)
    return 60 * (epochs(folder) - before) / (time.monotonic() - began)


def epochs(folder: Path) -> int:
    return sum(len(runs.diary(path.parent)) for path in folder.glob("*/epochs.jsonl"))


# --- the rows ------------------------------------------------------------------------------------


def predictions(served, cache: Path, asked, study: Path) -> dict:
    """LOAD-01 and the first half of LOAD-03."""
    alone = speed(study, BEFORE_SECONDS)
    files, results, points = pictures(), [], []
    until, lock = time.monotonic() + 60 * asked.minutes, threading.Lock()
    start, trained, began = held(served.process.pid, cache), epochs(study), time.monotonic()
    left = iter(range(asked.predictions))

    def person(n: int) -> None:
        with httpx.Client(base_url=served.address, timeout=PATIENCE) as client:
            while time.monotonic() < until:
                with lock:
                    if next(left, None) is None:
                        return
                result = timed(client, files[n % IMAGES])
                with lock:
                    results.append(result)
                    if len(results) % EVERY == 0:
                        points.append((len(results), rss_mb(served.process.pid)))

    with ThreadPoolExecutor(asked.clients) as people:
        list(people.map(person, range(asked.clients)))
    seconds = time.monotonic() - began
    meanwhile = 60 * (epochs(study) - trained) / seconds
    took = sorted(second for second, said in results if said == "answered")
    warm = min(asked.warm, len(results) // 2)
    cuts = quantiles(took, n=100) if len(took) > 1 else [float("nan")] * 99
    return {
        "predictions": len(results),
        "errors": dict(Counter(said for _, said in results if said != "answered")),
        "per_second": len(took) / seconds,
        "p50_s": cuts[49],
        "p95_s": cuts[94],
        "p99_s": cuts[98],
        "epochs_a_minute_alone": alone,
        "epochs_a_minute_meanwhile": meanwhile,
        "before": start,
        "slope_from_prediction": warm,
        "mb_per_1000": slope([point for point in points if point[0] >= warm]),
    }


def uploads(served, clients: int, megabytes: int) -> dict:
    """LOAD-02: everybody sends a zip in the same moment; one who looks at the page meanwhile."""
    file, gate, over, waits = zipped(megabytes), threading.Barrier(clients), threading.Event(), []

    def person(_: int) -> int:
        with httpx.Client(base_url=served.address, timeout=PATIENCE) as client:
            gate.wait()
            sent = {"files": ("x.zip", file, "application/zip")}
            return client.post(f"{API}/upload", files=sent).status_code

    def looker() -> None:
        with httpx.Client(base_url=served.address, timeout=PATIENCE) as client:
            while not over.is_set():
                began = time.perf_counter()
                client.get("config").raise_for_status()
                waits.append(time.perf_counter() - began)
                time.sleep(0.1)

    with ThreadPoolExecutor(clients + 1) as people:
        looking, began = people.submit(looker), time.monotonic()
        statuses = Counter(people.map(person, range(clients)))
        seconds = time.monotonic() - began
        over.set()
    looking.result()  # an answer that was none ends the benchmark here
    p50, p95 = np.percentile(waits, (50, 95))
    return {
        "sent": clients,
        "statuses": dict(statuses),
        "mb_a_second": statuses[200] * len(file) / MB / seconds,
        "page_p50_s": float(p50),
        "page_p95_s": float(p95),
    }


def zipped(megabytes: int) -> bytes:
    """A zip of so many megabytes of pictures."""
    file, picture = BytesIO(), pictures()[0]
    with zipfile.ZipFile(file, "w") as archive:
        for n in range(round(megabytes * MB / len(picture))):
            archive.writestr(f"{'ab'[n % 2]}/{n}.png", picture)
    return file.getvalue()


def sessions(served, cache: Path, n: int) -> dict:
    """The other half of LOAD-03."""
    before = held(served.process.pid, cache)
    with ThreadPoolExecutor(8) as people:
        opened = sum(people.map(lambda _: visit(served.address), range(n)))
    time.sleep(QUIET_SECONDS)
    return {"opened": opened, "of": n, "before": before, "after": held(served.process.pid, cache)}


def crowd(served, n: int) -> dict:
    """LOAD-06: n people ask in the same moment."""
    files, gate = pictures(), threading.Barrier(n)

    def person(i: int) -> tuple[float, str]:
        with httpx.Client(base_url=served.address, timeout=PATIENCE) as client:
            gate.wait()
            return timed(client, files[i % IMAGES])

    with ThreadPoolExecutor(n) as people:
        results = list(people.map(person, range(n)))
    busy = [(s, said) for s, said in results if said.startswith(("503", "429"))]
    other = Counter(said for _, said in results if said != "answered") - Counter(s for _, s in busy)
    return {
        "asked": n,
        "answered": sum(said == "answered" for _, said in results),
        "told_that_it_is_busy": len(busy),
        "told_after_s_at_most": max((seconds for seconds, _ in busy), default=None),
        "said": sorted({said for _, said in busy}),
        "else": dict(other),
        "slowest_answer_s": max(seconds for seconds, _ in results),
    }


def training(home: Path) -> Path:
    """A study that trains without end, in the queue; its folder."""
    lab = Lab(home)
    lab.import_data("phantom:chest_xray", "drawn", per_class=16, seed=3)
    settings = Settings(epochs=10_000, size=96, batch=16)
    question = Question("drawn", ["ftlab_mini"], ["full"], (0,), settings, name="endless")
    folder = lab.ask(question)
    queue.add(home, folder)
    return folder


def measure(home: Path, asked) -> dict:
    study, cache, found = training(home), home / "cache" / "app", {}
    with process_of(home) as served, httpx.Client(base_url=served.address, timeout=PATIENCE) as one:
        while epochs(study) < 3:
            time.sleep(0.5)
        assert timed(one, pictures()[0])[1] == "answered"  # loads the networks
        found["LOAD-01"] = predictions(served, cache, asked, study)
        time.sleep(QUIET_SECONDS)
        found["LOAD-01"]["after"] = held(served.process.pid, cache)
        show("LOAD-01", found["LOAD-01"])
        found["LOAD-02"] = show("LOAD-02", uploads(served, asked.clients, asked.zip_mb))
        found["LOAD-03"] = show("LOAD-03", sessions(served, cache, asked.sessions))
        found["LOAD-06"] = show("LOAD-06", crowd(served, asked.crowd))
        time.sleep(QUIET_SECONDS)
        found["after all"] = show("after all", held(served.process.pid, cache))
    return found


def show(row: str, figures: dict) -> dict:
    print(row)
    for name, value in figures.items():
        held_there = isinstance(value, dict) and "rss_mb" in value
        value = {k: round(v, 1) for k, v in value.items()} if held_there else value
        print(f"  {name:28}{round(value, 2) if isinstance(value, float) else value}", flush=True)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=10, help="after which none is sent")
    parser.add_argument("--warm", type=int, default=100, help="predictions before the slope")
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--zip-mb", type=int, default=50)
    parser.add_argument("--crowd", type=int, default=120)
    parser.add_argument("--json", type=Path, help="a file for what was found")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before", flush=True)
    with tempfile.TemporaryDirectory(prefix="ftlab-load-") as scratch:
        found = measure(Path(scratch).resolve() / "home", asked)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    wrong = found["LOAD-01"]["errors"] or found["LOAD-06"]["else"]
    wrong = wrong or set(found["LOAD-02"]["statuses"]) - {200, 429, 503}
    return 1 if wrong or found["LOAD-03"]["opened"] < asked.sessions else 0


if __name__ == "__main__":
    sys.exit(main())
