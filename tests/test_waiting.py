"""Threads that wait: PyTorch's are asked to sleep soon, unless a person has said otherwise."""

import os
import subprocess
import sys

import pytest

OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


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
    here = {name: value for name, value in os.environ.items() if name not in OWN}
    told = subprocess.run(
        [sys.executable, "-c", "from ftlab import device"],
        env={**here, **asked, "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
    ).stderr
    assert f"GOMP_SPINCOUNT = '{turns}'" in told
