"""Densities whose denoiser is known exactly: what estimators and trained networks are held against.

Each has `posterior_mean(y, tau)`, differentiable by torch, and `sample(num, seed)`. Those on a line, and
products of them, also have `exact(tau)`: all curves by quadrature.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks

from .denoisers import Denoiser, from_denoiser

_PANELS, _NODES = 64, 24  # most Gauss-Legendre panels between two edges, and nodes of each
_RESOLVED = 3.0  # standard deviations of the noise in a panel
_REACH = 9.5  # standard deviations: beyond them lies less than 1e-20


class ExactCurves(NamedTuple):
    """FI, FIR, MMSE and its rate at one tau."""

    fisher_information: float
    fisher_information_rate: float
    mmse: float
    mmse_rate: float


class Density(Protocol):
    dim: int

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor: ...

    def sample(self, num: int, seed: int = 0) -> Tensor: ...


def from_density(density: Density) -> Denoiser:
    """The exact denoiser.

    Example:
        >>> from_density(GaussianMixture([[0.0]], [1.0]))(torch.ones(1, 1), 1.0).tolist()
        [[0.5]]
    """
    return from_denoiser(density.posterior_mean)


@dataclass(frozen=True)
class GaussianMixture:
    """sum_k weights_k N(means_k, covariances_k); a covariance of zero is a point.

    Args:
        means: `[k, dim]`.
        covariances: `[k, dim, dim]`, `[k, dim]` for diagonal or `[k]` for isotropic ones; positive semidefinite.
        weights: `[k]`, positive; scaled to sum to one; None: all alike.
    """

    means: Tensor
    variances: Tensor  # eigenvalues [k, dim]
    axes: Tensor | None  # eigenvectors [k, dim, dim]; None: the coordinates'
    log_weights: Tensor

    def __init__(self, means: Any, covariances: Any, weights: Any = None):
        mean, covariance = (_checks.float_array(*x) for x in (("means", means), ("covariances", covariances)))
        if mean.ndim != 2:
            raise ValueError(f"means must have shape [k, dim], got {mean.shape}.")
        k, dim = mean.shape
        weight = np.ones(k) if weights is None else _checks.float_array("weights", weights)
        if covariance.shape not in ((k, dim, dim), (k, dim), (k,)) or weight.shape != (k,) or not (weight > 0).all():
            raise ValueError(
                f"covariances and weights must fit {k} means in {dim} dimensions and weights be > 0, got covariances "
                f"{covariance.shape} and weights {weight.shape}."
            )
        axes = None
        if covariance.ndim == 3:
            variances, vectors = np.linalg.eigh(covariance)
            axes = torch.as_tensor(vectors)
        else:
            variances = np.broadcast_to(covariance.reshape(k, -1), (k, dim)).copy()
        if not (variances >= -1e-12 * np.abs(variances).max(initial=0)).all():
            raise ValueError("covariances must be positive semidefinite, got a negative eigenvalue.")
        for name, value in (
            ("means", torch.as_tensor(mean)),
            ("variances", torch.as_tensor(np.maximum(variances, 0))),
            ("axes", axes),
            ("log_weights", torch.as_tensor(np.log(weight / weight.sum()))),
        ):
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, dim]`."""
        log_density, offset = self._parts(y, tau)
        share = self.variances.to(y) / (self.variances.to(y) + tau)
        inner = self._turned(offset * share, back=True) + self.means.to(y)
        return (torch.softmax(log_density, dim=1)[..., None] * inner).sum(dim=1)

    def log_density(self, y: Tensor, tau: float) -> Tensor:
        """log p_tau(y), `[batch]`."""
        return torch.logsumexp(self._parts(y, tau)[0], dim=1)

    def _parts(self, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Logarithms of the components `[batch, k]`, and y less their means along their axes `[batch, k, dim]`."""
        offset = self._turned(y[:, None] - self.means.to(y))
        variance = self.variances.to(y) + tau
        exponent = -0.5 * (offset**2 / variance + torch.log(2 * math.pi * variance)).sum(dim=-1)
        return self.log_weights.to(y) + exponent, offset

    def _turned(self, x: Tensor, back: bool = False) -> Tensor:
        if self.axes is None:
            return x
        axes = self.axes.to(x)
        return torch.einsum("bki,kji->bkj" if back else "bki,kij->bkj", x, axes)

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, dim]`."""
        generator = torch.Generator().manual_seed(seed)
        which = torch.multinomial(self.log_weights.exp(), num, replacement=True, generator=generator)
        normal = torch.randn((num, self.dim), generator=generator, dtype=torch.float64) * self.variances[which].sqrt()
        turned = normal if self.axes is None else torch.einsum("bi,bji->bj", normal, self.axes[which])
        return self.means[which] + turned

    def exact(self, tau: float) -> ExactCurves:
        """In one dimension by quadrature, else of one component in closed form."""
        if len(self.means) == 1:
            return gaussian_curves(self.variances[0].numpy(), tau)
        if self.dim != 1:
            raise ValueError(f"exact must be asked of one dimension or one component, got {self.dim} dimensions.")
        spread = (self.variances[:, 0] + tau).sqrt()
        centres = np.unique(self.means[:, 0].numpy())
        reach = _REACH * float(spread.max())
        edges = np.unique(np.concatenate([centres - reach, centres, centres + reach]))

        def moments(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            log_density, offset = self._parts(y[:, None], tau)
            share = self.variances / (self.variances + tau)
            inner, inside = offset[..., 0] * share[:, 0] + self.means[:, 0], share[:, 0] * tau
            r = torch.softmax(log_density, dim=1)
            mean = (r * inner).sum(dim=1)
            variance = (r * (inside + (inner - mean[:, None]) ** 2)).sum(dim=1)
            return torch.logsumexp(log_density, dim=1).exp(), mean, variance

        return _on_a_line(moments, edges, tau)


def gaussian_curves(eigenvalues: Sequence[float] | np.ndarray, tau: float) -> ExactCurves:
    """Of N(mean, S) with these eigenvalues of S; zeros are dimensions the data do not fill.

    Example:
        >>> gaussian_curves([1.0, 0.0], 1.0)
        ExactCurves(fisher_information=1.5, fisher_information_rate=1.25, mmse=0.5, mmse_rate=0.25)
    """
    variance = np.asarray(eigenvalues, float)
    total = variance + tau
    return ExactCurves(
        float((1 / total).sum()),
        float((1 / total**2).sum()),
        float((variance * tau / total).sum()),
        float(((variance / total) ** 2).sum()),
    )


@dataclass(frozen=True)
class Activated:
    """`dim` independent coordinates f(N), N standard normal: a pointwise encoder of a normal distribution.

    Args:
        function: f on arrays and tensors alike, smooth but at 0.
        dim: number of coordinates.
    """

    function: Callable[[Any], Any]
    dim: int = 1

    def _nodes(self, like: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Values f(n) and log weights of n, panels on both sides of 0."""
        n, weight = _panels(np.array([-_REACH, 0.0, _REACH]), _enough(_REACH, math.sqrt(tau)))
        log_weight = np.log(weight) - n**2 / 2 - math.log(2 * math.pi) / 2
        return self.function(torch.as_tensor(n).to(like)), torch.as_tensor(log_weight).to(like)

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, dim]`."""
        values, log_weight = self._nodes(y, tau)
        share = torch.softmax(log_weight - (y[..., None] - values) ** 2 / (2 * tau), dim=-1)
        return share @ values

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, dim]`."""
        normal = torch.randn((num, self.dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return self.function(normal)

    def exact(self, tau: float) -> ExactCurves:
        """By quadrature."""
        values, log_weight = self._nodes(torch.zeros((), dtype=torch.float64), tau)
        reach = _REACH * math.sqrt(tau)
        low, high = float(values.min()) - reach, float(values.max()) + reach
        kink = float(self.function(torch.zeros((), dtype=torch.float64)))
        edges = np.unique(np.clip([low, kink - reach, kink, kink + reach, high], low, high))

        def moments(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            exponent = log_weight - (y[:, None] - values) ** 2 / (2 * tau)
            share = torch.softmax(exponent, dim=1)
            mean = share @ values
            variance = (share * (values - mean[:, None]) ** 2).sum(dim=1)
            return torch.logsumexp(exponent, dim=1).exp() / math.sqrt(2 * math.pi * tau), mean, variance

        return ExactCurves(*(self.dim * x for x in _on_a_line(moments, edges, tau)))


@dataclass(frozen=True)
class Sphere:
    """Uniform on a circle (dim 2) or a sphere (dim 3) of a radius."""

    dim: int = 2
    radius: float = 1.0

    def __post_init__(self):
        if self.dim not in (2, 3):
            raise ValueError(f"dim must be 2 or 3, got {self.dim}.")
        if not self.radius > 0:
            raise ValueError(f"radius must be > 0, got {self.radius}.")

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
        normal = torch.randn((num, self.dim), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return self.radius * normal / normal.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class WrappedNormal:
    """On a circle of some radius about 0, at an angle that is normal with mean 0 and standard deviation `spread`."""

    radius: float
    spread: float
    dim: int = 2

    def __post_init__(self):
        for name in ("radius", "spread"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}.")
        if self.dim != 2:
            raise ValueError(f"dim must be 2, got {self.dim}.")

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, 2]`."""
        places, weight = self._nodes(tau)
        x = (self.radius * torch.stack([places.cos(), places.sin()], dim=1)).to(y)
        return torch.softmax(weight.log().to(y) + y @ x.T / tau, dim=1) @ x

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, 2]`."""
        normal = torch.randn(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return self.radius * torch.stack([(self.spread * normal).cos(), (self.spread * normal).sin()], dim=1)

    def exact(self, tau: float) -> ExactCurves:
        """By quadrature in polar coordinates."""
        places, weight = self._nodes(tau)
        x = self.radius * torch.stack([places.cos(), places.sin()], dim=1)
        functions = torch.stack([torch.ones_like(places), *x.T, x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]], dim=1)
        reach, total = _REACH * math.sqrt(tau), np.zeros(4)
        edges = np.array([max(self.radius - reach, 0.0), self.radius, self.radius + reach])
        for length, share in zip(*_panels(edges, 4), strict=True):
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


def _enough(width: float, scale: float) -> int:
    """Panels over a width on which functions vary over a scale."""
    return min(max(math.ceil(width / (_RESOLVED * scale)), 4), _PANELS)


def _panels(edges: np.ndarray, panels: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre panels, `panels` between each two edges."""
    cuts = np.concatenate([np.linspace(a, b, panels, endpoint=False) for a, b in itertools.pairwise(edges)])
    cuts = np.append(cuts, edges[-1])
    x, w = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(cuts)[:, None] / 2
    return (cuts[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def _on_a_line(
    moments: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], edges: np.ndarray, tau: float
) -> ExactCurves:
    """Curves from p(y), E[X | y] and Var[X | y] = tau (1 + tau s')."""
    y, weight = _panels(edges, _enough(float(np.diff(edges).max()), math.sqrt(tau)))
    density, mean, variance = (x.numpy() for x in moments(torch.as_tensor(y)))
    weight = weight * density
    score, slope = (mean - y) / tau, (variance / tau - 1) / tau
    quantities = score**2, slope**2, variance, (variance / tau) ** 2
    return ExactCurves(*(float(weight @ q) for q in quantities))
