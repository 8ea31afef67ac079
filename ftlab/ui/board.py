"""What the Results tab says in words and tables: verdicts, the leaderboard, votes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape as esc
from statistics import fmean

from .charts import Cell, basis, rates
from .ranking import MARKS, ensemble_name, mark
from .text import NONE, duration, percent, term

WORDS = ("balanced accuracy", "AUROC", "confidence interval", "seed", "learning rate", "strategy")
CHOSEN = ' class="ft-chosen"'
ONE_SEED = ", which know the test images alone where there is one seed"
FEW_SEEDS = (
    "fewer than five seeds, so no p-values, and marks that are not corrected for the number of "
    "comparisons: one alone proves little"
)
CORRECTED = (
    "marks and p-values are corrected for the number of comparisons on that backbone in that study "
    "(Holm), and what has fewer than five seeds is undecided; the sentence above makes one "
    "comparison, chosen on validation, and needs no correction"
)


def cells(answers: Sequence[Mapping]) -> list[Cell]:
    """The cells of studies' answers that have finished runs, in the order asked."""
    return [
        Cell(answer["study"], backbone, board, rows, ensemble)
        for answer in answers
        for board in [answer["leaderboard"]]
        for backbone in board["verdicts"]
        for ensemble in [next((e for e in board["ensembles"] if e["backbone"] == backbone), None)]
        if (rows := [r for r in board["rows"] if r["backbone"] == backbone])
    ]


def verdicts(found: Sequence[Cell]) -> str:
    """HTML: one sentence a cell, named where there are several."""
    lines = []
    for cell in found:
        name = f"<strong>{esc(cell.name)}:</strong> " if len(found) > 1 else ""
        lines.append(
            f'<p class="ft-verdict">{name}{esc(cell.board["verdicts"][cell.backbone])}</p>'
        )
    return "".join(lines)


def state(answers: Sequence[Mapping]) -> str:
    """HTML: what is not finished, which runs failed and why, and notes on runs; else nothing."""
    lines = []
    for answer in answers:
        if answer["reason"]:
            lines.append(f"{answer['study']} failed: {answer['reason']}")
        done = sum(run["state"] == "finished" for run in answer["runs"])
        if done < len(answer["runs"]):
            lines.append(f"{answer['study']}: {done} of {len(answer['runs'])} runs have finished.")
        lines += [
            f"{run['run']} failed: {run.get('reason', '')}"
            for run in answer["runs"]
            if run["state"] == "failed"
        ]
        lines += [f"{run['run']}: {run['note']}." for run in answer["runs"] if "note" in run]
    return "".join(f'<p class="ft-muted">{esc(line)}</p>' for line in lines)


def caption(found: Sequence[Cell]) -> str:
    """HTML: what the numbers of the leaderboard rest on, and what its words mean."""
    words = " · ".join(term(word) for word in WORDS)
    return f'<p class="ft-muted">{esc(grounds(found))} What the words mean: {words}.</p>'


def grounds(found: Sequence[Cell]) -> str:
    """What the numbers of the leaderboard rest on."""
    rests = dict.fromkeys(
        f"{basis(cell.rows)}, computed in {cell.rows[0]['precision']}, {rates(cell.board)}"
        for cell in found
    )
    alone = any(len(row["seeds"]) == 1 for cell in found for row in cell.rows)
    more = "".join(f" {say}." for say in (_ensembles(found), _looks(found)) if say)
    return (
        f"Mean over seeds on the test set with 95 % intervals ({'; '.join(rests)})"
        f"{ONE_SEED * alone}; differences to full are paired, seed by seed on the same images"
        f"{_corrections(found)}.{more}"
    )


def _corrections(found: Sequence[Cell]) -> str:
    """What the marks and p-values rest on, told after a semicolon; nothing where there are none."""
    told = [(cell.name, row["to_full"]) for cell in found for row in cell.rows if row["to_full"]]
    enough = dict.fromkeys(name for name, paired in told if paired["corrected"])
    few = dict.fromkeys(name for name, p in told if p["seeds"] < 5 and not p["corrected"])
    if few and enough:
        return f"; {CORRECTED}; but in {' and '.join(few)} there are {FEW_SEEDS}"
    return f"; {FEW_SEEDS}" * bool(few) + f"; {CORRECTED}" * bool(enough)


def _ensembles(found: Sequence[Cell]) -> str:
    """What stands in the table and is no strategy."""
    if not any(cell.ensemble for cell in found):
        return ""
    return (
        "The ensemble is the mean of the probabilities of all these runs, at the cost of all: no "
        "strategy, and outside the verdict; its interval knows the test images alone"
    )


def _looks(found: Sequence[Cell]) -> str:
    """What the scores of maps rest on, where there are any."""
    told = [maps for cell in found if (maps := cell.board.get("maps"))]
    if not told:
        return ""
    text = f"Maps by {told[0]['method']}, of runs whose weights are here, for the true class of "
    text += f"{told[0]['images']} test images"
    if told[0]["share"] is None:
        return text
    share = 100 * told[0]["share"]
    return f"{text} with a lesion; a map of nothing in particular has {share:.1f} % in it"


def rows(found: Sequence[Cell]) -> list[dict]:
    """The leaderboard as numbers, units in the names: what the file to download holds."""
    return [
        {
            "study": cell.study,
            "backbone": cell.backbone,
            "strategy": ensemble_name(row) if row is cell.ensemble else row["strategy"],
            **_estimate("balanced accuracy", row["balanced_accuracy"], "mean", "%"),
            **_estimate("to full", row["to_full"], "difference", "points"),
            "paired": mark(row),
            "p (Holm)": row["to_full"] and row["to_full"]["p_holm"],
            **_estimate("AUROC", row["auroc"], "mean", "%"),
            **_estimate("evidence in lesion", row.get("energy"), "mean", "%"),
            **_estimate("peak in lesion", row.get("pointing"), "mean", "%"),
            **_estimate("ROAD", row.get("road"), "mean", "points"),
            "seeds": len(row.get("seeds", ())) or None,
            "test images": row["balanced_accuracy"]["images"],
            "learning rate": row.get("lr"),
            "learning rates": cell.board["rates"],
            "computed in": cell.rows[0]["precision"],
            "seconds": row["seconds"],
            "trained parameters": row.get("trained_parameters"),
            "stored bytes": row["stored_bytes"],
        }
        for cell in found
        for row in [*cell.rows, *([cell.ensemble] if cell.ensemble else [])]
    ]


def _estimate(name: str, estimate: Mapping | None, key: str, unit: str) -> dict:
    parts = {f"{name}, {unit}": key, f"{name}, low": "low", f"{name}, high": "high"}
    return {
        head: 100 * estimate[part] if estimate and estimate[part] is not None else None
        for head, part in parts.items()
    }


def table(numbers: Sequence[Mapping]) -> dict:
    """Those rows for a gr.Dataframe: sorted by their numbers, shown with their intervals."""
    heads = [name for name in COLUMNS if name not in ALONE or _tells(numbers, name)]
    return {
        "headers": heads,
        "data": [[row.get(COLUMNS[name][0]) for name in heads] for row in numbers],
        "metadata": {"display_value": [[COLUMNS[n][1](row) for n in heads] for row in numbers]},
    }


def _tells(numbers: Sequence[Mapping], name: str) -> bool:
    """Whether a column says anything: p-values there may be none, studies and backbones but one."""
    values = {row[COLUMNS[name][0]] for row in numbers}
    return len(values) > 1 if name in ("study", "backbone") else values != {None}


def _with_interval(name: str, unit: str, sign: str = "") -> Callable[[Mapping], str]:
    def say(row: Mapping) -> str:
        mean, low, high = row[f"{name}, {unit}"], row[f"{name}, low"], row[f"{name}, high"]
        return NONE if mean is None else f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"

    return say


COLUMNS = {  # head -> (what sorts it, among the keys of `rows`; what it says)
    "strategy": ("strategy", lambda row: row["strategy"]),
    "study": ("study", lambda row: row["study"]),
    "backbone": ("backbone", lambda row: row["backbone"]),
    "balanced accuracy, %": ("balanced accuracy, %", _with_interval("balanced accuracy", "%")),
    "to full, points": ("to full, points", _with_interval("to full", "points", "+")),
    "paired": (
        "paired",
        lambda row: f"{MARKS[row['paired']][0]} {row['paired']}" if row["paired"] else NONE,
    ),
    "p (Holm)": ("p (Holm)", lambda row: _number(row["p (Holm)"], ".3g")),
    "AUROC, %": ("AUROC, %", _with_interval("AUROC", "%")),
    "in lesion, %": ("evidence in lesion, %", lambda row: _number(row["evidence in lesion, %"])),
    "peak in lesion, %": ("peak in lesion, %", lambda row: _number(row["peak in lesion, %"])),
    "ROAD, points": ("ROAD, points", lambda row: _number(row["ROAD, points"])),
    "seeds": ("seeds", lambda row: _number(row["seeds"], "d")),
    "rate": ("learning rate", lambda row: _number(row["learning rate"], "g")),
    "time": ("seconds", lambda row: duration(row["seconds"])),
}
ALONE = (  # left out if they tell nothing
    *("study", "backbone", "to full, points", "paired", "p (Holm)"),
    *("in lesion, %", "peak in lesion, %", "ROAD, points"),
)


def _number(value: float | None, form: str = ".1f") -> str:
    return NONE if value is None else f"{value:{form}}"


def pair(answer: Mapping, backbone: str, strategies: Sequence[str]) -> list[str]:
    """The two strategies to look at first: best on validation, and full or else the next."""
    scores: dict[str, list[float]] = {}
    for run in answer["runs"]:
        if run["backbone"] == backbone and run["state"] == "finished":
            scores.setdefault(run["strategy"], []).append(run["val"]["balanced_accuracy"])
    ranking = sorted(strategies, key=lambda name: -fmean(scores.get(name, [0.0])))
    rivals = [name for name in ranking[1:] if name == "full"] or ranking[1:]
    return ranking[:1] + rivals[:1]


# --- disagreements -------------------------------------------------------------------------------


def tally(image: Mapping) -> list[tuple[str, list[str]]]:
    """(class, who predicts it), most votes first."""
    votes: dict[str, list[str]] = {}
    for strategy, label in image["votes"].items():
        votes.setdefault(label, []).append(strategy)
    return sorted(votes.items(), key=lambda vote: -len(vote[1]))


def headline(image: Mapping) -> str:
    """`7 of 13 right`"""
    right = sum(label == image["truth"] for label in image["votes"].values())
    return f"{right} of {len(image['votes'])} right"


def votes(images: Sequence[Mapping], chosen: int | None = None) -> str:
    """HTML table: who votes for what, image by image; `chosen` is the index of one to set off."""
    lines = [
        f"<tr{CHOSEN if image['index'] == chosen else ''}>"
        f"<td class='ft-number'>{image['index']}</td><td>{esc(image['truth'])}</td><td>"
        + "<br>".join(
            f"<strong>{esc(label)}</strong> {len(who)}: {esc(', '.join(who))}"
            for label, who in tally(image)
        )
        + f"</td><td class='ft-number'>{percent(image['disagreement'], 0)}</td></tr>"
        for image in images
    ]
    heads = "".join(
        f'<th scope="col">{head}</th>'
        for head in ("test image", "truth", "votes", term("disagreement"))
    )
    return (
        '<div class="ft-scroll" tabindex="0"><table class="ft-table">'
        "<caption>Votes of each strategy's first seed, most disagreement first.</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
