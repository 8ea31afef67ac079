"""Augmentation: what it must leave alone, and where its numbers come from."""

from __future__ import annotations

import pytest
import torch

from ftlab import augment as module
from ftlab.augment import PRESETS, augment


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (16, 20, 20, 3), generator=torch.Generator().manual_seed(0)).byte()


def test_none_gives_the_same_object_and_draws_nothing(pixels):
    before = torch.get_rng_state()
    assert augment(pixels, "none", flips=False) is pixels
    assert torch.get_rng_state().equal(before)


def test_flips_mirror_left_and_right_exactly_or_not_at_all(pixels):
    torch.manual_seed(0)
    flipped = augment(pixels, "none", flips=True)
    mirrored = [a.equal(b.flip(1)) for a, b in zip(flipped, pixels, strict=True)]
    left_alone = [a.equal(b) for a, b in zip(flipped, pixels, strict=True)]
    assert flipped.dtype == torch.uint8
    assert all(a != b for a, b in zip(mirrored, left_alone, strict=True))
    assert 0 < sum(mirrored) < len(pixels)


@pytest.mark.parametrize("preset", ["light", "ttl"])
@pytest.mark.parametrize("flips", [False, True])
def test_pictures_keep_their_shape_and_range_and_change(pixels, preset, flips):
    torch.manual_seed(0)
    changed = augment(pixels, preset, flips)
    assert changed.shape == pixels.shape
    assert changed.min() >= -1e-3 and changed.max() <= 255 + 1e-3
    assert all((a - b).abs().mean() > 1 for a, b in zip(changed, pixels.float(), strict=True))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_seed_gives_the_same_pictures_and_another_seed_others(pixels, preset):
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(augment(pixels, preset, flips=True))
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])


def still(n: int, preset: str, draw=torch.rand):
    return torch.zeros(n), torch.ones(n), torch.ones(n), torch.zeros(n), torch.zeros(n)


def test_a_geometry_that_moves_nothing_gives_the_picture_back(pixels, monkeypatch):
    monkeypatch.setattr(module, "_geometry", still)
    assert torch.allclose(augment(pixels, "ttl", False), pixels.float(), atol=1e-2)


def test_a_quarter_turn_is_torchs_own(pixels, monkeypatch):
    def turned(n, preset, draw):
        angle, *rest = still(n, preset)
        return angle + torch.pi / 2, *rest

    monkeypatch.setattr(module, "_geometry", turned)
    expected = torch.rot90(pixels.float(), 1, (1, 2))
    assert torch.allclose(augment(pixels, "ttl", False), expected, atol=1e-2)


def test_a_zoom_of_half_shows_the_middle_half(monkeypatch):
    def halved(n, preset, draw):
        angle, zoom_x, zoom_y, *shifts = still(n, preset)
        return angle, zoom_x / 2, zoom_y / 2, *shifts

    monkeypatch.setattr(module, "_geometry", halved)
    ramp = torch.arange(20.0).expand(1, 20, 20)[..., None].expand(1, 20, 20, 3)
    row = augment(ramp, "ttl", False)[0, 0, :, 0]
    assert torch.allclose(row, 4.75 + 0.5 * torch.arange(20), atol=1e-3)


def test_ttl_crops_8_to_100_per_cent_from_inside_the_picture():
    torch.manual_seed(0)
    angle, zoom_x, zoom_y, shift_x, shift_y = module._geometry(5000, "ttl")
    area, aspect = zoom_x * zoom_y, zoom_x / zoom_y
    assert angle.eq(0).all()
    assert 0.079 < area.min() < 0.1 and 0.95 < area.max() <= 1
    assert 0.749 < aspect.min() < 0.77 and 1.3 < aspect.max() < 1.334
    assert (shift_x.abs() + zoom_x).max() <= 1 + 1e-6 and (shift_y.abs() + zoom_y).max() <= 1 + 1e-6


def test_light_turns_up_to_10_degrees():
    torch.manual_seed(0)
    angle, zoom_x, zoom_y, shift_x, shift_y = module._geometry(5000, "light")
    assert 9.9 < angle.abs().max().rad2deg() <= 10
    assert zoom_x.equal(zoom_y) and 0.9 <= zoom_x.min() < 0.91 and 1.09 < zoom_x.max() <= 1.1
    assert 0.099 < shift_x.abs().max() <= 0.1 and not shift_x.equal(shift_y)
