"""Penalties Omega(theta; theta_0), added to the loss. Each is data (its knobs) and a function.

S is the set of pretrained convolution and linear kernels: not biases, not BatchNorm
(Li, Grandvalet & Davoine, "Explicit inductive bias for transfer learning with convolutional
networks", ICML 2018, and the reading of their own code). v are the weights of the new head.
Ordinary weight decay stays off wherever one of these is on: it would pull to 0, not to theta_0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class L2SP:
    """Omega = alpha/2 * sum_S (w - w_0)^2 + beta/2 * sum v^2   (Li et al. 2018, eq. 3)."""

    name: ClassVar[str] = "l2_sp"
    alpha: float = 0.1
    beta: float = 0.01

    def __call__(self, pairs: Iterable[tuple[Tensor, Tensor]], head: Tensor) -> Tensor:
        """pairs: (w, w_0) for each kernel of S that learns; head: v, (C, features). A scalar."""
        pull = sum((w - w0).square().sum() for w, w0 in pairs)
        return self.alpha / 2 * pull + self.beta / 2 * head.square().sum()


@dataclass(frozen=True)
class L1SP:
    """Omega = alpha * sum_S |w - w_0| + beta/2 * sum v^2   (Li et al. 2018, L1-SP)."""

    name: ClassVar[str] = "l1_sp"
    alpha: float = 1e-4
    beta: float = 0.01

    def __call__(self, pairs: Iterable[tuple[Tensor, Tensor]], head: Tensor) -> Tensor:
        """As L2SP; the gradient of the pull is alpha * sign(w - w_0), with sign(0) = 0."""
        pull = sum((w - w0).abs().sum() for w, w0 in pairs)
        return self.alpha * pull + self.beta / 2 * head.square().sum()
