"""The app's public endpoints, for gradio_client and curl; every other event is the page's own.

Annotations are no strings here: Gradio reads what a function returns off it as it stands.
"""

import logging
import re
from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta
from PIL import Image

from ..records import BadInput, Question, Settings
from . import words
from .parts import cache_folder

REFERENCE = "reference"  # the study that comes with ftlab
ARRAYS = ("saliency", "overlay")  # of an explained run, not fit for JSON
KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {  # what a caller may send
    str: (lambda value: isinstance(value, str), "a text"),
    int: (lambda value: type(value) is int, "a whole number"),
    list[str]: (
        lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
        "a list of texts",
    ),
    # Gradio makes sure that the path of such a file is an upload, and of such a file only.
    gr.FileData: (is_file_obj_with_meta, "an uploaded file (gradio_client: handle_file)"),
}
log = logging.getLogger("ftlab.ui")


def publish(demo: gr.Blocks, lab: Any) -> None:
    """Make the endpoints those of `demo`, in whose context this is called last.

    All events made before become private and lose their names, so that none takes an endpoint's.
    """
    for number, event in demo.fns.items():
        event.api_visibility, event.api_name = "private", f"page_{number}"
    for function in _of_images(lab):
        _publish(function, concurrency_id="networks", concurrency_limit=1)
    for function in _of_studies(lab):
        _publish(function, concurrency_limit=4)


def _publish(function: Callable, **concurrency) -> None:
    gr.api(_checked(function), api_name=function.__name__, **concurrency)


def _of_images(lab: Any) -> tuple[Callable, ...]:
    def predict(image: gr.FileData, study: str = REFERENCE) -> dict:
        """Class probabilities of an image by every finished run of a study.

        image is an uploaded PNG, JPEG, TIFF or DICOM file: handle_file(path) in gradio_client.
        Answers {classes: [name], without_weights: [run], images: [{file, notes, runs: [{run,
        strategy, backbone, probs: [p]}]}]}.
        """
        answer = lab.predict([Path(image["path"])], study)
        return answer | {"images": [i | {"file": _name(image)} for i in answer["images"]]}

    def explain(
        image: gr.FileData, study: str = REFERENCE, method: str = "gradcam", target: str = ""
    ) -> dict:
        """Where every finished run of a study looks in an image.

        image is as for /predict. target is the class to explain; empty, it is the one the runs
        prefer on average. method is gradcam, gradcam++, hirescam, layercam, eigencam, scorecam or
        ablationcam. Answers {classes, target, file, notes, runs: [{run, strategy, backbone, probs,
        target, raw, native, overlay}]}; overlay is a PNG file, the image under the map on its own
        scale; raw are the map's least and largest value, native its size before it was stretched.
        """
        answer = lab.explain(Path(image["path"]), study, method=method, target=target or None)
        return answer | {"file": _name(image), "runs": [_run(run) for run in answer["runs"]]}

    return predict, explain


def _of_studies(lab: Any) -> tuple[Callable, ...]:
    def start(
        dataset: str,
        backbone: str,
        strategies: list[str],
        epochs: int = 10,
        seeds: int = 3,
    ) -> dict:
        """Queue a study and answer {study}, the name to ask its status by.

        strategies are names as /strategies lists them, or "all", or "davila"; seeds is how many.
        A study that was stopped goes on when it is started again.
        """
        if seeds < 1:
            raise BadInput(f"seeds is at least 1, not {seeds}.")
        question = Question(dataset, [backbone], strategies, range(seeds), Settings(epochs=epochs))
        return {"study": lab.enqueue(question)}

    def status(study: str) -> dict:
        """How far a study is and what it says so far.

        Answers {study, state, epochs_done, epochs, seconds_left, runs, leaderboard}.
        """
        return lab.status(study)

    def stop(study: str) -> dict:
        """Stop a study; what is done is kept. Answers {study, stopped: was anybody at work?}."""
        return {"study": study, "stopped": lab.stop(study)}

    def studies() -> list[dict]:
        """All studies: [{study, data, classes, backbones, strategies, seeds, state}]."""
        return lab.studies()

    def strategies() -> list[dict]:
        """All fine-tuning strategies: [{name, source, summary}]."""
        return lab.strategies()

    return start, status, stop, studies, strategies


def _checked(function: Callable) -> Callable:
    """Refuse arguments of another kind than annotated, and let errors end in one sentence.

    Unlike `parts.told` it does not escape the sentence: no page shows it.
    """
    kinds = {n: p.annotation for n, p in signature(function).parameters.items()}

    @wraps(function)
    def run(*values):
        try:
            for value, (name, kind) in zip(values, kinds.items(), strict=True):
                fits, called = KINDS.get(kind, (lambda _: True, ""))
                if not fits(value):
                    raise BadInput(f"{name} is {called}, not {str(value)[:40]!r}.")
            return function(*values)
        except BadInput as error:
            raise _refusal(re.sub(r"--(?=\w)", "", str(error))) from None
        except Exception:
            log.exception("/%s failed", function.__name__)
            raise _refusal(words.FAILED) from None

    return run


def _refusal(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)


def _name(image: dict) -> str:
    """What the caller calls the file."""
    return image.get("orig_name") or Path(image["path"]).name


def _run(run: dict) -> dict:
    """An explained run with its overlay as a file of the app's cache.

    A file of its own: Gradio would write the same picture into the same file again, while somebody
    else is reading it.
    """
    name = run["run"].replace("/", "-")
    path = cache_folder() / f"{name}.png"
    Image.fromarray(run["overlay"]).save(path)
    file = gr.FileData(path=str(path), orig_name=path.name, mime_type="image/png").model_dump()
    return {key: value for key, value in run.items() if key not in ARRAYS} | {"overlay": file}
