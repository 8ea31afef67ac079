"""Deleting a study with its runs, or a data set that no study still needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from . import datasets, files, jobs, presence, queue
from .records import BadInput


def deletable(home: Path, name: str, studies: Iterable[Mapping], kind: str = "") -> str:
    """What of a home would be deleted: "study" or "data set".

    Args:
        studies: those of everybody who reads from there, as `ftlab.lab.Lab.studies` tells of them.
        kind: which of the two is meant, where that is known; what else bears the name is left.
    Raises:
        BadInput: neither, both, at work, or a data set that studies still need.
    """
    is_study = kind != "data set" and name in (
        path.parent.name for path in home.glob("checkpoints/[!.]*/study.json")
    )
    is_data = kind != "study" and name in datasets.own_names(home / "data")
    if is_study and is_data:
        raise BadInput(
            f"{name} is both a study and a data set: delete the one you mean in the app, under "
            "Studies or Data, or rename one folder first."
        )
    if not (is_study or is_data):
        none = f"no {kind}" if kind else "no study and no data set"
        raise BadInput(f"There is {none} {name!r} of your own to delete.")
    if is_study and _at_work(home, home / "checkpoints" / name):
        raise BadInput(f"The study {name} is being worked on: `ftlab stop {name}` first.")
    for study in studies if is_data else ():
        if study["data"] == name and study["state"] != "finished":
            raise BadInput(
                f"The study {study['study']} still needs {name}: delete the study first."
            )
    return "study" if is_study else "data set"


def _at_work(home: Path, folder: Path) -> bool:
    """Whether a job works on a study, or has begun to: then it holds no lock yet."""
    row = queue.row(home, folder)
    return presence.locked(folder) or bool(row and jobs.poll(row["pid"], row["pid_start"]))


def delete(home: Path, name: str, kind: str) -> None:
    """Delete what `deletable` said could be."""
    if kind == "data set":
        datasets.delete_dataset(home / "data", name)
        return
    folder = home / "checkpoints" / name
    queue.remove(home, folder)
    with files.unfinished(folder, Path.mkdir) as doomed, presence.lock(folder):
        folder.rename(doomed / name)  # gone at once, whatever ends the rest
