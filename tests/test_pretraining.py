"""What ftlab_mini is pretrained on: drawn alike from one seed, and described as it looks."""

import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent / "tools"))

import formulas
import pretrain_mini
import views

FIGURES = formulas.fractal(0, seed=0, instances=16)
FIELDS = np.stack([formulas.texture(number, seed=0, instances=6)[0] for number in range(4)])


def seen(size: int, hardest: float, seed: int = 0):
    """Sixteen views of one fractal before four textures."""
    figures = torch.from_numpy(FIGURES)
    fields = torch.from_numpy(FIELDS).repeat(4, 1, 1)
    draw = torch.Generator().manual_seed(seed)
    return views.view(figures, fields, size, hardest, draw)


def test_a_class_is_the_same_from_one_seed_and_another_from_another():
    assert (formulas.fractal(0, seed=0, instances=16) == FIGURES).all()
    assert (formulas.fractal(0, seed=1, instances=16) != FIGURES).any()
    assert (formulas.texture(1, seed=0, instances=6)[0] == FIELDS[1]).all()
    assert (formulas.texture(1, seed=1, instances=6)[0] != FIELDS[1]).any()


@pytest.mark.parametrize("number", range(6))
def test_instances_of_a_class_differ_and_none_is_empty(number):
    fields = formulas.texture(number, seed=0, instances=6)
    figures = formulas.fractal(number, seed=0, instances=6)[:, 0]
    for pictures in (fields, figures):
        assert len(pictures) == 6
        assert pictures.std((1, 2)).min() > 5
        assert len(np.unique(pictures.reshape(len(pictures), -1), axis=0)) == len(pictures)


@pytest.mark.parametrize("size", sorted(set(pretrain_mini.SIZES)))
@pytest.mark.parametrize("hardest", [0.0, 1.0])
def test_a_view_lies_between_black_and_white(size, hardest):
    x, shown, woven = seen(size, hardest)
    assert x.shape == (16, 3, size, size)
    assert 0 <= x.min() < x.max() <= 1
    assert (shown | woven).all(), "a picture shows a fractal or a texture, or both"
    assert torch.equal(x, seen(size, hardest)[0])
    assert not torch.equal(x, seen(size, hardest, seed=1)[0])


def test_the_easiest_view_of_a_fractal_is_white_on_black():
    x, shown, _ = seen(64, hardest=0.0)
    fractals = x[shown]
    assert (fractals.amax((1, 2, 3)) > 0.9).all()
    assert (fractals.median(dim=-1).values.median(dim=-1).values < 0.1).all()


def test_a_third_of_the_pictures_has_the_colours_of_two_dyes():
    """What two dyes take away of red, green and blue lies in a plane."""
    draw = torch.Generator().manual_seed(0)

    def uniform(low, high, *shape):
        return torch.rand(600, *shape, generator=draw) * (high - low) + low

    colours = views._colours(11, uniform)
    assert colours.shape == (600, 3, 11) and 0 < colours.min() < colours.max() <= 1
    third = torch.linalg.svdvals(colours.log())[:, 2]
    assert 0.27 < (third < 1e-4).float().mean() < 0.40


def test_looks_tell_colour_contrast_and_direction():
    flat = torch.tensor([0.8, 0.2, 0.4]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    place, whole = views.looks(flat, 2)
    assert place.shape == (1, views.PLACE, 2, 2)
    assert whole.shape == (1, views.WHOLE)
    assert place[0, :3, 0, 0].tolist() == pytest.approx([0.8, 0.2, 0.4], abs=1e-4)
    assert place[0, 3:6].abs().max() < 1e-3, "nothing deviates"
    assert place[0, 9:20].abs().max() < 1e-3, "no contrast, no gradient"
    stripes = (torch.arange(64) // 4 % 2).float().view(1, 1, 1, 64).expand(1, 3, 64, 64)
    place, _ = views.looks(stripes, 2)
    across, along = place[0, 12].mean(), place[0, 13].mean()
    assert across > 0.5 and along < 1e-3, "upright stripes change from left to right alone"


def test_what_is_asked_reaches_every_weight():
    model = pretrain_mini.Asked()
    x, shown, woven = seen(64, hardest=1.0)
    figure, ground, errors = model(x, *views.looks(x, 2))
    assert figure.shape == (16, formulas.FRACTALS) and ground.shape == (16, formulas.TEXTURES)
    (figure[shown].sum() + ground[woven].sum() + sum(errors)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_kernels_return_to_the_norm_of_a_fresh_draw_without_another_answer():
    torch.manual_seed(0)
    fresh = pretrain_mini.Asked().trunk
    grown = deepcopy(fresh)
    x = torch.randn(8, 3, 64, 64)
    with torch.no_grad():
        for name, weight in grown.named_parameters():
            if weight.dim() == 4:
                weight *= 2 + len(name) % 3
        grown.train()(x)
    settled = pretrain_mini.at_fresh_norms(grown)
    for (name, a), b in zip(settled.named_parameters(), fresh.parameters(), strict=True):
        if a.dim() == 4:
            assert a.norm().item() == pytest.approx(b.norm().item(), rel=0.1), name
    with torch.no_grad():
        answers = [network.eval()(x) for network in (grown, settled)]
    assert torch.allclose(*answers, rtol=1e-3, atol=1e-4)


def test_a_stopped_training_comes_out_as_one_that_ran_through(tmp_path, monkeypatch):
    for constant, value in {"STEPS": 4, "REPORTED": 2, "BATCH": 8, "SIZES": (48,)}.items():
        monkeypatch.setattr(pretrain_mini, constant, value)
    monkeypatch.setattr(pretrain_mini.torch, "set_num_threads", lambda number: None)
    np.save(tmp_path / "figures.npy", FIGURES)
    np.save(tmp_path / "fields.npy", FIELDS)

    def train(out: Path) -> None:
        (tmp_path / "meeting").unlink(missing_ok=True)
        if pretrain_mini.dist.is_initialized():  # by one that was stopped
            pretrain_mini.dist.destroy_process_group()
        pretrain_mini.train(0, 1, tmp_path, "float32", 0, out)

    def stop_before(file, model, optimizer, step, seconds):
        if step == 4:
            raise InterruptedError
        keep(file, model, optimizer, step, seconds)

    keep, through, stopped = pretrain_mini.keep, tmp_path / "through", tmp_path / "stopped"
    train(through)
    with monkeypatch.context() as halting, pytest.raises(InterruptedError):
        halting.setattr(pretrain_mini, "keep", stop_before)
        train(stopped)
    assert stopped.with_suffix(".state").exists()
    train(stopped)
    assert stopped.read_bytes() == through.read_bytes()
    assert not list(tmp_path.glob("*.state"))
