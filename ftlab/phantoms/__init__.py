"""Synthetic medical images of five modalities, drawn from a seed: no patient, no photograph.

Every image comes with its lesion mask (what a saliency map should find), with the same picture
without the lesion, and with a group: the patient (or slide, or video) it shares its anatomy with.
Images are drawn in rounds of one per class. A group spans four rounds and holds two images each of
two neighbouring classes (draw a multiple of four per class and every group is whole), so whoever
has seen a patient in training knows more about the rest of that patient: split by group.

Each modality has a distractor that shows on 70 % of the images of some classes and on 30 % of the
others, so a model that leans on it gains a little and is wrong where it matters:

    chest_xray   electrodes and wires         nodule, consolidation, effusion
    brain_mri    shading of a surface coil    glioma, meningioma, pituitary
    histology    tint of a second scanner     in_situ, invasive
    dermoscopy   ruler at the edge            melanoma
    endoscopy    smoke                        hook
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal

import numpy as np
from numpy.random import SeedSequence, default_rng
from PIL import Image
from scipy.ndimage import binary_dilation
from threadpoolctl import threadpool_limits

from ..records import BadInput
from . import brain, chest, dermoscopy, endoscopy, histology
from .drawing import Dice, Scene

EDITION = 2  # of all drawings: another one where a seed comes to show something else
ROUNDS = 4  # images a group holds, one a round
COMPRESS = 1  # of PNG: a third of the time of the usual 6, files at most a tenth larger
OUTLINE = (255, 220, 0)


@dataclass(frozen=True)
class Modality:
    """A kind of picture: its classes, one sentence about it, and how it is painted.

    distractor: what it is; rates: how often a class shows it; paint: (label, marked, dice, size).
    """

    classes: tuple[str, ...]
    description: str
    distractor: str
    rates: Mapping[str, float]
    paint: Callable[[str, bool, Dice, int], Scene]


@dataclass(frozen=True)
class Phantom:
    """One image: pixels and healthy (H, W, 3) uint8, mask (H, W) bool.

    Pixels and healthy differ inside the mask only. marked: whether the distractor is there.
    """

    pixels: np.ndarray
    mask: np.ndarray
    label: str
    group: str
    healthy: np.ndarray
    marked: bool


def _rates(classes: tuple[str, ...], *often: str) -> dict[str, float]:
    """The distractor shows on 70 % of some classes and on 30 % of the others."""
    return {name: 0.7 if name in often else 0.3 for name in classes}


MODALITIES = {
    "chest_xray": Modality(
        chest.CLASSES,
        "Frontal chest X-ray: nodules, consolidations and pleural effusions.",
        "electrodes with wires",
        _rates(chest.CLASSES, "nodule", "consolidation", "effusion"),
        chest.paint,
    ),
    "brain_mri": Modality(
        brain.CLASSES,
        "Coronal T1-weighted brain MRI with contrast agent: likenesses of three tumours.",
        "shading of a surface coil",
        _rates(brain.CLASSES, "glioma", "meningioma", "pituitary"),
        brain.paint,
    ),
    "histology": Modality(
        histology.CLASSES,
        "H&E histology of a glandular organ: benign, in situ and invasive growth.",
        "tint of a second scanner",
        _rates(histology.CLASSES, "in_situ", "invasive"),
        histology.paint,
    ),
    "dermoscopy": Modality(
        dermoscopy.CLASSES,
        "Contact dermoscopy of pigmented skin: naevi, melanomas and seborrhoeic keratoses.",
        "ruler at the edge",
        _rates(dermoscopy.CLASSES, "melanoma"),
        dermoscopy.paint,
    ),
    "endoscopy": Modality(
        endoscopy.CLASSES,
        "Laparoscopy: which instrument, if any, is in the field of view.",
        "smoke",
        _rates(endoscopy.CLASSES, "hook"),
        endoscopy.paint,
    ),
}


def draw(modality: str, per_class: int, seed: int, size: int = 224) -> Iterator[Phantom]:
    """Images in rounds of one per class; image i depends on (modality, seed, i, size) alone.

    Another processor may round a sine differently, which now and then moves a pixel by one level.

    Raises:
        BadInput: there is no such modality.
    """
    for index in range(total(modality, per_class)):
        yield phantom(modality, seed, index, size)


def total(modality: str, per_class: int) -> int:
    """How many images that is. Raises as `draw`."""
    return per_class * len(_known(modality).classes)


def phantom(modality: str, seed: int, index: int, size: int = 224) -> Phantom:
    """Image number `index` of a modality and seed."""
    kind = _known(modality)
    turn, number = divmod(index, len(kind.classes))
    label = kind.classes[number]
    group = turn // ROUNDS * len(kind.classes) + (number - turn % 2) % len(kind.classes)
    name = int.from_bytes(modality.encode(), "big")
    patient = default_rng(SeedSequence([name, seed, 0, group]))
    children = SeedSequence([name, seed, 1, index]).spawn(4)
    chance, *own = (default_rng(child) for child in children)
    marked = bool(chance.random() < kind.rates[label])
    scene = kind.paint(label, marked, Dice(patient, *own), size)
    return Phantom(scene.pixels, scene.mask, label, f"{group:04d}", scene.healthy, marked)


def write(
    modality: str,
    folder: Path,
    per_class: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    processes: int = 1,
) -> None:
    """A folder of class folders of PNG, masks/ and labels.csv (file, label, group, mask, marked).

    progress: called with (images written, images in all) after each image.
    """
    images = total(modality, per_class)
    save = partial(_save, modality, Path(folder), seed)
    for part in _known(modality).classes:
        for parent in (Path(folder), Path(folder) / "masks"):
            (parent / part).mkdir(parents=True, exist_ok=True)
    with (
        open(Path(folder) / "labels.csv", "w", newline="") as file,
        closing(_in_order(save, images, processes)) as rows,
    ):
        table = csv.writer(file)
        table.writerow(("file", "label", "group", "mask", "marked"))
        for done, row in enumerate(rows, 1):
            table.writerow(row)
            if progress:
                progress(done, images)


def _in_order(save: Callable[[int], tuple], images: int, processes: int) -> Iterator[tuple]:
    """save(0), save(1), ...; whoever closes this early waits for what is being drawn, no more."""
    if processes == 1:
        with _one_thread():
            yield from map(save, range(images))
        return
    ours = get_context("spawn")  # a fork would copy the locks of other threads
    with ProcessPoolExecutor(processes, ours, _settle) as pool:
        yield from pool.map(save, range(images), chunksize=8)


def _one_thread() -> threadpool_limits:
    """Matrix products in one thread: several wait for one another longer than these small take."""
    return threadpool_limits(1, user_api="blas")


def _settle() -> None:
    """What a process does before it draws; Ctrl-C is its caller's to answer."""
    signal(SIGINT, SIG_IGN)
    _one_thread()


def _save(modality: str, folder: Path, seed: int, index: int) -> tuple[str, str, str, str, int]:
    image = phantom(modality, seed, index)
    file = f"{image.label}/{index:05d}.png"
    Image.fromarray(image.pixels).save(folder / file, compress_level=COMPRESS)
    Image.fromarray(image.mask).save(folder / "masks" / file)
    return file, image.label, image.group, f"masks/{file}", int(image.marked)


def sheet(modality: str, columns: int, seed: int, size: int = 224) -> np.ndarray:
    """A contact sheet (rows, columns, 3) uint8 with one row a class.

    On the left examples as they are, on the right the same with their masks outlined.
    """
    images = list(draw(modality, columns, seed))
    classes = len(images) // columns
    rows = [
        [_tile(i, size, outlined) for outlined in (False, True) for i in images[number::classes]]
        for number in range(classes)
    ]
    return np.vstack([np.hstack(row) for row in rows])


def _tile(image: Phantom, size: int, outlined: bool) -> np.ndarray:
    """(size, size, 3) uint8."""
    tile = np.array(Image.fromarray(image.pixels).resize((size, size), Image.Resampling.BOX))
    mask = np.array(Image.fromarray(image.mask).resize((size, size)))
    if outlined:
        tile[binary_dilation(mask) & ~mask] = OUTLINE
    return tile


def _known(modality: str) -> Modality:
    if modality not in MODALITIES:
        raise BadInput(f"There is no phantom {modality!r}; there are {', '.join(MODALITIES)}.")
    return MODALITIES[modality]
