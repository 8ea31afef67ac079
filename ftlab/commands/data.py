"""Data sets: import and check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import console
from ..records import BadInput
from . import Data, Json, command, counter, lab


@command
def import_(
    source: Annotated[
        str, typer.Argument(help="Folder, zip, .npz, hub:owner/name, or phantom:modality.")
    ],
    name: Annotated[str, typer.Argument(help="What to call the data set.")],
    labels: Annotated[Path | None, typer.Option(help="CSV with a row per image.")] = None,
    path_column: Annotated[str | None, typer.Option(help="Of the image file.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Of the class, or classes.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Of patient, lesion or video.")] = None,
    group_pattern: Annotated[
        str | None, typer.Option(help="Of the group in a name: 'patient_[0-9]+'.")
    ] = None,
    split_column: Annotated[str | None, typer.Option(help="Of train, val, test.")] = None,
    mask_column: Annotated[str | None, typer.Option(help="Of the mask file.")] = None,
    positive: Annotated[
        str | None, typer.Option(help="Of two classes, the one that is looked for.")
    ] = None,
    fractions: Annotated[str, typer.Option(help="Of train, val and test.")] = "0.64,0.16,0.2",
    seed: Annotated[int, typer.Option(help="Of the splits and of phantoms.")] = 0,
    per_class: Annotated[
        int | None, typer.Option(help="Phantoms to draw, 100 unless told.")
    ] = None,
    json: Json = False,
):
    """Make a checked data set with splits from labelled images."""
    if seed < 0:
        raise BadInput(f"--seed is at least 0, not {seed}.")
    report = lab().import_data(
        source,
        name,
        labels=labels,
        path_column=path_column,
        label_column=label_column,
        group_column=group_column,
        group_pattern=group_pattern,
        split_column=split_column,
        mask_column=mask_column,
        positive=positive,
        fractions=_shares(fractions),
        seed=seed,
        per_class=per_class,
        progress=counter("read"),
        drawing=counter("prepared"),
    )
    return console.emit(report) if json else console.data_report(report)


def _shares(fractions: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in fractions.split(","))
    except ValueError:
        raise BadInput("--fractions takes three numbers such as 0.64,0.16,0.2.") from None


@command
def check(name: Data, json: Json = False):
    """Classes, groups, duplicates, unreadable files and warnings of a data set."""
    report = lab().check(name)
    return console.emit(report) if json else console.data_report(report)
