"""Print what runs changed as Markdown, means over seeds: `python docs/changes.py STUDY [SPLIT]`.

SVCCA above random (in brackets: where each image meets another), unbiased CKA, and the change of
kernels, stage by stage; the study's runs need their weights here.
"""

import sys
from collections import defaultdict
from statistics import fmean

from ftlab.lab import Lab


def table(heading: str, cells: dict[tuple[str, str], str]) -> None:
    """cells: {(strategy, stage): texts}."""
    strategies, stages = (list(dict.fromkeys(key[n] for key in cells)) for n in (0, 1))
    print(f"| {heading} | {' | '.join(stages)} |\n|{'---|' * (1 + len(stages))}")
    for strategy in strategies:
        texts = (cells.get((strategy, stage), "") for stage in stages)
        print(f"| `{strategy}` | {' | '.join(texts)} |")
    print()


def mean(values: list[float | None], digits: str) -> str:
    """Nothing where a seed has no value."""
    return f"{fmean(values):{digits}}" if None not in values else ""


def main(study: str, split: str = "test") -> None:
    lab, alike, changed = Lab.at_home(), defaultdict(list), defaultdict(list)
    for run in lab.similarity(study, split=split)["runs"]:
        for row in run["rows"]:
            alike[run["strategy"], row["stage"]].append(row)
    for run in lab.drift(study)["runs"]:
        for row in run["change"]:
            share = row["kernels"]
            percent = None if share is None else 100 * share
            changed[run["strategy"], row["stage"]].append(percent)
    score = {
        key: f"{mean([row['svcca']['area'] for row in rows], '.2f')} "
        f"({mean([row['svcca']['unpaired'] for row in rows], '.2f')})"
        for key, rows in alike.items()
    }
    table(f"SVCCA on {split}", score)
    table("CKA", {key: mean([row["cka"] for row in rows], ".2f") for key, rows in alike.items()})
    table(
        "change, %",
        {key: mean(values, ".3g") for key, values in changed.items()},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
