"""For whom the app runs, and what it lets each person ask of the machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from .records import BadInput

GB, MB = 2**30, 2**20


@dataclass(frozen=True)
class Mode:
    """How the app is served and each person's limits, said to whom they stop; None is no limit."""

    name: str = "one"  # "one" person at this machine, a "classroom" that logs in, the "public"
    paths: bool = True  # whether a path on this machine may be typed in
    downloads: bool = True  # whether weights may be fetched from the hub
    slow_maps: bool = True  # whether a saliency method may look hundreds of times at an image
    batch_images: int = 200  # sent through a study at once
    upload_bytes: int = 2 * GB  # of each file
    stored_bytes: int | None = None  # data sets and runs together
    dataset_images: int | None = None  # of each data set
    inspected_images: int | None = None  # through both networks, to see how alike they see
    image_px: int | None = None  # of the side that a study trains at
    waiting_studies: int | None = None  # in the queue, the one at work too
    study_epochs: int | None = None  # of all runs of a study together
    study_seconds: int | None = None  # of training, for each study
    idle_hours: float | None = None  # after which uploads go, and all that a visitor left behind

    def limited(self, texts: Mapping[str, str]) -> Mode:
        """The same with other limits: {name: number}.

        Raises:
            BadInput: there is no such limit, or it is no number that it can take.
        """
        own = {field.name: field.type for field in fields(self) if "bool" not in field.type}
        own.pop("name")
        for name, text in texts.items():
            if name not in own:
                raise BadInput(f"There is no limit {name!r}; there are {', '.join(own)}.")
            least = 1e-9 if "float" in own[name] else 1  # a limit of no images would be none
            if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", text) or float(text) < least:
                kind = "a number above 0" if least < 1 else "a whole number from 1 on"
                raise BadInput(f"The limit {name} is {kind}, not {text!r}.")
        numbers = {
            name: float(text) if "float" in own[name] else int(float(text))
            for name, text in texts.items()
        }
        return replace(self, **numbers)


ONE = Mode()
CLASSROOM = Mode(
    "classroom",
    paths=False,
    downloads=False,
    slow_maps=False,
    batch_images=100,
    upload_bytes=GB // 2,
    stored_bytes=2 * GB,
    dataset_images=10_000,
    inspected_images=200,
    image_px=512,
    waiting_studies=3,
    study_epochs=2_000,
    study_seconds=3_600,
)
PUBLIC = Mode(
    "public",
    paths=False,
    downloads=False,
    slow_maps=False,
    batch_images=20,
    upload_bytes=100 * MB,
    stored_bytes=GB // 2,
    dataset_images=1_000,
    inspected_images=100,
    image_px=224,
    waiting_studies=1,
    study_epochs=100,
    study_seconds=600,
    idle_hours=2,
)
