"""What all runs of a study share while one process works through them: images, theta_0, cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from . import arithmetic, datasets, files, homes, runs, studies, weights
from . import device as devices
from .batches import Split
from .records import BadInput, Settings
from .studies import Cell, Study
from .weights import Theta0


@dataclass
class Context:
    """What all runs of a study share while one process works through them."""

    folder: Path
    study: Study
    cache: Path
    features: Path  # where those of frozen units are kept
    device: torch.device
    splits: dict[str, Split]
    groups: dict[str, np.ndarray]  # (n,) int: patients or lesions of a split, without their names
    threads: int = field(default_factory=torch.get_num_threads)  # of a run that begins here
    last_theta0: tuple[tuple, Theta0] | None = None
    precisions: dict[str, str] = field(default_factory=dict)  # by backbone

    def theta0(self, cell: Cell) -> Theta0:
        """theta_0 of a cell; the last one is kept, since neighbouring runs share it."""
        seed = cell.seed if self.study.weights["kind"] == "random" else 0
        key = (cell.backbone, seed)
        if self.last_theta0 is None or self.last_theta0[0] != key:
            theta0 = weights.recall(cell.backbone, self.study.weights, seed, self.cache)
            self.last_theta0 = (key, theta0)
        return self.last_theta0[1]

    def settings(self, backbone: str) -> Settings:
        """The study's, with the precision in which all its runs of a backbone compute."""
        settings = self.study.settings
        if backbone not in self.precisions:
            begun = map(files.read_json, self.folder.glob("**/run.json"))  # candidates', too
            own = (run["settings"] for run in begun if run and run["backbone"] == backbone)
            known = next(own, None)
            found = known or asdict(arithmetic.settled(settings, backbone, self.cache))
            self.precisions[backbone] = found["precision"]
        return replace(settings, precision=self.precisions[backbone])


def prepare(folder: Path, study: Study, home: Path) -> Context:
    """Open the data at the study's image size.

    Raises:
        BadInput: the data set is gone or has changed since the study began.
    """
    data = datasets.open_dataset(home / "data", study.data)
    changed = BadInput(
        f"The data set {study.data} has changed since the study {study.name} began: "
        "start a new study with another --name."
    )
    if data.hash != study.data_hash:
        raise changed
    seen = splits(data, study.settings)
    groups = {n: np.unique(data.groups[s.rows], return_inverse=True)[1] for n, s in seen.items()}
    done = next((cell for cell in studies.cells(study) if cell.finished(folder)), None)
    if done and not np.array_equal(runs.predictions(done.folder(folder))["group"], groups["test"]):
        raise changed  # the hash knows nothing of patients, whose images intervals hold together
    kept = homes.features(data.folder.parent.parent)  # in the home that the images are of
    return Context(folder, study, home / "cache", kept, devices.pick(), seen, groups)


def splits(data, settings) -> dict[str, Split]:
    """train, val and test of a data set at the study's size; train cut to train_per_class."""
    pixels = data.array(settings.size)
    rows = {name: data.indices(name) for name in ("train", "val", "test")}
    if settings.train_per_class:
        rows["train"] = _subset(rows["train"], data.labels, settings.train_per_class)
    images = f"{data.hash} {settings.size}"
    keys = {name: f"{images} {sha256(r.tobytes()).hexdigest()}" for name, r in rows.items()}
    return {name: Split(pixels, r, data.labels[r], keys[name]) for name, r in rows.items()}


def _subset(rows: np.ndarray, labels: np.ndarray, per_class: int) -> np.ndarray:
    """At most so many rows of each class, the same for every run of every study, in order."""
    shuffled = np.random.default_rng(0).permutation(rows)
    kept = [shuffled[labels[shuffled] == c][:per_class] for c in np.unique(labels[rows])]
    return np.sort(np.concatenate(kept))
