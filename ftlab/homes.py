"""Homes: a folder with data/, checkpoints/ and cache/, and a link to the home it reads besides.

Where several people share one ftlab, each has a home of their own, people/<owner>, inside the home
that they share:

people/<owner>/
  data/  checkpoints/     theirs
  shared -> ../..         whose data sets and studies they can read
  cache -> ../../cache    what is in it is nobody's own, but for features/<owner>/: of their images

Whoever works in a home cannot name what is in another's: what is private needs no check.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .records import BadInput

PEOPLE, SHARED, FEATURES = "people", "shared", "features"
VISITOR = re.compile(r"[0-9a-f]{32}")  # the name of a visitor's home: nobody gave it


def personal(home: Path, owner: str) -> Path:
    """The home of one of the people who share `home`, made when first asked for.

    Raises:
        BadInput: the owner's name cannot name a folder.
    """
    check_owner(owner)
    own = home / PEOPLE / owner
    if not (own / SHARED).is_symlink():
        (home / "cache").mkdir(parents=True, exist_ok=True)
        own.mkdir(parents=True, exist_ok=True)
        for name, target in (("cache", "../../cache"), (SHARED, "../..")):
            with suppress(FileExistsError):  # a page's other questions come at the same moment
                (own / name).symlink_to(target)
    return own


def check_owner(name: str) -> None:
    """Refuse a person's name that cannot name a folder.

    Raises:
        BadInput: it holds anything but letters, digits, ., - and _, or is too long.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise BadInput(f"{name!r} cannot be a person's name: use letters, digits, ., - and _.")


def trunk(home: Path) -> Path:
    """The home with the queue: the one that a personal home shares, else `home` itself."""
    shared = home / SHARED
    return shared.resolve() if shared.is_symlink() else home.resolve()


def readable(folder: Path) -> list[Path]:
    """Where what belongs into `folder`, data/ or checkpoints/ of a home, is found: its own last."""
    return [trunk(folder.parent) / folder.name, folder]


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Be the only one who asks something in a home; whoever comes meanwhile waits."""
    file = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def features(home: Path) -> Path:
    """Where in the cache features of a home's own images are kept: apart, to go with the home.

    All of them lie in one folder and fill one budget, whosever they are (`ftlab.features`).
    """
    kept = home / "cache" / FEATURES
    return kept / home.name if (home / SHARED).is_symlink() else kept


def owners(home: Path) -> list[str]:
    """Who has a home of their own in this one."""
    return sorted(own.name for own in (home / PEOPLE).glob("[!.]*") if own.is_dir())


def stored_bytes(home: Path) -> int:
    """What lies in a personal home, links not followed."""
    total = 0
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):  # a run at work renames and removes
            if not path.is_symlink():
                total += path.lstat().st_size
    return total


def sweep(home: Path, idle_seconds: float) -> list[str]:
    """Delete the homes of visitors who have not been here for so long; their names.

    A home is as old as its folder's time, which every visit sets. Those of people with a name
    stay, however old: a home may have been a classroom's before it was the public's. With a home
    go the features of its images, also those that a job wrote after its home had gone.
    """
    gone = []
    for own in (home / PEOPLE).glob("*"):
        with suppress(OSError):  # one that goes meanwhile must not keep the others
            if VISITOR.fullmatch(own.name) and time.time() - own.stat().st_mtime > idle_seconds:
                shutil.rmtree(own, ignore_errors=True)
                gone.append(own.name)
    for kept in (home / "cache" / FEATURES).glob("*"):
        if VISITOR.fullmatch(kept.name) and not (home / PEOPLE / kept.name).exists():
            shutil.rmtree(kept, ignore_errors=True)
    return gone
