"""The command line: `python -m ftlab COMMAND`, or `ftlab COMMAND`."""

from __future__ import annotations

import sys
from importlib import import_module

from .commands import app

PARTS = (  # as in --help
    *("lists", "data", "study", "search", "images", "inspection", "maps", "averages"),
    *("takeaway", "machine"),
)
for part in PARTS:
    import_module(f"ftlab.commands.{part}")


def main() -> None:
    """The console script `ftlab`."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # names may be in any letters
        stream.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
