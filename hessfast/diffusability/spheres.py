"""Densities on circles and spheres, whose exact denoisers are known: data with a curved support.

Those on a circle that are not uniform also have `exact(tau)`, all curves by quadrature.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks

from ._quadrature import REACH, legendre
from .densities import ExactCurves, standard_normal


@dataclass(frozen=True)
class Sphere:
    """Uniform on a circle (dim 2) or a sphere (dim 3) of a radius."""

    dim: int = 2
    radius: float = 1.0

    def __post_init__(self):
        if self.dim not in (2, 3):
            raise ValueError(f"dim must be 2 or 3, got {self.dim}.")
        _checks.positive("radius", self.radius)

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, dim]`: along y, shorter than the radius by a ratio of Bessel functions."""
        length = y.norm(dim=-1, keepdim=True)
        return self.radius * self._shrink(self.radius * length / tau) * y / length

    def _shrink(self, k: Tensor) -> Tensor:
        if self.dim == 2:
            return torch.special.i1e(k) / torch.special.i0e(k)
        return 1 / torch.tanh(k) - 1 / k

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, dim]`."""
        normal = standard_normal((num, self.dim), seed)
        return self.radius * normal / normal.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class WrappedNormal:
    """On a circle of some radius about 0, at an angle that is normal with mean 0 and standard deviation `spread`."""

    radius: float
    spread: float
    dim: ClassVar[int] = 2

    def __post_init__(self):
        for name in ("radius", "spread"):
            _checks.positive(name, getattr(self, name))

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, 2]`."""
        places, weight = self._nodes(tau)
        x = (self.radius * torch.stack([places.cos(), places.sin()], dim=1)).to(y)
        return torch.softmax(weight.log().to(y) + y @ x.T / tau, dim=1) @ x

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, 2]`."""
        normal = standard_normal((num,), seed)
        return self.radius * torch.stack([(self.spread * normal).cos(), (self.spread * normal).sin()], dim=1)

    def exact(self, tau: float) -> ExactCurves:
        """Curves by quadrature in polar coordinates."""
        places, weight = self._nodes(tau)
        x = self.radius * torch.stack([places.cos(), places.sin()], dim=1)
        functions = torch.stack([torch.ones_like(places), *x.T, x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]], dim=1)
        reach, total = REACH * math.sqrt(tau), np.zeros(4)
        edges = np.array([max(self.radius - reach, 0.0), self.radius, self.radius + reach])
        for length, share in zip(*legendre(edges, 4), strict=True):
            # -|y - x|^2 / 2 tau for y at this length and the angle of each node
            apart = 2 * ((places[:, None] - places) / 2).sin()
            square = (length - self.radius) ** 2 + length * self.radius * apart**2
            kernel = torch.exp(-square / (2 * tau)) / (2 * math.pi * tau)
            density, *moments = ((kernel * weight) @ functions).T
            a, b, aa, bb, ab = (moment / density.clamp(min=1e-300) for moment in moments)
            y = length * x / self.radius
            score = torch.stack([a - y[:, 0], b - y[:, 1]]) / tau
            covariance = torch.stack([aa - a**2, bb - b**2, ab - a * b])
            hessian = covariance / tau**2 - torch.tensor([1 / tau, 1 / tau, 0.0])[:, None]
            twice = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)  # off the diagonal
            quantities = (score**2).sum(0), twice @ hessian**2, covariance[:2].sum(0), twice @ covariance**2 / tau**2
            area = share * length * 2 * math.pi / len(places)
            total += [area * float(density @ quantity) for quantity in quantities]
        return ExactCurves(*total.tolist())

    def _nodes(self, tau: float) -> tuple[Tensor, Tensor]:
        """Angles and probabilities of a rule of equal steps: as good as exact for smooth functions on a circle."""
        width = min(math.sqrt(tau) / (2 * self.radius), self.spread, 0.1)  # y may be farther out than the circle
        num = math.ceil(2 * math.pi / (0.7 * width))
        places = torch.arange(num, dtype=torch.float64) * (2 * math.pi / num) - math.pi
        turns = 2 * math.pi * torch.arange(-10 - math.ceil(2 * self.spread), 11 + math.ceil(2 * self.spread))
        weight = torch.exp(-((places[:, None] + turns) ** 2) / (2 * self.spread**2)).sum(dim=1)
        return places, (weight / weight.sum()).clamp(min=1e-300)
