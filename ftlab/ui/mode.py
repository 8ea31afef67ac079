"""For whom the app runs, and what that person may ask of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mode:
    """How the app is served and its limits; each is said to the person it stops."""

    name: str = "one"  # "one" person at this machine
    paths: bool = True  # whether a path on this machine may be typed in
    batch_images: int = 200  # images sent through a study at once
    upload_bytes: int = 2 * 2**30  # of each file


ONE = Mode()


def owner(request: Any) -> str:
    """Who asks, as the queue and the folders know them; "" where nobody has to log in."""
    return getattr(request, "username", None) or ""
