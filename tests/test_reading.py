"""The door for pictures: what goes wrong behind it costs one picture, and nothing is left over."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dirty import noise, png, tree

from ftlab.datasets import import_dataset, read_image, reading
from ftlab.records import BadInput

ROOT = Path(__file__).parent.parent
PICTURE = png(noise(0))
linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")


# A worker that does what it is told: of a file that begins with "bad", the rest is run as Python.
TOLD = """
from ftlab.datasets import decoding
from ftlab.datasets.picture import Picture
import os, signal, sys, time
import numpy as np
os.dup2(1, 9)  # where its answers go
good = decoding.decode
def bad(code):
    scope = globals() | {"notes": []}
    exec(code, scope)
    return Picture(np.zeros((8, 8, 3), np.uint8), tuple(map(str, scope["notes"])))
decoding.decode = lambda data, ground: bad(data[3:]) if data[:3] == b"bad" else good(data)
decoding.FILES = 3
decoding.main()
"""


@pytest.fixture(scope="module")
def told():
    """What a worker notes after it has run some Python."""
    reading.end_idle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "COMMAND", (sys.executable, "-c", TOLD))
        yield lambda code: list(read_image(b"bad" + code.encode()).notes)
        reading.end_idle()


def well() -> bool:
    return np.array_equal(read_image(PICTURE).pixels, noise(0))


def test_who_has_read_a_whole_data_set_leaves_no_worker_behind(tmp_path):
    read_image(PICTURE)
    assert reading._idle
    data = import_dataset(tmp_path / "data", str(tree(tmp_path / "in")), "pets")
    assert not reading._idle
    data.array(32)
    assert not reading._idle and well()


def test_many_threads_at_once_each_get_their_own_picture():
    files = [png(noise(n, 8 + n)) for n in range(60)]
    with ThreadPoolExecutor(12) as pool:
        pictures = list(pool.map(read_image, files))
    assert all(np.array_equal(p.pixels, noise(n, 8 + n)) for n, p in enumerate(pictures))
    assert len(reading._idle) <= reading.WORKERS and not reading._busy


@pytest.mark.parametrize(
    "code",
    [
        "time.sleep(60)",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "os.kill(os.getppid(), signal.SIGSTOP); os.kill(os.getpid(), signal.SIGSTOP)",
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "os.kill(os.getppid(), signal.SIGKILL); os._exit(1)",
        "os._exit(0)",
        "raise RuntimeError('/a/path')",
        "bytearray(3 * 2**30)",
        "decoding._described = lambda picture: 3",
    ],
)
def test_a_worker_that_dies_or_hangs_costs_its_picture_alone(told, monkeypatch, code):
    assert well()  # it was started with all the time it may take
    with monkeypatch.context() as patch, pytest.raises(BadInput) as refusal:
        patch.setattr(reading, "SECONDS", 1.5)
        told(code)
    assert str(refusal.value) == reading.UNSAFE
    assert well()


def test_a_worker_that_computes_without_end_is_ended_by_the_system(told):
    with pytest.raises(BadInput, match="could not be read safely"):
        told("decoding.CPU_SECONDS = 0; decoding._allow_seconds()\nwhile True: pass")
    assert well()


def test_seconds_of_the_processor_are_counted_for_each_picture_anew(told):
    limit = "notes += [os.getpid(), resource.getrlimit(resource.RLIMIT_CPU)[0]]"
    burn = "import resource\nwhile time.process_time() < 1.2: pass\n"
    reading.end_idle()  # so that the two pictures go to one copy
    (copy, first), (same, second) = told(f"{burn}{limit}"), told(f"import resource; {limit}")
    assert copy == same and int(second) > int(first) >= 10


@pytest.mark.parametrize(
    "answer",
    [
        b"\n",
        b"no JSON\n",
        b"[1, 2]\n",
        b'{"shape": ["a", "b"]}\n',
        b'{"shape": [1000000000, 1000000000], "notes": [], "patient": null}\n',
        b'{"shape": [-8, -8], "notes": [], "patient": null}\n',
        b'{"shape": [8, 8], "notes": [], "patient": null}\nfew',
        b'{"shape": [8, 8], "notes": 3, "patient": null}\n' + bytes(192),
        b'{"refused": "' + b"x" * 2**16,
        b"\x80\x04\x95",
    ],
)
def test_a_worker_that_was_taken_over_is_not_believed(told, answer):
    with pytest.raises(BadInput) as refusal:  # it answers as its own code does, and dies
        told(f"os.write(9, {answer!r}); os._exit(1)")
    assert str(refusal.value) == reading.UNSAFE or " pixels are " in str(refusal.value)
    assert well()


def test_what_a_library_prints_does_not_get_between_the_answers(told):
    assert told("print('x', flush=True); os.write(1, b'y'); notes.append(1)") == ["1"]


def test_a_worker_can_write_no_file(told, tmp_path):
    canary = str(tmp_path / "canary")
    with pytest.raises(BadInput, match="could not be read safely"):
        told(f"os.write(os.open({canary!r}, os.O_CREAT | os.O_WRONLY), b'x'); notes.append(1)")
    assert Path(canary).read_bytes() == b""


def test_a_copy_is_replaced_after_some_files_and_no_answer_is_lost(told):
    pids = [told("notes += [os.getpid(), os.getppid()]") for _ in range(9)]
    copies, workers = (
        [column.count(pid) for pid in set(column)] for column in zip(*pids, strict=True)
    )
    assert max(copies) == 3 and len(copies) in (3, 4)
    assert workers == [9]


def test_neither_torch_nor_the_pages_are_loaded_where_pictures_are_decoded(told):
    heavy = ("torch", "timm", "gradio", "scipy", "sklearn", "huggingface_hub")
    assert told(f"notes += [m for m in {heavy} if m in sys.modules]") == []


def test_an_idle_worker_that_was_killed_is_replaced_without_a_word():
    read_image(PICTURE)
    for worker in reading._idle:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert np.array_equal(read_image(PICTURE).pixels, noise(0))


def test_an_interruption_in_the_middle_of_an_answer_does_not_shift_the_next(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(reading, "check_size", interrupted)
        read_image(png(noise(1)))
    assert np.array_equal(read_image(PICTURE).pixels, noise(0))


@pytest.mark.parametrize(
    "command, reason",
    [
        ((sys.executable, "-c", ""), "the process to read it in did not start"),
        (("/nowhere/python",), "no process could be started"),
    ],
)
def test_where_no_worker_starts_it_is_said_in_one_sentence(monkeypatch, command, reason):
    reading.end_idle()
    monkeypatch.setattr(reading, "COMMAND", command)
    for _ in range(reading.WORKERS + 1):  # and no place in the pool is lost by it
        with pytest.raises(BadInput, match=reason):
            read_image(PICTURE)


READ = f"""
import sys, time
from ftlab.datasets import read_image, reading
read_image({PICTURE!r})
print(*[worker.pid for worker in reading._idle], flush=True)
"""


def alive(group: int) -> list[str]:
    """The processes of a group that have not ended."""
    states = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended meanwhile
            continue
        if int(its_group) == group and state != "Z":
            states.append(stat.parent.name)
    return states


def gone(group: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while alive(group) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(group)


@linux
def test_workers_end_with_an_interpreter_that_ends_and_say_nothing():
    done = subprocess.run([sys.executable, "-c", READ], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert not alive(int(done.stdout))


@linux
@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_an_interpreter_that_is_killed(busy):
    last = "worker = reading._idle[0]; worker.stdin.write((9).to_bytes(8)); worker.stdin.flush()"
    code = f"{READ}\n{last if busy else ''}\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        group = int(parent.stdout.readline())
        assert len(alive(group)) == 2  # a worker and its copy
        parent.kill()
    assert gone(group)
