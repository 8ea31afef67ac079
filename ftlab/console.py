"""What a terminal shows: tables, plans, and a study's progress. Records in, text out."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

# Characters by which a name could order a terminal about, or turn the text around it.
ORDERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
LOOKS = {"energy": "inside %", "pointing": "peak inside %", "road": "ROAD"}  # scores of maps
FEW_SEEDS = "Fewer than five seeds: no p-values, and differences not corrected for their number."
MEANS = "Test set, mean over seeds with 95 % intervals (one seed, an ensemble: over images alone)"
SAY_TIME_SECONDS = 30.0  # between two estimates of the time left, where there is no bar


def emit(record: Mapping | list) -> None:
    """One JSON document (or event) on one line of standard output."""
    from .files import plain

    print(json.dumps(plain(record), allow_nan=False), flush=True)


def say(text: str = "", err: bool = False) -> None:
    """A line for a person, on standard output, or beside it where that holds JSON or results."""
    text = ORDERS.sub("\ufffd", text).encode("utf-8", "replace").decode()  # names need be no text
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def table(rows: Iterable[Mapping], columns: Mapping[str, Callable[[Mapping], str]]) -> None:
    """Rows as an aligned table; columns map a heading to what a cell says."""
    rows = list(rows)
    cells = [list(columns), *([str(cell(row)) for cell in columns.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for number, line in enumerate(cells):
        say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
        if number == 0:
            say("  ".join("-" * width for width in widths))


def plan_text(plan: Mapping) -> str:
    """A plan on one line: `3e head @0.001 | 3e all @0.0001  + l2_sp(...)  cut after unit 14`."""
    last: set[str] = set()
    everything = max((set(p["lrs"]) for p in plan["phases"]), key=len)
    parts = []
    for phase in plan["phases"]:
        names = set(phase["lrs"])
        added = [n for n in phase["lrs"] if n not in last]
        grown = last and last < names and names != everything
        who = (
            "all"
            if names == set(plan.get("stages") or ())
            else ("+" if grown else "") + ",".join(added if grown else phase["lrs"])
        )
        rate = "/".join(f"{r:g}" for r in dict.fromkeys(phase["lrs"].values()))
        parts.append(f"{phase['epochs']}e {who} @{rate}{_extras(phase)}")
        last = names
    cut = f"  cut after unit {plan['cut_after']}" if plan["cut_after"] else ""
    slim = f"  half as wide and new from unit {plan['slim_from']}" if plan["slim_from"] else ""
    return " | ".join(parts) + cut + slim


def _extras(phase: Mapping) -> str:
    text = ""
    for sign, part in (("+", "penalty"), ("x", "rates")):
        if rule := phase[part]:
            knobs = ", ".join(
                f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}"
                for k, v in rule.items()
                if k != "name"
            )
            text += f" {sign} {rule['name']}({knobs})"
    if phase["weight_decay"]:
        text += f" decay {phase['weight_decay']:g}"
    return text + (" BatchNorm as stored" if phase["eval_batchnorm"] else "")


def percent(interval: Mapping | None) -> str:
    """An interval of fractions as per cent: `84.1 [79.0, 88.9]`."""
    if not interval or interval["mean"] is None:
        return "-"
    mean, low, high = (100 * interval[key] for key in ("mean", "low", "high"))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def points(row: Mapping | None) -> str:
    """A paired difference in percentage points, with its interval and p where there is one."""
    if not row:
        return ""
    text = f"{100 * row['difference']:+.1f} [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]"
    return text + (f" p={row['p_holm']:.3g}" if row["p_holm"] is not None else "")


def amount(n: float) -> str:
    """A count or number of bytes in three digits: 2.22 M."""
    for unit in ("", "k", "M", "G"):
        if abs(n) < 1000 or unit == "G":
            return f"{n:.3g} {unit}".strip()
        n /= 1000
    return ""


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 3 min 05 s."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def leaderboard(answer: Mapping) -> None:
    """The table of a study and its verdicts."""
    board = answer["leaderboard"]
    several = len({row["backbone"] for row in board["rows"]}) > 1
    rows = [*board["rows"], *map(_ensemble, board["ensembles"])]
    columns = {"backbone": lambda r: r["backbone"]} if several else {}
    columns |= {
        "strategy": lambda r: r["strategy"],
        "seeds": lambda r: len(r["seeds"]) or "",
        "lr": lambda r: f"{r['lr']:g}" if r["lr"] else "",
        "balanced accuracy %": lambda r: percent(r["balanced_accuracy"]),
        "to full, points": lambda r: points(r["to_full"]),
        "AUROC %": lambda r: percent(r["auroc"]),
        **{head: _means(s) for s, head in LOOKS.items() if any(r[s] for r in board["rows"])},
        "learned": lambda r: amount(r["trained_parameters"]) if r["trained_parameters"] else "",
        "stored": lambda r: amount(r["stored_bytes"]) + "B",
        "seconds": lambda r: f"{r['seconds']:.0f}",
    }
    if board["rows"]:
        table(rows, columns)
        say(f"{MEANS}, in {board['precision']}; learning rates {_rates(board)}.")
    if any((p := r["to_full"]) and p["seeds"] < 5 and not p["corrected"] for r in board["rows"]):
        say(FEW_SEEDS)
    for row in answer["runs"]:
        if row["state"] == "failed":
            say(f"{row['run']} failed: {row['reason']}")
        if "note" in row:
            say(f"{row['run']}: {row['note']}.")
    for backbone, verdict in board["verdicts"].items():
        say(f"{backbone}: {verdict}" if several else verdict)


def _ensemble(found: Mapping) -> dict:
    """The mean of all runs' probabilities as a line of the table: it has no seed and no rate."""
    name = f"ensemble of all {found['runs']} runs"
    absent = dict.fromkeys(("lr", "trained_parameters", *LOOKS))
    return {"strategy": name, "seeds": (), **absent, **found}


def _means(score: str) -> Callable[[Mapping], str]:
    return lambda r: f"{100 * r[score]['mean']:.1f}" if r[score] else ""


def _rates(board: Mapping) -> str:
    tuning = board["tuning"]
    if not tuning:
        return "not tuned"
    grid = ", ".join(f"{lr:g}" for lr in tuning["grid"])
    failed = f", {tuning['failed']} of them failed" if tuning["failed"] else ""
    return (
        f"{board['rates']}; chosen on validation with seed {tuning['seed']} from {grid}: "
        f"{tuning['configurations'] + tuning['failed']} configurations tried{failed}, "
        f"in {duration(tuning['seconds'])}"
    )


def runs_table(rows: list[Mapping]) -> None:
    """Runs with their state and, once finished, what they gave; with their study if named."""

    def accuracy(row):
        return f"{100 * row['test']['balanced_accuracy']:.1f}" if "test" in row else ""

    def at_threshold(row):
        if "test_at_threshold" not in row:
            return ""
        chosen = row["test_at_threshold"]["chosen_on_val"]
        return f"{100 * chosen['balanced_accuracy']:.1f} at {chosen['threshold']:.2f}"

    columns = {"study": lambda r: r["study"]} if rows and "study" in rows[0] else {}
    columns |= {
        "run": lambda r: r["run"],
        "state": lambda r: r["state"],
        "test balanced accuracy %": accuracy,
        "at the threshold chosen on val": at_threshold,
        "seconds": lambda r: f"{r['seconds']:.0f}" if "seconds" in r else "",
    }
    table(rows, columns)


def data_report(report: Mapping) -> None:
    """What a person should know of a data set: see `ftlab.datasets.report`."""
    say(f"{report['name']}: {report['images']} images")
    *_, last = report["classes"]
    for name, count in report["classes"].items():
        positive = "  (the positive class)" if len(report["classes"]) == 2 and name == last else ""
        say(f"  {name}  {count}{positive}")
    say("  " + ", ".join(f"{split} {n}" for split, n in report["splits"].items()))
    say(f"  groups: {'none known' if report['groups'] is None else report['groups']}")
    if report["masks"]:
        say(f"  masks: {report['masks']} of {report['images']} images")
    copies = report["duplicates"]
    say(
        f"  duplicates: {copies['exact']} exact and {copies['near']} near pairs, "
        f"the largest cluster has {copies['largest_cluster']}; "
        f"{copies['across_splits']} pairs lie across splits"
    )
    for note, count in report["notes"].items():
        say(f"  {count} images: {note}")
    for warning in report["warnings"]:
        say(f"Warning: {warning}")
    for skipped in report["skipped"]:
        say(f"Skipped {skipped['file']}: {skipped['reason']}")


def opening(study: str, now: Mapping) -> None:
    """What a study has before it, in epochs and, where any has been timed, in time."""
    epochs, left = now["epochs"] - now["epochs_done"], now["seconds_left"]
    if not epochs:
        return say(f"Study {study}: nothing is left to train.", err=True)
    timed = "how long that takes is known after the first" if left is None else duration(left)
    return say(f"Study {study}: {epochs} epochs to train; {timed}.", err=True)


def event_line(event: Mapping) -> str | None:
    """An event of a study as a plain line; None where there is nothing to say."""
    if event["event"] == "search":
        return f"now {', '.join(event['strategies'])}" if event["strategies"] else None
    run = event["run"]
    if event["event"] == "epoch":
        val = event["val"]
        return (
            f"{run}  epoch {event['epoch'] + 1}  loss {event['train_loss']:.3f}  "
            f"val balanced accuracy {100 * val['balanced_accuracy']:.1f} %  "
            f"{event['seconds']:.1f} s"
        )
    if event["event"] == "finished" and "test" in event:
        return f"{run}  test balanced accuracy {100 * event['test']['balanced_accuracy']:.1f} %"
    return f"{run}  failed: {event['reason']}" if event["event"] == "failed" else None


@contextmanager
def progress(
    look: Callable[[], Mapping], quiet: bool = False
) -> Iterator[Callable[[Mapping], None]]:
    """Show a study's events: a bar with time left on a terminal, plain lines otherwise.

    Args:
        look: {epochs_done, epochs, seconds_left}, asked at most once a second.
        quiet: show nothing, since the events go elsewhere.
    """
    if quiet:
        yield lambda event: None
        return
    if not sys.stderr.isatty():
        yield _lines(look)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} epochs{task.fields[left]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, asked = bar.add_task("starting", total=look()["epochs"], left=""), 0.0

        def show(event: Mapping) -> None:
            nonlocal asked
            if event["event"] in ("search", "finished", "failed") and (line := event_line(event)):
                bar.console.print(ORDERS.sub("\ufffd", line), highlight=False, markup=False)
            bar.update(task, description=event.get("run"))
            if time.monotonic() - asked > 1:
                now, asked = look(), time.monotonic()
                known = now["seconds_left"] is not None
                left = f", {duration(now['seconds_left'])} left" if known else ""
                bar.update(task, completed=now["epochs_done"], total=now["epochs"], left=left)

        yield show


def _lines(look: Callable[[], Mapping]) -> Callable[[Mapping], None]:
    asked = float("-inf")

    def show(event: Mapping) -> None:
        nonlocal asked
        if line := event_line(event):
            say(line, err=True)
        if event["event"] == "epoch" and time.monotonic() - asked > SAY_TIME_SECONDS:
            now, asked = look(), time.monotonic()
            done, left = f"{now['epochs_done']}/{now['epochs']}", duration(now["seconds_left"])
            say(f"  {done} epochs, about {left} left", err=True)

    return show
