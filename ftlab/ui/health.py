"""/healthz: whether the app can do its work, for whatever watches over it; no name and no path."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .. import presence, queue
from ..records import BadInput

FREE_BYTES = 1 << 30  # below which uploads and checkpoints are about to fail
PATIENCE_SECONDS = 3.0  # for the queue, which somebody may hold
KEPT_SECONDS = 2.0  # of an answer, so that asking often costs nothing


def route(home: Path) -> Route:
    """The route, to be given to the app: it needs no login. 200 where all is well, else 503."""
    kept: list = [-KEPT_SECONDS, {}]

    async def answer(request: Request) -> JSONResponse:
        if time.monotonic() - kept[0] > KEPT_SECONDS:
            found = {"ok": False, "queue": False}
            with anyio.move_on_after(PATIENCE_SECONDS):
                found = await anyio.to_thread.run_sync(examine, home, abandon_on_cancel=True)
            kept[:] = time.monotonic(), found
        status = 200 if kept[1]["ok"] else 503
        return JSONResponse(kept[1], status, {"cache-control": "no-store"})

    return Route("/healthz", answer)


def examine(home: Path) -> dict:
    """{ok, queue, waiting, free_gb, worker, worker_seconds}

    queue: whether it can be read and written. worker: whether one serves. worker_seconds: since it,
    or the study it has at work, last wrote anything; None where it never did.
    """
    try:
        rows, writable = queue.listed(home), os.access(home, os.W_OK)
    except BadInput:
        rows, writable = [], False
    free = shutil.disk_usage(home).free
    worker = presence.held(home / "worker.lock")
    return {
        "ok": writable and free > FREE_BYTES and (worker or not rows),
        "queue": writable,
        "waiting": len(rows),
        "free_gb": round(free / 1e9, 1),
        "worker": worker,
        "worker_seconds": _silent(home, rows),
    }


def _silent(home: Path, rows: list[dict]) -> float | None:
    """Seconds since the worker, or a study it has at work, wrote anything."""
    written = [home / "worker.lock", home / "worker.log"]
    for row in rows:
        if row["pid"]:
            folder = home / row["study"]
            written += [folder / "worker.json", *folder.rglob("epochs.jsonl")]
    times = [file.stat().st_mtime for file in written if file.exists()]
    return round(max(time.time() - max(times), 0), 1) if times else None
