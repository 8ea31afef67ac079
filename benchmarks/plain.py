"""Fine-tuning as one writes it without ftlab: `python benchmarks/plain.py FOLDER`.

A timm model, torchvision's ImageFolder over FOLDER/train, FOLDER/val and FOLDER/test (pictures that
have the training size already), a DataLoader, float32, channels first. What is frozen asks for no
gradient and is in eval mode; nothing is computed ahead. Each strategy is what its paper says, with
the rates of ftlab/strategies.py, so that both sides do the same: after every epoch a pass over the
validation images, the best epoch saved and tested. benchmarks/table.py measures ftlab against it.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import timm
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import load_file
from sklearn import metrics
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

import ftlab.mini  # noqa: F401  (registers ftlab_mini with timm)

RESNET = [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"]]
STAGES = {  # what learns together, from the first stage to the last
    "ftlab_mini": RESNET,
    "resnet50": RESNET,
    "mobilenetv2_100": [
        *(["conv_stem", "bn1"], ["blocks.0"], ["blocks.1"], ["blocks.2"]),
        *(["blocks.3", "blocks.4"], ["blocks.5", "blocks.6", "conv_head", "bn2"]),
    ],
    "densenet121": [
        ["features.conv0", "features.norm0"],
        *([f"features.{kind}{i}"] for i in (1, 2, 3) for kind in ("denseblock", "transition")),
        ["features.denseblock4", "features.norm5"],
    ],
}
STRATEGIES = (
    *("full", "linear_probe", "gradual_last_first", "gradual_first_last"),
    *("lp_ft", "l1_sp", "l2_sp", "auto_rgn"),
)
RATES = {"linear_probe": 1e-3, "auto_rgn": 1e-3}  # the others: 1e-4
PROBE = 5  # batches whose gradients Auto-RGN looks at before an epoch


@dataclass(frozen=True)
class Task:
    """Which pictures, which network, and how long it is trained.

    weights: of the network before training; None: as timm draws them from the seed.
    workers: processes that read pictures; 0: the training process itself.
    """

    folder: Path
    backbone: str
    epochs: int
    batch: int = 32
    seed: int = 0
    weights: Path | None = None
    workers: int = 0


def fine_tune(strategy: str, task: Task, epochs: int | None = None) -> dict:
    """{seconds, balanced_accuracy: of the best validation epoch on the test images}."""
    began = time.perf_counter()
    torch.manual_seed(task.seed)
    train, val, test = (loader(task, split) for split in ("train", "val", "test"))
    model = pretrained(task, len(train.dataset.classes))
    stages = [[model.get_submodule(name) for name in names] for names in STAGES[task.backbone]]
    best, optimizer = (-math.inf,), None
    pull = penalty(strategy, model)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "best.pt"
        for span, learns, rate in phases(strategy, stages, epochs or task.epochs):
            freeze_all_but(model, learns)
            before, optimizer = optimizer, adam(strategy, model, rate)
            if strategy.startswith("gradual") and before:
                optimizer.state.update(before.state)  # who has learned goes on
            steps = span * len(train)
            decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step / steps))  # noqa: B023, used in this phase alone
            for _ in range(span):
                if strategy == "auto_rgn":
                    decay.base_lrs = relative_rates(model, train, optimizer, rate)
                freeze_all_but(model, learns)  # evaluating has put all of it in eval mode
                one_epoch(model, train, optimizer, decay, pull)
                found = evaluate(model, val)
                if (key := (found["balanced_accuracy"], -found["loss"])) > best:
                    best = key
                    torch.save(model.state_dict(), checkpoint)
        model.load_state_dict(torch.load(checkpoint))
    tested = evaluate(model, test)
    return {
        "seconds": time.perf_counter() - began,
        "balanced_accuracy": tested["balanced_accuracy"],
    }


# --- data and model -------------------------------------------------------------------------------


def loader(task: Task, split: str) -> DataLoader:
    cfg = timm.get_pretrained_cfg(task.backbone)
    prepare = [transforms.ToTensor(), transforms.Normalize(cfg.mean, cfg.std)]
    return DataLoader(
        datasets.ImageFolder(task.folder / split, transforms.Compose(prepare)),
        task.batch,
        shuffle=split == "train",
        num_workers=task.workers,
        persistent_workers=task.workers > 0,
    )


def pretrained(task: Task, classes: int) -> nn.Module:
    model = timm.create_model(task.backbone, num_classes=classes)
    if task.weights:
        own, given = model.state_dict(), load_file(task.weights)
        fitting = {name: t for name, t in given.items() if own[name].shape == t.shape}
        model.load_state_dict({**own, **fitting})
    model.reset_classifier(classes)  # timm's first draw is 18 times larger in MobileNetV2
    return model


def faster_workers(task: Task) -> int:
    """0 or 2: with which an epoch of full fine-tuning is faster here."""
    seconds = {n: fine_tune("full", replace(task, workers=n), 1)["seconds"] for n in (0, 2)}
    return min(seconds, key=seconds.get)


# --- who learns -----------------------------------------------------------------------------------


def phases(strategy: str, stages: list, epochs: int) -> list[tuple[int, list, float]]:
    """(epochs, stages that learn beside the head, learning rate) one after another."""
    rate = RATES.get(strategy, 1e-4)
    if strategy == "linear_probe":
        return [(epochs, [], rate)]
    if strategy == "last_stage":
        return [(epochs, stages[-1:], rate)]
    if strategy == "lp_ft":
        return [(epochs // 2, [], 1e-3), (epochs - epochs // 2, stages, 1e-4)]
    if strategy.startswith("gradual"):
        order = stages[::-1] if strategy == "gradual_last_first" else stages
        parts = min(epochs, len(order))
        spans = [epochs // parts] * (parts - 1) + [epochs - epochs // parts * (parts - 1)]
        ends = [round(len(order) * (k + 1) / parts) for k in range(parts)]
        return [(span, order[:end], rate) for span, end in zip(spans, ends, strict=True)]
    return [(epochs, stages, rate)]


def freeze_all_but(model: nn.Module, learns: Sequence[Sequence[nn.Module]]) -> None:
    model.eval().requires_grad_(False)
    for module in (*(m for stage in learns for m in stage), model.get_classifier()):
        module.train().requires_grad_(True)


def adam(strategy: str, model: nn.Module, rate: float) -> torch.optim.Adam:
    learns = [p for p in model.parameters() if p.requires_grad]
    groups = [{"params": [p]} for p in learns] if strategy == "auto_rgn" else learns
    return torch.optim.Adam(groups, rate)


def cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


# --- what an epoch does ---------------------------------------------------------------------------


def one_epoch(model, train, optimizer, decay, pull) -> float:
    """One pass over the training pictures; the mean loss."""
    total = 0.0
    for x, y in train:
        loss = F.cross_entropy(model(x), y) + pull()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        decay.step()
        total += loss.detach() * len(y)
    return float(total) / len(train.dataset)


def penalty(strategy: str, model: nn.Module):
    """L1-SP and L2-SP: a pull of the kernels to where they began, and of the head to zero."""
    head = model.get_classifier().weight
    kernels = [
        (m.weight, m.weight.detach().clone())
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and m.weight is not head
    ]

    def l1_sp() -> Tensor:
        return 1e-4 * sum((w - w0).abs().sum() for w, w0 in kernels) + 0.005 * head.pow(2).sum()

    def l2_sp() -> Tensor:
        return 0.05 * sum((w - w0).pow(2).sum() for w, w0 in kernels) + 0.005 * head.pow(2).sum()

    return {"l1_sp": l1_sp, "l2_sp": l2_sp}.get(strategy, lambda: 0.0)


def relative_rates(model: nn.Module, train: DataLoader, optimizer, rate: float) -> list[float]:
    """Auto-RGN: rates in proportion to |g| / |theta|, the mean over a few batches.

    A bias follows its module's weight, and the new head keeps the full rate.
    """
    model.eval()
    weights = {n: p for n, p in model.named_parameters() if n.endswith("weight")}
    found = dict.fromkeys(weights, 0.0)
    for batch, (x, y) in enumerate(train):
        if batch == PROBE:
            break
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), weights.values())
        for (name, weight), g in zip(weights.items(), gradients, strict=True):
            found[name] += (g.norm() / weight.norm()).item()
    head = model.get_classifier()
    own = {id(p) for p in head.parameters()}
    top = max(value for name, value in found.items() if id(weights[name]) not in own)
    names = {id(p): name.replace("bias", "weight") for name, p in model.named_parameters()}
    learns = [group["params"][0] for group in optimizer.param_groups]
    return [rate * (1.0 if id(p) in own else found[names[id(p)]] / top) for p in learns]


@torch.inference_mode()
def evaluate(model: nn.Module, images: DataLoader) -> dict[str, float]:
    model.eval()
    logits, labels = zip(*((model(x), y) for x, y in images), strict=True)
    probs, y = torch.cat(logits).double().softmax(dim=1).numpy(), torch.cat(labels).numpy()
    classes = range(probs.shape[1])
    return {
        "loss": metrics.log_loss(y, probs, labels=classes),
        "accuracy": metrics.accuracy_score(y, probs.argmax(1)),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, probs.argmax(1)),
        "average_precision": metrics.average_precision_score(y[:, None] == classes, probs),
    }


# --- one image through many networks --------------------------------------------------------------


def look(file: Path, size: int, models: dict, layers: dict, mean, std) -> dict:
    """Class probabilities and a Grad-CAM overlay of an image by each model, all for one class."""
    import numpy as np
    from PIL import Image
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.image import show_cam_on_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    picture = Image.open(file).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    shown = np.asarray(picture, np.float32) / 255
    x = transforms.Normalize(mean, std)(transforms.ToTensor()(picture))[None]
    with torch.inference_mode():
        probs = {name: model(x)[0].softmax(dim=0) for name, model in models.items()}
    target = [ClassifierOutputTarget(int(torch.stack(list(probs.values())).mean(dim=0).argmax()))]
    overlays = {}
    for name, model in models.items():
        with GradCAM(model, [layers[name]]) as cam:
            overlays[name] = show_cam_on_image(shown, cam(x, target)[0], use_rgb=True)
    return {"probs": probs, "overlays": overlays}


def main(
    folder: Path,
    backbone: str = "ftlab_mini",
    strategies: str = ",".join(STRATEGIES),
    epochs: int = 10,
    batch: int = 32,
    seed: int = 0,
    weights: Path | None = None,
    workers: Annotated[int | None, typer.Option(help="Default: the faster of 0 and 2.")] = None,
) -> None:
    task = Task(folder, backbone, epochs, batch, seed, weights, workers or 0)
    if workers is None:
        task = replace(task, workers=faster_workers(task))
    for strategy in strategies.split(","):
        print(json.dumps({"strategy": strategy, **fine_tune(strategy, task)}), flush=True)


if __name__ == "__main__":
    typer.run(main)
