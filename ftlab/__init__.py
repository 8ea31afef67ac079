"""ftlab: which fine-tuning strategy should I use for medical images, and what does it change?"""

import contextlib
import ctypes
import os

__version__ = "0.1.0"
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # as glibc's malloc.h numbers them

# Threads of libgomp, with which PyTorch computes on Linux, wait for one another in a loop, so long
# that they take the processor from whoever else computes: an app beside a training, or a second
# training. Let them sleep after as many turns as libgomp takes where it sees the crowd, in its own
# process. PyTorch reads this when it is imported; what it gains: docs/benchmarks.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# glibc hands large tensors back to Linux when they are freed, and each batch takes the same memory
# anew, a page fault for every 4 KiB of it. Let a process keep what it once had, in one place for
# all its threads. Where malloc is another, or somebody tuned it, nothing changes.
if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, -1)  # never
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_ARENA_MAX, 1)
