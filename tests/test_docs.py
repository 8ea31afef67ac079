"""What is not documented is not there: the README names every part, and its commands run."""

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from ftlab import modes, strategies
from ftlab.commands import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("strategy", strategies.STRATEGIES)
def test_the_readme_has_a_row_for_every_strategy(strategy):
    assert f"| `{strategy}` |" in README


def test_the_floor_plan_names_every_room_and_no_other():
    plan = README.split("```text\nftlab/\n")[1].split("```")[0]
    named = set(re.findall(r"^  (\w+(?:\.py|/))", plan, flags=re.MULTILINE))
    rooms = {p.name for p in (ROOT / "ftlab").glob("*.py")} - {"__init__.py"}
    rooms |= {f"{p.parent.name}/" for p in (ROOT / "ftlab").glob("*/__init__.py")}
    assert named == rooms


def test_the_readme_names_every_command():
    commands = {command.name for command in app.registered_commands}
    assert {c for c in commands if not re.search(rf"`{c}[ `]", README)} == set()


def test_every_requirement_has_its_reason():
    needed = re.findall(r"^[\w-]+", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    reasons = README.split("## What it stands on")[1].split("## ")[0]
    assert set(needed) <= set(re.findall(r"[\w-]+", reasons))


def test_the_limits_of_every_mode_are_documented():
    rows = re.findall(r"^\| `(\w+)`: .*? \| (.*) \|$", (ROOT / "docs/app.md").read_text(), re.M)
    written = {name: numbers.split(" | ") for name, numbers in rows}
    limits = [f.name for f in fields(modes.Mode) if "bool" not in f.type and f.name != "name"]
    for name in limits:
        given = [getattr(mode, name) for mode in (modes.ONE, modes.CLASSROOM, modes.PUBLIC)]
        assert written.pop(name) == ["none" if n is None else f"{n:,}" for n in given]
    assert not written


def test_a_plan_prints_as_the_readme_shows_it():
    shown = re.search(r"\$ python -m (ftlab plan [^\n]*)\n([^\n]*)\n", README)
    done = subprocess.run(
        [sys.executable, "-m", *shown[1].split()], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == shown[2]


def test_the_space_gets_the_gradio_that_is_tested_here():
    _, front, _ = README.split("---\n", 2)
    space = yaml.safe_load(front)
    assert space["sdk"] == "gradio" and space["sdk_version"] == version("gradio")
    assert f"gradio=={space['sdk_version']}\n" in (ROOT / "requirements.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert space["python_version"] in SpecifierSet(project["requires-python"])
    assert space["license"] == project["license"].lower()
    assert (ROOT / space["app_file"]).is_file()
    assert space["tags"] and len(space["short_description"]) <= 60  # the hub's limit
