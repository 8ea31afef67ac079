"""How well a linear classifier reads the classes off each unit of the pretrained trunk.

One pass over the training images gives the pooled features of every unit, and a cross-validated
logistic regression scores each; nothing is trained. Patients (or whatever the group is) stay
together in a fold. This ranks the units that a ranked search trains (`ftlab.search`).
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from . import backbones, files, metrics, search
from . import device as devices
from .backbones import Network
from .batches import Split, batches
from .context import Context
from .records import Settings
from .studies import Cell

IMAGES = 2000  # of training, drawn once, where there are more
FOLDS = 5


def rank(context: Context, backbone: str, metric: str) -> None:
    """Score every unit of a study's backbone by a metric, and write its ranking.json."""
    began = time.perf_counter()
    images, places, seen = pretrained(context, backbone)
    labels, groups = images.labels[places], context.groups["train"][places]
    scores = [readable(each, labels, groups, metric) for each in seen]
    found = {"scores": dict(enumerate(scores, 1)), "seconds": time.perf_counter() - began}
    files.write_json(context.folder / search.RANKING, found)


def pretrained(context: Context, backbone: str) -> tuple[Split, np.ndarray, list[np.ndarray]]:
    """(training split, places of the images taken, of each unit their features (n, C))."""
    study = context.study
    theta0 = context.theta0(Cell(backbone, "full", study.seeds[0]))
    network = backbones.build(backbone, len(study.classes), theta0)
    network.to(context.device, memory_format=torch.channels_last)
    settings = context.settings(backbone)
    train = context.splits["train"]
    few = _some(train.labels)
    return train, few, features(network, train, few, settings)


def _some(labels: np.ndarray) -> np.ndarray:
    """Places of at most IMAGES images, of each class its share, in order."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    share = min(1.0, IMAGES / len(labels))
    of_class = [shuffled[labels[shuffled] == c] for c in np.unique(labels)]
    return np.sort(np.concatenate([own[: math.ceil(share * len(own))] for own in of_class]))


@torch.inference_mode()
def features(
    network: Network, images: Split, few: np.ndarray, settings: Settings
) -> list[np.ndarray]:
    """(n, C) of each trunk unit: its pooled features of some images of a split."""
    device, last = network.head.weight.device, network.layout().trunk[-1].units[-1]
    units, found = network.eval().units()[:last], [[] for _ in range(last)]
    for batch, _ in batches(images, few, settings.batch):
        with devices.autocast(device, settings.precision):
            x = network.prepare(batch.to(device))
            for unit, own in zip(units, found, strict=True):
                x = unit(x)
                own.append(x.float().mean(dim=(2, 3)).cpu())
    return [torch.cat(own).numpy() for own in found]


def readable(seen: np.ndarray, labels: np.ndarray, groups: np.ndarray, metric: str) -> float:
    """A metric of what logistic regressions say of the images that they were not fitted on.

    Args:
        seen: (n, C) features, labels: (n,), groups: (n,) ints.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    folds = _folds(labels, groups)
    said = cross_val_predict(model, seen, labels, cv=folds, method="predict_proba")
    return metrics.score(labels, said)[metric]


def _folds(labels: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(places to fit on, places to read) of each fold.

    Groups stay whole, unless they are so few that what is fitted on would lack a class.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    classes, largest = len(np.unique(labels)), np.bincount(labels).max()
    for kind, parts in ((StratifiedGroupKFold, len(np.unique(groups))), (StratifiedKFold, FOLDS)):
        if (n := min(FOLDS, parts, largest)) < 2:
            continue
        apart = {"groups": groups} if kind is StratifiedGroupKFold else {}
        folds = list(kind(int(n), shuffle=True, random_state=0).split(labels, labels, **apart))
        if all(len(np.unique(labels[fitted])) == classes for fitted, _ in folds):
            break
    return folds
