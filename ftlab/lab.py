"""The lab's verbs: what a person can ask for. The command line and the app both stand on these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import (
    asking,
    datasets,
    deleting,
    homes,
    leaderboard,
    pictures,
    runs,
    schedule,
    strategies,
    studies,
    watching,
    worker,
)
from .findings import Findings
from .records import BadInput, Layout, Question, plan_record

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Lab(Findings):
    """A home folder: data/ (data sets), checkpoints/ (studies) and cache/.

    Studies shipped with the project can be read from any home; new ones go to the home.
    """

    home: Path

    @classmethod
    def at_home(cls) -> Lab:
        """The home FTLAB_HOME names, else the project folder."""
        return cls(Path(os.environ.get("FTLAB_HOME") or PROJECT).resolve())

    def of(self, owner: str) -> Lab:
        """The lab of one of several people: their own home, which shares this one's."""
        return Lab(homes.personal(self.home, owner))

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
        """[as `check`] of the data sets of this home and of the one it shares, if readable."""
        found = _each(datasets.dataset_names(self.data), self.check)
        return [checked for _, checked in found if not isinstance(checked, BadInput)]

    def studies(self) -> list[dict]:
        """[{study, data, classes, backbones, strategies, seeds, state}], shipped ones first."""
        return watching.summaries(self.home, self._studies())

    def runs(self) -> list[dict]:
        """Every run of every study whose answers can be read, as in `compare`, with its study."""
        return [
            {"study": study.name, **row}
            for (_, study), rows in _each(self._studies(), _rows)
            if not isinstance(rows, BadInput)
            for row in rows
        ]

    def damaged(self) -> list[str]:
        """Why what `studies`, `runs` and `datasets` leave out cannot be read, a sentence each."""
        found = [*_each(self._study_folders(), studies.read), *_each(self._studies(), _rows)]
        found += _each(datasets.dataset_names(self.data), self.check)
        return [str(read) for _, read in found if isinstance(read, BadInput)]

    def _studies(self) -> list[tuple[Path, studies.Study]]:
        """The studies that can be read: one that cannot must not hide the others."""
        found = _each(self._study_folders(), studies.read)
        return [(folder, study) for folder, study in found if not isinstance(study, BadInput)]

    def _study_folders(self) -> list[Path]:
        """Shipped studies, shared ones and then your own, by name; a later one hides an earlier."""
        roots = dict.fromkeys((PROJECT / "checkpoints", *homes.readable(self.checkpoints)))
        found = (path.parent for root in roots for path in sorted(root.glob("[!.]*/study.json")))
        return list({folder.name: folder for folder in found}.values())

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

    def _own_study(self, name: str) -> Path:
        """As `study_folder`, of this very home.

        Raises:
            BadInput: also where the study is another's who shares it: it can be looked at only.
        """
        folder = self.study_folder(name)
        if folder.parent != self.checkpoints:
            raise BadInput(f"The study {name} is shared: it can only be looked at.")
        return folder

    # --- data ---

    def import_data(self, source: str, name: str, **options) -> dict:
        """Import a source as a checked data set; options as `ftlab.datasets.import_dataset`."""
        return datasets.report(datasets.import_dataset(self.data, source, name, **options))

    def check(self, name: str) -> dict:
        return datasets.report(datasets.open_dataset(self.data, name))

    def sample(self, data: str, n: int, seed: int = 0, split: str | None = None) -> list[dict]:
        """[{file, label, split, mask}] of n images of a data set, as many of each class."""
        return pictures.sample(self.data, data, n, seed, split)

    def examples(self) -> list[dict]:
        """[{modality, label, file, mask}]: drawn images of every class; the first call draws."""
        from . import examples

        return [asdict(example) for example in examples.gallery(self.home / "cache")]

    def picture(self, path: Path) -> dict:
        """{pixels: (H, W, 3) uint8, notes} of any image file."""
        return pictures.picture(path)

    # --- studies ---

    def ask(self, question: Question, alone: bool = False) -> Path:
        """Write a study's question, or extend the one of its name; the folder to work on.

        Args:
            alone: refuse a study that somebody is at work on, instead of extending it.
        Raises:
            BadInput: something of it cannot be used, or its name is another question's.
        """
        return asking.ask(question, self.home, alone)

    def work(self, folder: Path, stop: Callable[[], bool]) -> Iterator[dict]:
        """Train what a study still lacks, here and now; events as `ftlab.schedule.work`."""
        yield from schedule.work(folder, self.home, stop)
        if stop():
            (folder / "stopped").touch()

    def answer(self, folder: Path) -> dict:
        """{study, state, reason, runs, leaderboard}: everything a study says so far.

        reason: why it failed as a whole, else None.
        """
        study = studies.read(folder)
        state = watching.state(self.home, folder, study)
        return {
            "study": study.name,
            "state": state,
            "reason": runs.reason(folder) if state == "failed" else None,
            "runs": leaderboard.run_rows(folder, study),
            "leaderboard": leaderboard.leaderboard(folder),
        }

    def status(self, name: str) -> dict:
        """The answer so far with {epochs_done, epochs, seconds_left}."""
        folder = self.study_folder(name)
        return {**self.answer(folder), **schedule.progress(folder, studies.read(folder))}

    def watch(self, name: str) -> dict:
        """How far a study is, cheap enough to ask every second: `ftlab.watching.watch`."""
        return watching.watch(self.home, self.study_folder(name))

    def diaries(self, name: str) -> dict[str, list[dict]]:
        """{run: [{epoch, phase, train_loss, val, seconds, lrs, best}]} of a study's runs."""
        return watching.diaries(self.study_folder(name))

    def estimate(self, question: Question) -> dict:
        """{seconds, measured}: how long a study would take here, as `ftlab.estimate.estimate`."""
        from . import estimate

        return estimate.estimate(question, self.home)

    def enqueue(self, question: Question, **terms) -> str:
        """Ask a study and leave it to a worker on terms as of `queue.add`; its name."""
        return worker.begin(self.home, self.ask(question), **terms)

    def resume(self, name: str, **terms) -> str:
        """Leave what a study still lacks, what failed too, to a worker; the study's name."""
        return worker.resume(self.home, self._own_study(name), **terms)

    def start_worker(self) -> bool:
        """Start a worker, which outlives this process, if none serves; whether it did."""
        return worker.ensure(self.home)

    def stop(self, name: str) -> bool:
        """Ask whoever works on a study to stop; whether somebody did."""
        return worker.stop_study(self.home, self._own_study(name))

    def deletable(self, name: str, kind: str = "") -> str:
        """What would be deleted: "study" or "data set"; as `ftlab.deleting.deletable`."""
        own = (self.of(owner) for owner in homes.owners(self.home))
        needing = [row for lab in (self, *own) for row in lab.studies()]
        return deleting.deletable(self.home, name, needing, kind)

    def delete(self, name: str, kind: str = "") -> str:
        """Delete a study or a data set; which of the two it was. Arguments as of `deletable`."""
        kind = self.deletable(name, kind)
        deleting.delete(self.home, name, kind)
        return kind

    # --- prediction ---

    def predict(self, images: Sequence[Path], name: str, chosen: Sequence[str] = ()) -> dict:
        """Class probabilities of images by every finished run of a study, or by those chosen.

        Returns:
            {classes: [name], without_weights: [run],
            images: [{file, notes, runs: [{run, strategy, backbone, probs: [p]}]}]}
        Raises:
            BadInput: no run has finished, or an image cannot be read.
        """
        from . import prediction

        return prediction.predict(images, self.study_folder(name), self.home / "cache", chosen)

    def explain(self, image: Path, name: str, **options) -> dict:
        """Where each finished run of a study looks in an image: `ftlab.prediction.explain`."""
        from . import prediction

        return prediction.explain(image, self.study_folder(name), self.home / "cache", **options)

    def methods(self) -> list[dict]:
        """[{name, summary, slow}] of the saliency methods."""
        from . import explain

        return explain.methods()

    def weights_state(self, backbone: str) -> dict:
        """{ready, download_bytes} of a backbone's own weights; asks no network."""
        from . import estimate

        return estimate.weights_state(backbone)

    def fetch(self, backbone: str) -> Path:
        """Download a backbone's weights ahead; where they are."""
        from . import weights

        self.layout(backbone)
        return weights.fetch(backbone)


def _rows(found: tuple[Path, studies.Study]) -> list[dict]:
    return leaderboard.run_rows(*found)


def _each(things: Iterable, read: Callable) -> Iterator[tuple]:
    """(thing, what was read of it, or the BadInput that came of trying)."""
    for thing in things:
        try:
            yield thing, read(thing)
        except BadInput as error:
            yield thing, error
