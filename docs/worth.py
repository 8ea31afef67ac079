"""Print what the bundled weights are worth: `python docs/worth.py DATA...`.

For each data set it reads the studies DATA-bundled and DATA-random, which ask the same of
ftlab_mini from the bundled and from random weights. The second table says how far full fine-tuning
from the bundled weights is above a probe of them and above training from random weights.
"""

import sys
from functools import cache

from ftlab import files, runs, statistics, studies
from ftlab.console import percent, points
from ftlab.lab import Lab

METRIC = "balanced_accuracy"
STRATEGIES = ("full", "linear_probe")
WORTH = ("data", "strategy", "bundled %", "lr", "random %", "lr", "gain, points")
ABOVE = ("data", "`full`, bundled %", "`linear_probe`, bundled, to it", "`full`, random, to it")


@cache
def tested(data: str, weights: str, strategy: str) -> dict:
    """{probs: one (N, C) a seed, y_true (N,), group (N,), lr} of a strategy's runs."""
    folder = Lab.at_home().study_folder(f"{data}-{weights}")
    cells = [c for c in studies.cells(studies.read(folder)) if c.strategy == strategy]
    tests = [runs.predictions(folder / cell.name) for cell in cells]
    rate = files.read_json(cells[0].folder(folder) / "run.json")["knobs"]["lr"]
    return {**tests[0], "probs": [test["probs"] for test in tests], "lr": rate}


def mean(run: dict) -> str:
    return percent(statistics.interval(run["y_true"], run["probs"], run["group"], METRIC))


def gain(reference: dict, other: dict) -> str:
    """How far `other` is above `reference` on the same test images, seed by seed."""
    y_true, group = other["y_true"], other["group"]
    row = statistics.paired(y_true, reference["probs"], other["probs"], group, METRIC)
    return points({**row, "p_holm": row["p"]})


def worth(data: str, strategy: str) -> tuple[str, ...]:
    bundled, random = (tested(data, kind, strategy) for kind in ("bundled", "random"))
    rates = f"{bundled['lr']:g}", f"{random['lr']:g}"
    means = mean(bundled), mean(random)
    return data, f"`{strategy}`", means[0], rates[0], means[1], rates[1], gain(random, bundled)


def above(data: str) -> tuple[str, ...]:
    full = tested(data, "bundled", "full")
    others = tested(data, "bundled", "linear_probe"), tested(data, "random", "full")
    return data, mean(full), *(gain(full, other) for other in others)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


if __name__ == "__main__":
    print(table(WORTH, [worth(data, each) for data in sys.argv[1:] for each in STRATEGIES]))
    print()
    print(table(ABOVE, [above(data) for data in sys.argv[1:]]))
