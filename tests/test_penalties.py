"""Penalties against arithmetic by hand and their own gradients."""

from __future__ import annotations

import pytest
import torch

from ftlab.penalties import L1SP, L2SP


def pair(w, w0):
    return torch.tensor(w, requires_grad=True), torch.tensor(w0)


def test_l2_sp_by_hand():
    pairs = [pair([1.0, 3.0], [0.0, 1.0]), pair([[2.0]], [[-1.0]])]
    head = torch.tensor([[1.0, -2.0], [0.0, 2.0]], requires_grad=True)
    # 0.5/2 (1 + 4 + 9) + 0.2/2 (1 + 4 + 4)
    assert L2SP(0.5, 0.2)(pairs, head).item() == pytest.approx(3.5 + 0.9)


def test_l1_sp_by_hand_still_pulls_the_head_by_its_square():
    pairs = [pair([1.0, 3.0], [0.0, 1.0]), pair([[2.0]], [[-1.0]])]
    head = torch.tensor([[1.0, -2.0], [0.0, 2.0]], requires_grad=True)
    # 0.5 (1 + 2 + 3) + 0.2/2 (1 + 4 + 4)
    assert L1SP(0.5, 0.2)(pairs, head).item() == pytest.approx(3.0 + 0.9)


@pytest.mark.parametrize("penalty", [L1SP, L2SP])
def test_at_theta_0_only_the_head_is_pulled(penalty):
    w, w0 = pair([1.5, -2.5], [1.5, -2.5])
    head = torch.tensor([[3.0]], requires_grad=True)
    omega = penalty(0.7, 0.1)([(w, w0)], head)
    omega.backward()
    assert omega.item() == pytest.approx(0.05 * 9)
    assert w.grad.tolist() == [0, 0]
    assert head.grad.item() == pytest.approx(0.1 * 3)
    assert penalty(0.7, 0.0)([(w, w0)], head).item() == 0


def test_the_l2_gradient_is_alpha_times_the_distance():
    w, w0 = pair([1.0, -2.0, 0.25], [0.5, 1.0, 0.25])
    L2SP(0.3, 0.0)([(w, w0)], torch.zeros(1, 1)).backward()
    assert torch.allclose(w.grad, 0.3 * torch.tensor([0.5, -3.0, 0.0]))


def test_the_l1_gradient_is_alpha_times_the_sign_and_0_at_0():
    w, w0 = pair([1.0, -2.0, 0.25], [0.5, 1.0, 0.25])
    L1SP(0.3, 0.0)([(w, w0)], torch.zeros(1, 1)).backward()
    assert torch.allclose(w.grad, 0.3 * torch.tensor([1.0, -1.0, 0.0]))


@pytest.mark.parametrize("penalty", [L1SP, L2SP])
def test_with_no_kernel_that_learns_the_head_is_pulled_alone(penalty):
    head = torch.full((2, 2), 2.0)
    assert float(penalty(5.0, 0.5)([], head)) == pytest.approx(0.25 * 16)


@pytest.mark.parametrize("penalty", [L1SP, L2SP])
def test_gradients_agree_with_finite_differences(penalty):
    generator = torch.Generator().manual_seed(0)
    w, w0, v = torch.randn(3, 4, 2, dtype=torch.double, generator=generator)
    w.requires_grad_(), v.requires_grad_()
    assert torch.autograd.gradcheck(lambda w, v: penalty(0.3, 0.2)([(w, w0)], v), (w, v))
