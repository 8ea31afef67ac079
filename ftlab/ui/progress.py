"""A study at work, read off its folder: how far, for how long, and validation curves so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as esc
from statistics import fmean

from . import curves, parts
from .charts import Chart

METRIC = "balanced_accuracy"
ORDER = ("running", "queued", "interrupted", "stopped", "failed", "finished")
SIGNS = {"running": "▶", "queued": "·", "interrupted": "!", "stopped": "■", "failed": "✕"}
SIGNS["finished"] = "✓"
VIEW = "validation balanced accuracy"
WORDS = {
    "running": "running",
    "queued": "waits for its turn",
    "interrupted": "interrupted",
    "stopped": "stopped",
    "failed": "failed",
    "finished": "finished: the Results tab has the test results",
}
GO_ON = ": press Resume to go on from the last whole epoch"

Diaries = Mapping[str, Sequence[Mapping]]


def listed(rows: Sequence[Mapping]) -> list[tuple[str, str]]:
    """(label, study) of studies, those at work first."""
    rows = sorted(rows, key=lambda row: ORDER.index(row["state"]))
    return [(f"{SIGNS[row['state']]} {row['study']}, {row['state']}", row["study"]) for row in rows]


def resumable(watched: Mapping) -> bool:
    """Whether Resume has something to do: of a study that stands still, or whose runs failed."""
    states = {watched["state"], *(row["state"] for row in watched["runs"])}
    still = watched["state"] not in ("running", "queued") and watched.get("resumable", True)
    return still and bool(states & {"interrupted", "stopped", "failed"})


def head(watched: Mapping) -> str:
    """HTML: the study's name and state, its bar, and the time left."""
    done, epochs, state = watched["epochs_done"], watched["epochs"], watched["state"]
    words = WORDS[state]
    if state in ("interrupted", "stopped") and resumable(watched):
        words += GO_ON
    share = 100 * done / epochs if epochs else 100.0
    text = f"{done} of {epochs} epochs"
    if state == "running" and done < epochs:
        left = watched["seconds_left"]
        text += f", about {parts.duration(left)} left" if left else ", measuring the time left"
    if watched["ahead"]:
        text += f", {watched['ahead']} stud{'y' if watched['ahead'] == 1 else 'ies'} first"
    return (
        f'<div class="ft-study"><h3>{esc(watched["study"])} '
        f'<span class="ft-state ft-state-{state}">{SIGNS[state]} {words}</span></h3>'
        f'<div class="ft-progress" role="progressbar" aria-label="Epochs trained" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}" '
        f'aria-valuetext="{esc(text)}">'
        f'<div style="width:{share:.1f}%"></div></div><p class="ft-muted">{esc(text)}</p>'
        f"{_reasons(watched)}</div>"
    )


def _reasons(watched: Mapping) -> str:
    """Why runs, or the study as a whole, failed."""
    failed = [(row["run"], row["reason"]) for row in watched["runs"] if row.get("reason")]
    if watched.get("reason"):
        failed.insert(0, ("The study", watched["reason"]))
    items = "".join(
        f"<li><b>{esc(who)}</b> failed: {esc(parts.spoken(why))}</li>" for who, why in failed
    )
    return f'<ul class="ft-bad ft-reasons">{items}</ul>' if items else ""


def table(watched: Mapping, diaries: Diaries) -> str:
    """HTML: a row a strategy, a column a seed; state, epochs, best validation value so far.

    The mean is that of the seeds that have finished, as soon as one has.
    """
    rows = watched["runs"]
    seeds = sorted({row["seed"] for row in rows})
    lines = []
    for (backbone, strategy), own in _by_strategy(rows).items():
        counted = [row for row in own if row["state"] == "finished"] or own
        bests = [b for row in counted if (b := _best(diaries.get(row["run"], ()))) is not None]
        by_seed = {row["seed"]: row for row in own}
        cells = "".join(_cell(by_seed.get(seed), diaries) for seed in seeds)
        mean = parts.percent(fmean(bests)) if bests else parts.NONE
        name = strategy if len(_backbones(rows)) == 1 else f"{strategy}, {backbone}"
        lines.append(
            f'<tr><th scope="row">{esc(name)}</th><td class="ft-number">{mean}</td>{cells}</tr>'
        )
    heads = "".join(f'<th scope="col">seed {seed}</th>' for seed in seeds)
    return (
        '<div class="ft-scroll" tabindex="0"><table class="ft-table ft-runs">'
        "<caption>Best balanced accuracy on validation so far; the test set is read once, at the "
        "end.</caption><thead><tr>"
        '<th scope="col">strategy</th><th scope="col" class="ft-number">mean</th>'
        f"{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _cell(row: Mapping | None, diaries: Diaries) -> str:
    if row is None:
        return "<td></td>"
    diary, state = diaries.get(row["run"], ()), row["state"]
    epochs = max(row["epochs_done"], len(diary))  # the diary is read a moment later
    done = f"{epochs} of {row['epochs']} epochs"
    text = parts.percent(_best(diary)) if diary else done if epochs else state
    if diary and state not in ("finished", "queued"):
        text += f", {state}, {done}"
    return (
        f'<td class="ft-state-{state}"><span aria-hidden="true">{SIGNS[state]}</span> {text}</td>'
    )


def _best(diary: Sequence[Mapping]) -> float | None:
    values = [epoch["val"][METRIC] for epoch in diary]
    return max(values) if values else None


def _backbones(rows: Sequence[Mapping]) -> list[str]:
    return list(dict.fromkeys(row["backbone"] for row in rows))


def _by_strategy(rows: Sequence[Mapping]) -> dict[tuple[str, str], list[Mapping]]:
    """(backbone, strategy) -> its runs"""
    found: dict[tuple[str, str], list[Mapping]] = {}
    for row in rows:
        found.setdefault((row["backbone"], row["strategy"]), []).append(row)
    return found


def learning(watched: Mapping, diaries: Diaries) -> Chart | None:
    """Balanced accuracy on validation by epoch, a panel a strategy; None before the first epoch."""
    if not any(diaries.values()):
        return None
    several = len(_backbones(watched["runs"])) > 1
    rows = [
        {**row, "strategy": f"{row['strategy']}, {row['backbone']}"} if several else row
        for row in watched["runs"]
    ]
    chart = curves.learning(diaries, rows, watched["study"], VIEW)
    chart.figure.update_layout(uirevision=watched["study"])  # the next epoch arrives unnoticed
    return chart
