"""Rate rules: before every epoch, one multiplier of the learning rate per tensor, from gradients.

Both rules are Lee et al., "Surgical fine-tuning improves adaptation to distribution shifts",
ICLR 2023. The gradients are those of the loss that is trained, but for a penalty, on the first five
training batches of the epoch, without a step. Two modes:

faithful   as the authors' code: one multiplier per tensor, BatchNorm left out of the rule and not
           trained, BatchNorm statistics as stored, Adam rebuilt every epoch with weight decay 1e-4,
           the head ruled like every other tensor.
practical  (default, our reading) the authors had no new head and adapted to shifted images. A fresh
           head has a large gradient and a small norm and would take the maximum for itself, so it
           keeps the full rate and the rule runs over the pretrained part; a module's bias follows
           its weight (a bias near zero would do the same); BatchNorm learns; the optimizer goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor

FLAT = 1e-12  # a tensor with a smaller norm has no relative gradient


@dataclass(frozen=True)
class Rule:
    """What both rules share: when they look, and at how much. The subclass is the equation."""

    mode: Literal["practical", "faithful"] = "practical"
    batches: int = 5

    @property
    def faithful(self) -> bool:
        return self.mode == "faithful"


@dataclass(frozen=True)
class AutoRGN(Rule):
    """lr_i = lr * RGN_i / max_k RGN_k,   RGN_i = |g_i|_2 / |theta_i|_2, mean over the batches."""

    name: ClassVar[str] = "auto_rgn"

    def measure(self, theta: Tensor, g: Tensor) -> float:
        """RGN of one tensor and its gradient, of the same shape; 0 where theta is 0."""
        norm = float(theta.norm())
        return float(g.norm()) / norm if norm > FLAT else 0.0

    def multipliers(self, measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """From each tensor's values, one a batch, to multipliers in [0, 1] with maximum 1.

        A tensor of zeros, as the last BatchNorm of a fresh residual block, keeps the full rate: at
        0 it would stay 0, and so would all that is behind it.
        """
        means = {name: sum(v) / len(v) for name, v in measured.items()}
        top = max(means.values(), default=0.0)
        return {name: mean / top if mean else 1.0 for name, mean in means.items()}


@dataclass(frozen=True)
class AutoSNR(Rule):
    """lr_i = lr * [SNR_i >= 0.95],   SNR_i = mean over elements of g_i^2 / (Var_0(g_i) + 1e-8).

    Var_0 is the variance over the tensor's first dimension (output channels), as in the authors'
    code; with one output channel it is undefined and the tensor passes the gate, as there. Despite
    its name it tells no signal from noise: without the 1e-8, n >= 20 channels have an SNR of at
    least (n - 1) / n >= 0.95 whatever g is, so that what waits are tensors with small gradients
    (of a deviation below about 4e-4) and those with few channels.
    """

    name: ClassVar[str] = "auto_snr"
    gate: float = 0.95

    def measure(self, theta: Tensor, g: Tensor) -> float:
        """SNR of one tensor's gradient, (out, ...); infinite with a single output channel."""
        if g.shape[0] < 2:
            return float("inf")
        return float((g.square() / (g.var(dim=0, keepdim=True) + 1e-8)).mean())

    def multipliers(self, measured: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """From each tensor's values, one a batch, to 0 or 1."""
        return {name: float(sum(v) / len(v) >= self.gate) for name, v in measured.items()}
