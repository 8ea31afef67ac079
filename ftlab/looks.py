"""Where a study's runs look: what their maps.json say together, with intervals.

energy      the share of a map's evidence that lies in the lesion (Wang et al. 2020, energy-based
            pointing game); a map of zeros has none there.
pointing    whether its peak does (Zhang et al. 2018, without tolerance).
road        how much more a probability falls when the places of most evidence go than when those
            of least do (Rong et al. 2022; `ftlab.explain.road`).
agreement   of two runs: Pearson's correlation of their maps of one image (CC in Bylinskii et al.
            2019), both stretched to GRID x GRID; 0 for a map that is even. Images have their layout
            in common, so `unpaired` is the same where each image meets another's map.

All maps are of the true class.
"""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean

import numpy as np
from PIL import Image

from . import files, runs, statistics, studies
from .studies import Cell, Study

FILE = "maps.json"
SCORES = ("energy", "pointing", "road")
IMAGES, ROAD = 120, 20  # looked at unless told otherwise
GRID = 28  # places a side, four times those of most networks at 224 pixels
PAIRS = 4  # of strategies that a rank correlation wants


def read(folder: Path, study: Study, asked: Mapping | None = None) -> dict[Cell, dict]:
    """The maps.json of finished runs that were asked for these maps, else for what most were."""
    found = {
        cell: kept
        for cell in studies.cells(study)
        if cell.finished(folder) and (kept := files.read_json(folder / cell.name / FILE))
    }
    if not asked and found:
        each = Counter(tuple(kept["asked"].items()) for kept in found.values())
        asked = dict(each.most_common(1)[0][0])
    return {cell: kept for cell, kept in found.items() if kept["asked"] == asked}


def about(found: Mapping[Cell, Mapping]) -> dict | None:
    """{method, images, road_images, share: the lesion's of an image or None} of maps, if any."""
    if not found:
        return None
    kept = next(iter(found.values()))
    share = fmean(kept["share"]) if kept["share"] else None
    counts = {"images": len(kept["index"]), "road_images": len(kept["road"]["index"])}
    return {"method": kept["asked"]["method"], **counts, "share": share}


def scores(folder: Path, kept: Mapping[Cell, Mapping]) -> dict[str, dict | None]:
    """SCORES of a strategy's runs as `statistics.mean_interval`; None where there is nothing."""
    if not kept:
        return dict.fromkeys(SCORES)
    first, one = next(iter(kept.items()))
    index = {name: one["index"] for name in SCORES} | {"road": one["road"]["index"]}
    found: dict[str, dict | None] = {}
    for name in SCORES:
        values = [own["road"]["score"] if name == "road" else own[name] for own in kept.values()]
        groups = _groups(folder, first, index[name])
        enough = values[0] is not None and len(np.unique(groups)) > 1
        lowest = -1.0 if name == "road" else 0.0
        of = np.array(values, float) if enough else None
        found[name] = statistics.mean_interval(of, groups, lowest) if enough else None
    return found


def _groups(folder: Path, cell: Cell, index: Sequence[int]) -> np.ndarray:
    """The groups (n,) of images of the test split, by their places in the data set."""
    test = runs.predictions(folder / cell.name)
    place = {int(each): at for at, each in enumerate(test["index"])}
    return test["group"][[place[each] for each in index]]


def answer(folder: Path, asked: Mapping) -> dict:
    """What the maps of a study's runs say; see `ftlab.looking.look` for what is asked.

    Returns:
        {study, data, classes, method, images, road_images, share, rows, agreement, alike,
        without_weights: [run]}
        rows: [{backbone, strategy, seeds, size: [h, w], balanced_accuracy: mean of these runs,
        energy, pointing, road: {mean, low, high, sd, seeds, images} or None}], best first.
        agreement: [{backbone, a, b, seeds, agreement: as above, unpaired, difference: |balanced
        accuracy of a - of b|}], the most alike first; where a is b, of the pairs of its seeds.
        alike: {backbone: Spearman's correlation of difference and agreement over the pairs of
        different strategies, None for fewer than PAIRS and where all differ, or look, alike}; below
        0 those that score alike look alike.
    """
    study = studies.read(folder)
    found = read(folder, study, asked)
    rows, pairs, alike = [], [], {}
    for backbone in study.backbones:
        kept: dict[str, dict[Cell, dict]] = {}
        for cell in found:
            if cell.backbone == backbone:
                kept.setdefault(cell.strategy, {})[cell] = found[cell]
        rows += [_row(folder, own) for own in kept.values()]
        pairs += (own := _pairs(folder, kept))
        alike[backbone] = _alike([pair for pair in own if pair["a"] != pair["b"]])
    return {
        **{"study": study.name, "data": study.data, "classes": list(study.classes)},
        **about(found),
        "rows": sorted(rows, key=lambda row: -row["balanced_accuracy"]),
        "agreement": sorted(pairs, key=lambda pair: -pair["agreement"]["mean"]),
        "alike": alike,
        "without_weights": studies.finished(folder, study)[1],
    }


def _row(folder: Path, kept: Mapping[Cell, Mapping]) -> dict:
    cell = next(iter(kept))
    return {
        **{"backbone": cell.backbone, "strategy": cell.strategy, "seeds": [c.seed for c in kept]},
        "size": kept[cell]["size"],
        "balanced_accuracy": _accuracy(folder, kept),
        **scores(folder, kept),
    }


def _accuracy(folder: Path, cells) -> float:
    answers = (files.read_json(folder / cell.name / "result.json") for cell in cells)
    return fmean(answer["test"]["balanced_accuracy"] for answer in answers)


# --- how alike two strategies' maps are -----------------------------------------------------------


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson's r of maps (n, places), image by image: (n,); 0 where one of the two is even."""
    a, b = (maps - maps.mean(1, keepdims=True) for maps in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(norms > 0, norms, 1)


def stretched(kept: Mapping) -> np.ndarray:
    """A run's maps (n, GRID * GRID) float64, whatever their size."""
    height, width = kept["size"]
    raws = [np.frombuffer(b64decode(text), np.uint8) for text in kept["maps"]]
    images = [Image.fromarray(np.float32(raw.reshape(height, width))) for raw in raws]
    side, way = (GRID, GRID), Image.Resampling.BILINEAR
    return np.stack([np.asarray(image.resize(side, way), float).ravel() for image in images])


def _pairs(folder: Path, kept: Mapping[str, Mapping[Cell, Mapping]]) -> list[dict]:
    """A row of `answer`'s agreement for each two strategies, and for each with several seeds."""
    maps = {s: {c.seed: stretched(own) for c, own in of.items()} for s, of in kept.items()}
    cells = {s: {cell.seed: cell for cell in of} for s, of in kept.items()}
    rows = []
    for a, b in [*combinations(kept, 2), *((name, name) for name in kept)]:
        seeds = [seed for seed in maps[a] if seed in maps[b]]
        both = [(s, s) for s in seeds] if a != b else list(combinations(seeds, 2))
        if not both:
            continue
        same = np.stack([correlations(maps[a][s], maps[b][t]) for s, t in both])
        off = np.stack([correlations(maps[a][s], _others(maps[b][t])) for s, t in both])
        if a == b:  # pairs of seeds are no sample of seeds: the images alone are resampled
            same = same.mean(0, keepdims=True)
        cell, of_seeds = cells[a][seeds[0]], [[cells[n][seed] for seed in seeds] for n in (a, b)]
        groups = _groups(folder, cell, kept[a][cell]["index"])
        rows.append(
            {
                **{"backbone": cell.backbone, "a": a, "b": b, "seeds": seeds},
                "agreement": statistics.mean_interval(same, groups, -1.0),
                "unpaired": float(off.mean()),
                "difference": abs(_accuracy(folder, of_seeds[0]) - _accuracy(folder, of_seeds[1])),
            }
        )
    return rows


def _others(maps: np.ndarray) -> np.ndarray:
    """Each image given the map of one that stands half the sample away."""
    return np.roll(maps, len(maps) // 2, axis=0)


def _alike(pairs: Sequence[Mapping]) -> float | None:
    from scipy.stats import spearmanr

    columns = [p["difference"] for p in pairs], [p["agreement"]["mean"] for p in pairs]
    if len(pairs) < PAIRS or any(len(set(column)) == 1 for column in columns):
        return None
    return float(spearmanr(*columns).statistic)
