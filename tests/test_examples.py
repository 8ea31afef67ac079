"""The gallery: every class, drawn once, whole or not there."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftlab import examples, phantoms
from ftlab.datasets.masks import read_mask

ROOT = Path(__file__).parent.parent


@pytest.fixture
def small(monkeypatch):
    """Two modalities, drawn at a quarter of the size."""
    draw = phantoms.phantom
    kinds = {name: phantoms.MODALITIES[name] for name in ("endoscopy", "dermoscopy")}
    monkeypatch.setattr(phantoms, "phantom", lambda *which: draw(*which, 56))
    monkeypatch.setattr(phantoms, "MODALITIES", kinds)
    return kinds


def test_every_class_of_every_modality_has_two_examples_with_masks(tmp_path, small):
    shown = examples.gallery(tmp_path)
    found = Counter((one.modality, one.label) for one in shown)
    assert found == {(name, c): 2 for name, kind in small.items() for c in kind.classes}
    for one in shown:
        assert one.file.parent.parent == tmp_path / "examples" / one.modality
        assert one.file.is_file() and read_mask(one.mask).any() == (one.label != "none")
    assert len({one.file.read_bytes() for one in shown}) == len(shown)


def test_the_examples_are_not_those_of_the_usual_seeds(tmp_path, small):
    shown = {one.file.read_bytes() for one in examples.gallery(tmp_path)}
    for seed in (0, 1):
        phantoms.write("dermoscopy", tmp_path / str(seed), 2, seed)
        assert not shown & {p.read_bytes() for p in (tmp_path / str(seed)).glob("[!m]*/*.png")}


def test_a_second_call_draws_nothing_and_needs_no_scipy(tmp_path, small, monkeypatch):
    first = examples.gallery(tmp_path)
    monkeypatch.setattr(phantoms, "write", None)
    assert examples.gallery(tmp_path) == first
    code = (
        "import sys; from pathlib import Path; from ftlab.examples import gallery; "
        "print(len(gallery(Path(sys.argv[1]))), *{'numpy', 'scipy', 'PIL'} & set(sys.modules))"
    )
    told = subprocess.check_output([sys.executable, "-c", code, tmp_path], cwd=ROOT, text=True)
    assert told.split() == [str(len(first))]


def test_callers_at_once_get_one_folder_and_leave_nothing_beside_it(tmp_path, small):
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(examples.gallery, [tmp_path] * 3))
    assert answers[0] == answers[1] == answers[2] and len(answers[0]) == 14
    assert [path.name for path in tmp_path.iterdir()] == ["examples"]


def test_a_drawing_that_fails_leaves_no_folder(tmp_path, small, monkeypatch):
    def fail(modality, folder, *_):
        folder.mkdir(parents=True)
        raise OSError("no space")

    monkeypatch.setattr(phantoms, "write", fail)
    with pytest.raises(OSError, match="no space"):
        examples.gallery(tmp_path)
    assert list(tmp_path.iterdir()) == []
