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

# Of I_1(k) / I_0(k) and of coth k - 1 / k, over k, in powers of k^2: where the closed form is 0 / 0 or a small
# difference of large numbers.
_SERIES = {
    2: (1 / 2, -1 / 16, 1 / 96),
    3: (1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555, -1382 / 638512875, 4 / 18243225),
}
_SMALL = {2: 1e-3, 3: 0.3}
_AT_ONCE = 2**16  # nodes of y times nodes of x


@dataclass(frozen=True)
class Sphere:
    """Uniform on a circle (dim 2) or a sphere (dim 3) of a radius."""

    dim: int = 2
    radius: float = 1.0

    def __post_init__(self):
        _checks.integer("dim", self.dim, 2, 3)
        _checks.positive("radius", self.radius)

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, dim]`: along y, shorter than the radius by a ratio of Bessel functions."""
        length = y.norm(dim=-1, keepdim=True)
        k = self.radius * length / tau
        small = k.detach() < _SMALL[self.dim]
        square = torch.where(small, (self.radius / tau) ** 2 * (y**2).sum(-1, True), 0.0)  # of others powers overflow
        near = self.radius**2 / tau * _series(_SERIES[self.dim], square) * y
        k, length = torch.where(small, 1.0, k), torch.where(small, 1.0, length)
        return torch.where(small, near, self.radius * self._shrink(k) * y / length)

    def _shrink(self, k: Tensor) -> Tensor:
        if self.dim == 2:
            return torch.special.i1e(k) / torch.special.i0e(k)
        return 1 / torch.tanh(k) - 1 / k

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, dim]`."""
        normal = standard_normal((num, self.dim), seed)
        return self.radius * normal / normal.norm(dim=1, keepdim=True)


def _series(coefficients: tuple[float, ...], square: Tensor) -> Tensor:
    total = torch.zeros_like(square)
    for coefficient in reversed(coefficients):
        total = total * square + coefficient
    return total


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
        """Curves by quadrature in polar coordinates, with x only where y can come from: any tau is quick."""
        tau = _checks.positive("tau", tau)
        noise, reach, total = math.sqrt(tau) / (2 * self.radius), REACH * math.sqrt(tau), np.zeros(4)
        inner = math.sqrt(self.radius * max(self.radius - reach, 0.0))
        most = 2 * math.asin(reach / (2 * inner)) if reach < 2 * inner else math.pi
        angles, apart = _steps(max(noise, self.spread), 0.1), _steps(noise, self.spread, most=most)
        edges = np.array([max(self.radius - reach, 0.0), self.radius, self.radius + reach])
        lengths = list(zip(*legendre(edges, 4), strict=True))
        scale = 2 * math.pi / len(angles) * float(apart[1] - apart[0]) / (math.sqrt(2 * math.pi) * self.spread)
        for some in angles.split(max(_AT_ONCE // len(apart), 1)):
            total += scale * self._over_lengths(tau, some, apart, lengths)
        return ExactCurves(*total.tolist())

    def _over_lengths(self, tau: float, angles: Tensor, apart: Tensor, lengths: list) -> np.ndarray:
        """The integrals over the lengths of y, summed over its angles; x is at the angle of y and `apart` from it."""
        places = angles[:, None] + apart
        weight = self._weight(places)
        x = self.radius * torch.stack([places.cos(), places.sin()])
        functions = torch.stack([torch.ones_like(places), *x, x[0] ** 2, x[1] ** 2, x[0] * x[1]]) * weight
        away, total = 4 * (apart / 2).sin() ** 2, np.zeros(4)
        direction = torch.stack([angles.cos(), angles.sin()])
        for length, share in lengths:
            square = (length - self.radius) ** 2 + length * self.radius * away
            kernel = torch.exp(-square / (2 * tau)) / (2 * math.pi * tau)
            density, *moments = functions @ kernel
            a, b, aa, bb, ab = (moment / density.clamp(min=1e-300) for moment in moments)
            score = (torch.stack([a, b]) - length * direction) / tau
            covariance = torch.stack([aa - a**2, bb - b**2, ab - a * b])
            hessian = covariance / tau**2 - torch.tensor([1 / tau, 1 / tau, 0.0], dtype=torch.float64)[:, None]
            twice = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)  # off the diagonal
            quantities = (score**2).sum(0), twice @ hessian**2, covariance[:2].sum(0), twice @ covariance**2 / tau**2
            total += [share * length * float(density @ quantity) for quantity in quantities]
        return total

    def _nodes(self, tau: float) -> tuple[Tensor, Tensor]:
        """Angles and probabilities of a rule of equal steps: as good as exact for smooth functions on a circle."""
        places = _steps(math.sqrt(tau) / (2 * self.radius), self.spread)  # y may be farther out than the circle
        weight = self._weight(places)
        return places, (weight / weight.sum()).clamp(min=1e-300)

    def _weight(self, angles: Tensor) -> Tensor:
        """Of angles, times their density's normalisation."""
        most = 10 + math.ceil(2 * self.spread)
        turns = 2 * math.pi * torch.arange(-most, most + 1, dtype=torch.float64)
        return torch.exp(-((angles[..., None] + turns) ** 2) / (2 * self.spread**2)).sum(dim=-1)


def _steps(*widths: float, most: float = math.pi) -> Tensor:
    """Equal steps over the circle, or to `most` on both sides of 0, for functions that vary over these angles."""
    step = 0.7 * min(*widths, 0.1)
    if most >= math.pi:
        num = math.ceil(2 * math.pi / step)
        return torch.arange(num, dtype=torch.float64) * (2 * math.pi / num) - math.pi
    side = math.ceil(most / step)
    return torch.arange(-side, side + 1, dtype=torch.float64) * step
