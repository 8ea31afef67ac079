"""What tests of the Compare tab share: a lab that answers at once, and a page without its tags."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
from PIL import Image

from ftlab.records import BadInput

CLASSES = ["normal", "nodule"]
MASKED = 9  # the test image that has a mask
SAID = {"full": [0.1, 0.9], "linear_probe": [0.8, 0.2], "l2_sp": [0.3, 0.7]}


class FakeLab:
    """Three strategies of a reference study, of which one has two seeds; a drawing as example."""

    def __init__(self, folder):
        self.folder, self.asked = folder, []
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(folder / "example.png")
        mask = np.zeros((40, 60), np.uint8)
        mask[10:20, 30:50] = 255
        Image.fromarray(mask).save(folder / "mask.png")

    def strategies(self):
        return [{"name": n, "summary": f"About {n}.", "source": "A paper"} for n in SAID]

    def methods(self):
        return [
            {"name": "gradcam", "summary": "by gradients", "slow": False},
            {"name": "scorecam", "summary": "by scores", "slow": True},
        ]

    def studies(self):
        kept = {"classes": CLASSES, "data": "chest"}
        return [{"study": name, **kept} for name in ("another", "reference", "unfinished")]

    def runs(self):
        def row(study, name, seed, state="finished"):
            run = f"{name}-tiny-s{seed}"
            who = {"run": run, "strategy": name, "backbone": "tiny", "seed": seed}
            return {"study": study, **who, "state": state, "seconds": 75.0}

        rows = [row("reference", name, 0) for name in SAID]
        rows += [row("reference", "full", 1), row("another", "full", 0)]
        return [*rows, row("unfinished", "full", 0, "running")]

    def status(self, study):
        interval = {"mean": 0.814, "low": 0.782, "high": 0.841}
        rows = [
            {"strategy": name, "backbone": "tiny", "balanced_accuracy": interval} for name in SAID
        ]
        return {"leaderboard": {"rows": rows}}

    def data_of(self, study):
        return {"source": "phantom:chest_xray"}

    def sample(self, data, n, split):
        return []

    def examples(self):
        file, mask = self.folder / "example.png", self.folder / "mask.png"
        labels = [("chest_xray", "normal"), ("chest_xray", "nodule"), ("brain_mri", "glioma")]
        return [{"modality": m, "label": x, "file": file, "mask": mask} for m, x in labels]

    def picture(self, path):
        try:
            return {"pixels": np.asarray(Image.open(path).convert("RGB")), "notes": []}
        except OSError:
            raise BadInput(f"{path.name}: not an image this program reads") from None

    def explain(self, image, study, *, method, target, chosen, mask=None):
        self.asked.append((image.name, study, method, target, chosen, mask))
        found = np.zeros((8, 8), np.float32)
        found[0, 0] = 1
        runs = [
            {
                "run": run,
                "strategy": run.split("-")[0],
                "backbone": "tiny",
                "probs": SAID[run.split("-")[0]],
                "target": target or "nodule",
                "native": [2, 3],
                "mask": {"energy": 0.25} if mask else None,
                "saliency": SimpleNamespace(map=found * bool(peak), peak=peak),
            }
            for run, peak in zip(chosen, (4.0, 1.0, 0.0), strict=False)
        ]
        return {"classes": CLASSES, "notes": ["the first of 2 frames was used"], "runs": runs} | {
            "without_weights": ["gone-tiny-s0"]
        }

    def predict(self, images, study, chosen):
        runs = [{"run": f"{n}-tiny-s0", "strategy": n, "backbone": "tiny"} for n in SAID]
        runs = [{**run, "probs": SAID[run["strategy"]]} for run in runs]
        runs.append({**runs[0], "run": "full-tiny-s1"})
        runs = [run for run in runs if run["run"] in chosen]
        return {"classes": CLASSES, "images": [{"runs": runs} for _ in images]}

    def consensus(self, predictions, study):
        assert study == "reference" and predictions["classes"] == CLASSES
        votes = sum(run["probs"][1] > 0.5 for run in predictions["runs"])
        of = len(predictions["runs"])
        return {"class": "nodule", "agree": votes, "of": of, "mean_probability": 0.6} | {
            "disagreement": 0.3,
            "more_than": 0.9,
        }

    def blends(self, study):
        who = {"strategy": "full", "backbone": "tiny", "probe": "linear_probe-tiny-s0"}
        return [{"run": f"full-tiny-s{seed}", "seed": seed, **who} for seed in (1, 0)]

    def blend(self, image, study, run, alphas, method=None, target=None):
        self.asked.append((image.name, run, tuple(alphas), method, target))
        found = np.zeros((8, 8), np.float32)
        found[7, 7] = 1
        points = [
            {"alpha": a, "probs": [0.8 - 0.7 * a, 0.2 + 0.7 * a], "target": target or "nodule"}
            | {"saliency": SimpleNamespace(map=found, peak=1.0) if method else None}
            for a in alphas
        ]
        who = {"run": run, "strategy": "full", "backbone": "tiny", "seed": 0}
        return {"classes": CLASSES, **who, "statistics": 0, "points": points}

    def study_folder(self, study):
        return self.folder / "checkpoints" / study

    def test_image(self, study, index):
        file, mask = self.folder / "example.png", self.folder / "mask.png"
        pixels = np.asarray(Image.open(file))
        mask = mask if index == MASKED else None
        return {"pixels": pixels, "truth": "normal", "file": file, "mask": mask}


def text(html):
    without_tips = re.sub(r'<span class="ft-tip".*?</span>', "", html)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", without_tips))
