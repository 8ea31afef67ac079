"""In which order classes are numbered: of two, the last is the positive one.

Average precision, sensitivity and a threshold are those of the positive class, so an alphabet must
not decide: what says that nothing is there ("normal", "no_tumor") comes first.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ..records import BadInput

NOTHING = re.compile(
    r"normal|healthy|negative|neg|benign|controls?|none|absent|false"
    r"|(no|non|not|without)[ _-].*|no(tumou?r|finding|lesion|polyp)s?"
    r"|non(cancer(ous)?|demented|infected|tumou?r)|un(infected|affected|remarkable)",
    re.IGNORECASE,
)


def ordered(names: Collection[str], positive: str | None = None) -> list[str]:
    """Class names in order: by number where all are numbers, else by name; the positive one last.

    Args:
        positive: of two classes, the one that is looked for; unless it is named, the other of one
            that says by its name that nothing is there.
    Raises:
        BadInput: there are not two classes, or none of that name.
    """
    if not names:
        raise BadInput("The source holds no images: give PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM.")
    if len(names) == 1:
        raise BadInput(
            f"All images are of one class ({next(iter(names))}): a classifier needs two or more, "
            "one folder each."
        )
    if positive is not None and (len(names) > 2 or positive not in names):
        raise BadInput(
            f"--positive takes one of two classes; there are {', '.join(sorted(names))}."
        )
    numeric = all(name.isdecimal() for name in names)
    found = sorted(names, key=lambda name: (int(name), name) if numeric else (0, name))
    empty = [name for name in found if NOTHING.fullmatch(name)]
    if positive is None and len(found) == 2 and len(empty) == 1:
        positive = next(name for name in found if name not in empty)
    return sorted(found, key=lambda name: name == positive)
