"""The lab's verbs on what studies found: look into it, carry it on, take it away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import about, evidence, flips, looks, pictures, studies

if TYPE_CHECKING:
    from .lab import Lab


class Findings:
    """The half of `ftlab.lab.Lab` that trains nothing. A study goes by its name."""

    def evidence(self: Lab, name: str) -> dict:
        """Confusion, curves and disagreements of finished runs: `ftlab.evidence.evidence`."""
        return evidence.evidence(self.study_folder(name))

    def consensus(self: Lab, predictions: dict, name: str) -> dict:
        """What a study's strategies say together of an image: `ftlab.evidence.consensus`."""
        return evidence.consensus(self.study_folder(name), predictions)

    def test_image(self: Lab, name: str, index: int) -> dict:
        """{pixels, truth, file, mask} of an image a study was tested on."""
        return pictures.test_image(self.study_folder(name), self.data, index)

    def data_of(self: Lab, name: str) -> dict | None:
        """`check` of the data set a study was trained on; None where it is not here as it was."""
        return about.data_report(self, studies.read(self.study_folder(name)))

    def evaluate(self: Lab, name: str, data: str, **options) -> dict:
        """How a study's runs do on another data set: `ftlab.external.evaluate`."""
        from . import external

        return external.evaluate(self.study_folder(name), self.home, data, **options)

    def drift(self: Lab, name: str, chosen: Sequence[str] = (), gradient: bool = False) -> dict:
        """How far a study's runs moved their weights, and who flips: `ftlab.drift.drift`."""
        from . import drift

        return drift.drift(self.study_folder(name), self.home, chosen, gradient)

    def courses(self: Lab, name: str, chosen: Sequence[str] = ()) -> list[dict]:
        """How a study's runs were meant to train and how they did: `ftlab.drift.courses`."""
        from . import drift

        return drift.courses(self.study_folder(name), chosen)

    def flips(self: Lab, name: str) -> list[dict]:
        """Whom each strategy corrects, and what it breaks: `ftlab.flips.flips`."""
        return flips.flips(self.study_folder(name))

    def similarity(self: Lab, name: str, chosen: Sequence[str] = (), **options) -> dict:
        """How alike runs and theta_0 see, by stage: `ftlab.inspection.similarity`."""
        from . import inspection

        return inspection.similarity(self.study_folder(name), self.home, chosen, **options)

    def cuts(self: Lab, name: str, latency: bool = False) -> dict:
        """What a search found, a point a unit: `ftlab.cuts.cuts`."""
        from . import cuts

        return cuts.cuts(self.study_folder(name), self.home, latency)

    def maps(
        self: Lab,
        name: str,
        images: int = looks.IMAGES,
        road: int = looks.ROAD,
        method: str = "gradcam",
        **options,
    ) -> dict:
        """Where a study's runs look: `ftlab.looks.answer`; first what `ftlab.looking.look` lacks.

        Raises:
            BadInput: also where that would have to be written into another's study.
        """
        from . import looking

        asked, folder = {"method": method, "images": images, "road": road}, self.study_folder(name)
        if looking.lacking(folder, asked):
            looking.look(self._own_study(name), self.home, asked, **options)
        return looks.answer(folder, asked)

    def average(self: Lab, name: str, into: str, strategies: Sequence[str], **options) -> dict:
        """Make a study of averages of a study's runs; its `answer`: `ftlab.averaging.average`."""
        from . import averaging

        folder = self.study_folder(name)
        return self.answer(averaging.average(folder, self.home, into, strategies, **options))

    def export(self: Lab, name: str, run: str, format: str, out: Path) -> dict:
        """Write a run as a file that needs no ftlab, checked: `ftlab.export.export`."""
        from . import export

        return export.export(self.study_folder(name), self.home, run, format, out)

    def exportable(self: Lab, name: str) -> list[str]:
        """The finished runs of a study whose weights are here, the one to take first."""
        return about.exportable(self.study_folder(name))

    def card(self: Lab, name: str, run: str | None = None, format: str | None = None) -> str:
        """The model card of a run, Markdown as the hub reads it: `ftlab.card.card`."""
        from . import card

        return card.card(self, name, run, format)

    def report(self: Lab, name: str) -> str:
        """A study as one page of HTML that needs nothing but itself: `ftlab.report.report`."""
        from . import report

        return report.report(self, name)

    def blends(self: Lab, name: str) -> list[dict]:
        """The runs that `blend` can blend: `ftlab.blending.pairs`."""
        from . import blending

        return blending.pairs(self.study_folder(name))

    def blend(self: Lab, image: Path, name: str, run: str, alphas: Sequence[float], **options):
        """What networks between a probe and a run say of an image: `ftlab.blending.blend`."""
        from . import blending

        return blending.blend(image, self.study_folder(name), self.home, run, alphas, **options)
