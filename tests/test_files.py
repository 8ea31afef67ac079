"""Files that are whole or not there, and what a kill leaves behind."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import numpy as np
import pytest

from ftlab import files


@pytest.fixture
def moment(monkeypatch):
    monkeypatch.setattr(files, "MOMENT_SECONDS", -1.0)


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.md").symlink_to(tmp_path / "there" / "card.md")
    files.write_text(tmp_path / "link.md", "a card")
    assert (tmp_path / "link.md").is_symlink()
    assert (tmp_path / "there" / "card.md").read_text() == "a card"


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_unfinished_is_gone_in_the_end_and_what_was_renamed_stays(tmp_path, make):
    with pytest.raises(KeyError), files.unfinished(tmp_path / "lost", make):
        raise KeyError
    with files.unfinished(tmp_path / "kept", make) as work:
        work.rename(tmp_path / "kept")
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_a_kill_left_goes_and_what_somebody_holds_stays(tmp_path, make, moment):
    left, held = tmp_path / ".left.1234.tmp", tmp_path / ".held.1234.tmp"
    for path in (left, held):
        make(path)
    holder = os.open(held, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with files.unfinished(tmp_path / "next"):
        assert held.exists() and not left.exists()
    os.close(holder)
    with files.unfinished(tmp_path / "next"):
        assert not held.exists()


def test_what_was_made_a_moment_ago_is_left_alone(tmp_path):
    (tmp_path / ".new.1234.tmp").touch()  # its maker may be about to lock it
    with files.unfinished(tmp_path / "next"):
        assert (tmp_path / ".new.1234.tmp").exists()


def test_an_array_has_all_of_its_bytes_on_the_disk_before_it_is_filled(tmp_path):
    array = files.new_array(tmp_path / "a.npy", np.uint8, (64, 128, 128, 3))
    found = (tmp_path / "a.npy").stat()
    assert found.st_blocks * 512 >= found.st_size > array.nbytes
    array[3] = 7
    array.flush()
    assert (np.load(tmp_path / "a.npy").reshape(64, -1).max(axis=1) > 0).nonzero()[0].tolist() == [
        3
    ]
