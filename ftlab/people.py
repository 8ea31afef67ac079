"""Several people at one app: each has a lab of their own within limits, told by who asks."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from . import asking, console, homes, queue, search, worker
from .modes import Mode
from .records import BadInput, Question

NOBODY = "nobody"  # whoever cannot be told apart: may look, and owns nothing
UNKNOWN = (
    "This needs to know you again, and your browser sends no cookie: allow cookies for this page, "
    "or open it in a window of its own."
)


class People:
    """A lab as each of several people has it: their own and what is shared, within limits.

    It has the verbs of a Lab. Whose they are is found out anew at every use, from the event that
    is being answered, so that no handler can reach what is another's.
    """

    def __init__(self, lab: Any, mode: Mode, who: Callable[[], str]):
        """`who` names the person whose event is being answered, "" where that is unknown."""
        self._lab, self._mode, self._who = lab, mode, who

    def __getattr__(self, verb: str) -> Any:
        owner = self._who()
        own = self._lab.of(owner or NOBODY)
        if not owner and verb in CHANGES:
            raise BadInput(UNKNOWN)
        os.utime(own.home)
        limited = LIMITED.get(verb)
        return partial(limited, own, self._mode, owner) if limited else getattr(own, verb)


# --- the verbs that are limited ------------------------------------------------------------------


def _enqueue(lab: Any, mode: Mode, owner: str, question: Question) -> str:
    _may_store(lab, mode)
    with homes.alone(lab.home):  # of two in one moment the second must be told of the first
        _may_wait(lab, mode, owner)
        _may_train(lab, mode, question)
        return lab.enqueue(question, owner=owner, limit_seconds=mode.study_seconds)


def _resume(lab: Any, mode: Mode, owner: str, name: str) -> str:
    _may_store(lab, mode)
    with homes.alone(lab.home):
        _may_wait(lab, mode, owner)
        return lab.resume(name, owner=owner, limit_seconds=mode.study_seconds)


def _watch(lab: Any, mode: Mode, owner: str, name: str) -> dict:
    """With whether it can be resumed: what is shared cannot, nor what has had its time."""
    folder = lab.study_folder(name)
    over = mode.study_seconds and worker.seconds_had(folder) >= mode.study_seconds
    own = folder.parent == lab.checkpoints
    return {**lab.watch(name), "resumable": own and not over}


def _estimate(lab: Any, mode: Mode, owner: str, question: Question) -> dict:
    _may_train(lab, mode, question)
    return lab.estimate(question)


def _fetch(lab: Any, mode: Mode, owner: str, backbone: str) -> None:
    if not mode.downloads:
        raise BadInput(f"The weights of {backbone} are not here: ask whoever runs this page.")
    lab.fetch(backbone)


def _import_data(lab: Any, mode: Mode, owner: str, source: str, name: str, **options) -> dict:
    """Import within limits; more images than allowed are noticed once they are counted."""
    _may_store(lab, mode)
    if modality := source.removeprefix("phantom:") if source.startswith("phantom:") else "":
        from .phantoms import MODALITIES  # here, because scipy is slow to load

        drawn = MODALITIES[modality].classes if modality in MODALITIES else ()
        _count(mode, None, 0, len(drawn) * (options.get("per_class") or 0))
    counted = options.pop("progress", None), options.pop("drawing", None)
    watched = [partial(_count, mode, progress) for progress in counted]
    return lab.import_data(source, name, progress=watched[0], drawing=watched[1], **options)


def _methods(lab: Any, mode: Mode, owner: str) -> list[dict]:
    return [row for row in lab.methods() if mode.slow_maps or not row["slow"]]


def _explain(lab: Any, mode: Mode, owner: str, image: Path, name: str, **options) -> dict:
    slow = {row["name"] for row in lab.methods() if row["slow"]}
    if not mode.slow_maps and options.get("method") in slow:
        raise BadInput(f"{options['method']} takes minutes, and here others wait: use another.")
    return lab.explain(image, name, **options)


def _similarity(lab: Any, mode: Mode, owner: str, name: str, *chosen, **options) -> dict:
    """Within the images a mode allows; what the verb would take unasked is cut to them."""
    if most := mode.inspected_images:
        if options.setdefault("images", most) > most:
            raise BadInput(f"Here {most} images at most are looked at, not {options['images']}.")
    return lab.similarity(name, *chosen, **options)


def _average(lab: Any, mode: Mode, owner: str, *arguments, **options) -> dict:
    _may_store(lab, mode)
    return lab.average(*arguments, **options)


LIMITED: dict[str, Callable] = {
    "enqueue": _enqueue,
    "resume": _resume,
    "watch": _watch,
    "estimate": _estimate,
    "fetch": _fetch,
    "import_data": _import_data,
    "methods": _methods,
    "explain": _explain,
    "similarity": _similarity,
    "average": _average,
}
LOOKS = {"methods", "explain", "watch"}  # which whoever is unknown may do
CHANGES = {*LIMITED, "ask", "work", "stop", "delete", "deletable", "start_worker"} - LOOKS


# --- the limits ----------------------------------------------------------------------------------


def _may_train(lab: Any, mode: Mode, question: Question) -> None:
    """Whether a question is small enough, and needs no download."""
    if not mode.downloads and question.weights != "random":
        for backbone in question.backbones:
            if not lab.weights_state(backbone)["ready"]:
                _fetch(lab, mode, "", backbone)
    side = question.settings.size
    if mode.image_px and side > mode.image_px:
        raise BadInput(
            f"Here a study trains at {mode.image_px} pixels at most, and this one asks for {side}."
        )
    epochs = _epochs(lab, question)
    if mode.study_epochs and epochs > mode.study_epochs:
        raise BadInput(
            f"Here a study may train {mode.study_epochs} epochs in all, and this one asks for "
            f"{epochs}: choose fewer strategies, seeds or epochs."
        )


def _epochs(lab: Any, question: Question) -> int:
    """The epochs of all runs of the study that a question makes or extends.

    As many as a search may train, and candidates for the learning rate are included.
    """
    from .tuning import GRID

    folder, study, _ = asking.asked(question, lab.home)
    names = set(study.strategies)
    if question.search:
        names |= {*search.at_most(question.search, lab.layout(question.backbones[0]))}
    elif found := search.read(folder, study):  # which goes on with what is asked for now
        names |= {*search.at_most(found.search, found.layout)}
    cells = len(study.backbones) * len(names)
    tuned = study.settings.lr == "auto"
    runs = cells * (len(study.seeds) + (len(GRID) - 1) * tuned)
    return runs * study.settings.epochs


def _may_wait(lab: Any, mode: Mode, owner: str) -> None:
    waiting = sum(row["owner"] == owner for row in queue.listed(lab.home))
    if mode.waiting_studies and waiting >= mode.waiting_studies:
        have = "one study waits or runs" if waiting == 1 else f"{waiting} studies wait or run"
        raise BadInput(f"Of yours {have} already: let it end, or stop it, first.")


def _may_store(lab: Any, mode: Mode) -> None:
    if mode.stored_bytes and homes.stored_bytes(lab.home) >= mode.stored_bytes:
        limit = console.amount(mode.stored_bytes) + "B"
        raise BadInput(f"Your data sets and studies fill your {limit}: delete some first.")


def _count(mode: Mode, progress: Callable | None, done: int, total: int) -> None:
    if mode.dataset_images and total > mode.dataset_images:
        raise BadInput(
            f"Here a data set holds {mode.dataset_images} images at most, and this one has {total}."
        )
    if progress:
        progress(done, total)
