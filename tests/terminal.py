"""The command line in this process, as tests type it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from ftlab import __main__  # noqa: F401, the commands
from ftlab.commands import app


def typed(home: Path, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command with that home: (exit code, standard output, standard error)."""
    monkeypatch.setenv("FTLAB_HOME", str(home))
    monkeypatch.setattr(
        "ftlab.worker.StopFlag", lambda: type("Flag", (), {"__call__": lambda _: False})()
    )

    def run(*arguments, **options):
        result = CliRunner().invoke(app, [str(a) for a in arguments], **options)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def document_of(run: Callable) -> Callable:
    """The one JSON document a command prints; standard error must be empty of it."""

    def document(*arguments):
        code, out, err = run(*arguments, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return document
