"""A study as one page of HTML that needs nothing but itself: to attach to a paper, or to hand on.

Here everything is looked up that the page shows; `ftlab.ui.document` writes it. The page holds no
script and forbids itself every request, so that no name in it can do anything and nothing leaves
the machine of whoever reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, about, files, search, studies
from .records import BadInput
from .studies import Study
from .ui import document
from .ui.keeping import Found, Hard

if TYPE_CHECKING:
    from .lab import Lab

HERE = Path(__file__).parent
STYLES = ("ui/style.css", "ui/data.css", "ui/finetune.css", "report.css")
IMAGES = 6  # of most disagreement, with their maps


def report(lab: Lab, name: str) -> str:
    """The page of a study. Raises as `look_up`."""
    style = "\n".join((HERE / file).read_text(encoding="utf-8") for file in STYLES)
    return document.page(look_up(lab, name), style)


def look_up(lab: Lab, name: str) -> Found:
    """Everything that the page of a study shows.

    Raises:
        BadInput: there is no such study, or none of its runs has finished.
    """
    folder = lab.study_folder(name)
    study = studies.read(folder)
    studies.finished(folder, study)
    questions = {
        cell.name: files.read_json(folder / cell.name / "run.json")
        for cell in studies.cells(study)
        if cell.finished(folder)
    }
    origins = {q["backbone"]: about.origin(q["backbone"], q["weights"]) for q in questions.values()}
    answer, data = lab.answer(folder), about.data_report(lab, study)
    evidence = lab.evidence(name)
    derived = [q["strategy"] for q in questions.values() if q.get("derived")]
    return Found(
        study=study,
        answer=answer,
        evidence=evidence,
        diaries=lab.diaries(name),
        data=data,
        synthetic=about.synthetic(study, data),
        questions=list(questions.values()),
        layouts={backbone: lab.layout(backbone) for backbone in study.backbones},
        strategies={row["name"]: row for row in lab.strategies()},
        origins=origins,
        hard=[_hard(lab, study, image) for image in _most(evidence)],
        cuts=lab.cuts(name) if search.read(folder, study) else None,
        limits=about.limits(folder, study, answer["leaderboard"], data),
        commands=about.commands(study, data, derived),
        not_a_device=about.NOT_A_DEVICE,
        version=__version__,
    )


def _most(evidence: dict) -> list[dict]:
    return [image for image in evidence["disagreements"] if image["disagreement"] > 0][:IMAGES]


def _hard(lab: Lab, study: Study, image: dict) -> Hard:
    """A test image of much disagreement, with its pixels and maps where they can be had here."""
    try:
        shown = lab.test_image(study.name, image["index"])
    except BadInput:
        return Hard(image)
    try:
        seen = lab.explain(shown["file"], study.name, chosen=_one_each(lab, study))
    except BadInput:
        return Hard(image, shown["pixels"])
    maps = [(run["strategy"], run["backbone"], run["overlay"]) for run in seen["runs"]]
    return Hard(image, shown["pixels"], seen["target"], maps)


def _one_each(lab: Lab, study: Study) -> list[str]:
    """Of each strategy and backbone the run of the lowest seed that has its weights here."""
    able = set(lab.exportable(study.name))
    firsts: dict[tuple, str] = {}
    for cell in studies.cells(study):
        if cell.name in able:
            firsts.setdefault((cell.backbone, cell.strategy), cell.name)
    return list(firsts.values())
