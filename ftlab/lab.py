"""The lab's verbs: what a person can ask for. The command line and the app both stand on these."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import datasets, leaderboard, presence, schedule, strategies, studies, worker
from .records import BadInput, Layout, Settings, plan_record
from .studies import Cell, Study

PROJECT = Path(__file__).resolve().parent.parent
MAX_SEEDS = 100


@dataclass(frozen=True)
class Lab:
    """A home folder: data/ (data sets), checkpoints/ (studies) and cache/.

    Studies shipped with the project can be read from any home; new ones go to the home.
    """

    home: Path

    @classmethod
    def at_home(cls) -> Lab:
        """The home FTLAB_HOME names, else the project folder."""
        return cls(Path(os.environ.get("FTLAB_HOME") or PROJECT).resolve())

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def checkpoints(self) -> Path:
        return self.home / "checkpoints"

    # --- what there is ---

    def strategies(self) -> list[dict]:
        """[{name, source, summary}]"""
        return [strategies.describe(name) for name in strategies.STRATEGIES]

    def backbones(self) -> list[dict]:
        """[{name, tag, stages: [{name, parameters}], cuts: [{unit, stage, parameters}]}]"""
        from . import backbones

        return [backbones.describe(name) for name in backbones.BACKBONES]

    def layout(self, backbone: str) -> Layout:
        from . import backbones

        return backbones.layout(backbone)

    def plan(self, strategy: str, backbone: str, epochs: int, **knobs) -> dict:
        """{strategy, backbone, cut_after, slim_from, phases}"""
        plan = strategies.write_plan(strategy, self.layout(backbone), epochs, **knobs)
        return {"strategy": strategy, "backbone": backbone, **plan_record(plan)}

    def datasets(self) -> list[dict]:
        names = datasets.dataset_names(self.data)
        return [datasets.report(datasets.open_dataset(self.data, name)) for name in names]

    def studies(self) -> list[dict]:
        """[{study, data, backbones, strategies, seeds, state}], shipped ones first, by name."""
        return [self._study_row(folder) for folder in self._study_folders()]

    def runs(self) -> list[dict]:
        """Every run of every study, as in `compare`, with its study."""
        return [
            {"study": folder.name, **row}
            for folder in self._study_folders()
            for row in leaderboard.run_rows(folder, studies.read(folder))
        ]

    def _study_folders(self) -> list[Path]:
        """Shipped studies and then your own, by name; your own hides a shipped one of its name."""
        roots = dict.fromkeys((PROJECT / "checkpoints", self.checkpoints))
        found = (path.parent for root in roots for path in sorted(root.glob("[!.]*/study.json")))
        return list({folder.name: folder for folder in found}.values())

    def _study_row(self, folder: Path) -> dict:
        study = studies.read(folder)
        return {
            "study": study.name,
            "data": study.data,
            "backbones": study.backbones,
            "strategies": study.strategies,
            "seeds": study.seeds,
            "state": studies.state(folder, study),
        }

    def study_folder(self, name: str) -> Path:
        """Where a study is.

        Raises:
            BadInput: there is none of that name.
        """
        found = {folder.name: folder for folder in self._study_folders()}
        if name not in found:
            have = f"there are {', '.join(sorted(found))}" if found else "there is none yet"
            raise BadInput(f"There is no study {name!r}; {have}.")
        return found[name]

    # --- data ---

    def import_data(self, source: str, name: str, **options) -> dict:
        """Import a source as a checked data set; options as `ftlab.datasets.import_dataset`."""
        return datasets.report(datasets.import_dataset(self.data, source, name, **options))

    def check(self, name: str) -> dict:
        return datasets.report(datasets.open_dataset(self.data, name))

    # --- studies ---

    def ask(
        self,
        data: str,
        backbones: Sequence[str],
        chosen: Sequence[str],
        seeds: Sequence[int],
        settings: Settings,
        weights: str = "imagenet",
        knobs: dict[str, dict] | None = None,
        name: str | None = None,
        alone: bool = False,
    ) -> Path:
        """Write a study's question, or extend the one of that name; the folder to work on.

        Everything is checked first: data, weights and every plan, so that a study that starts
        can be trained.

        Args:
            alone: refuse a study that somebody is at work on, instead of extending it.
        Raises:
            BadInput: something of it cannot be used, or `name` is another question's.
        """
        from . import train  # and with it torch

        found = datasets.open_dataset(self.data, data)
        train.check(settings)
        if not 1 <= len(seeds) <= MAX_SEEDS:
            raise BadInput(f"A study has 1 to {MAX_SEEDS} seeds, not {len(seeds)}.")
        study = Study(
            name or "",
            data,
            found.hash,
            found.classes,
            tuple(dict.fromkeys(backbones)),
            tuple(strategies.parse_names(chosen)),
            tuple(seeds),
            {},
            settings,
            knobs or {},
        )
        for backbone in study.backbones:
            layout = self.layout(backbone)
            for strategy in dict.fromkeys((*study.strategies, *study.knobs)):
                studies.plan_of(study, Cell(backbone, strategy, 0), layout, None)
        if not re.fullmatch(r"[A-Za-z0-9_-]{0,100}", study.name):
            raise BadInput(f"A study's name has letters, digits, - and _ only, not {study.name!r}.")
        return self._write(replace(study, weights=self._weights(study.backbones, weights)), alone)

    def _write(self, study: Study, alone: bool) -> Path:
        name = study.name or f"{study.data}-{study.digest()}"
        folder = self.checkpoints / name
        if alone and presence.locked(folder):
            raise presence.busy(folder)
        study = replace(study, name=name)
        if (folder / "study.json").exists():
            before = studies.read(folder)
            if not before.same_question(study):
                raise BadInput(
                    f"The study {name} asks something else (data, weights or settings differ): "
                    "choose another --name."
                )
            study = before.joined(study)
        studies.save(folder, study)
        if not presence.locked(folder):
            schedule.forgive(folder, study)
        return folder

    def _weights(self, backbones: Sequence[str], given: str) -> dict:
        """The record of theta_0, after making sure that every backbone has it on this machine."""
        from . import weights

        record = {"kind": given, "name": None, "checksum": None}
        for backbone in backbones:
            if given == "imagenet":
                weights.fetch(backbone)
            elif given != "random":
                theta0 = weights.load(backbone, given)
                weights.keep(theta0, self.home / "cache")
                record = theta0.record
        return record

    def work(self, folder: Path, stop: Callable[[], bool]) -> Iterator[dict]:
        """Train what a study still lacks, here and now; events as `ftlab.schedule.work`."""
        yield from schedule.work(folder, self.home, stop)
        if stop():
            (folder / "stopped").touch()

    def answer(self, folder: Path) -> dict:
        """{study, state, runs, leaderboard}: everything a study says so far."""
        study = studies.read(folder)
        return {
            "study": study.name,
            "state": studies.state(folder, study),
            "runs": leaderboard.run_rows(folder, study),
            "leaderboard": leaderboard.leaderboard(folder, study),
        }

    def status(self, name: str) -> dict:
        """The answer so far with {epochs_done, epochs, seconds_left}."""
        folder = self.study_folder(name)
        return {**self.answer(folder), **schedule.progress(folder, studies.read(folder))}

    def stop(self, name: str) -> bool:
        """Ask whoever works on a study to stop; whether somebody did."""
        return worker.stop_study(self.home, self.study_folder(name))

    def deletable(self, name: str) -> str:
        """What would be deleted: "study" or "data set".

        Raises:
            BadInput: neither, both, at work, or a data set that studies still need.
        """
        own = [folder for folder in self._study_folders() if folder.parent == self.checkpoints]
        is_study = name in (folder.name for folder in own)
        is_data = name in datasets.dataset_names(self.data)
        if is_study and is_data:
            raise BadInput(f"{name} is both a study and a data set: rename one folder first.")
        if not (is_study or is_data):
            raise BadInput(f"There is no study and no data set {name!r} of your own to delete.")
        if is_study and presence.locked(self.checkpoints / name):
            raise BadInput(f"The study {name} is being worked on: `ftlab stop {name}` first.")
        for study in self.studies() if is_data else ():
            if study["data"] == name and study["state"] != "finished":
                raise BadInput(
                    f"The study {study['study']} still needs {name}: delete the study first."
                )
        return "study" if is_study else "data set"

    def delete(self, name: str) -> str:
        """Delete a study or a data set; which of the two it was. Raises as `deletable`."""
        kind = self.deletable(name)
        if kind == "data set":
            datasets.delete_dataset(self.data, name)
            return kind
        worker.dequeue(self.home, name)
        doomed = self.checkpoints / f".{name}.{secrets.token_hex(4)}.tmp"
        with presence.lock(self.checkpoints / name):
            (self.checkpoints / name).rename(doomed)  # gone at once, whatever ends the rest
        shutil.rmtree(doomed)
        return kind

    # --- prediction ---

    def predict(self, images: Sequence[Path], name: str) -> dict:
        """Class probabilities of images by every finished run of a study.

        Returns:
            {classes: [name], without_weights: [run],
            images: [{file, notes, runs: [{run, strategy, backbone, probs: [p]}]}]}
        Raises:
            BadInput: no run has finished, or an image cannot be read.
        """
        from . import prediction

        return prediction.predict(images, self.study_folder(name), self.home / "cache")

    def fetch(self, backbone: str) -> Path:
        """Download a backbone's weights ahead; where they are."""
        from . import weights

        self.layout(backbone)
        return weights.fetch(backbone)
