"""Who is in the images: groups told by tables, patterns, folders and DICOM files become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .checks import clusters

Told = tuple[tuple[str, ...], str | None]  # an image's groups by name, and its patient's digest


def of_images(told: Sequence[Told], alone: Sequence[str]) -> tuple[np.ndarray, int, list[str]]:
    """The group of each image (N,), of how many it is known, and what was joined or not used.

    Images belong together that share a group, whatever the case of its letters, or a patient of
    DICOM files: lesions of one patient are not independent. One patient for all DICOM files is
    nobody. A patient is only numbered.

    Args:
        told: what is said of each image.
        alone: what each image is called where nothing is said of it.
    """
    patients = {patient for _, patient in told if patient}
    warnings, nobody = [], len(patients) == 1 and sum(bool(p) for _, p in told) > 1
    if nobody:
        warnings.append(
            "All DICOM files have the same PatientID: it was not used to tell patients. If all are "
            "of one patient, what is found holds of nobody else."
        )
    first: dict[tuple[str, str], int] = {}
    links, spelled = [], {}
    for image, (names, patient) in enumerate(told):
        marks = [("name", _plain(name)) for name in names]
        for name in names:
            spelled.setdefault(_plain(name), set()).add(name)
        if patient and not nobody:
            marks.append(("patient", patient))
        links += [(first.setdefault(mark, image), image) for mark in marks]
    member = clusters(np.array(links, int).reshape(-1, 2), len(told))
    linked = np.isin(np.arange(len(told)), np.array(links, int))
    called = _called([names for names, _ in told], member)
    number = {c: n for n, c in enumerate(dict.fromkeys(member[linked].tolist()), 1)}
    groups = [
        called.get(c, f"patient {number[c]}") if known else own
        for c, known, own in zip(member.tolist(), linked, alone, strict=True)
    ]
    if several := [sorted(names) for names in spelled.values() if len(names) > 1]:
        warnings.append(
            f"{len(several)} groups are written in several ways ({', '.join(several[0])}), which "
            "were taken for one."
        )
    if joined := len(spelled) - len(called):
        warnings.append(
            f"{joined} groups were joined with others, since an image or a patient of DICOM files "
            "is in both."
        )
    return np.array(groups), int(linked.sum()), warnings


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _called(names: Sequence[tuple[str, ...]], member: np.ndarray) -> dict[int, str]:
    """Cluster -> the first name that an image of it has."""
    called: dict[int, str] = {}
    for own, cluster in zip(names, member.tolist(), strict=True):
        for name in own:
            called.setdefault(cluster, name)
    return called


def lacking(unknown: int, images: int) -> list[str]:
    """What a person should know where the groups of some images, or of all, are not known."""
    if unknown == images:
        return [
            "No groups are known: if several images show one patient or lesion, name them in a "
            "table with --group-column, or say with --group-pattern what in the name of a file or "
            "folder tells them; else the test result may be too good."
        ]
    return [f"{unknown} images have no group; each counts as its own."] if unknown else []
