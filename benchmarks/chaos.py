"""Kills, stops, starves and freezes real training: `python benchmarks/chaos.py --minutes 30`.

A few phantoms train `ftlab_mini` at 48 pixels on one thread again and again, each time disturbed in
another way; in the end all metrics, weights and predictions must be, bit by bit, those of a study
that nobody disturbed. Rows bear the names of the cases:

- JOB-01, -02, -03: SIGKILL of the job, the app, or job and worker at random moments
- JOB-04: SIGKILL while a checkpoint is being written   JOB-05: a disk that fills up (needs root)
- JOB-08: stop, at random moments and while frozen      JOB-10: ten clicks on Start
- JOB-14: a job that hangs                              JOB-15: a flipped byte, a deleted folder
- JOB-17: two workers                                   JOB-18: a queue that is locked

Everything is in a temporary folder and on this machine. Orphans are processes that are left when
all is done, doubled are studies at which two processes were seen at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ground import (  # the tests and ftlab are found by way of it
    LONG,
    QUICK,
    STRATEGIES,
    WAIT,
    Range,
    app,
    bits,
    calm,
    disturbed,
    draw,
    end_workers,
    ended,
    job_of,
    kill,
    living,
    reason,
    small_disk,
    watch,
    workers,
)

# isort: split
from browser import process_of
from tiny import command, epochs_written, kill_group, wait_for

from ftlab import files, queue, runs, schedule, studies
from ftlab.lab import Lab
from ftlab.records import BadInput, Question, Settings

# --- kills ---------------------------------------------------------------------------------------


def kills(ground: Range, asked: int, name: str, strike: Callable, blows: int = 2) -> dict:
    """Studies that are killed at random moments until so many blows have hit."""
    hits = tried = right = 0
    while hits < asked and tried < 2 * asked and not ground.over():
        folder = ground.ask(f"{name}-{tried}")
        hits += disturbed(ground, folder, blows, lambda process: strike(ground, folder, process))  # noqa: B023, called now
        tried += 1
        right += ground.same(folder)
    return {"tried": hits, "right": right, "of": tried, "unit": "studies the same, bit by bit"}


def at_random(ground: Range) -> None:
    time.sleep(ground.chance.uniform(0, ground.span))


def kill_job(ground: Range, folder: Path, _process) -> bool:
    at_random(ground)
    return kill(job_of(folder))


def kill_both(ground: Range, folder: Path, process) -> bool:
    at_random(ground)
    hit = kill(job_of(folder))
    kill_group(process)
    return hit


def kill_worker(ground: Range, folder: Path, process) -> bool:
    at_random(ground)
    job = job_of(folder)
    kill_group(process)
    return bool(job) and job_of(folder) in (job, None)


def kill_saving(ground: Range, folder: Path, _process) -> bool:
    """Killed while a file of the run stands under its temporary name."""
    at_random(ground)
    until = time.monotonic() + ground.span
    while time.monotonic() < until:
        if any(folder.glob("*/.*.tmp")):
            return kill(job_of(folder))
    return False


def kill_app(ground: Range, asked: int) -> dict:
    """A study begun over the app's endpoint, whose server is killed and started again."""
    from gradio_client import Client

    adopted, question = 0, dict(backbone="ftlab_mini", strategies=["full"], epochs=40, seeds=1)
    with process_of(ground.home) as served:
        client = Client(served.address, verbose=False)
        name = client.predict("drawn", *question.values(), api_name="/start")["study"]
        folder = ground.home / "checkpoints" / name
        ground.studies.append(folder)
        wait_for(lambda: epochs_written(folder), WAIT)
        job = job_of(folder)
        for _ in range(asked):
            before = epochs_written(folder)
            kill(served.process.pid)
            served.process.wait()
            served.process = app(ground.home, served.port)
            wait_for(lambda before=before: epochs_written(folder) > before or ended(folder), WAIT)
            adopted += job_of(folder) == job or ended(folder)
        wait_for(lambda: ended(folder) and not queue.listed(ground.home), WAIT)
    plain = Question("drawn", ["ftlab_mini"], ["full"], (0,), Settings(epochs=40), name="plain")
    calm = Lab(ground.home).ask(plain)
    queue.add(ground.home, calm)
    disturbed(ground, calm, 0, bool)
    right = adopted if bits(folder) == bits(calm) != {} else 0
    return {"tried": asked, "right": right, "of": asked, "unit": "times the job went on"}


def kill_saves(ground: Range, asked: int) -> dict:
    """A process that does nothing but save a run's state is killed; the state always loads."""
    import torch

    folder, right = ground.home / "saves", 0
    folder.mkdir()
    tensors = {f"network.{n}": torch.randn(256, 1024) for n in range(6)}
    for _ in range(asked):
        pid = os.fork()
        if not pid:
            while True:
                runs.save_tensors(folder / "last.safetensors", tensors, {"epochs": "1"})
        saved = wait_for((folder / "last.safetensors").exists)
        time.sleep(ground.chance.uniform(0, 0.3))
        kill(pid)
        os.waitpid(pid, 0)
        loaded, _ = runs.load_tensors(folder / "last.safetensors")
        files.sweep(folder)
        right += saved and loaded.keys() == tensors.keys() and len(list(folder.iterdir())) == 1
    return {"tried": asked, "right": right, "of": asked, "unit": "states that load"}


# --- disks ---------------------------------------------------------------------------------------


def disk_full(ground: Range, asked: int) -> dict:
    """A home on a small disk that is filled but for a few kB, then freed, then goes on."""
    tried, right, said = 0, 0, set()
    with small_disk(ground.home.parent / "disk", 64) as disk:
        home = disk / "home"
        shutil.copytree(ground.home / "data", home / "data")
        small = Range(home, ground.chance, ground.until, ground.bits)
        while tried < asked and not ground.over():
            folder = small.ask(f"full-{tried}")
            left = 4096 * int(2 ** ground.chance.uniform(0, 12))  # 4 kB to 16 MB
            with open(home / "ballast", "wb") as ballast:
                ballast.write(bytes(max(shutil.disk_usage(disk).free - left, 0)))
            _, heard = command(home, "worker", "--until-empty").communicate(timeout=WAIT)
            said.add(reason(folder) or heard.strip())
            (home / "ballast").unlink()
            if not ended(folder):
                schedule.forgive(folder, studies.read(folder))
                queue.add(home, folder)
                disturbed(small, folder, 0, bool)
            with contextlib.closing(sqlite3.connect(home / queue.NAME)) as table:
                whole = table.execute("PRAGMA integrity_check").fetchone()
            tried += 1
            right += small.same(folder) and "Traceback" not in heard and whole == ("ok",)
            shutil.rmtree(folder)
    unit = "studies the same once there is room"
    return {"tried": tried, "right": right, "of": tried, "unit": unit, "said": sorted(said)}


def stops(ground: Range, asked: int) -> dict:
    """One long study is started, stopped at a random moment, and started again."""
    folder, process = ground.ask("stops", LONG), command(ground.home, "worker")
    seconds, kept = {"starting": [], "training": [], "frozen": []}, 0
    try:
        for turn in range(asked):
            job, before = wait_for(lambda: job_of(folder), WAIT), epochs_written(folder)
            when = ("starting", "training", "training", "frozen")[turn % 4]
            if when == "starting":
                at_random(ground)
            else:
                wait_for(lambda before=before: epochs_written(folder) > before, WAIT)
                time.sleep(ground.chance.uniform(0, 2))
            if when == "frozen":  # as if it hung where no signal is looked at
                os.kill(job, signal.SIGSTOP)
            before, began = epochs_written(folder), time.monotonic()
            Lab(ground.home).stop("stops")
            seconds[when].append(time.monotonic() - began)
            kept += job_of(folder) is None and epochs_written(folder) >= before
            Lab(ground.home).resume("stops")
            if ground.over():
                break
        Lab(ground.home).stop("stops")
    finally:
        kill_group(process)
    figures = {f"{when}_s": sorted(round(s, 2) for s in each) for when, each in seconds.items()}
    tried = sum(map(len, seconds.values()))
    return {
        "tried": tried,
        "right": kept,
        "of": tried,
        "unit": "stops that lose nothing",
        **figures,
    }


def hammer(ground: Range, asked: int) -> dict:
    """Four threads start, stop and resume one study as fast as they can; then it is left alone."""
    folder, process = ground.ask("hammer"), command(ground.home, "worker")
    lab = Lab(ground.home)

    def blow(turn: int) -> str:
        act = (lab.stop, lab.resume)[turn % 2]
        try:
            act("hammer")
        except BadInput as refusal:
            return "" if "\n" not in str(refusal) else str(refusal)
        return ""

    try:
        with ThreadPoolExecutor(4) as pool:
            odd = [said for said in pool.map(blow, range(asked)) if said]
        with contextlib.suppress(BadInput):
            lab.resume("hammer")
        wait_for(lambda: ended(folder), WAIT)
    finally:
        kill_group(process)
    right = ground.same(folder) and not odd
    return {"tried": asked, "right": int(right), "of": 1, "unit": "studies the same, bit by bit"}


def clicks(ground: Range, asked: int) -> dict:
    """Ten clicks on Start at once, by as many threads, and no worker yet: one row, one worker."""
    right = 0
    for turn in range(asked):
        question = Question("drawn", ["ftlab_mini"], STRATEGIES, (0,), QUICK, name=f"click-{turn}")
        lab = Lab(ground.home)
        ground.studies.append(ground.home / "checkpoints" / f"click-{turn}")
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda _: lab.enqueue(question), range(10)))  # noqa: B023, waited for
        rows = [r for r in queue.listed(ground.home) if r["study"].endswith(f"click-{turn}")]
        wait_for(lambda: ended(ground.studies[-1]), WAIT)
        right += len(rows) == 1 and ground.same(ground.studies[-1]) and workers(ground.home) == 1
        end_workers(ground.home)
    return {"tried": 10 * asked, "right": right, "of": asked, "unit": "studies of one row"}


# --- what is broken, frozen or locked ------------------------------------------------------------


def hangs(ground: Range, asked: int) -> dict:
    """A job that is frozen is found, killed and replaced by another."""
    right, seconds = 0, []
    for turn in range(asked):
        folder = ground.ask(f"hang-{turn}")

        def freeze(_, folder=folder) -> bool:
            wait_for(lambda: epochs_written(folder), WAIT)
            job, began = job_of(folder), time.monotonic()
            os.kill(job, signal.SIGSTOP)
            wait_for(lambda: job_of(folder) != job, WAIT)
            seconds.append(time.monotonic() - began)
            return True

        disturbed(ground, folder, 1, freeze)
        right += ground.same(folder)
    unit = "studies the same, bit by bit"
    return {
        "tried": asked,
        "right": right,
        "of": asked,
        "unit": unit,
        "found_after_s": max(seconds),
    }


def damage(ground: Range, folder: Path, process) -> bool:
    """After both were killed: a byte of the last state is flipped, or the run's folder is gone."""
    if not kill_both(ground, folder, process):
        return False
    states = sorted(folder.glob("*/last.safetensors"))
    if not states:
        return False
    if ground.chance.random() < 0.25:
        shutil.rmtree(states[0].parent)
    else:
        data = bytearray(states[0].read_bytes())
        data[ground.chance.randrange(len(data))] ^= 1 << ground.chance.randrange(8)
        states[0].write_bytes(data)
    return True


def two_workers(ground: Range, asked: int) -> dict:
    folder, right = ground.ask("two"), 0
    first = command(ground.home, "worker", "--until-empty")
    wait_for(lambda: job_of(folder), WAIT)
    for _ in range(asked):
        second = command(ground.home, "worker", "--until-empty")
        _, heard = second.communicate(timeout=WAIT)
        right += second.returncode == 2 and "one is enough" in heard
    first.communicate(timeout=WAIT)
    right = right if ground.same(folder) else 0
    return {"tried": asked, "right": right, "of": asked, "unit": "second workers refused"}


def locked(ground: Range, asked: int) -> dict:
    """Somebody holds the queue's table for 20 s, before the job starts and while it ends."""
    right = 0
    for turn in range(asked):
        folder = ground.ask(f"locked-{turn}")

        def hold(_) -> bool:
            other = sqlite3.connect(ground.home / queue.NAME, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
            time.sleep(20)
            other.execute("COMMIT")
            other.close()
            return True

        disturbed(ground, folder, 1, hold)
        right += ground.same(folder) and not queue.listed(ground.home)
    return {"tried": asked, "right": right, "of": asked, "unit": "studies that waited and finished"}


# --- the table -----------------------------------------------------------------------------------

ROWS = {  # id -> (what, how it is done, how often by --scale 1)
    "JOB-01": ("job killed", lambda g, n: kills(g, n, "job", kill_job), 20),
    "JOB-03": ("job and worker killed", lambda g, n: kills(g, n, "both", kill_both), 10),
    "JOB-03w": ("worker killed", lambda g, n: kills(g, n, "worker", kill_worker), 6),
    "JOB-04": ("killed while saving", lambda g, n: kills(g, n, "saving", kill_saving), 6),
    "JOB-04s": ("killed in a loop of saves", kill_saves, 50),
    "JOB-15": ("state damaged or gone", lambda g, n: kills(g, n, "damage", damage), 6),
    "JOB-02": ("app killed", kill_app, 5),
    "JOB-05": ("disk full", disk_full, 8),
    "JOB-08": ("stopped", stops, 20),
    "JOB-08h": ("stop and resume hammered", hammer, 40),
    "JOB-10": ("ten clicks on Start", clicks, 2),
    "JOB-14": ("job frozen", hangs, 1),
    "JOB-17": ("a second worker", two_workers, 2),
    "JOB-18": ("queue locked for 20 s", locked, 2),
}
NOT_COMPARED = {"JOB-04s", "JOB-08"}  # with an undisturbed study


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30, help="after which no trial begins")
    parser.add_argument("--scale", type=float, default=1, help="times as many trials")
    parser.add_argument("--only", help="ids, comma-separated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="a file for what was found")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    began, found, names = time.monotonic(), {}, asked.only.split(",") if asked.only else list(ROWS)
    with tempfile.TemporaryDirectory(prefix="ftlab-chaos-") as scratch:
        home, ending = Path(scratch).resolve() / "home", threading.Event()
        home.mkdir()
        chance = random.Random(asked.seed)
        ground = Range(home, chance, began + 60 * asked.minutes)
        watcher = threading.Thread(target=watch, args=(ground, ending))
        watcher.start()
        try:
            draw(ground)
            if set(names) - NOT_COMPARED:
                calm(ground)
            print(f"load {os.getloadavg()[0]:.1f}; undisturbed {ground.span:.1f} s", flush=True)
            for name in names:
                if not ground.over():
                    found[name] = trial(ground, name, asked.scale)
        finally:
            ending.set()
            watcher.join()
            end_workers(home)
            left = living(home)
            for pid in left:
                kill(pid)
        lost = [f for f in ground.studies if f.name != "stops" and not ended(f)]
    total = {"orphans": len(left), "lost": len(lost), "doubled": len(ground.doubled)}
    print(
        f"{total} of {len(ground.studies)} studies, {(time.monotonic() - began) / 60:.0f} minutes"
    )
    if asked.json:
        asked.json.write_text(json.dumps({"rows": found, **total}, indent=1) + "\n")
    wrong = any(row["right"] != row["of"] for row in found.values())
    return 1 if wrong or any(total.values()) else 0


def trial(ground: Range, name: str, scale: float) -> dict:
    what, work, times = ROWS[name]
    began = time.monotonic()
    try:
        row = work(ground, max(round(scale * times), 1))
    except (AssertionError, BadInput, OSError, subprocess.SubprocessError) as error:
        row = {"tried": 0, "right": 0, "of": 1, "unit": f"{type(error).__name__}: {error}"}
    seconds = time.monotonic() - began
    said = f"{name:8}{what:26}{row['tried']:4} tried {row['right']:4} of {row['of']} {row['unit']}"
    about = {k: v for k, v in row.items() if k not in ("tried", "right", "of", "unit")}
    print(said, *(f"{k} {_short(v)}" for k, v in about.items()), f"({seconds:.0f} s)", flush=True)
    return row | {"what": what, "seconds": seconds, "load": os.getloadavg()[0]}


def _short(value) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
