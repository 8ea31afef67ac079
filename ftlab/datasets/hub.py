"""Image data sets of the Hugging Face hub: files in class folders or beside a table of labels."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..files import disk_full
from ..records import BadInput
from .listing import MAX_UNPACKED, SUFFIXES, is_table

SECONDS = 6  # to wait for the hub's first answer
PATTERNS = [f"*{case}" for s in (*sorted(SUFFIXES), ".csv") for case in (s, s.upper())]


def download(repository: str) -> tuple[Path, bool]:
    """The local folder of a data set "owner/name", and whether it is only the cached copy.

    Raises:
        BadInput: no such data set, no pictures in files, too large, or no way to reach the hub
            and no copy in the local cache.
        OSError: the disk is full.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return _fetch(repository), False
    except BadInput:
        raise
    except Exception as error:  # no network shows itself in many kinds of exception
        if disk_full(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        answered = isinstance(error, HfHubHTTPError)
        reason = "answered with an error" if answered else "cannot be reached"
    if folder := _cached(repository):
        return folder, True
    raise BadInput(
        f"The Hugging Face hub {reason}, and {repository} is not in the local cache: "
        "download its files elsewhere and import them as a folder."
    )


def _cached(repository: str) -> Path | None:
    """The newest copy in the local cache that holds pictures and lacks none; None without such.

    By its commit, since a download of a commit leaves no name like main to find it by.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.file_download import repo_folder_name

    called = repo_folder_name(repo_id=repository, repo_type="dataset")
    copies = (Path(constants.HF_HUB_CACHE) / called / "snapshots").glob("*/")
    for copy in sorted(copies, key=lambda folder: folder.stat().st_mtime, reverse=True):
        try:
            snapshot_download(
                repository,
                repo_type="dataset",
                revision=copy.name,
                allow_patterns=PATTERNS,
                local_files_only=True,
            )
        except LocalEntryNotFoundError:
            continue
        if any(path.suffix.lower() in SUFFIXES for path in copy.rglob("*")):
            return copy
    return None


def _fetch(repository: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        info = HfApi().dataset_info(repository, timeout=SECONDS, files_metadata=True)
        _judge(repository, {file.rfilename: file.size or 0 for file in info.siblings or []})
        folder = snapshot_download(
            repository, repo_type="dataset", revision=info.sha, allow_patterns=PATTERNS
        )
    except HFValidationError as error:
        raise BadInput(f"{repository!r} is not a hub id: write hub:owner/name.") from error
    except GatedRepoError as error:
        raise BadInput(
            f"The data set {repository} asks for its terms to be accepted on its hub page first."
        ) from error
    except RepositoryNotFoundError as error:
        raise BadInput(
            f"The hub has no data set {repository}, or it is private (log in with `hf auth login`)."
        ) from error
    return Path(folder)


def _judge(repository: str, sizes: dict[str, int]) -> None:
    """Refuse a data set by the names and bytes of its files, before any is downloaded."""
    pictures = [name for name in sizes if Path(name).suffix.lower() in SUFFIXES]
    if not pictures:
        parquet = any(name.endswith((".parquet", ".arrow")) for name in sizes)
        kind = "parquet tables, which are not read" if parquet else "no files that are pictures"
        raise BadInput(
            f"The data set {repository} holds {kind}: save its pictures in a folder per class "
            "and import that."
        )
    total = sum(size for name, size in sizes.items() if name in pictures or is_table(name))
    if total > MAX_UNPACKED:
        raise BadInput(
            f"The data set {repository} has {total / 2**30:.1f} GB of pictures, more than the "
            "2 GB fetched here: download what you need and import it as a folder."
        )
