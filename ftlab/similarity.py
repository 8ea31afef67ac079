"""How alike two sets of activations are: SVCCA and linear CKA, added up batch by batch.

So the activations of a thousand images are never in memory together: what stays are the sums of
their products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

LEAST = 4  # images that the unbiased estimator of CKA needs in a batch
KEEP = 0.99  # of the variance of either side, before CCA
RANK = 1e-10  # a direction with a smaller share of the largest variance is rounding
COLUMNS = 1 << 16  # of activations in double precision at a time
POINTS = 4096  # at which the random coefficients' density is added up


# --- SVCCA ----------------------------------------------------------------------------------------


class Moments:
    """Sums over samples of two sets of features, from which their covariances follow."""

    def __init__(self, p: int, q: int, device: torch.device | str = "cpu"):
        def zeros(*shape):
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self.n = 0
        self.x, self.y = zeros(p), zeros(q)
        self.xx, self.yy, self.xy = zeros(p, p), zeros(q, q), zeros(p, q)
        self.unpaired = zeros(p, q)

    def add(self, x: Tensor, y: Tensor, shift: int) -> None:
        """Add samples: x (p, n) and y (q, n), one column each.

        shift: so many columns further, round the end, y is of another image, but of one with as
            much in common as any two; that is what it is compared with a second time.
        """
        self.n += x.shape[1]
        parts = (side.split(COLUMNS, dim=1) for side in (x, y, y.roll(shift, dims=1)))
        for a, b, c in zip(*parts, strict=True):
            a, b, c = a.double(), b.double(), c.double()
            self.x += a.sum(1)
            self.y += b.sum(1)
            self.xx.addmm_(a, a.T)
            self.yy.addmm_(b, b.T)
            self.xy.addmm_(a, b.T)
            self.unpaired.addmm_(a, c.T)

    def covariances(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of x (p, p), of y (q, q), between them (p, q), and between x and y of other images."""
        x, y = self.x / self.n, self.y / self.n
        xx, yy, xy, xz = (s / self.n for s in (self.xx, self.yy, self.xy, self.unpaired))
        return xx - x.outer(x), yy - y.outer(y), xy - x.outer(y), xz - x.outer(y)


def svcca(moments: Moments, keep: float = KEEP) -> dict:
    """Canonical correlations of the directions that hold most of either side's variance.

    Args:
        keep: the share of the variance kept; 1 keeps every direction that varies at all.
    Returns:
        {coefficients (min(p, q),) descending, mean, random: the mean of as many coefficients of
        independent features, area: mean - random, unpaired: the area where every image meets
        another one's activations, features: [p, q] kept, samples: n}. The mean is the area under
        the coefficients over index / min(p, q). None where a side does not vary. google/svcca
        leaves the smallest coefficients out of its mean; the area has them all.
    """
    xx, yy, *between = moments.covariances()
    left, right = _whitening(xx, keep), _whitening(yy, keep)
    paired, unpaired = (
        torch.linalg.svdvals(left.T @ xy @ right).clamp(0, 1).cpu().numpy() for xy in between
    )
    p, q, n = left.shape[1], right.shape[1], moments.n
    answer = {"coefficients": paired, "features": [p, q], "samples": n}
    if not len(paired):
        return answer | dict.fromkeys(("mean", "random", "area", "unpaired"))
    mean, random = float(paired.mean()), random_mean(p, q, n)
    areas = {"area": mean - random, "unpaired": float(unpaired.mean()) - random}
    return answer | {"mean": mean, "random": random, **areas}


def _whitening(covariance: Tensor, keep: float) -> Tensor:
    """(p, k): to the k strongest directions that hold a share `keep` of the variance, each at 1."""
    variances, directions = (found.flip(-1) for found in torch.linalg.eigh(covariance))
    variances = variances.clamp(min=0)
    real = int((variances > RANK * variances[0]).sum())
    held = variances.cumsum(0) / variances.sum()
    enough = int((held < keep).sum()) + 1 if keep < 1 else real
    kept = min(real, enough)
    return directions[:, :kept] / variances[:kept].sqrt()


def random_edges(p: int, q: int, n: int) -> tuple[float, float]:
    """Least and largest canonical correlation of independent p and q Gaussian features, n large.

    |sqrt(a (1 - b)) -+ sqrt(b (1 - a))|, a = p / n, b = q / n (Wachter 1980); one sample goes to
    the mean.
    """
    a, b = p / (n - 1), q / (n - 1)
    left, right = math.sqrt(max(a * (1 - b), 0)), math.sqrt(max(b * (1 - a), 0))
    return abs(left - right), left + right


def random_mean(p: int, q: int, n: int) -> float:
    """Mean canonical correlation of independent p and q Gaussian features, n large.

    The squares have the density sqrt((h - s) (s - l)) / (2 pi min(a, b) s (1 - s)) between the
    squared edges l and h; where p + q > n, the coefficients that must be 1 come on top
    (Wachter 1980).
    """
    a, b = p / (n - 1), q / (n - 1)
    if max(a, b) >= 1:
        return 1.0
    low, high = (edge**2 for edge in random_edges(p, q, n))
    angle = (np.arange(POINTS) + 0.5) * math.pi / POINTS
    half = (high - low) / 2
    s = (low + high) / 2 + half * np.cos(angle)
    held = (half * np.sin(angle)) ** 2 / (2 * math.pi * min(a, b) * s * (1 - s))
    held *= math.pi / POINTS
    return float(held @ np.sqrt(s)) + max(a + b - 1, 0) / min(a, b)


# --- CKA ------------------------------------------------------------------------------------------


def gram(x: Tensor) -> Tensor:
    """(m, m) inner products of m images' features, (m, ...), centred, the diagonal set to 0."""
    found = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    for part in x.flatten(1).split(COLUMNS, dim=1):
        part = part.double()
        part = part - part.mean(0)
        found.addmm_(part, part.T)
    return found.fill_diagonal_(0)


def hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741  (the papers' name)
    """HSIC_1 of two kernels (m, m) whose diagonals are 0 (Song et al. 2012, equation 5)."""
    m, rows, columns = len(k), k.sum(0), l.sum(0)
    total = (k * l).sum()
    total = total + rows.sum() * columns.sum() / ((m - 1) * (m - 2))
    total = total - 2 / (m - 2) * (rows @ columns)
    return float(total) / (m * (m - 3))


@dataclass
class Kernels:
    """HSIC_1 of two networks' kernels, added up over minibatches."""

    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    def add(self, k: Tensor, l: Tensor) -> None:  # noqa: E741
        """Add a minibatch by its two `gram`s."""
        self.xx += hsic(k, k)
        self.yy += hsic(l, l)
        self.xy += hsic(k, l)

    def cka(self) -> float | None:
        """1 for the same up to rotation and scale, about 0 for unrelated; None without variance."""
        if self.xx <= 0 or self.yy <= 0:
            return None
        return self.xy / math.sqrt(self.xx * self.yy)
