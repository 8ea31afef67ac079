"""Class folders and a table together: which of them gives the labels, and what the other adds."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..records import BadInput
from . import rows, tables
from .columns import Columns
from .folders import Levels
from .items import Item
from .listing import NEARLY_ALL, Listing, is_table


def own_table(
    listing: Listing, levels: Levels, by_folder: list[Item], columns: Columns
) -> tuple[dict[str, Item], bool]:
    """The images as the source's own table tells of them, by name, and whether it rules.

    It does where it tells of nearly all and parts them otherwise than folders do. Where it parts
    them into the same classes or says nothing of classes, the folders name these, and the table
    says who is in the images. The listing's skipped, warnings and notes grow.

    Returns:
        ({}, False) where it is of no use; a warning says why.
    Raises:
        BadInput: the table names nearly all images, but its labels cannot be taken, and the
            folders' names say nothing either.
    """
    if not any(map(is_table, listing.files)):
        return {}, False
    table, said = rows.own(listing, columns["path"]), _fresh(listing)
    folded = {item.name: item.label for item in by_folder}
    told, why = _told(said, table, columns, folded)
    if why and columns["label"] != "" and say_nothing(folded.values()):
        if rows.names_nearly_all(listing, table, columns["path"]):
            raise BadInput(f'{why} Write "" with --label-column to take the folders for classes.')
    rules = not _agree(told.values(), folded)
    why = why or _useless(told.values(), folded, levels, rules)
    if rules and not why:
        said = _fresh(listing)
        told, why = _told(said, table, columns)
    if why:
        listing.warnings.append(
            f"The folders give the labels, not the source's table: {why} Name one with --labels "
            "FILE.csv."
        )
    if why or not (rules or any(map(_adds, told.values()))):
        return {}, False
    if rules:
        said.warnings.append(
            "The source's table gives the labels, not the folders around the images "
            f'({_some(folded.values())}), which part them otherwise: write "" with --label-column '
            "to take the folders."
        )
    listing.skipped += said.skipped
    listing.warnings += said.warnings
    listing.notes += said.notes
    return told, rules


def both(by_folder: list[Item], told: Mapping[str, Item], warnings: list[str]) -> list[Item]:
    """The images in class folders, with what a table says of nearly all of them besides."""
    pairs = [(here, told.get(here.name, here)) for here in by_folder]
    unlisted = sum(here.name not in told for here in by_folder)
    split = any(of.split and not here.split for here, of in pairs)
    bare = sum(here.name not in told or not of.label for here, of in pairs)
    if bare and any(item.label for item in told.values()):
        warnings.append(f"{bare} images without a label in the table have that of their folder.")
    if split and unlisted:  # splits are of all images or of none
        warnings.append(
            f"The splits in the table were not kept: {unlisted} images have no row in it."
        )
    return [
        replace(
            of,
            label=here.label,
            groups=of.groups or here.groups,
            split=here.split or (None if unlisted else of.split),
        )
        for here, of in pairs
    ]


def say_nothing(names: Iterable[str]) -> bool:
    """Whether folders are called alike but for numbers and case, as parts of a download are."""
    return len({re.sub(r"\d+", "", name.casefold()) for name in names}) == 1


def _told(
    said: Listing, table: Mapping[str, Path], columns: Columns, labelled: Collection[str] = ()
) -> tuple[dict[str, Item], str]:
    """The images of a table by name; or none, and why it cannot be used.

    labelled: as `tables.items` has it. What else there is to say goes to `said`.
    """
    if not table:
        return {}, "of several, not just one names nearly all images."
    try:
        return {item.name: item for item in tables.items(said, table, columns, labelled)}, ""
    except BadInput as error:
        return {}, str(error)


def _fresh(listing: Listing) -> Listing:
    return replace(listing, skipped=[], warnings=[], notes=[])


def _agree(told: Collection[Item], folded: Mapping[str, str]) -> bool:
    """Whether a table parts images into the same classes as their folders, or into none."""
    pairs = {(folded[item.name], item.label) for item in told if item.label and item.name in folded}
    here, there = ({pair[at] for pair in pairs} for at in (0, 1))
    return len(here) == len(there) == len(pairs)


def _useless(told: Collection[Item], folded: Mapping[str, str], levels: Levels, rules: bool) -> str:
    """Why a table is not used that can be read; "" where it is, or only repeats the folders."""
    labelled = sum(bool(item.label) for item in told)
    if len(told) < NEARLY_ALL * len(folded):
        return f"it names {len(told)} of {len(folded)} images."
    if rules and labelled < NEARLY_ALL * len(folded):
        return f"it gives {labelled} of {len(folded)} images a label."
    if rules and levels.split is not None:
        return "it parts the images otherwise than the folders in those of train and test."
    if not labelled and not any(map(_adds, told)):
        return "it has no column that is called as labels, groups, splits or masks are."
    return ""


def _adds(item: Item) -> bool:
    return bool(item.groups or item.split or item.masks)


def _some(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(set(names))[:3]))
