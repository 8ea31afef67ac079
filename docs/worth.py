"""Print what the bundled weights are worth: `python docs/worth.py DATA...`.

For each data set it reads the studies DATA-bundled and DATA-random, which ask the same of
ftlab_mini from the bundled and from random weights.
"""

import sys

from ftlab import runs, statistics, studies
from ftlab.console import percent, points
from ftlab.lab import Lab

METRIC = "balanced_accuracy"
STRATEGIES = ("full", "linear_probe")


def predictions(study: str, strategy: str) -> dict:
    """{probs: one (N, C) a seed, y_true (N,), group (N,)} of a strategy's runs."""
    folder = Lab.at_home().study_folder(study)
    cells = [c for c in studies.cells(studies.read(folder)) if c.strategy == strategy]
    tests = [runs.predictions(folder / cell.name) for cell in cells]
    return {**tests[0], "probs": [test["probs"] for test in tests]}


def row(data: str, strategy: str) -> str:
    bundled, random = (predictions(f"{data}-{kind}", strategy) for kind in ("bundled", "random"))
    y_true, group = bundled["y_true"], bundled["group"]
    each = [statistics.interval(y_true, kind["probs"], group, METRIC) for kind in (bundled, random)]
    gain = statistics.paired(y_true, random["probs"], bundled["probs"], group, METRIC)
    cells = (data, f"`{strategy}`", *map(percent, each), points({**gain, "p_holm": gain["p"]}))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print("| data | strategy | bundled % | random % | gain, points |\n|---|---|---|---|---|")
    for data in sys.argv[1:]:
        for strategy in STRATEGIES:
            print(row(data, strategy))
