"""Rate rules against NumPy, on numbers and on a network's own gradients."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import split, tiny_network
from torch import nn

from ftlab.batches import batches
from ftlab.probing import multipliers
from ftlab.rates import AutoRGN, AutoSNR
from ftlab.records import Settings
from ftlab.strategies import write_plan
from ftlab.train import Split

SETTINGS = Settings(size=32, batch=8, precision="float32")
CLASSES = 3


def test_rgn_by_hand_on_two_weights():
    """|g|/|w| is 5/10 and 1/10 in one batch, 5/10 and 3/10 in the next: means 0.5 and 0.2."""
    rule = AutoRGN()
    first, second = torch.tensor([6.0, 8.0]), torch.tensor([[10.0]])
    measured = {
        "a": [rule.measure(first, torch.tensor([3.0, 4.0])) for _ in range(2)],
        "b": [rule.measure(second, torch.tensor([[g]])) for g in (1.0, -3.0)],
    }
    assert measured["a"] == [0.5, 0.5]
    assert rule.multipliers(measured) == pytest.approx({"a": 1.0, "b": 0.4})


def test_rgn_does_not_change_when_all_gradients_are_scaled():
    rule, generator = AutoRGN(), torch.Generator().manual_seed(0)
    pairs = {n: torch.randn(2, 5, 3, generator=generator) for n in "abc"}
    plain = rule.multipliers({n: [rule.measure(w, g)] for n, (w, g) in pairs.items()})
    scaled = rule.multipliers({n: [rule.measure(w, 1000 * g)] for n, (w, g) in pairs.items()})
    assert scaled == pytest.approx(plain)
    assert max(plain.values()) == 1


def test_a_tensor_of_zeros_has_no_relative_gradient_and_keeps_the_full_rate():
    assert AutoRGN().measure(torch.zeros(3), torch.ones(3)) == 0
    assert AutoRGN().multipliers({"a": [0.0], "b": [0.0]}) == {"a": 1.0, "b": 1.0}
    found = AutoRGN().multipliers({"a": [0.0], "b": [0.2], "c": [0.4]})
    assert found == {"a": 1.0, "b": 0.5, "c": 1.0}


def test_snr_by_numpy():
    rng = np.random.default_rng(0)
    for g in (rng.normal(size=(4, 3)), rng.normal(2, 0.1, size=(6, 2, 3, 3)), rng.normal(size=5)):
        expected = np.mean(g**2 / (np.var(g, axis=0, ddof=1, keepdims=True) + 1e-8))
        measured = AutoSNR().measure(torch.zeros(1), torch.from_numpy(g))
        assert measured == pytest.approx(expected, rel=1e-6)


def test_snr_is_a_gate_at_0_95_of_the_mean_over_batches():
    rule = AutoSNR()
    assert rule.multipliers({"a": [0.9, 1.0], "b": [0.9, 0.99], "c": [2.0]}) == {
        "a": 1.0,
        "b": 0.0,
        "c": 1.0,
    }
    noise = torch.randn(32, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    assert rule.measure(noise, noise) > 0.95 > rule.measure(noise, 1e-5 * noise)
    one_channel = rule.measure(torch.ones(1, 4), torch.ones(1, 4))
    assert rule.multipliers({"a": [one_channel]}) == {"a": 1.0}


def gradients(network, data: Split, first: int) -> list[dict[str, np.ndarray]]:
    """Those of the mean cross-entropy on each of the first batches, BatchNorm as stored."""
    network.eval().requires_grad_(True)
    found = []
    order = np.random.default_rng(1).permutation(len(data))
    for pixels, labels in islice(batches(data, order, SETTINGS.batch), first):
        network.zero_grad()
        F.cross_entropy(network(network.prepare(pixels)), labels).backward()
        found.append({n: p.grad.numpy().copy() for n, p in network.named_parameters()})
    return found


def norms(network) -> set[str]:
    """Names of the BatchNorm tensors, by the type of their module."""
    modules = {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return {f"{n}.{kind}" for n in modules for kind in ("weight", "bias")}


@pytest.fixture
def probed():
    """(network, data, a strategy's multipliers): 48 images, five of six batches looked at."""
    network, data = tiny_network(CLASSES), split(48, CLASSES)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02)  # no bias is exactly 0

    def found(strategy: str, mode: str) -> dict[str, float]:
        phase = write_plan(strategy, network.layout(), 1, mode=mode).phases[0]
        order = np.random.default_rng(1).permutation(len(data))
        inputs = ((network.prepare(x), y) for x, y in batches(data, order, SETTINGS.batch))
        return multipliers(network, phase, inputs, SETTINGS)

    return network, data, found


def rgn(network, data) -> dict[str, float]:
    """The mean over five batches of |g|_2 / |theta|_2, in double precision."""
    size = {n: np.linalg.norm(p.detach().double()) for n, p in network.named_parameters()}
    batches = gradients(network, data, 5)
    return {
        n: np.mean([np.linalg.norm(g[n].astype(float)) for g in batches]) / size[n] for n in size
    }


def test_faithful_auto_rgn_rules_every_tensor_but_batchnorm(probed):
    network, data, found = probed
    raw = {n: v for n, v in rgn(network, data).items() if n not in norms(network)}
    expected = {n: v / max(raw.values()) for n, v in raw.items()}
    expected |= dict.fromkeys(norms(network), 0.0)
    assert found("auto_rgn", "faithful") == pytest.approx(expected, rel=1e-4)


def test_practical_auto_rgn_leaves_the_head_alone_and_lets_a_bias_follow_its_weight(probed):
    network, data, found = probed
    raw = rgn(network, data)
    ruled = {n: v for n, v in raw.items() if n.endswith("weight") and not n.startswith("head")}
    weights = {n: v / max(ruled.values()) for n, v in ruled.items()}
    biases = {n.replace("weight", "bias"): v for n, v in weights.items()}
    got = found("auto_rgn", "practical")
    assert got == pytest.approx(weights | biases, rel=1e-4)
    assert max(got.values()) == 1
    assert norms(network) <= set(got)


@pytest.mark.parametrize("mode", ["practical", "faithful"])
def test_auto_snr_opens_exactly_the_tensors_that_pass_the_gate(probed, mode):
    network, data, found = probed
    batches = gradients(network, data, 5)

    def snr(name: str) -> float:
        each = [g[name].astype(float) for g in batches]
        return np.mean(
            [np.mean(g**2 / (np.var(g, axis=0, ddof=1, keepdims=True) + 1e-8)) for g in each]
        )

    got = found("auto_snr", mode)
    assert set(got.values()) <= {0.0, 1.0}
    for name, _ in network.named_parameters():
        if mode == "faithful":
            assert got[name] == (0 if name in norms(network) else float(snr(name) >= 0.95))
        elif name.startswith("head"):
            assert name not in got
        else:
            assert got[name] == float(snr(name.replace("bias", "weight")) >= 0.95)


@pytest.mark.parametrize("mode", ["practical", "faithful"])
@pytest.mark.parametrize("strategy", ["auto_rgn", "auto_snr"])
def test_looking_at_gradients_changes_no_bit_of_the_network(probed, strategy, mode):
    network, _, found = probed
    before = {n: t.clone() for n, t in network.state_dict().items()}
    assert all(math.isfinite(v) for v in found(strategy, mode).values())
    after = network.state_dict()
    assert all(before[n].equal(after[n]) for n in before)
    assert all(p.grad is None for p in network.parameters())
