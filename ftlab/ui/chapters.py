"""The sections of a page to keep that say what a study found. See `document`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape as esc

from . import board, classes, costs, curves, cuts, pictures, ranking
from .charts import Cell, basis
from .keeping import Found, Hard, chart, heading, table

SIDE = 128  # pixels of the longer one of an image or map: five stand side by side


def leaderboard(found: Found) -> Iterator[str]:
    """The table with intervals and paired differences, and both as dots."""
    shown = board.table(board.rows(found.cells))
    lines = shown["metadata"]["display_value"]
    yield f"<p>{esc(board.grounds(found.cells))}</p>"
    yield table([dict(zip(shown["headers"], line, strict=True)) for line in lines])
    for cell in found.cells:
        yield chart(ranking.dots(cell, "balanced accuracy"))
        if any(row["to_full"] for row in cell.rows):
            yield chart(ranking.dots(cell, "difference to full"))
    if len(found.cells) > 1:
        yield chart(ranking.heat_map(found.cells, found.study.strategies))


def which_unit(found: Found) -> Iterator[str]:
    """Of a study that is a search; nothing of others."""
    if found.cuts and any(point["trained"] for point in found.cuts["points"]):
        yield chart(cuts.curve(found.cuts))


def learning(found: Found) -> Iterator[str]:
    """Validation over epochs, for each backbone that trained."""
    view = next(iter(curves.LEARNING))
    for cell in found.cells:
        runs = [run for run in found.answer["runs"] if run["backbone"] == cell.backbone]
        if any(found.diaries.get(run["run"]) for run in runs):
            yield chart(curves.learning(found.diaries, runs, cell.name, view))


def confusion(found: Found) -> Iterator[str]:
    """A grid of counts for each strategy, its seeds together."""
    yield (
        "<p>A line is a true class, a column what it was called, of all seeds together; the "
        "diagonal is right. The stronger the colour, the larger the share of the true class.</p>"
    )
    names = found.study.classes
    heads = "".join(f'<th scope="col">{esc(name)}</th>' for name in names)
    for cell in found.cells:
        yield f'{heading(found, cell.backbone)}<div class="grid">'
        for row in _of(found, cell):
            lines = "".join(
                f'<tr><th scope="row">{esc(name)}</th>{"".join(_tiles(line))}</tr>'
                for name, line in zip(names, row["confusion"], strict=True)
            )
            yield (
                f'<table class="confusion"><caption>{esc(row["strategy"])}</caption>'
                f"<thead><tr><th>true</th>{heads}</tr></thead><tbody>{lines}</tbody></table>"
            )
        yield "</div>"


def _tiles(line: Sequence[int]) -> Iterator[str]:
    for n in line:
        share = n / max(sum(line), 1)
        yield f'<td style="background:rgba(13,148,136,{0.04 + 0.5 * share:.2f})">{n}</td>'


def by_class(found: Found) -> Iterator[str]:
    """Sensitivity and specificity of each class with intervals."""
    for cell, rows, pair in _pairs(found):
        names = found.study.classes
        yield chart(classes.per_class(rows, pair, names, f"{cell.name} · {_pooled(cell)}"))


def calibration(found: Found) -> Iterator[str]:
    """Confidence against accuracy of two strategies of each backbone."""
    for cell, rows, pair in _pairs(found):
        yield chart(curves.reliability(rows, pair, f"{cell.name} · {_pooled(cell)}"))


def _pairs(found: Found) -> Iterator[tuple[Cell, list, list[str]]]:
    """Each cell with its evidence, and the two strategies picked out in it."""
    for cell in found.cells:
        rows = _of(found, cell)
        names = [row["strategy"] for row in rows]
        yield cell, rows, board.pair(found.answer, cell.backbone, names)


def _of(found: Found, cell: Cell) -> list[Mapping]:
    return [r for r in found.evidence["per_strategy"] if r["backbone"] == cell.backbone]


def _pooled(cell: Cell) -> str:
    return basis(cell.rows).replace("seeds", "seeds pooled")


def disagreements(found: Found) -> Iterator[str]:
    """The test images on which votes differ most, with pixels and maps where they are here."""
    if not found.hard:
        yield "<p>The strategies give the same probabilities for every test image, or one alone."
        yield " has finished.</p>"
        return
    yield board.votes([hard.votes for hard in found.hard])
    if found.hard[0].pixels is None:
        yield "<p>The images are not on the machine that wrote this page.</p>"
        return
    if any(hard.maps for hard in found.hard):
        yield (
            "<p>The images themselves, and where each strategy's first run with weights looks "
            "(Grad-CAM, each map by its own largest evidence; a place without colour is no "
            "evidence that nothing is there).</p>"
        )
    yield from map(_hard, found.hard)


def _hard(hard: Hard) -> str:
    index, truth = hard.votes["index"], hard.votes["truth"]
    title = f"Test image {index}: {truth}; {board.headline(hard.votes)}"
    title += f"; maps explain {hard.target}" * bool(hard.target)
    several = len({backbone for _, backbone, _ in hard.maps}) > 1
    tiles = [("the image", hard.pixels)]
    tiles += [
        (f"{strategy} ({backbone})" if several else strategy, overlay)
        for strategy, backbone, overlay in hard.maps
    ]
    drawn = "".join(
        f'<figure><img alt="{esc(name)}" src="{pictures.photo(pictures.small(pixels, SIDE))}">'
        f"<figcaption>{esc(name)}</figcaption></figure>"
        for name, pixels in tiles
    )
    return f'<div class="hard"><h3>{esc(title)}</h3><div class="maps">{drawn}</div></div>'


def cost(found: Found) -> Iterator[str]:
    """Quality against each cost, for each backbone."""
    for cell in found.cells:
        if any(row["balanced_accuracy"]["mean"] is not None for row in cell.rows):
            yield from (chart(costs.cost(cell, axis)) for axis in costs.COSTS)
