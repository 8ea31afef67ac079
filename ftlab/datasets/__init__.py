"""Data sets: every source becomes a checked folder of images with splits made once.

read_image, resize     one picture, as training, prediction and saliency maps all see it
import_dataset         a folder, zip, table, .npz, DICOM, hub id or phantom -> a data set on disk
open_dataset, report   what was imported, and what the checks found
"""

from .images import resize
from .importing import import_dataset
from .picture import Picture
from .reading import read_image
from .store import (
    Dataset,
    dataset_names,
    delete_dataset,
    fingerprints,
    open_dataset,
    own_names,
    report,
)

__all__ = [
    "Dataset",
    "Picture",
    "dataset_names",
    "delete_dataset",
    "fingerprints",
    "import_dataset",
    "open_dataset",
    "own_names",
    "read_image",
    "report",
    "resize",
]
