"""External validation: how a study's runs do on a data set that none of them has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from . import datasets, metrics, prediction, runs, statistics, studies, train
from .datasets import Dataset, splits
from .inspection import who
from .leaderboard import METRIC, WITH_INTERVAL
from .records import BadInput, Settings
from .studies import Study

MEANS = ("accuracy", "macro_f1", "kappa", "ece")


def evaluate(
    folder: Path,
    home: Path,
    data: str,
    split: str = "all",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:
    """Every finished run of a study on the images of another data set.

    Its classes are matched by name, whatever the case of their letters. Images of a class that the
    study does not know are left out, and so are those whose pixels are also in the study's own data
    set: they were trained on, selected on, or tested before. Runs answer as they would in
    `predict`: a class that the other data set lacks may be said, and is then wrong.

    Args:
        split: all, or one of the other data set's splits: train, val, test.
        progress: called with (runs done, runs in all).
    Returns:
        {study, data, split, classes: [name] that both have, images, groups: how many or None,
        unknown: images of other classes, shared: images of the study's own data (None: those are
        not on this machine), without_weights: [run], rows: [{backbone, strategy, seeds,
        internal and external: {balanced_accuracy and auroc: {mean, low, high, sd, seeds, images}},
        metrics: {accuracy, macro_f1, kappa, ece}, per_class: [{class, images, recall}]}]}
        The best external mean first. internal is the study's own test split, of the same runs;
        metrics and per_class are external means over seeds.
    Raises:
        BadInput: no such data set or split, fewer than two classes or groups in common, no run
            with weights.
    """
    study = studies.read(folder)
    able, absent = studies.with_weights(folder, study)
    other = datasets.open_dataset(home / "data", data)
    images, left_out = _images(study, home, other, split)
    groups = np.unique(other.groups[images.rows], return_inverse=True)[1] if other.grouped else None
    said: dict[tuple, list] = {}
    for done, name in enumerate(able, 1):
        network, question = prediction.recall(folder / name, home / "cache", folded=True)
        probs = train.predict(network, images, Settings(**question["settings"]))
        about = who(question)
        said.setdefault((about["backbone"], about["strategy"]), []).append((about, probs))
        progress(done, len(able))
    rows = [_row(folder, study, images.labels, groups, of) for of in said.values()]
    return {
        **{"study": study.name, "data": data, "split": split},
        "classes": [study.classes[c] for c in np.unique(images.labels)],
        "images": len(images),
        "groups": None if groups is None else int(groups.max()) + 1,
        **left_out,
        "without_weights": absent,
        "rows": sorted(rows, key=lambda row: -row["external"][METRIC]["mean"]),
    }


def _images(study: Study, home: Path, other: Dataset, split: str) -> tuple[train.Split, dict]:
    """What can be judged, its labels as the study counts them; {unknown, shared} left out of it.

    Raises:
        BadInput: no such split, or too little is left.
    """
    asked = _asked(other, split)
    rows, labels = _known(study, other, asked)
    own = _fingerprints_of(study, home)
    seen = np.array([mark in own for mark in datasets.fingerprints(other)])[rows]
    unknown, shared = len(asked) - len(rows), int(seen.sum())
    rows, labels = rows[~seen], labels[~seen]
    groups = other.groups[rows]
    if min(len(np.unique(labels)), len(np.unique(groups))) < 2:
        raise BadInput(_too_little(study, other, shared, unknown))
    left_out = {"unknown": unknown, "shared": shared if own else None}
    return train.Split(other.array(study.settings.size), rows, labels), left_out


def _asked(other: Dataset, split: str) -> np.ndarray:
    if split == "all":
        return np.arange(len(other.files))
    if split not in splits.NAMES:
        raise BadInput(f"--split takes all, {', '.join(splits.NAMES)}, not {split!r}.")
    return other.indices(split)


def _known(study: Study, other: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of classes that the study knows, and their labels as the study counts them."""
    exact = {name: c for c, name in enumerate(study.classes)}
    alike = Counter(name.casefold() for name in study.classes)
    folded = {n.casefold(): c for n, c in exact.items() if alike[n.casefold()] == 1}
    theirs = [exact.get(name, folded.get(name.casefold(), -1)) for name in other.classes]
    ours = np.array(theirs)
    labels = ours[other.labels[rows]]
    return rows[labels >= 0], labels[labels >= 0]


def _fingerprints_of(study: Study, home: Path) -> frozenset[str]:
    """Of the study's own images; none where its data set is not here, or is another by now."""
    try:
        own = datasets.open_dataset(home / "data", study.data)
    except BadInput:
        return frozenset()
    return frozenset(datasets.fingerprints(own)) if own.hash == study.data_hash else frozenset()


def _too_little(study: Study, other: Dataset, shared: int, unknown: int) -> str:
    left = f"{shared} of its images are in {study.data}, too, {unknown} of classes it does not know"
    return (
        f"{other.name} has too little to judge the study {study.name} by, which knows "
        f"{', '.join(study.classes)}: images of two of them and of two groups are needed; {left}."
    )


def _row(
    folder: Path,
    study: Study,
    labels: np.ndarray,
    groups: np.ndarray | None,
    answers: Sequence[tuple[Mapping, np.ndarray]],
) -> dict:
    about, probs = [run for run, _ in answers], [p for _, p in answers]
    tests = [runs.predictions(folder / run["run"]) for run in about]
    scores = [metrics.score(labels, p) for p in probs]
    own = statistics.clusters(tests[0]["group"])
    inside = tests[0]["y_true"], [test["probs"] for test in tests], own
    return {
        "backbone": about[0]["backbone"],
        "strategy": about[0]["strategy"],
        "seeds": [run["seed"] for run in about],
        "internal": {m: statistics.interval(*inside, m) for m in WITH_INTERVAL},
        "external": {m: statistics.interval(labels, probs, groups, m) for m in WITH_INTERVAL},
        "metrics": {name: fmean(score[name] for score in scores) for name in MEANS},
        "per_class": [
            {
                "class": study.classes[c],
                "images": int((labels == c).sum()),
                "recall": fmean(float((p.argmax(1) == c)[labels == c].mean()) for p in probs),
            }
            for c in np.unique(labels)
        ],
    }
