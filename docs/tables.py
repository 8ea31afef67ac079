"""Print studies as the Markdown tables of docs/results.md: `python docs/tables.py STUDY...`."""

import sys

from ftlab.console import amount, percent, points
from ftlab.lab import Lab

COLUMNS = {
    "strategy": lambda r: f"`{r['strategy']}`",
    "lr": lambda r: f"{r['lr']:g}",
    "balanced accuracy %": lambda r: percent(r["balanced_accuracy"]),
    "to `full`, points": lambda r: points(r["to_full"]),
    "AUROC %": lambda r: percent(r["auroc"]),
    "macro F1 %": lambda r: f"{100 * r['macro_f1']:.1f}",
    "AP %": lambda r: f"{100 * r['average_precision']:.1f}",
    "κ": lambda r: f"{r['kappa']:.2f}",
    "ECE %": lambda r: f"{100 * r['ece']:.1f}",
    "learned": lambda r: amount(r["trained_parameters"]),
    "stored": lambda r: amount(r["stored_bytes"]) + "B",
    "s": lambda r: f"{r['seconds']:.0f}",
}


def table(study: str) -> None:
    board = Lab.at_home().status(study)["leaderboard"]
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in board["rows"]:
        print(f"| {' | '.join(cell(row) for cell in COLUMNS.values())} |")
    print()
    for verdict in board["verdicts"].values():
        print(f"> {verdict}\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"### {name}\n")
        table(name)
