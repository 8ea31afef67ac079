"""Print where a study's runs look in test images with a lesion: `python docs/maps.py STUDY [N]`.

Of N (default 120) test images with a lesion, taken evenly, each run's Grad-CAM of the true class is
scored against the mask: the mean share of its evidence inside, and how often its peak lies inside.
"""

import sys

import numpy as np

from ftlab import datasets, studies
from ftlab.lab import Lab


def scores(lab: Lab, study: str, n: int) -> tuple[dict[str, list], float]:
    """({run: [(energy, pointing)]}, the mean share of an image that its lesion takes)."""
    data = datasets.open_dataset(lab.data, studies.read(lab.study_folder(study)).data)
    ill = [i for i in data.indices("test") if data.masks[i] and data.mask(i).any()]
    found, areas = {}, []
    for i in ill[:: max(len(ill) // n, 1)][:n]:
        mask = data.folder / data.masks[i]
        label = data.classes[data.labels[i]]
        answer = lab.explain(data.folder / data.files[i], study, mask=mask, target=label)
        areas.append(data.mask(i).mean())
        for run in answer["runs"]:
            mask_scores = run["mask"]["energy"] or 0.0, run["mask"]["pointing"]
            found.setdefault((run["strategy"], tuple(run["native"])), []).append(mask_scores)
    return found, float(np.mean(areas))


if __name__ == "__main__":
    name, count = sys.argv[1], int((sys.argv[2:] or [120])[0])
    found, area = scores(Lab.at_home(), name, count)
    print("| strategy | map | evidence inside the lesion % | peak inside % |\n|---|---|---|---|")
    for (strategy, (h, w)), rows in found.items():
        energy, pointing = 100 * np.mean(rows, axis=0)
        print(f"| `{strategy}` | {h} × {w} | {energy:.1f} | {pointing:.0f} |")
    print(f"\nA map of nothing in particular has {100 * area:.1f} % inside, the lesion's share.")
