"""Answers, evidence and diaries as the lab gives them, of studies that never were."""

from __future__ import annotations

STRATEGIES = (
    *("full", "linear_probe", "gradual_last_first", "gradual_first_last", "lp_ft", "l1_sp"),
    *("l2_sp", "auto_rgn", "auto_snr", "surgical", "truncated", "layer_wise", "transfusion"),
)
CLASSES = ("benign", "<i>malignant</i>")


def estimate(mean: float, seeds: int, half: float = 0.03) -> dict:
    spread = {"low": mean - half, "high": mean + half, "sd": 0.01}
    return {"mean": mean, **spread, "seeds": seeds, "images": 200}


def row(strategy: str, mean: float, seeds: int = 3, difference: float | None = 0.0, **more) -> dict:
    """One line of a leaderboard; its paired interval is 4 points wide."""
    low, high = (None, None) if difference is None else (difference - 0.02, difference + 0.02)
    paired = {"strategy": strategy, "reference": "full", "metric": "balanced_accuracy"}
    paired |= {"difference": difference, "low": low, "high": high, "seeds": seeds, "images": 200}
    p = 0.01 if seeds >= 5 else None
    paired["corrected"] = seeds >= 5
    return {
        "backbone": "tiny",
        "strategy": strategy,
        "lr": 0.001,
        "precision": "float32",
        "seeds": list(range(seeds)),
        "balanced_accuracy": estimate(mean, seeds),
        "auroc": estimate(min(mean + 0.02, 0.99), seeds),
        "seconds": 40.0,
        "trained_parameters": 2_000_000.0,
        "stored_bytes": 9_000_000.0,
        "to_full": None if difference is None else {**paired, "p": p, "p_holm": p},
        **more,
    }


def rows(seeds: int = 3) -> list[dict]:
    """Thirteen strategies, best first: 0.90, 0.89 ...; full is fifth."""
    names = [*STRATEGIES[1:5], "full", *STRATEGIES[5:]]
    means = [0.90 - 0.01 * i for i in range(len(names))]
    return [
        row(name, mean, seeds, None if name == "full" else mean - means[4])
        for name, mean in zip(names, means, strict=True)
    ]


def answer(study: str = "moles", seeds: int = 3, found: list[dict] | None = None, **more) -> dict:
    """{study, state, runs, leaderboard}; linear_probe is best on validation."""
    found = rows(seeds) if found is None else found
    runs = [
        {
            "run": f"{each['strategy']}-{each['backbone']}-s{seed}",
            "strategy": each["strategy"],
            "backbone": each["backbone"],
            "seed": seed,
            "state": "finished",
            "seconds": 40.0,
            "val": {"balanced_accuracy": each["balanced_accuracy"]["mean"]},
        }
        for each in found
        for seed in each["seeds"]
    ]
    verdicts = {each["backbone"]: "Undecided; learning rates were not tuned." for each in found}
    board = {"metric": "balanced_accuracy", "tuning": None, "tuned": "not tuned"}
    board |= {"rates": board["tuned"], "precision": "float32"}
    board |= {"rows": found, "verdicts": verdicts, "ensembles": [], "maps": None}
    own = {"study": study, "state": "finished", "reason": None, "runs": runs}
    return {**own, "leaderboard": board, **more}


def evidence(names=STRATEGIES, backbone: str = "tiny") -> dict:
    share = {"mean": 0.8, "low": 0.7, "high": 0.9}
    last = CLASSES[1]
    return {
        "classes": CLASSES,
        "backbones": [backbone],
        "per_strategy": [
            {
                "strategy": name,
                "backbone": backbone,
                "confusion": [[270, 30], [75 + i, 225 - i]],
                "per_class": [
                    {"class": CLASSES[0], "sensitivity": share, "specificity": share},
                    {"class": last, "sensitivity": share, "specificity": None},
                ],
                "roc": [{"class": last, "fpr": [0, 0.2, 1], "tpr": [0, 0.7, 1], "auroc": 0.9}],
                "precision_recall": [
                    {
                        "class": last,
                        "recall": [0, 0.5, 1],
                        "precision": [1, 0.9, 0.5],
                        "average_precision": 0.8 - 0.01 * i,
                    }
                ],
                "reliability": [
                    {"confidence": 0.6, "accuracy": 0.5, "n": 100},
                    {"confidence": 0.9, "accuracy": 0.8, "n": 500},
                ],
                "ece": 0.1,
            }
            for i, name in enumerate(names)
        ],
        "disagreements": [
            {
                "index": 30 + i,
                "truth": CLASSES[0],
                "votes": {name: CLASSES[k % 3 == 0] for k, name in enumerate(names)},
                "disagreement": 0.5 - 0.1 * i,
            }
            for i in range(6)
        ],
    }


def diaries(runs: list[dict], epochs: int = 4) -> dict:
    """Two phases; validation rises by 10 points an epoch from 50 % plus 1 point a seed."""
    return {
        run["run"]: [
            {
                "epoch": e,
                "phase": int(e >= 2),
                "train_loss": 1 / (e + 1),
                "val": {"loss": 0.7, "balanced_accuracy": 0.5 + 0.1 * e + 0.01 * run["seed"]},
            }
            for e in range(epochs)
        ]
        for run in runs
    }


def after(demo, page) -> list:
    """What is put out whenever a tab is selected, by that event and all that follow it."""
    fns = list(demo.fns.values())
    ids = {fn._id for fn in fns if (page._id, "select") in map(tuple, fn.targets)}
    for fn in fns:  # in the order in which they were wired
        ids |= {fn._id} if fn.trigger_after in ids else set()
    return [component for fn in fns if fn._id in ids for component in fn.outputs]
