"""The app's sentences: what each term means, what an empty page says, how an error ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from . import drawing

if TYPE_CHECKING:
    from ..modes import Mode
    from ..records import Layout

NOT_A_DEVICE = (
    "ftlab is for research and teaching. It is not a medical device: never use it to diagnose."
)
FAILED = "Something went wrong inside ftlab; the log has the details."

TERMS = {  # one sentence each; tabs show them on hover, on focus and in the list of words
    "accuracy": "Share of test images whose most probable class is the true one.",
    "AUROC": (
        "Area under the ROC curve: how often a random image of a class gets a higher probability "
        "for it than a random image of another; 50 % is chance."
    ),
    "average precision": (
        "Area under the precision-recall curve of the class looked for; with more than two classes "
        "the mean over them."
    ),
    "backbone": "The pretrained network that turns an image into features; the head sits on it.",
    "balanced accuracy": (
        "The mean over classes of the share of their test images found, so that a rare class "
        "counts as much as a common one."
    ),
    "calibration": "Whether predictions made with 80 % probability are right 80 % of the time.",
    "CKA": (
        "How alike two networks see the same images, up to rotation and scale: 1 for the same, "
        "about 0 for nothing in common (Kornblith et al. 2019)."
    ),
    "confidence interval": (
        "95 % of intervals made this way hold the true value; it covers both the seeds and the "
        "choice of test images, of one seed or of an ensemble the test images alone."
    ),
    "consensus": "The class most strategies predict, and how many of them do.",
    "disagreement": (
        "How far the strategies' probabilities lie apart for this image: 0 % if all give the "
        "same, 100 % if each is sure of another class."
    ),
    "drift": "How far weights moved: |w - w₀| / |w₀|, with w₀ as they were before training.",
    "ECE": (
        "Expected calibration error: the mean gap between stated probability and share of right "
        "predictions; 0 % is best."
    ),
    "epoch": "One pass over all training images.",
    "flip": "A test image that one strategy gets right and another wrong.",
    "frozen": "Without a learning rate: neither weights nor BatchNorm's statistics move.",
    "Grad-CAM": (
        "A saliency map: where the last feature maps push the explained class up, weighted by "
        "the gradients of its score (Selvaraju et al. 2017)."
    ),
    "group": "Images of one patient, lesion or video, which splits that are made here never part.",
    "head": "The new linear classifier on top of the backbone.",
    "learning rate": (
        "How far the weights move per training step: what has none is frozen, and what is shown is "
        "that of a strategy's first phase, a tenth of which lp_ft fine-tunes at."
    ),
    "opacity": "How strongly the map covers the image.",
    "own scale": (
        "Each map fills the colour scale from its own smallest to its own largest value: shows "
        "where, not how much."
    ),
    "phase": "A part of the training in which the same stages learn at the same rates.",
    "probability": "What the run's softmax gives the class; the classes of an image sum to 100 %.",
    "rate rule": (
        "What rescales each layer's learning rate before every epoch, from its gradients: Auto-RGN "
        "or Auto-SNR."
    ),
    "run": "One training of one strategy with one seed.",
    "saliency map": "Which parts of the image speak for the explained class, by a CAM method.",
    "seed": "The number all randomness starts from; several seeds show how much chance matters.",
    "sensitivity": "Share of the images of a class that are found.",
    "shared scale": (
        "All maps use one colour scale, up to the largest value of any: a pale map has weaker "
        "evidence than a bright one."
    ),
    "specificity": "Share of the images not of a class that are rightly not given it.",
    "split": "Training images fit the weights, validation picks the best epoch, test is read once.",
    "stage": "A named group of the backbone's layers; strategies say which stages learn when.",
    "strategy": "Which parts of the pretrained network learn when, at which rate.",
    "study": "Runs that belong together: one data set, some backbones, strategies and seeds.",
    "SVCCA": (
        "How much of what a stage sees is a linear map of what the other network's sees, above "
        "what unrelated networks would give: 0 is no more than by chance (Raghu et al. 2017)."
    ),
    "WiSE-FT": (
        "The average of the weights of a fine-tuned network and of the pretrained one under a "
        "linear probe's head, α being the fine-tuned share (Wortsman et al. 2022)."
    ),
}

MODALITIES = {
    "chest_xray": "chest X-ray",
    "brain_mri": "brain MRI",
    "histology": "histology",
    "dermoscopy": "dermoscopy",
    "endoscopy": "endoscopy",
}


def header(mode: Mode) -> str:
    """HTML of the line above the tabs; it says whose app this is where several people use it."""
    whose = ""
    if mode.name == "classroom":
        whose = '<p class="ft-whose">Classroom <a href="logout">Log out</a></p>'
    elif mode.name == "public":
        hours = f"{mode.idle_hours:g} hours"
        whose = f'<p class="ft-whose">Public: your data is deleted after {hours} without you</p>'
    return (
        '<header class="ft-header"><h1>ftlab</h1>'
        "<p>Which fine-tuning strategy, and what does it change?</p>"
        f'{whose}<p class="ft-device">Not a medical device</p></header>'
    )


def footer(
    strategies: Iterable[Mapping], plans: Sequence[Mapping] = (), layout: Layout | None = None
) -> str:
    """HTML of the line under every tab, and of all words on one click.

    Args:
        strategies: as `lab.strategies`. plans: as `lab.plan`, to be drawn beside them; layout: of
            the backbone they are for.
    """
    scale = drawing.Scale(plans)
    drawn = {plan["strategy"]: drawing.picture(plan, layout, scale) for plan in plans}
    terms = "".join(_entry(word, escape(TERMS[word])) for word in sorted(TERMS, key=str.lower))
    known = "".join(_entry(row["name"], _about(row, drawn)) for row in strategies)
    key = drawing.legend(plans, scale) if plans else ""
    return (
        f'<footer class="ft-footer">{drawing.PATTERNS}<p>{NOT_A_DEVICE}</p><details><summary>What '
        f'the words mean</summary><div class="ft-words"><section><h2>Strategies</h2>{key}'
        f'<dl class="ft-known">{known}</dl></section><section><h2>Words</h2><dl>{terms}</dl>'
        "</section></div></details></footer>"
    )


def _entry(word: str, meaning: str) -> str:
    return f"<div><dt>{escape(word)}</dt><dd>{meaning}</dd></div>"


def _about(row: Mapping, drawn: Mapping[str, str]) -> str:
    """HTML of what a strategy does: a sentence, an equation, the picture of its plan, papers."""
    formula = row.get("equation") and f"<code>{escape(drawing.equation(row['equation']))}</code>"
    return (
        f"<p>{escape(drawing.sentence(row['summary']))}.</p>{formula or ''}"
        f"{drawn.get(row['name'], '')}"
        f'<p class="ft-muted">{escape(row["source"])}</p>'
    )
