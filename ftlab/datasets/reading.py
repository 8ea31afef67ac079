"""The door for every picture a person gives: its bytes are decoded in a process that can be lost.

A few workers (decoding.py) serve all threads. They start when first needed, hold limits on memory
and time, and answer with text and plain pixels, never with pickled objects. One that dies, hangs or
breaks the form costs its picture alone: the next picture gets a new one.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..records import BadInput
from .picture import MAX_BYTES, Picture, check_size

# Twice the processors, so that on a busy machine one works while another waits for its turn; each
# may hold a picture of 50 megapixels.
WORKERS = min(2 * (os.cpu_count() or 1), 8)
SECONDS = 30.0  # by the clock for one picture; decoding.py limits those of the processor
LINE = 2**16  # bytes, the longest line of an answer
COMMAND = (sys.executable, "-m", "ftlab.datasets.decoding")
UNSAFE = "this picture could not be read safely: save it anew, as PNG for instance"

_free = threading.BoundedSemaphore(WORKERS)
_idle: list[subprocess.Popen] = []
_busy: dict[subprocess.Popen, float] = {}  # worker -> when it was asked, by the monotonic clock
_watching = threading.Lock()  # held for good by the thread that kills late workers


def read_image(source: Path | str | BinaryIO | bytes, ground: str = "white") -> Picture:
    """The picture in a file: PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM, known by its content.

    Of several frames the first is taken (DICOM: the middle one), EXIF orientation is applied,
    transparency is laid on a ground and deep grey levels are scaled to 8 bits; the notes say so.

    Args:
        source: a file, or its bytes. ground: white or black.
    Raises:
        BadInput: the picture cannot or should not be read; the message is the reason, worded to
            follow the file's name and a colon.
    """
    data = source if isinstance(source, bytes) else file_bytes(source)
    with _free:
        worker = _take()
        try:
            answer = _ask(worker, data, ground)
        except (OSError, EOFError, LookupError, TypeError, ValueError) as error:
            _end(worker)  # it died, was killed or is no longer itself
            raise BadInput(UNSAFE) from error
        except BaseException:  # interrupted in the middle of an answer
            _end(worker)
            raise
        _idle.append(worker)
    if isinstance(answer, str):
        raise BadInput(answer)
    return answer


def file_bytes(source: Path | str | BinaryIO) -> bytes:
    """What a file holds.

    Raises:
        BadInput: it cannot be opened, is empty or too large.
    """
    if isinstance(source, Path | str):
        try:
            with open(source, "rb") as file:
                return file_bytes(file)
        except OSError as error:
            raise BadInput(f"the file cannot be opened ({error.strerror})") from error
    data = source.read(MAX_BYTES + 1)
    if not data:
        raise BadInput("the file is empty")
    if len(data) > MAX_BYTES:
        raise BadInput(f"the file is larger than the {MAX_BYTES // 2**20} MB allowed")
    return data


def _ask(worker: subprocess.Popen, data: bytes, ground: str) -> Picture | str:
    """The picture in a file's bytes, or the reason for which it is refused.

    Raises:
        OSError, EOFError, LookupError, TypeError, ValueError: the worker did not answer in form.
    """
    _busy[worker] = time.monotonic()
    try:
        worker.stdin.write(ground.encode() + len(data).to_bytes(8))
        worker.stdin.write(data)
        worker.stdin.flush()
        answer = json.loads(worker.stdout.readline(LINE))
        if "refused" in answer:
            return str(answer["refused"])
        height, width = answer["shape"]
        check_size(width, height)  # a worker that was taken over is not believed
        pixels = np.empty((height, width, 3), np.uint8)
        if worker.stdout.readinto(pixels) != pixels.nbytes:
            raise EOFError
    finally:
        del _busy[worker]
    return Picture(pixels, tuple(map(str, answer["notes"])), answer["patient"])


def _take() -> subprocess.Popen:
    """An idle worker that still lives, or a new one."""
    while True:
        try:
            worker = _idle.pop()
        except IndexError:
            return _start()
        if worker.poll() is None:
            return worker
        _end(worker)


def _start() -> subprocess.Popen:
    if _watching.acquire(blocking=False):
        threading.Thread(target=_kill_the_late, daemon=True).start()
    try:
        worker = subprocess.Popen(
            COMMAND,
            # one thread: the memory that a pool of idle ones reserves would count
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],  # where ftlab is, installed or not
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for its parent, with which it ends anyway
        )
    except OSError as error:
        raise BadInput(f"no process could be started to read it in ({error.strerror})") from error
    _busy[worker] = time.monotonic()
    ready = worker.stdout.readline(LINE)
    del _busy[worker]
    if not ready:
        _end(worker)
        raise BadInput("the process to read it in did not start: close other programs, try again")
    return worker


def _kill_the_late() -> None:
    while True:
        time.sleep(SECONDS / 30)
        for worker, asked in _busy.copy().items():
            if time.monotonic() - asked > SECONDS:
                _kill(worker)


def _kill(worker: subprocess.Popen) -> None:
    """Kill a worker with its copy; one that was found dead has left a copy that ends by itself."""
    if worker.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL) if hasattr(os, "killpg") else worker.kill()


def _end(worker: subprocess.Popen) -> None:
    with suppress(OSError), worker:  # closes its pipes and waits for it
        _kill(worker)


@atexit.register
def end_idle() -> None:
    """End the workers that have nothing to do, some 30 MB each: for who has read all for now."""
    with suppress(IndexError):  # another thread took the last one
        while _idle:
            _end(_idle.pop())
