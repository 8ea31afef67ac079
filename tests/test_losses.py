"""The loss of a batch: what its classes weigh, and that two halves make the step of the whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import split, tiny_network
from test_train import SETTINGS, bits, numbers, same, train
from torch import nn

from ftlab.losses import class_weights
from ftlab.probing import multipliers
from ftlab.records import Plan
from ftlab.strategies import write_plan
from ftlab.train import fit


@pytest.mark.parametrize("strategy, given", [("full", {}), ("l2_sp", {}), ("auto_rgn", {})])
@pytest.mark.parametrize("class_weights", [False, True])
def test_two_halves_of_a_batch_take_the_step_of_the_whole(strategy, given, class_weights):
    """Where every image is seen alone: BatchNorm at its stored statistics. 20 images in 3 batches:
    halves of 4 and 3."""
    plan = write_plan(strategy, tiny_network().layout(), 2, lr=0.1, **given)
    plan = Plan(tuple(replace(phase, eval_batchnorm=True) for phase in plan.phases))
    settings = replace(SETTINGS, optimizer="sgd", batch=7, class_weights=class_weights)
    whole, halved, mixed = tiny_network(), tiny_network(), tiny_network()
    one = train(whole, plan, settings)
    two = train(halved, plan, settings, halved_from=0)
    late = train(mixed, plan, settings, halved_from=1)
    for name, tensor in bits(whole).items():
        assert torch.allclose(bits(halved)[name], tensor, atol=1e-6), name
    assert not bits(whole)["head.weight"].equal(tiny_network().head.weight)
    assert not same(bits(halved), bits(whole)), "else they were not halves"
    assert [e.train_loss for e in two] == pytest.approx([e.train_loss for e in one], abs=1e-6)
    assert two[1].rates == pytest.approx(one[1].rates, rel=1e-4)
    assert numbers(late)[0] == numbers(one)[0] and not same(bits(mixed), bits(whole))


def test_in_halves_batchnorm_sees_half_of_the_images_and_never_a_single_one():
    seen, network = [], tiny_network()
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda m, x: seen.extend([len(x[0])] * m.training))
    plan = write_plan("full", network.layout(), 1)
    for batch, halves in ((8, [4, 3, 4, 3, 3, 3]), (5, [3, 2] * 4), (3, [3, 3, 3, 3, 3, 3, 2])):
        train(network, plan, replace(SETTINGS, batch=batch), halved_from=0)
        assert seen == halves
        seen.clear()


def test_class_weights_are_the_inverse_frequencies_of_the_training_split():
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert class_weights(labels, 3).tolist() == pytest.approx([6 / 9, 6 / 6, 6 / 3])
    assert class_weights(labels, 4)[3] == 6 / 4  # a class without images does not divide by zero


def test_a_rate_rule_looks_at_the_loss_with_its_class_weights():
    """Where a single class has any weight, the others' images pull at nothing."""
    network, data = tiny_network(2), split(16)
    phase = write_plan("auto_rgn", network.layout(), 1).phases[0]
    x, y = network.prepare(data.batch(np.arange(16))), torch.from_numpy(data.labels)
    one = torch.tensor([1.0, 0.0])
    found = multipliers(network, phase, [(x, y)], SETTINGS, weight=one)
    alone = multipliers(network, phase, [(x[y == 0], y[y == 0])], SETTINGS)
    assert found == pytest.approx(alone, rel=1e-4)
    assert found != pytest.approx(multipliers(network, phase, [(x, y)], SETTINGS), rel=1e-2)


def test_class_weights_enter_the_loss():
    data, network = split(12), tiny_network()
    data = replace(data, labels=np.array([0] * 9 + [1] * 3))
    phase = replace(write_plan("linear_probe", network.layout(), 1, lr=1e-9).phases[0])
    with torch.no_grad():
        logits = network.eval()(network.prepare(torch.from_numpy(data.pixels)))
    expected = F.cross_entropy(
        logits, torch.from_numpy(data.labels), torch.tensor([12 / 18, 12 / 6])
    )
    settings = replace(SETTINGS, batch=12, class_weights=True)
    (epoch,) = fit(network, Plan((phase,)), data, data, settings, 0)
    assert epoch.train_loss == pytest.approx(expected.item(), abs=1e-5)
