"""The embedded default: every strategy on drawn chest X-rays, made from nothing.

The reference study that comes with ftlab was made this way (tools/ship_reference.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .records import Question, Settings

if TYPE_CHECKING:
    from .lab import Lab

SOURCE, DATA, PER_CLASS, SEED = "phantom:chest_xray", "demo_chest_xray", 200, 1
FRACTIONS = (0.3, 0.1, 0.6)  # 60 training images a class, and enough test images to tell
HASH = "7c1d7dc147359a7e2f11deb3b8cb2f6e83e23b97a7e10423773edef1cdc4bd44"  # of what that draws
SEEDS = range(5)
SETTINGS = Settings(epochs=10, size=96, lr="auto", precision="float32")  # as the one that ships


def ask(lab: Lab, name: str, progress: Callable[[int, int], None] | None = None) -> Path:
    """Draw the data where they are not there yet and ask the study; its folder to work on.

    Args:
        name: of the study; one of that name is continued.
        progress: called with (images drawn, images in all).
    """
    if DATA not in (data["name"] for data in lab.datasets()):
        options = dict(fractions=FRACTIONS, seed=SEED, per_class=PER_CLASS, drawing=progress)
        lab.import_data(SOURCE, DATA, **options)
    question = Question(DATA, ["ftlab_mini"], ["all"], SEEDS, SETTINGS, name=name)
    return lab.ask(question, alone=True)
