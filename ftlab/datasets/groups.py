"""Who is in the images: groups told by tables, patterns, folders and DICOM files become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import count

import numpy as np

from .checks import clusters

Told = tuple[tuple[str, ...], str | None]  # an image's groups by name, and `Picture.patient`
MANY = 100  # images, from which on one patient should not have
SHARE = 0.2  # of them


def of_images(told: Sequence[Told], alone: Sequence[str]) -> tuple[np.ndarray, int, list[str]]:
    """The group of each image (N,), of how many it is known, and what was joined or not used.

    Images belong together that share a group, whatever the case of its letters, or a patient of
    DICOM files: lesions of one patient are not independent. One patient for all DICOM files is
    nobody, as is "". A patient is only numbered.

    Args:
        told: what is said of each image.
        alone: what each image is called where nothing is said of it.
    """
    patients = Counter(patient for _, patient in told if patient is not None)
    nobody = len(patients) == 1 and patients.total() > 1
    marks = [
        [*map(_plain, names), *([(patient,)] if patient and not nobody else [])]
        for names, patient in told
    ]
    first: dict = {}
    links = [(first.setdefault(mark, at), at) for at, own in enumerate(marks) for mark in own]
    member = clusters(np.array(links, int).reshape(-1, 2), len(told)).tolist()
    called: dict[int, str] = {}  # cluster -> its name
    for (names, _), cluster in zip(told, member, strict=True):
        if names:
            called.setdefault(cluster, names[0])
    warnings = _joined([name for names, _ in told for name in names], len(called))
    warnings += _same(patients, len(told))
    numbers = count(1)
    for own, cluster in zip(marks, member, strict=True):
        if own and cluster not in called:
            called[cluster] = f"patient {next(numbers)}"
    groups = [called.get(cluster, own) for cluster, own in zip(member, alone, strict=True)]
    return np.array(groups), sum(map(bool, marks)), warnings


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _joined(names: Sequence[str], named: int) -> list[str]:
    """What a person should know where names are spelled in several ways, or fewer are left."""
    spelled: dict[str, set[str]] = {}
    for name in names:
        spelled.setdefault(_plain(name), set()).add(name)
    warnings = []
    if several := [sorted(ways) for ways in spelled.values() if len(ways) > 1]:
        warnings.append(
            f"{len(several)} groups are written in several ways ({', '.join(several[0])}), which "
            "were taken for one."
        )
    if joined := len(spelled) - named:
        warnings.append(
            f"{joined} groups were joined with others, since an image or a patient of DICOM files "
            "is in both."
        )
    return warnings


def _same(patients: Counter[str], images: int) -> list[str]:
    """What a person should know where files of several patients may have one PatientID."""
    if len(patients) == 1 and patients.total() > 1:
        return [
            "All DICOM files have the same PatientID: it was not used to tell patients. If all are "
            "of one patient, what is found holds of nobody else."
        ]
    warnings = []
    if nobody := patients[""]:
        warnings.append(
            f"{nobody} DICOM files have a PatientID that stands for nobody, such as ANONYMOUS or "
            "0: it was not used to tell patients."
        )
    most = max((count for patient, count in patients.items() if patient), default=0)
    if images >= MANY and most > SHARE * images:
        warnings.append(
            f"{most} of {images} images have the same PatientID, and stay in one split: if they "
            'are of several patients, write "" with --group-column, so that none is used.'
        )
    return warnings


def lacking(unknown: int, images: int) -> list[str]:
    """What a person should know where the groups of some images, or of all, are not known."""
    if unknown == images:
        return [
            "No groups are known: if several images show one patient or lesion, name them in a "
            "table with --group-column, or say with --group-pattern what in the name of a file or "
            "folder tells them; else the test result may be too good."
        ]
    return [f"{unknown} images have no group; each counts as its own."] if unknown else []
