"""--lr auto: one grid of learning rates for every strategy, chosen on validation.

A candidate is a run of the study's first seed at one rate of the grid, in tuning/<run>/. It never
sees the test split. The chosen one becomes the first seed's run, and all seeds train at its rate.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import files
from .records import BadInput
from .strategies import given

if TYPE_CHECKING:
    from .studies import Cell, Study

GRID = (1e-4, 1e-3, 1e-2)


def candidates(study: Study, cell: Cell) -> list[Cell]:
    """The tuning runs of a cell's backbone and strategy: the grid, with the study's first seed."""
    if study.settings.lr != "auto" or "lr" in given(cell.strategy, study.knobs):
        return []
    return [replace(first(study, cell), candidate=lr) for lr in GRID]


def first(study: Study, cell: Cell) -> Cell:
    """The run of the first seed, whose candidates decide for all seeds."""
    return replace(cell, seed=study.seeds[0], candidate=None)


def chosen_lr(folder: Path, study: Study, cell: Cell) -> float | None:
    """The candidate with the best validation value; ties go to the smaller rate.

    None where there is nothing to choose. A candidate that failed is not chosen. Once the first
    seed's run is finished its choice stands, so that all seeds train at one rate.

    Raises:
        BadInput: all candidates failed.
    """
    tried = candidates(study, cell)
    if tried and (leader := first(study, cell)).finished(folder):
        return files.read_json(leader.folder(folder) / "run.json")["knobs"]["lr"]
    results = {c.candidate: files.read_json(c.folder(folder) / "result.json") for c in tried}
    scored = {lr: r["selected"] for lr, r in results.items() if r}
    if tried and not scored:
        raise BadInput(f"No learning rate of the grid trains {cell.strategy}; see `ftlab status`.")
    return max(scored, key=lambda lr: (scored[lr], -lr)) if scored else None


def drop_weights(folder: Path, study: Study, cell: Cell) -> None:
    """Remove the candidates' weights once one of them is the first seed's run; numbers stay."""
    if first(study, cell).finished(folder):
        for tried in candidates(study, cell):
            (tried.folder(folder) / "best.safetensors").unlink(missing_ok=True)


def report(folder: Path, study: Study) -> dict | None:
    """{grid, seed, configurations, failed, seconds, given, chosen, largest} so far, or None.

    None without --lr auto. A configuration is one strategy on one backbone at one rate of the grid.
    Seconds are those of training and validation, all configurations together. given: strategies
    whose rate was not tuned, since it was given. chosen: of how many a rate is chosen; largest: of
    how many of these it is the largest of the grid, so that a larger one might do better; smallest:
    likewise. What was averaged of other runs has their rates and chose none.
    """
    from .studies import cells

    if study.settings.lr != "auto":
        return None
    firsts = [cell for cell in cells(study) if cell == first(study, cell)]
    runs = {cell: files.read_json(cell.folder(folder) / "run.json") or {} for cell in firsts}
    leaders = [cell for cell in firsts if "derived" not in runs[cell]]
    own = [cell for cell in leaders if not candidates(study, cell)]
    rates = [
        chosen_lr(folder, study, cell)
        for cell in leaders
        if cell not in own and cell.finished(folder)
    ]
    tried = [each for leader in leaders for each in candidates(study, leader)]
    results = [files.read_json(each.folder(folder) / "result.json") for each in tried]
    return {
        "grid": GRID,
        "seed": study.seeds[0],
        "configurations": sum(r is not None for r in results),
        "failed": sum(each.failed(folder) for each in tried),
        "seconds": sum(r["seconds"] for r in results if r),
        "given": list(dict.fromkeys(cell.strategy for cell in own)),
        "chosen": len(rates),
        "largest": rates.count(GRID[-1]),
        "smallest": rates.count(GRID[0]),
    }


def words(found: dict | None) -> str:
    """How learning rates came about, of a `report`: "tuned on the same grid for all"."""
    if found is None:
        return "not tuned"
    but = f" but {', '.join(found['given'])}, whose rate was given" if found["given"] else ""
    return f"tuned on the same grid for all{but}"


def edge(found: dict | None) -> str:
    """A caution where the grid ends too soon for what it found; "" where it does not."""
    said = [
        f"for {found[end]} of {found['chosen']} the grid's {end} rate was best, so a {beyond} one "
        "might do better"
        for end, beyond in (("largest", "larger"), ("smallest", "smaller"))
        if found and found[end]
    ]
    return "; ".join(said)
