"""ftlab: which fine-tuning strategy should I use for medical images, and what does it change?"""

import os

__version__ = "0.1.0"

# Threads of libgomp, with which PyTorch computes on Linux, wait for one another in a loop, so long
# that they take the processor from whoever else computes: an app beside a training, or a second
# training. Let them sleep after as many turns as libgomp takes where it sees the crowd, in its own
# process. PyTorch reads this when it is imported; what it gains: docs/benchmarks.md.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
