"""The command line: `python -m ftlab COMMAND`, or `ftlab COMMAND`."""

from __future__ import annotations

from importlib import import_module

from .commands import app

PARTS = ("lists", "data", "study", "search", "images", "inspection", "averages", "machine")
PARTS = ("lists", "data", "study", "images", "inspection", "averages", "maps", "machine")  # as in --help
PARTS = (  # as in --help
    *("lists", "data", "study", "images", "inspection", "maps", "averages", "machine"),
)
PARTS = (
    "lists",
    "data",
    "study",
    "images",
    "inspection",
    "averages",
    "takeaway",
    "machine",
)  # as in --help
for part in PARTS:
    import_module(f"ftlab.commands.{part}")


def main() -> None:
    """The console script `ftlab`."""
    app()


if __name__ == "__main__":
    main()
