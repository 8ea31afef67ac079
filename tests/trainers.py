"""A fake lab that trains when it is told to, for tests of the Fine-tune tab."""

from __future__ import annotations

from ftlab import strategies
from ftlab.records import Layout, Question, Stage, plan_record
from ftlab.ui.progress import METRIC

RESNET = Layout(
    (
        Stage("stem", (1,)),
        Stage("layer1", (2, 3, 4)),
        Stage("layer2", (5, 6, 7, 8)),
        Stage("layer3", (9, 10, 11, 12, 13, 14)),
        Stage("layer4", (15, 16, 17)),
        Stage("head"),
    )
)
ALL = list(strategies.STRATEGIES)


class FakeLab:
    """A lab of one data set, whose studies train when they are told to."""

    def __init__(self):
        self.asked: dict[str, Question] = {}
        self.states: dict[str, str] = {}
        self.done: dict[str, int] = {}
        self.owners: list[str] = []
        self.fetched: list[str] = []

    def strategies(self):
        return [strategies.describe(name) for name in ALL]

    def backbones(self):
        return [{"name": "resnet50"}, {"name": "ftlab_mini"}]

    def weights_state(self, backbone):
        ready = backbone == "ftlab_mini" or backbone in self.fetched
        return {"ready": ready, "download_bytes": None if ready else 98_000_000}

    def fetch(self, backbone):
        self.fetched.append(backbone)

    def layout(self, backbone):
        return RESNET

    def plan(self, strategy, backbone, epochs, **knobs):
        plan = strategies.write_plan(strategy, RESNET, epochs, **knobs)
        return {"strategy": strategy, "backbone": backbone, **plan_record(plan)}

    def datasets(self):
        return [self.check("chest")]

    def check(self, name):
        return {
            "name": name,
            "images": 440,
            "classes": {"normal": 220, "<b>nodule": 220},
            "groups": 101,
            "splits": {"train": 264, "val": 88, "test": 88},
            "skipped": [],
            "warnings": ["2 duplicates"],
        }

    def estimate(self, question):
        runs = len(question.backbones) * len(question.strategies) * len(question.seeds)
        return {"seconds": 12.0 * runs * question.settings.epochs, "measured": True}

    def enqueue(self, question, owner=""):
        name = question.name or "chest-abc123"
        self.asked[name], self.states[name], self.done[name] = question, "queued", 0
        self.owners.append(owner)
        return name

    def resume(self, study):
        self.states[study] = "queued"

    def stop(self, study):
        self.states[study] = "stopped"
        return True

    def studies(self):
        return [{"study": s, "data": "chest", "state": state} for s, state in self.states.items()]

    def watch(self, study):
        asked, rows = self.asked[study], []
        cells = [(s, seed) for seed in asked.seeds for s in asked.strategies]
        for number, (strategy, seed) in enumerate(cells):
            epochs = self._epochs(study, number)
            state = "finished" if epochs == asked.settings.epochs else "queued"
            if 0 < epochs < asked.settings.epochs:
                state = self.states[study]
            row = dict(run=f"{strategy}-{seed}", strategy=strategy, backbone="resnet50", seed=seed)
            each = asked.settings.epochs
            row |= {"epochs_done": epochs, "epochs": each, "reason": None}
            rows.append({**row, "state": state})
        if self.states[study] == "failed":
            rows[0] |= {"state": "failed", "reason": "The loss became <NaN>."}
        total = len(cells) * asked.settings.epochs
        done = min(self.done[study], total)
        left = 3.0 * (total - done) if done else None
        known = {"study": study, "state": self.states[study], "runs": rows}
        known |= {"reason": None, "ahead": 2 if self.states[study] == "queued" else None}
        return {**known, "epochs_done": done, "epochs": total, "seconds_left": left}

    def diaries(self, study):
        return {
            row["run"]: [
                {"epoch": e, "phase": 0, "val": {METRIC: 0.5 + 0.03 * e + 0.01 * row["seed"]}}
                for e in range(self._epochs(study, number))
            ]
            for number, row in enumerate(self.watch_rows(study))
        }

    def watch_rows(self, study):
        asked = self.asked[study]
        cells = [(s, seed) for seed in asked.seeds for s in asked.strategies]
        return [{"run": f"{strategy}-{seed}", "seed": seed} for strategy, seed in cells]

    def _epochs(self, study, number):
        each = self.asked[study].settings.epochs
        return max(0, min(each, self.done[study] - number * each))


def values(form, **changes):
    """What an untouched form holds, by component, with changes by the form's names."""
    held = {component: component.value for component in form.fields()}
    held[form.data], held[form.backbones] = "chest", ["resnet50"]
    for name, value in changes.items():
        own = getattr(form, name, None) or form.settings.get(name)
        held[own if own is not None else form.knobs[tuple(name.split("__"))]] = value
    return held
