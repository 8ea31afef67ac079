"""Hub data sets from a cache laid out by hand; the network is never asked."""

import errno
import os
import time
from types import SimpleNamespace

import pytest
from dirty import refused, tree
from huggingface_hub.errors import LocalEntryNotFoundError

from ftlab.datasets import import_dataset, report
from ftlab.records import BadInput

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cached_data_set_is_imported_without_network(cache, tmp_path):
    """As a download of a commit leaves it: without a branch in refs."""
    tree(cache / "datasets--someone--pets" / "snapshots" / SHA / "data")
    ds = import_dataset(tmp_path / "data", "hub:someone/pets", "pets")
    assert ds.classes == ("cat", "dog") and len(ds.files) == 24
    assert any("local cache" in warning for warning in report(ds)["warnings"])


def test_of_several_copies_in_the_cache_the_newest_whole_one_is_imported(
    cache, tmp_path, monkeypatch
):
    copies = cache / "datasets--someone--pets" / "snapshots"
    read, torn = "e" * 40, "d" * 40
    made = {read: (), torn: ("torn", "lost"), SHA: ("cat", "dog"), "a" * 40: ("old", "older")}
    for age, (sha, classes) in enumerate(made.items()):
        (copies / sha).mkdir(parents=True)
        tree(copies / sha, classes=classes)
        (copies / sha / "README.md").write_text("# Pets")  # of the newest, all that was fetched
        os.utime(copies / sha, (10**9 - age, 10**9 - age))

    def whole(repository, *, revision, **options):
        if revision == torn:
            raise LocalEntryNotFoundError("files are missing")

    monkeypatch.setattr("huggingface_hub.snapshot_download", whole)
    assert import_dataset(tmp_path / "data", "hub:someone/pets", "pets").classes == ("cat", "dog")


def test_without_network_and_cache_one_sentence_says_what_to_do(cache, tmp_path):
    for source in ("hub:someone/pets", "someone/pets"):
        with pytest.raises(BadInput, match="cannot be reached.*not in the local cache"):
            import_dataset(tmp_path / "data", source, "pets")


def test_an_endpoint_that_is_not_there_fails_fast(tmp_path, monkeypatch):
    from huggingface_hub import constants, hf_api

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hf_api.constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(BadInput, match="cannot be reached"):
        import_dataset(tmp_path / "data", "hub:someone/pets", "pets")
    assert time.monotonic() - start < 12


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/home/someone/.cache"),
        RuntimeError("File I/O error: No space left on device (os error 28)"),  # hf_xet, in Rust
    ],
)
def test_a_full_disk_is_not_called_an_unreachable_hub(cache, tmp_path, monkeypatch, error):
    def full(*_, **__):
        raise error

    listed = SimpleNamespace(siblings=[SimpleNamespace(rfilename="a/1.png", size=9)], sha=SHA)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: listed)
    monkeypatch.setattr("huggingface_hub.snapshot_download", full)
    refused(tmp_path, "hub:someone/pets", "cannot be stored: the disk is full. Free some space")


def test_what_is_no_hub_id_is_refused(cache, tmp_path):
    with pytest.raises(BadInput, match="not a hub id"):
        import_dataset(tmp_path / "data", "hub:a/b/c/..", "pets")


@pytest.mark.parametrize(
    "files, match",
    [
        ({"data/train-0000.parquet": 10}, "parquet"),
        ({"README.md": 10}, "no files that are pictures"),
        ({"a/1.png": 3 * 2**30}, "3.0 GB"),
    ],
)
def test_a_hub_data_set_is_judged_by_its_list_of_files(files, match):
    from ftlab.datasets.hub import _judge

    with pytest.raises(BadInput, match=match):
        _judge("someone/pets", files)
