"""Which unit of a backbone a strategy should take: where to cut, freeze or slim.

two-stage    Peng et al. 2023, section 3: the ends of the trunk's stages first, then every unit from
             behind the stage end before the best one to the stage end behind it.
exhaustive   every unit.
ranked       ours, for truncated: the whole trunk and the three units whose pretrained features a
             linear classifier reads best (`ftlab.readout`).

A candidate is a strategy whose name carries its unit (`truncated@12`), so a search is a study like
others that grows while it is worked on. Its search.json holds the question and the backbone's
layout; ranking.json what `readout` found. All else is read off the runs: which units are to be
trained so far, which one is best. Only validation chooses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from . import files
from .records import BadInput, Layout, Question, Search, Stage
from .strategies import UNIT_KNOBS

if TYPE_CHECKING:
    from .studies import Cell, Study

NAME, RANKING = "search.json", "ranking.json"
HOW = ("two-stage", "ranked", "exhaustive")
METRICS = ("average_precision", "balanced_accuracy", "accuracy")  # of validation
PROMISING = 3  # best ranked units that are trained

Ended = Mapping[int, float | None]  # unit -> its validation score, None where every run failed


# --- the rule -------------------------------------------------------------------------------------


def units(strategy: str, layout: Layout) -> list[int]:
    """The units a strategy can take, in order.

    truncated is cut after one of the trunk, layer_wise frozen through it. transfusion begins to be
    slim behind one, so that something pretrained is left.
    """
    last = layout.trunk[-1].units[-1]
    return list(range(2, last + 1) if strategy == "transfusion" else range(1, last + 1))


def coarse(strategy: str, layout: Layout) -> list[int]:
    """What the first stage tries: the ends of the trunk's stages, the stem's left out.

    A dense block ends with its transition, as in Peng et al. transfusion: slim from the unit
    behind such an end.
    """
    following = (*layout.trunk[2:], Stage("head"))
    ends = [
        stage.units[-1]
        for stage, then in zip(layout.trunk[1:], following, strict=True)
        if not then.name.startswith("transition")
    ]
    return [end + 1 for end in ends[:-1]] if strategy == "transfusion" else ends


def fine(strategy: str, layout: Layout, winner: int) -> list[int]:
    """What the second stage tries: end of the stage before < unit <= end of the stage behind."""
    first = coarse(strategy, layout)
    place, every = first.index(winner), units(strategy, layout)
    low = first[place - 1] if place else 0
    high = first[place + 1] if place + 1 < len(first) else every[-1]
    return [unit for unit in every if low < unit <= high]


def best(strategy: str, scores: Ended) -> int | None:
    """The unit of the best score; ties go to the smaller network, or to the one that learns less.

    None where no unit has a score.
    """
    scored = {unit: score for unit, score in scores.items() if score is not None}
    sign = 1 if strategy == "layer_wise" else -1
    return max(scored, key=lambda unit: (scored[unit], sign * unit), default=None)


def steps(
    search: Search, layout: Layout, ended: Ended, ranking: Mapping[int, float] | None = None
) -> dict[int, str]:
    """{unit: coarse, fine, ranked or all}: what is to be trained, as far as that is known yet."""
    every = units(search.strategy, layout)
    if search.how == "exhaustive":
        return dict.fromkeys(every, "all")
    if search.how == "ranked":
        order = sorted(ranking or {}, key=lambda unit: (-ranking[unit], unit))
        return dict.fromkeys((every[-1], *order[:PROMISING]), "ranked")
    first = coarse(search.strategy, layout)
    winner = winner_of(search, layout, ended)
    second = [] if winner is None else fine(search.strategy, layout, winner)
    return dict.fromkeys(first, "coarse") | {u: "fine" for u in second if u not in first}


def winner_of(search: Search, layout: Layout, ended: Ended) -> int | None:
    """The best of the first stage; None before it has ended, and where there is no such stage."""
    first = coarse(search.strategy, layout)
    if search.how != "two-stage" or not all(unit in ended for unit in first):
        return None
    return best(search.strategy, {unit: ended[unit] for unit in first})


def at_most(search: Search | None, layout: Layout) -> list[str]:
    """The strategies that a search trains, where it trains as many as it may; none of no search."""
    if search is None:
        return []
    check(search)
    every = units(search.strategy, layout)
    if search.how == "ranked":
        taken = every[-PROMISING - 1 :]
    elif search.how == "exhaustive":
        taken = every
    else:
        first = coarse(search.strategy, layout)
        windows = [{*first, *fine(search.strategy, layout, unit)} for unit in first]
        taken = sorted(max(windows, key=lambda window: (len(window), sum(window))))
    return [label(search.strategy, unit) for unit in taken]


def label(strategy: str, unit: int) -> str:
    """The name of a candidate."""
    return f"{strategy}@{unit}"


def check(search: Search) -> None:
    """Refuse what cannot be searched.

    Raises:
        BadInput: there is no such strategy, metric or way.
    """
    for given, known in (
        (search.strategy, tuple(UNIT_KNOBS)),
        (search.metric, METRICS),
        (search.how, HOW),
    ):
        if given not in known:
            raise BadInput(f"A search takes {', '.join(known)}, not {given!r}.")
    if search.how == "ranked" and search.strategy != "truncated":
        raise BadInput("Only truncated can be ranked: it ends where the features are read.")


# --- the search of a study ------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A study's search so far."""

    search: Search
    backbone: str
    layout: Layout
    ended: Ended
    ranking: dict[int, float] | None
    lacks: tuple[str, ...]  # candidates that the study does not hold yet

    @property
    def steps(self) -> dict[int, str]:
        return steps(self.search, self.layout, self.ended, self.ranking)

    @property
    def unranked(self) -> bool:
        """Whether its units have to be ranked before it can go on."""
        return self.search.how == "ranked" and self.ranking is None

    @property
    def done(self) -> bool:
        return not self.unranked and all(unit in self.ended for unit in self.steps)

    @property
    def coarse(self) -> int | None:
        return winner_of(self.search, self.layout, self.ended)

    @property
    def chosen(self) -> int | None:
        """The answer, once nothing is left to train; units that others asked for do not count."""
        wanted = {unit: self.ended[unit] for unit in self.steps if unit in self.ended}
        return best(self.search.strategy, wanted) if self.done else None


def opened(question: Question) -> tuple[Question, dict]:
    """(the question with the first candidates of its search, what `save` writes of it).

    Raises:
        BadInput: as `check`, or it asks for several backbones.
    """
    from . import backbones  # and with it torch

    search = question.search
    check(search)
    if len(question.backbones) != 1:
        raise BadInput("A search takes one backbone.")
    layout = backbones.layout(question.backbones[0])
    first = [label(search.strategy, unit) for unit in steps(search, layout, {})]
    asked = {**asdict(search), "backbone": question.backbones[0], **asdict(layout)}
    return replace(question, strategies=(*question.strategies, *first)), asked


def save(folder: Path, asked: dict) -> None:
    """Write what is searched for; a study that was searched before is asked anew, its runs stay."""
    files.write_json(folder / NAME, asked)


def read(folder: Path, study: Study) -> Found | None:
    """The search of a study, as far as its runs tell; None of a study that searches nothing."""
    from .studies import Cell

    asked = files.read_json(folder / NAME)
    if asked is None:
        return None
    layout = Layout(tuple(Stage(s["name"], tuple(s["units"])) for s in asked["stages"]))
    search = Search(asked["strategy"], asked["metric"], asked["how"])
    ended = {}
    for unit in units(search.strategy, layout):
        named = label(search.strategy, unit)
        own = [Cell(asked["backbone"], named, seed) for seed in study.seeds]
        if named in study.strategies and all(c.finished(folder) or c.failed(folder) for c in own):
            ended[unit] = _score(folder, own, search.metric)
    kept = files.read_json(folder / RANKING) if search.how == "ranked" else None
    ranking = {int(unit): score for unit, score in kept["scores"].items()} if kept else None
    wanted = steps(search, layout, ended, ranking)
    names = (label(search.strategy, unit) for unit in wanted)
    lacks = tuple(name for name in names if name not in study.strategies)
    return Found(search, asked["backbone"], layout, ended, ranking, lacks)


def goes_on(folder: Path, study: Study) -> bool:
    """Whether a study's search will ask for more than the study holds."""
    found = read(folder, study)
    return found is not None and (bool(found.lacks) or found.unranked)


def _score(folder: Path, cells: list[Cell], metric: str) -> float | None:
    """The mean over the seeds that finished."""
    answers = [files.read_json(cell.folder(folder) / "result.json") for cell in cells]
    values = [a["val"][metric] for a in answers if a and a["val"][metric] is not None]
    return fmean(values) if values else None
