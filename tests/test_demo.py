"""`ftlab demo`: from nothing to a table with every strategy, here in its smallest form."""

import json

import pytest
from typer.testing import CliRunner

from ftlab import demo
from ftlab.__main__ import app
from ftlab.records import Settings
from ftlab.strategies import STRATEGIES


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The demo with one seed, two epochs and 20 small images a class, in a home of its own."""
    monkeypatch.setenv("FTLAB_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(demo, "PER_CLASS", 20)
    monkeypatch.setattr(demo, "SEEDS", range(1))
    monkeypatch.setattr(demo, "SETTINGS", Settings(epochs=2, size=32, precision="float32"))
    return tmp_path


def test_the_demo_draws_trains_and_prints_every_strategy(small):
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0, done.output
    assert {line.split()[0] for line in done.stdout.splitlines() if line} >= set(STRATEGIES)
    again = CliRunner().invoke(app, ["demo", "--json"])
    events = [json.loads(line) for line in again.stdout.splitlines()]
    assert len(events) == 1, "a finished demo has nothing to train"
    assert {run["state"] for run in events[0]["runs"]} == {"finished"}


def test_the_demo_as_shipped_asks_what_the_readme_says():
    assert (demo.SOURCE, len(demo.SEEDS), demo.PER_CLASS) == ("phantom:chest_xray", 5, 200)
    assert demo.FRACTIONS[0] * demo.PER_CLASS == 60
