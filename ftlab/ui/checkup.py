"""What is known of a data set, as HTML: its counts, what the checks found, and a few images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from .text import NONE, esc, term

SPLITS = {"train": "training", "val": "validation", "test": "test"}
SHOWN = 5  # skipped files named before the rest is folded away
SOURCES = {
    "folder": "a folder",
    "zip": "a zip",
    "npz": "an .npz file",
    "hub": "the Hugging Face hub",
}
OPTIONS = (  # what sentences written for the command line say on the page
    (r"with --labels FILE\.csv", "under “Table of labels”"),
    (r"--labels, --group-pattern and all --…-column", "the table of labels"),
    (r"--per-class", "“Images per class”"),
    (r", or say with --group-pattern [^;]+; else", ", or"),
    (r"with --(\w)(\w+)-column", lambda m: f"in the field “{m[1].upper()}{m[2]} column”"),
    (r", or widen test in --fractions", ""),
    (r"with another --name", "under another “Name”"),
    (r"`ftlab stop \S+` first", "stop it first, under “Studies”"),
    (
        r"`ftlab status \S+` shows how far it is, `ftlab stop \S+` stops it",
        "“Studies” shows how far it is, and stops it",
    ),
    (r"; `ftlab studies` lists them", ""),
    (r"; see `ftlab status`|: `ftlab runs`", ""),
    (r"import one with `ftlab import SOURCE NAME`", "the Data tab imports one"),
    (r"the same command goes on", "“Resume” goes on"),
)


def on_page(sentence: str) -> str:
    """A sentence of the lab with the page's fields in the place of command line options."""
    for option, words in OPTIONS:
        sentence = re.sub(option, words, sentence)
    return sentence


def report(found: Mapping) -> str:
    """The check report; `found` as `lab.check` gives it."""
    return (
        f'<section class="ft-checkup"><h2>{esc(found["name"])}</h2>'
        f'<p class="ft-verdict">{_summary(found)}</p>'
        f"{_warnings(found['warnings'])}{_balance(found)}{_independence(found)}"
        f"{_notes(found['notes'])}{_skipped(found['skipped'])}</section>"
    )


def _summary(found: Mapping) -> str:
    kind, _, modality = found["source"].partition(":")
    origin = SOURCES.get(kind, kind)
    if kind == "phantom":
        origin = f"phantoms ({modality}): synthetic, drawn by ftlab, no patient"
    said = f"{_count(found['images'], 'image')} of {len(found['classes'])} classes"
    return f'{said} <span class="ft-muted">from {esc(origin)}</span>'


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return '<p class="ft-good">The checks found nothing to warn of.</p>'
    items = "".join(f"<li>{esc(on_page(warning))}</li>" for warning in warnings)
    heading = "One warning" if len(warnings) == 1 else f"{len(warnings)} warnings"
    return f'<div class="ft-warnings"><h3>{heading}</h3><ul>{items}</ul></div>'


def _balance(found: Mapping) -> str:
    """A table of images by class and split, with a bar a class: each split a part of its length."""
    by_split = found["classes_by_split"]
    most = max(found["classes"].values())
    heads = "".join(
        f'<th scope="col" class="ft-number"><span class="ft-key ft-{split}"></span>{words}</th>'
        for split, words in SPLITS.items()
    )
    rows = []
    for name, n in found["classes"].items():
        counts = {split: by_split[split][name] for split in SPLITS}
        parts = "".join(
            f'<span class="ft-{split}" style="width:{100 * count / most:.2f}%"></span>'
            for split, count in counts.items()
        )
        cells = "".join(f'<td class="ft-number">{count}</td>' for count in counts.values())
        rows.append(
            f'<tr><th scope="row">{esc(name)}</th>'
            f'<td class="ft-balance" aria-hidden="true"><div>{parts}</div></td>{cells}'
            f'<td class="ft-number">{n}</td></tr>'
        )
    sums = "".join(f'<td class="ft-number">{found["splits"][split]}</td>' for split in SPLITS)
    return (
        f'<div class="ft-scroll"><table class="ft-table"><caption>Images of each class in each '
        f"{term('split')}: the bar’s length is the class’s size</caption><thead><tr>"
        f'<th scope="col">class</th><td class="ft-balance"></td>{heads}'
        f'<th scope="col" class="ft-number">all</th></tr></thead><tbody>{"".join(rows)}</tbody>'
        f'<tfoot><tr><th scope="row">all classes</th><td></td>{sums}'
        f'<td class="ft-number">{found["images"]}</td></tr></tfoot></table></div>'
    )


def _independence(found: Mapping) -> str:
    """Groups and duplicates in two sentences: why a test image is news to who has trained."""
    copies = found["duplicates"]
    if found["groups"] is None:
        groups = f"No {term('group', 'groups')} are known: every image counts as its own."
    else:
        groups = (
            f"{_count(found['groups'], 'group')} of images that belong together "
            f"({term('group', 'patient, lesion or video')})."
        )
    pairs = "No duplicates among the images."
    if copies["exact"] or copies["near"]:
        pairs = (
            f"{_count(copies['exact'], 'pair')} of images are equal in every pixel and "
            f"{copies['near']} nearly so, {copies['across_splits']} of them across splits and "
            f"{copies['differing_labels']} with different labels."
        )
    return f"<h3>Groups and duplicates</h3><p>{groups} {pairs}</p>"


def _notes(notes: Mapping[str, int]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{esc(note)}: {_count(n, 'image')}</li>" for note, n in notes.items())
    return f"<h3>How images were read</h3><ul>{items}</ul>"


def _skipped(skipped: Sequence[Mapping]) -> str:
    """Every file that was left out with its reason, the first ones in sight."""
    if not skipped:
        return ""
    first, rest = _files(skipped[:SHOWN]), ""
    if more := skipped[SHOWN:]:
        rest = f"<details><summary>{len(more)} more</summary>{_files(more)}</details>"
    return f"<h3>{_count(len(skipped), 'file')} skipped</h3>{first}{rest}"


def _files(skipped: Iterable[Mapping]) -> str:
    rows = "".join(
        f'<tr><td class="ft-file">{esc(row["file"])}</td><td>{esc(row["reason"])}</td></tr>'
        for row in skipped
    )
    return (
        f'<div class="ft-scroll"><table class="ft-table"><thead><tr><th scope="col">file</th>'
        f'<th scope="col">why</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def samples(images: Sequence[Mapping]) -> str:
    """A grid of images; each {uri, label, split}."""
    figures = "".join(
        f'<figure><img src="{image["uri"]}" loading="lazy" '
        f'alt="{esc(image["label"])}, a {SPLITS.get(image["split"], NONE)} image">'
        f'<figcaption>{esc(image["label"])} <span class="ft-muted">'
        f"{SPLITS.get(image['split'], NONE)}</span></figcaption></figure>"
        for image in images
    )
    return f'<h3>A sample of its images</h3><div class="ft-samples">{figures}</div>'
