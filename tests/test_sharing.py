"""Networks that begin alike: the same bits as apart, and never more shared than is equal."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ftlab import backbones, sharing
from ftlab.backbones import Network


def network(seed: int = 0) -> Network:
    """Three stages of two units; the first of each writes into what it is given."""
    torch.manual_seed(seed)
    stages, width = {}, 3
    for name in ("one", "two", "three"):
        opening = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(width, 4, 3, padding=1))
        stages[name] = [opening, nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))]
        width = 4
    return Network(stages, 2, (0.5,) * 3, (0.25,) * 3).eval()


def changed(base: Network, unit: int) -> Network:
    """A copy of which one unit, by number, has learned."""
    other = copy.deepcopy(base)
    with torch.no_grad():
        next(other.units()[unit - 1].parameters()).mul_(1.5)
    return other


def same(a: Network, b: Network) -> int:
    """How many units from the first on are the very same modules."""
    both = [x is y for x, y in zip(a.units(), b.units(), strict=False)]
    return (both + [False]).index(False)


@pytest.mark.parametrize("unit", range(1, 7))
def test_networks_are_joined_up_to_the_first_unit_that_differs(unit):
    base = network()
    other = changed(base, unit)
    alone = copy.deepcopy(other)
    sharing.join(other, base)
    assert same(other, base) == unit - 1
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(other(x), alone(x))


def test_statistics_that_differ_part_two_networks():
    base = network()
    other = copy.deepcopy(base)
    other.units()[3][1].running_mean += 1
    sharing.join(other, base)
    assert same(other, base) == 3


def test_a_cut_network_shares_what_is_left_of_it():
    base = network()
    short = backbones.cut(copy.deepcopy(base), 3)
    sharing.join(short, base)
    assert len(short.units()) == same(short, base) == 3
    assert len(base.units()) == 6


def test_networks_that_see_other_pixels_share_nothing():
    base = network()
    other = copy.deepcopy(base)
    other.mean = (0.4,) * 3
    sharing.join(other, base)
    assert same(other, base) == 0


@torch.no_grad()
@pytest.mark.parametrize("upto", range(7))
def test_what_has_passed_is_the_same_in_every_bit_and_is_not_done_again(upto):
    base = network()
    others = [changed(base, unit) for unit in (6, 4, 2)]
    calls = []
    for unit in base.units():
        unit.register_forward_hook(lambda *_: calls.append(1))
    for other in others:
        sharing.join(other, base)
    x = torch.randn(2, 3, 8, 8)
    before, passed = x.clone(), {}
    for each in (base, *others):
        alone = copy.deepcopy(each).run(x.clone(), upto=upto)
        calls.clear()
        assert torch.equal(sharing.run(each, x, upto, passed), alone)
        if each is others[0]:
            assert not calls or upto > 4, "all but the last stage came by already"
    assert torch.equal(x, before)
    for each in (base, *others):
        for number, unit in enumerate(each.units(), 1):
            if unit in passed:
                again = each.run(x.clone(), upto=number)
                assert torch.equal(passed[unit], again), "nothing wrote into it"
