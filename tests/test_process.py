"""What ftlab asks of its process, unless a person has: threads that sleep, memory that is kept."""

import os
import platform
import subprocess
import sys

import pytest

OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "MALLOC_", "GLIBC_TUNABLES")
FAULTS = """
import resource, threading, ftlab

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def touch():
    b"x" * 2**26  # 16,384 pages

def again():
    touch()
    before = faults()
    touch()
    print(faults() - before)

again()
thread = threading.Thread(target=again)
thread.start()
thread.join()
"""


def run(program: str, asked: dict[str, str]) -> subprocess.CompletedProcess:
    here = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env={**here, **asked}, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch computes with libgomp on Linux alone")
@pytest.mark.parametrize(
    ("asked", "turns"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "0"),
    ],
)
def test_libgomp_reads_how_long_its_threads_wait(asked, turns):
    told = run("from ftlab import device", {"OMP_DISPLAY_ENV": "verbose", **asked}).stderr
    assert f"GOMP_SPINCOUNT = '{turns}'" in told


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc has these settings")
@pytest.mark.parametrize(
    ("asked", "kept"), [({}, True), ({"MALLOC_PERTURB_": "0"}, False)], ids=["ours", "asked"]
)
def test_memory_once_had_is_taken_again_without_page_faults(asked, kept):
    """In threads as well, where glibc would have other arenas."""
    found = [int(faults) for faults in run(FAULTS, asked).stdout.split()]
    assert [faults < 1000 for faults in found] == [kept, kept]
