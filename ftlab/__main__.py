"""The command line: `python -m ftlab COMMAND`, or `ftlab COMMAND`."""

from __future__ import annotations

from importlib import import_module

from .commands import app

for part in ("lists", "data", "study", "images", "machine"):  # the order of --help
    import_module(f"ftlab.commands.{part}")


def main() -> None:
    """The console script `ftlab`."""
    app()


if __name__ == "__main__":
    main()
