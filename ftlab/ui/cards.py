"""The Compare tab's HTML: one card per strategy, the sentence above them and the tables below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from . import pictures
from .parts import NONE, duration, esc, interval, percent, term

BIG = (  # a card's button: let it fill the row, with the slider, and back
    "const card = this.closest('.ft-card'), big = card.classList.toggle('ft-big');"
    "this.setAttribute('aria-expanded', big); this.textContent = big ? 'Smaller' : 'Enlarge';"
    "if (big) card.scrollIntoView({block: 'nearest', behavior: 'smooth'})"
)
PICKED = """element.addEventListener('click', event => {
    const row = event.target.closest('[data-row]');
    if (!row) return;
    for (const other of element.querySelectorAll('[data-row]')) {
        other.classList.toggle('ft-chosen', other === row);
        other.querySelector('button').setAttribute('aria-pressed', other === row);
    }
    trigger('select', {index: Number(row.dataset.row), value: null});
})"""  # a line of the table of images: its button, or anywhere on it
CUT = "this.closest('.ft-card').style.setProperty('--ft-cut', this.value + '%')"


def toolbar() -> str:
    """How the maps lie over the images; the browser's business alone, so no map is made again."""
    opacity = (
        "document.body.style.setProperty('--ft-opacity', this.value / 100);"
        "this.nextElementSibling.value = this.value + ' %'"
    )
    scales = "".join(
        f'<label><input type="radio" name="ft-scale" {checked} '
        f"onchange=\"document.body.dataset.ftScale = '{value}'\"> {shown}</label>"
        for value, shown, checked in (
            ("own", "each map its own", "checked"),
            ("shared", "one for all", ""),
        )
    )
    return (
        '<div class="ft-toolbar"><label>Opacity of the maps <input type="range" min="0" max="100" '
        f'step="5" value="80" oninput="{opacity}"><output>80 %</output></label>'
        f"<fieldset><legend>Colour scale</legend>{scales}</fieldset>"
        '<label><input type="checkbox" checked onchange="document.body.dataset.ftOutline = '
        'this.checked"> Outline the lesion, where known</label></div>'
    )


def who_votes(runs: Sequence[Mapping]) -> str:
    """What those who vote are called: of several backbones a strategy has a network each."""
    return "networks" if len({run["backbone"] for run in runs}) > 1 else "strategies"


def consensus(found: Mapping, truth: str | None, voters: str = "strategies") -> str:
    """What the runs say together, in one sentence; `found` as `lab.consensus` gives it."""
    agree, of = found["agree"], found["of"]
    who = "The one strategy" if of == 1 else f"All {of} {voters}" if agree == of else None
    who = who or f"{agree} of {of} {voters}"
    verb = "says" if agree == 1 else "say"
    said = f"{who} {verb} <strong>{esc(found['class'])}</strong>"
    parts = [f"{said}, mean {term('probability')} {percent(found['mean_probability'], 0)}"]
    if found.get("more_than") is not None and of > 1:
        parts.append(
            f"they {term('disagreement', 'disagree')} more than on "
            f"{percent(found['more_than'], 0)} of the test images"
        )
    label = ""
    if truth is not None:
        right = truth == found["class"]
        mark = "ft-good" if right else "ft-bad"
        label = f' <span class="{mark}">The label says {esc(truth)}.</span>'
    return f'<p class="ft-verdict">{", ".join(parts)}.{label}</p>'


def original(
    pixels: np.ndarray, caption: str, mask: np.ndarray | None, notes: Sequence[str]
) -> str:
    """The image itself with what is known of it; mask (H, W) bool is outlined on demand."""
    ratio = f"{pixels.shape[1]}/{pixels.shape[0]}"
    said = "".join(f'<p class="ft-muted">{esc(_sentence(note))}</p>' for note in notes)
    outlined = (
        "" if mask is None else f'<img class="ft-mask" src="{pictures.outline(mask)}" alt="">'
    )
    return (
        f'<figure class="ft-original"><div class="ft-picture" style="--ft-ratio:{ratio}">'
        f'<img src="{pictures.photo(pixels)}" alt="{esc(caption)}">{outlined}</div>'
        f"<figcaption>{esc(caption)}</figcaption>{said}</figure>"
    )


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:] + "."


def grid(
    rows: Sequence[Mapping], pixels: np.ndarray, mask: np.ndarray | None, truth: str | None
) -> str:
    """All cards, in the rows' order.

    A row: {strategy, backbone, summary, classes, probs, target, method, method_summary,
    map (H, W) in [0, 1], peak (its largest value before scaling), native (h, w), inside (share of
    the map inside the mask) or None, test (an interval), seconds}.
    """
    most = max((row["peak"] for row in rows), default=0) or 1
    several = len({row["backbone"] for row in rows}) > 1
    height, width = pixels.shape[:2]
    style = (
        f"--ft-photo:url({pictures.photo(pixels)});--ft-ratio:{width}/{height};"
        f"--ft-outline:{'none' if mask is None else f'url({pictures.outline(mask)})'}"
    )
    cards = "".join(_card(row, most, several, truth) for row in rows)
    return f'{_legend(rows)}<div class="ft-cards" style="{style}">{cards}</div>'


def _legend(rows: Sequence[Mapping]) -> str:
    row, targets = rows[0], {row["target"] for row in rows}
    sizes = dict.fromkeys("{1} × {0}".format(*row["native"]) for row in rows)
    target = row["classes"][row["target"]] if len(targets) == 1 else "each strategy's own class"
    own, shared = term("own scale", "its own scale"), term("shared scale", "one scale for all")
    return (
        f'<div class="ft-legend"><span>{term("saliency map", "Maps")} of what speaks for '
        f"<strong>{esc(target)}</strong>, made of {' or '.join(sizes)} places by {_method(row)}, "
        f'each on <span class="ft-when-own">{own}</span>'
        f'<span class="ft-when-shared">{shared}</span></span>'
        f'<span>none <i style="background:{pictures.gradient()}" aria-hidden="true"></i> '
        "most evidence</span></div>"
    )


def _method(row: Mapping) -> str:
    tip = f'<span class="ft-tip" role="tooltip">{esc(row["method_summary"])}</span>'
    return f'<span class="ft-term" tabindex="0">{esc(row["method"])}{tip}</span>'


def _card(row: Mapping, most: float, several: bool, truth: str | None) -> str:
    best = int(np.argmax(row["probs"]))
    predicted, probability = row["classes"][best], row["probs"][best]
    name = esc(row["strategy"])
    return (
        f'<article class="ft-card" aria-label="{name}"><header><h3>{name}'
        f"{_about(row, several)}</h3>{_agreement(predicted, truth)}</header>{_figure(row, most)}"
        f'<div class="ft-told"><p class="ft-predicted"><strong>{esc(predicted)}</strong>'
        f"<span>{percent(probability)}</span></p>"
        f'<div class="ft-bar" aria-hidden="true"><span style="width:{100 * probability:.1f}%">'
        f"</span></div>{_facts(row)}"
        f'<button type="button" class="ft-enlarge" aria-expanded="false" onclick="{BIG}" '
        f'title="{name}: enlarge, with a slider between the original and the map">Enlarge</button>'
        "</div></article>"
    )


def _about(row: Mapping, several: bool) -> str:
    backbone = f" <small>{esc(row['backbone'])}</small>" if several else ""
    if not row["summary"]:
        return backbone
    return (
        f'{backbone} <span class="ft-term ft-info" tabindex="0" aria-label="What is '
        f'{esc(row["strategy"])}?">?<span class="ft-tip" role="tooltip">{esc(row["summary"])}'
        "</span></span>"
    )


def _agreement(predicted: str, truth: str | None) -> str:
    if truth is None:
        return ""
    if predicted == truth:
        return '<span class="ft-mark ft-good">✓ as labelled</span>'
    return '<span class="ft-mark ft-bad">✗ not as labelled</span>'


def _figure(row: Mapping, most: float) -> str:
    target = row["classes"][row["target"]]
    silent = row["peak"] <= 0
    where = "no evidence anywhere" if silent else f"strongest {pictures.place(row['map'])}"
    alt = esc(f"{row['method']} of {row['strategy']} for {target}: {where}")
    own, shared = pictures.layer(row["map"]), pictures.layer(row["map"] * row["peak"] / most)
    note = f'<span class="ft-note">no evidence for {esc(target)}</span>' if silent else ""
    return (
        '<div class="ft-picture">'
        f'<img class="ft-own" src="{own}" alt="{alt}">'
        f'<img class="ft-shared" src="{shared}" alt="{alt}, on the scale of all cards">'
        f'<div class="ft-outline"></div>{note}'
        f'<input class="ft-slide" type="range" min="0" max="100" value="50" oninput="{CUT}" '
        f'aria-label="Per cent of the width shown without the map of {esc(row["strategy"])}">'
        "</div>"
    )


def _facts(row: Mapping) -> str:
    facts = [(term("balanced accuracy", "Balanced accuracy") + " on test", interval(row["test"]))]
    if row.get("inside") is not None:
        facts.append(("Evidence inside", percent(row["inside"], 0)))
    facts.append(("Trained in", duration(row["seconds"])))
    lines = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f'<dl class="ft-facts">{lines}</dl>'


# --- tables --------------------------------------------------------------------------------------


def heat_table(rows: Sequence[Mapping]) -> str:
    """Strategies x classes: the probabilities, the deeper the higher, each row's largest bold."""
    classes = rows[0]["classes"]
    mean = np.mean([row["probs"] for row in rows], axis=0).tolist()
    several = len({row["backbone"] for row in rows}) > 1
    lines = [(named(row, several), row["probs"]) for row in rows] + [("mean", mean)]
    head = "".join(f'<th scope="col" class="ft-number">{esc(name)}</th>' for name in classes)
    body = "".join(_heat_line(name, probs) for name, probs in lines)
    return (
        '<div class="ft-scroll" tabindex="0"><table class="ft-table ft-heat"><caption>Probability '
        "of each class by strategy; each row sums to 100 %.</caption>"
        f'<thead><tr><th scope="col">strategy</th>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def named(row: Mapping, several: bool) -> str:
    """A row's strategy, with its backbone where there are several."""
    return f"{row['strategy']} · {row['backbone']}" if several else row["strategy"]


def _heat_line(name: str, probs: Sequence[float]) -> str:
    best = int(np.argmax(probs))
    cells = "".join(
        f'<td class="ft-number" style="--ft-p:{100 * p:.0f}%">'
        f"{f'<strong>{percent(p)}</strong>' if i == best else percent(p)}</td>"
        for i, p in enumerate(probs)
    )
    return f'<tr><th scope="row">{esc(name)}</th>{cells}</tr>'


def batch_table(
    rows: Sequence[Mapping], skipped: Sequence[tuple[str, str]], voters: str = "strategies"
) -> str:
    """One line an image: {file, class, agree, of, mean_probability, disagreement}; then why not.

    A line can be picked, as `PICKED` tells the page.
    """
    body = "".join(
        f'<tr data-row="{number}"><th scope="row"><button type="button" aria-pressed="false">'
        f"{esc(row['file'])}</button></th><td>{esc(row['class'])}</td>"
        f'<td class="ft-number">{row["agree"]} of {row["of"]}</td>'
        f'<td class="ft-number">{percent(row["mean_probability"])}</td>'
        f'<td class="ft-number">{_share(row.get("more_than"))}</td></tr>'
        for number, row in enumerate(rows)
    )
    left_out = "".join(f"<li>{esc(name)}: {esc(reason)}</li>" for name, reason in skipped)
    left_out = left_out and f'<p class="ft-bad">Left out:</p><ul class="ft-muted">{left_out}</ul>'
    return (
        f'<div class="ft-scroll ft-batch"><table class="ft-table"><caption>What the {voters} say '
        f"of {len(rows)} images. Choose one to see it compared below.</caption><thead><tr>"
        '<th scope="col">image</th><th scope="col">most say</th>'
        f'<th scope="col" class="ft-number">{voters}</th>'
        '<th scope="col" class="ft-number">mean probability</th>'
        f'<th scope="col" class="ft-number">test images with less {term("disagreement")}</th>'
        f"</tr></thead><tbody>{body}</tbody></table></div>{left_out}"
    )


def _share(fraction: float | None) -> str:
    return NONE if fraction is None else percent(fraction, 0)
