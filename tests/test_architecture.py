"""The arrows of the house, read from the imports; and the sizes it means to stay under."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "ftlab"
FILES = {path.relative_to(HOUSE).as_posix(): path for path in sorted(HOUSE.rglob("*.py"))}

# What may know what, from the ground up: a module, and all of ftlab that it may import.
ALLOWED = {
    "records": set(),
    "penalties": set(),
    "rates": set(),
    "signatures": {"records"},
    "strategies": {"records", "penalties", "rates", "signatures"},
    "families": set(),
    "slimming": {"records"},
    "mini": set(),
    "backbones": {"records", "families", "mini", "slimming"},
    "augment": set(),
    "device": {"records"},
    "freezing": {"records", "backbones"},
    "folding": {"backbones"},
    "losses": {"records", "backbones", "device"},
    "probing": {"records", "backbones", "freezing", "losses"},
    "optimizers": {"records", "backbones", "freezing", "device"},
    "batches": {"augment"},
    "features": {"records", "files", "backbones", "batches", "device", "folding"},
    "train": {
        *("records", "backbones", "freezing", "probing", "augment", "device"),
        *("batches", "features", "folding", "losses", "metrics", "optimizers"),
    },
    "metrics": set(),
    "rare": set(),
    "statistics": {"metrics", "rare"},
    "verdict": {"statistics"},
    "files": {"records"},
    "homes": {"records"},
    "modes": {"records"},
    "passwords": {"records", "homes"},
    "queue": {"records", "homes"},
    "datasets": {"records", "files", "homes", "datasets", "phantoms"},
    "phantoms": {"records", "phantoms"},
}
# Nothing below imports these.
TOP = {"lab", "findings", "people", "demo", "commands", "console", "ui", "__main__"}
TOP |= {"about", "export", "card", "report"}  # what is taken away is a view
LIGHT = {  # the command line starts without torch: these import none when they are imported
    *("records", "strategies", "penalties", "rates", "datasets", "metrics", "statistics"),
    *("files", "runs", "studies", "presence", "tuning", "schedule", "worker", "lab", "findings"),
    *("rare", "verdict"),
    *("leaderboard", "console", "commands", "doctor", "examples", "asking", "demo"),
    *("lanes", "evidence", "pictures", "watching", "maps", "flips", "deleting", "jobs", "looks"),
    *("homes", "queue", "modes", "people", "passwords", "search", "about", "card", "report"),
    *("__main__", "ui"),
}
HEAVY = {"torch", "torchvision", "timm"}
HEAVY_HERE = {"backbones", "families", "slimming", "freezing", "probing", "train", "weights"}
HEAVY_HERE |= {
    "batches",
    "losses",
    "features",
    "folding",
    "augment",
    "device",
    "context",
    "training",
    "prediction",
    "estimate",
    "mini",
    "explain",
    "cam_weights",
    "arithmetic",
    "tensors",
    "unpickling",
    "similarity",
    "inspection",
    "drift",
    "averaging",
    "blending",
    "external",
    "readout",
    "costs",
    "cuts",
    "looking",
    "batchnorm",
    "optimizers",
    "export",
}


def imports(path: Path, at_import: bool = False) -> set[str]:
    """Full dotted names of what a file imports; at_import: leave out what functions import."""
    package = ("ftlab", *path.relative_to(HOUSE).parent.parts)
    found: set[str] = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join((*base, *filter(None, [node.module])))
            found |= {f"{start}.{alias.name}" for alias in node.names}
    return found


def _nodes(tree: ast.AST, at_import: bool):
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes(node, at_import)


def part(file: str) -> str:
    """The part of the house a file belongs to: its module, or its folder."""
    return file.split("/")[0].removesuffix(".py")


def ours(names: set[str]) -> set[str]:
    """The parts of the house among imported names; a name that ftlab/__init__ holds is none."""
    parts = {name.split(".")[1] for name in names if name.startswith("ftlab.")}
    return parts & {part(file) for file in FILES}


def outside(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"ftlab"}


@pytest.mark.parametrize("file", [f for f in FILES if part(f) in ALLOWED])
def test_what_lies_at_the_bottom_knows_only_what_lies_below_it(file):
    typing_aside = imports(FILES[file])
    assert ours(typing_aside) <= ALLOWED[part(file)]


@pytest.mark.parametrize("file", [f for f in FILES if part(f) not in TOP])
def test_nothing_below_imports_the_lab_the_command_line_or_the_pages(file):
    assert not ours(imports(FILES[file])) & TOP


@pytest.mark.parametrize("file", [f for f in FILES if part(f) in LIGHT])
def test_importing_the_light_parts_imports_no_torch(file):
    names = imports(FILES[file], at_import=True)
    assert not outside(names) & HEAVY
    assert not ours(names) & HEAVY_HERE


@pytest.mark.parametrize("file", FILES)
def test_only_the_pages_import_gradio_and_they_import_no_torch(file):
    names = imports(FILES[file])
    if part(file) == "ui":
        assert not outside(names) & HEAVY and not ours(names) & HEAVY_HERE
    else:
        assert "gradio" not in outside(names)


@pytest.mark.parametrize("part_", ["records", "penalties", "rates", "strategies"])
def test_records_and_strategies_reach_no_disk_and_no_third_party(part_):
    assert outside(imports(FILES[f"{part_}.py"], at_import=True)) <= sys.stdlib_module_names
    assert not outside(imports(FILES[f"{part_}.py"])) & {"os", "pathlib", "io", "json", "shutil"}


@pytest.mark.parametrize("module", ["ftlab.__main__", "ftlab.lab", "ftlab.strategies"])
def test_the_command_line_starts_without_torch_timm_and_scikit_learn(module):
    heavy = "('torch', 'timm', 'sklearn', 'gradio')"
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_no_file_is_called_utils():
    assert not [f for f in FILES if Path(f).stem in ("utils", "util", "helpers", "common", "misc")]


@pytest.mark.parametrize("file", FILES)
def test_a_file_stays_under_300_lines(file):
    assert len(FILES[file].read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("file", FILES)
def test_a_function_stays_under_45_lines_docstring_aside(file):
    for node in ast.walk(ast.parse(FILES[file].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and ast.get_docstring(node)
            docstring = first.end_lineno - first.lineno + 1 if documented else 0
            assert node.end_lineno - node.lineno + 1 - docstring <= 45, node.name


def test_the_table_of_arrows_names_parts_that_exist():
    parts = {part(file) for file in FILES}
    assert set(ALLOWED) <= parts
    assert HEAVY_HERE <= parts
