"""What is too much for an import, what does not fit on the disk, and what may not be read."""

import errno
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dirty import good_entries, lying, refused, tree, zipped

from ftlab.datasets import archives, import_dataset, npz, report


def left_out(count: int) -> dict[str, bytes]:
    """Entries of a zip that are not read: clutter, a folder and files of another kind."""
    other = {f"cat/{n}.xml": bytes(50) for n in range(count)}
    return {f"__MACOSX/cat/._{n}.png": bytes(50) for n in range(count)} | other | {"dog/": b""}


def test_of_a_zip_only_what_is_read_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_ENTRIES", 24)
    entries = good_entries(12)
    size = sum(map(len, entries.values()))
    monkeypatch.setattr(archives, "MAX_UNPACKED", size)
    path = zipped(tmp_path / "x.zip", entries | left_out(20))
    made = import_dataset(tmp_path / "data", str(path), "x")
    assert len(made.files) == 24 and len(report(made)["skipped"]) == 20


@pytest.mark.parametrize(
    "limit, value, said",
    [
        ("MAX_ENTRIES", 23, "24 entries to read, more than the 23 allowed"),
        ("MAX_LISTED", 64, "65 entries, more than the 64 allowed"),
        ("MAX_UNPACKED", 2000, r"unpacks to 0\.0 GB"),
    ],
)
def test_a_zip_of_too_much_is_refused_with_what_to_do(tmp_path, monkeypatch, limit, value, said):
    path = zipped(tmp_path / "x.zip", good_entries(12) | left_out(20))
    monkeypatch.setattr(archives, limit, value)
    way_out = "take fewer, or unpack it where ftlab runs and import the folder there"
    refused(tmp_path, path, rf"{said}.*: {way_out}\.$")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    import_dataset(tmp_path / "other", str(tmp_path / "unpacked"), "x")


def test_clutter_may_be_large_but_no_bomb(tmp_path):
    path = zipped(tmp_path / "x.zip", good_entries(8) | {"__MACOSX/._x.png": bytes(60 * 2**20)})
    refused(tmp_path, path, "times its size")
    path = zipped(tmp_path / "y.zip", good_entries(8) | {"notes.pdf": b"%PDF"})
    lying(path, "notes.pdf", 3 * 2**30)
    refused(tmp_path, path, "times its size")


def test_an_npz_of_too_much_is_refused_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MAX_UNPACKED", 1000)
    np.savez(tmp_path / "x.npz", train_images=np.zeros((9, 28, 28), np.uint8))
    refused(
        tmp_path, tmp_path / "x.npz", "2 GB allowed: take fewer images, or save them in a folder"
    )


def fails(number: int, filename=None):
    """A function that always ends in the system's error of that number."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number), filename)

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_so(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "write_bytes", fails(number))
    source = zipped(tmp_path / "x.zip", good_entries(8))
    refused(tmp_path, source, r"stored: the disk is full\. Free some space and import again\.$")


@pytest.mark.parametrize("around", ["", "data", "data/.x.tmp"])
def test_a_folder_that_may_not_be_written_is_not_called_unreadable(tmp_path, monkeypatch, around):
    source = tree(tmp_path / "in")
    monkeypatch.setattr(Path, "mkdir", fails(errno.EACCES, str(tmp_path / around)))
    refused(tmp_path, source, r"^The data set cannot be stored: Permission denied\.$")


def test_a_table_that_may_not_be_read_is_not_called_unwritable(tmp_path, monkeypatch):
    source = tree(tmp_path / "in")
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n")
    monkeypatch.setattr(Path, "read_text", fails(errno.EACCES, str(table)))
    refused(tmp_path, source, r"^labels\.csv cannot be read: Permission denied\.$", labels=table)
