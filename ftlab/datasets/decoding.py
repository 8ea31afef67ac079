"""The processes behind `read_image`: they decode pictures, with little at hand to do harm with.

`python -m ftlab.datasets.decoding` says on standard output that it is ready, by an empty line. Then
each question on standard input is the word white or black, for the ground of what is transparent,
8 bytes with a length, and so many bytes of a file. The answer is
a line of JSON: {"refused": the reason}, or {"shape": [H, W], "notes", "patient"} and behind it the
pixels, H * W * 3 bytes. It ends with its input, and with whatever no one foresaw.

The answers come from copies of the process: to replace one costs a fork, not another start.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..records import BadInput
from .images import decode, load_readers
from .picture import Picture

try:
    import resource
except ImportError:  # not a Unix: a process of its own is all the protection there is
    resource = None

FILES = 500  # decoded by a copy at most: what leaks in a decoder stays small
MORE = 3  # the exit status of a copy that has decoded so many
MEMORY = 2 * 2**30  # bytes of address space for pictures, beside those of the start
CPU_SECONDS = 10  # for one picture
STATM = Path("/proc/self/statm")  # its first number: pages of address space


def main() -> None:
    """Answer until the questions end, or until a copy ends in a way that is not foreseen."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    load_readers()
    _restrict()
    answers.write(b"\n")
    answers.flush()
    if not hasattr(os, "fork"):
        serve(sys.stdin.buffer, answers, sys.maxsize)
    else:
        while _in_a_copy(serve, sys.stdin.buffer, answers, FILES) == MORE:
            pass


def _in_a_copy(work: Callable[..., int], *given) -> int:
    """The exit status of a copy of this process that does some work; minus the signal's number."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            status = work(*given)
        finally:  # nothing behind the fork is for the copy
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve(questions: BinaryIO, answers: BinaryIO, files: int) -> int:
    """Decode so many files and return MORE, or 0 where the questions end before."""
    for _ in range(files):
        ground = questions.read(5)
        if not ground:
            return 0
        data = questions.read(int.from_bytes(questions.read(8)))
        _allow_seconds()
        try:
            picture = decode(data, ground.decode())
        except BadInput as error:
            answer, pixels = {"refused": str(error)}, b""
        else:
            answer, pixels = _described(picture), memoryview(picture.pixels)
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.write(pixels)
        answers.flush()
    return MORE


def _described(picture: Picture) -> dict:
    height, width, _ = picture.pixels.shape
    return {"shape": [height, width], "notes": picture.notes, "patient": picture.patient}


def _restrict() -> None:
    """From here on: no file is written, no core dumped, and memory has an end."""
    sys.dont_write_bytecode = True  # of the readers that are imported when first needed
    if resource is None:
        return
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    if STATM.exists():
        pages = int(STATM.read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + MEMORY)


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    if hard == resource.RLIM_INFINITY or value < hard:
        resource.setrlimit(limit, (value, value))


def _allow_seconds() -> None:
    """Let the system kill this process when the next picture takes too much of its time."""
    if resource is None:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS
    if hard == resource.RLIM_INFINITY or limit < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


if __name__ == "__main__":
    main()
