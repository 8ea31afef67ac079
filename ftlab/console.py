"""What a terminal shows: tables, plans, and a study's progress. Records in, text out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

PER_CENT = "balanced accuracy"


def emit(record: Mapping | list) -> None:
    """One JSON document (or event) on one line of standard output."""
    from .runs import plain

    sys.stdout.write(json.dumps(plain(record), allow_nan=False) + "\n")
    sys.stdout.flush()


def say(text: str = "", err: bool = False) -> None:
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
            if _is_all(plan, names)
            else ("+" if grown else "") + ",".join(added if grown else phase["lrs"])
        )
        rate = "/".join(f"{r:g}" for r in dict.fromkeys(phase["lrs"].values()))
        parts.append(f"{phase['epochs']}e {who} @{rate}{_extras(phase)}")
        last = names
    cut = f"  cut after unit {plan['cut_after']}" if plan["cut_after"] else ""
    slim = f"  half as wide and new from unit {plan['slim_from']}" if plan["slim_from"] else ""
    return " | ".join(parts) + cut + slim


def _is_all(plan: Mapping, names: set[str]) -> bool:
    return bool(plan.get("stages")) and names == set(plan["stages"])


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
    return (
        f"{100 * interval['mean']:.1f} [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"
    )


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
    columns = {"backbone": lambda r: r["backbone"]} if several else {}
    columns |= {
        "strategy": lambda r: r["strategy"],
        "seeds": lambda r: len(r["seeds"]),
        "lr": lambda r: f"{r['lr']:g}",
        "balanced accuracy %": lambda r: percent(r["balanced_accuracy"]),
        "to full, points": lambda r: points(r["to_full"]),
        "AUROC %": lambda r: percent(r["auroc"]),
        "learned": lambda r: amount(r["trained_parameters"]),
        "stored": lambda r: amount(r["stored_bytes"]) + "B",
        "seconds": lambda r: f"{r['seconds']:.0f}",
    }
    if board["rows"]:
        table(board["rows"], columns)
        tuned = "chosen on validation from one grid" if board["tuned"] else "not tuned"
        say(f"Test set, mean over seeds with 95 % intervals; learning rates {tuned}.")
    failed = [row for row in answer["runs"] if row["state"] == "failed"]
    for row in failed:
        say(f"{row['run']} failed: {row['reason']}")
    for backbone, verdict in board["verdicts"].items():
        say(f"{backbone}: {verdict}" if several else verdict)


def event_line(event: Mapping) -> str | None:
    """An event of a study as a plain line; None where there is nothing to say."""
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
def progress(look: Callable[[], Mapping]) -> Iterator[Callable[[Mapping], None]]:
    """Show a study's events: a bar with time left on a terminal, plain lines otherwise.

    look: {epochs_done, epochs, seconds_left}, asked at most once a second.
    """
    if not sys.stderr.isatty():
        yield _lines(look)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} epochs, {task.fields[left]} left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task, asked = bar.add_task("starting", total=None, left="unknown time"), 0.0

        def show(event: Mapping) -> None:
            nonlocal asked
            if event["event"] in ("finished", "failed") and (line := event_line(event)):
                bar.console.print(line, highlight=False)
            bar.update(task, description=event["run"])
            if time.monotonic() - asked > 1:
                now, asked = look(), time.monotonic()
                left = duration(now["seconds_left"])
                bar.update(task, completed=now["epochs_done"], total=now["epochs"], left=left)

        yield show


def _lines(look: Callable[[], Mapping]) -> Callable[[Mapping], None]:
    asked = 0.0

    def show(event: Mapping) -> None:
        nonlocal asked
        if line := event_line(event):
            say(line, err=True)
        if event["event"] == "finished" and time.monotonic() - asked > 10:
            now, asked = look(), time.monotonic()
            done, left = f"{now['epochs_done']}/{now['epochs']}", duration(now["seconds_left"])
            say(f"  {done} epochs, about {left} left", err=True)

    return show
