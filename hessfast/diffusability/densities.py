"""Densities whose denoiser is known exactly: what estimators and trained networks are held against.

Each has `posterior_mean(y, tau)`, differentiable by torch, and `sample(num, seed)`; those whose curves are closed forms
or integrals in one dimension have `exact(tau)`, too.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from hessfast import _checks
from hessfast._modules import dtype_of

from ._quadrature import REACH, legendre, on_a_line, resolving
from .denoisers import Denoiser, from_denoiser

_TRIED = 4001  # places on each side of 0 where a function is asked how steep it is
_CARRIES, _BESIDE = 7.25, 0.5  # standard deviations of a normal distribution but for 1e-12; what y from there may see
_MOST_PANELS = 4096
_AT_ONCE, _NUMBERS = 256, 2**22  # nodes of y; numbers of y and nodes


class ExactCurves(NamedTuple):
    """FI, FIR, MMSE and its rate at one tau."""

    fisher_information: float
    fisher_information_rate: float
    mmse: float
    mmse_rate: float


class Density(Protocol):
    """A distribution of X in `dim` dimensions whose exact denoiser is known."""

    @property
    def dim(self) -> int: ...

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, dim]`, Y = X + sqrt(tau) Z."""
        ...

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, dim]`."""
        ...


def from_density(density: Density) -> Denoiser:
    """The exact denoiser, computed in float64 (a module's in its own dtype) and rounded to that of the samples.

    Example:
        >>> from_density(GaussianMixture([[0.0]], [1.0]))(torch.ones(1, 1), 1.0).tolist()
        [[0.5]]
    """
    dtype = dtype_of(density.posterior_mean)

    def predict(y: Tensor, tau: float) -> Tensor:
        if y.shape[1:] != (density.dim,):
            raise ValueError(f"samples must have shape [n, {density.dim}] for this density, got {tuple(y.shape)}.")
        return density.posterior_mean(y.double() if dtype is None else y, tau).to(y.dtype)

    return replace(from_denoiser(predict), network=density.posterior_mean)


@dataclass(frozen=True, eq=False)
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
            uneven = np.abs(covariance - covariance.swapaxes(1, 2)).max(initial=0)
            if uneven > 1e-6 * np.abs(covariance).max(initial=0):
                raise ValueError(f"covariances must be symmetric, got entries that differ by {uneven:g}.")
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
        """Of a sample."""
        return self.means.shape[1]

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, dim]`."""
        log_density, offset = self._parts(y, tau)
        share = self.variances.to(y) / (self.variances.to(y) + tau)
        inner = self._rotated(offset * share, back=True) + self.means.to(y)
        return (torch.softmax(log_density, dim=1)[..., None] * inner).sum(dim=1)

    def log_density(self, y: Tensor, tau: float) -> Tensor:
        """log p_tau(y), `[batch]`."""
        return torch.logsumexp(self._parts(y, tau)[0], dim=1)

    def _parts(self, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Logarithms of the components `[batch, k]`, and y less their means along their axes `[batch, k, dim]`."""
        offset = self._rotated(y[:, None] - self.means.to(y))
        variance = self.variances.to(y) + tau
        exponent = -0.5 * (offset**2 / variance + torch.log(2 * math.pi * variance)).sum(dim=-1)
        return self.log_weights.to(y) + exponent, offset

    def _rotated(self, x: Tensor, back: bool = False) -> Tensor:
        if self.axes is None:
            return x
        axes = self.axes.to(x)
        return torch.einsum("bki,kji->bkj" if back else "bki,kij->bkj", x, axes)

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, dim]`."""
        num, generator = _checks.integer("num", num, 1), torch.Generator().manual_seed(_checks.seed(seed))
        which = torch.multinomial(self.log_weights.exp(), num, replacement=True, generator=generator)
        normal = standard_normal((num, self.dim), generator) * self.variances[which].sqrt()
        rotated = normal if self.axes is None else torch.einsum("bi,bji->bj", normal, self.axes[which])
        return self.means[which] + rotated

    def exact(self, tau: float) -> ExactCurves:
        """Curves of a mixture on a line by quadrature, of one component in closed form."""
        tau = _checks.positive("tau", tau)
        if len(self.means) == 1:
            return gaussian_curves(self.variances[0].numpy(), tau)
        if self.dim != 1:
            raise ValueError(
                f"exact must be asked of one dimension or one component, got {self.dim} dimensions. Use fisher_curve "
                "of from_density(mixture) with many of its samples."
            )
        spread = (self.variances[:, 0] + tau).sqrt()
        centres, reach = self.means[:, 0].numpy(), REACH * spread.numpy()
        edges = np.unique(np.concatenate([centres - reach, centres, centres + reach]))

        def moments(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            log_density, offset = self._parts(y[:, None], tau)
            share = self.variances / (self.variances + tau)
            inner, inside = offset[..., 0] * share[:, 0] + self.means[:, 0], share[:, 0] * tau
            r = torch.softmax(log_density, dim=1)
            mean = (r * inner).sum(dim=1)
            variance = (r * (inside + (inner - mean[:, None]) ** 2)).sum(dim=1)
            return torch.logsumexp(log_density, dim=1).exp(), mean, variance

        return ExactCurves(*on_a_line(moments, edges, tau))


def gaussian_curves(eigenvalues: Sequence[float] | np.ndarray, tau: float) -> ExactCurves:
    """Exact FI, FIR, MMSE and its rate of N(mean, S).

    Args:
        eigenvalues: of S; zeros are dimensions that the data do not fill.
        tau: variance of the noise.

    Example:
        >>> gaussian_curves([1.0, 0.0], 1.0)
        ExactCurves(fisher_information=1.5, fisher_information_rate=1.25, mmse=0.5, mmse_rate=0.25)
    """
    variance, tau = _checks.float_array("eigenvalues", eigenvalues), _checks.positive("tau", tau)
    if variance.ndim != 1 or (variance < 0).any():
        raise ValueError(f"eigenvalues must have shape [dim] and be >= 0, got {eigenvalues!r:.80}.")
    total = variance + tau
    return ExactCurves(
        float((1 / total).sum()),
        float((1 / total**2).sum()),
        float((variance * tau / total).sum()),
        float(((variance / total) ** 2).sum()),
    )


@dataclass(frozen=True)
class TransformedNormal:
    """`dim` independent coordinates f(N), N standard normal: a pointwise encoder of a normal distribution.

    Args:
        function: f on arrays and tensors alike, smooth but at 0.
        dim: number of coordinates.
    """

    function: Callable[[Any], Any]
    dim: int = 1

    def _nodes(self, like: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Values f(n) and log weights of n, on both sides of 0, as close as f is steep."""
        most = _CARRIES + _BESIDE
        edges = [np.linspace(-REACH, -most, 5)]
        for side in (np.linspace(-most, 0, _TRIED), np.linspace(0, most, _TRIED)):
            edges.append(resolving(self.function(torch.as_tensor(side)).numpy(), side, math.sqrt(tau))[1:])
        edges = np.concatenate([*edges, np.linspace(most, REACH, 5)[1:]])
        if len(edges) > _MOST_PANELS:
            least = tau * (len(edges) / _MOST_PANELS) ** 2
            raise ValueError(f"tau must be at least {least:.1g} for quadrature of this function, got {tau:g}.")
        n, weight = legendre(edges, 1)
        log_weight = np.log(weight) - n**2 / 2 - math.log(2 * math.pi) / 2
        return self.function(torch.as_tensor(n).to(like)), torch.as_tensor(log_weight).to(like)

    def posterior_mean(self, y: Tensor, tau: float) -> Tensor:
        """E[X | Y = y] for y `[batch, dim]`."""
        values, log_weight = self._nodes(y, tau)
        some = y.split(max(_NUMBERS // (len(values) * max(self.dim, 1)), 1))
        shares = (torch.softmax(log_weight - (few[..., None] - values) ** 2 / (2 * tau), dim=-1) for few in some)
        return torch.cat([share @ values for share in shares])

    def sample(self, num: int, seed: int = 0) -> Tensor:
        """float64 `[num, dim]`."""
        normal = standard_normal((num, self.dim), seed)
        return self.function(normal)

    def exact(self, tau: float) -> ExactCurves:
        """Curves by quadrature, those of a coordinate times `dim`."""
        tau = _checks.positive("tau", tau)
        values, log_weight = self._nodes(torch.zeros((), dtype=torch.float64), tau)
        reach = REACH * math.sqrt(tau)
        carried = self.function(torch.linspace(-_CARRIES, _CARRIES, _TRIED, dtype=torch.float64))
        low, high = float(carried.min()) - reach, float(carried.max()) + reach
        kink = float(self.function(torch.zeros((), dtype=torch.float64)))
        edges = np.unique(np.clip([low, kink - reach, kink, kink + reach, high], low, high))

        def near(y: Tensor) -> Tensor:
            """p(y), E[X | y] and Var[X | y], from the nodes that these y can come from."""
            seen = (values >= y[0] - 2 * reach) & (values <= y[-1] + 2 * reach)
            x, exponent = values[seen], log_weight[seen] - (y[:, None] - values[seen]) ** 2 / (2 * tau)
            share = torch.softmax(exponent, dim=1)
            mean = share @ x
            variance = (share * (x - mean[:, None]) ** 2).sum(dim=1)
            return torch.stack([torch.logsumexp(exponent, dim=1).exp() / math.sqrt(2 * math.pi * tau), mean, variance])

        def moments(y: Tensor) -> Tensor:
            return torch.cat([near(some) for some in y.split(_AT_ONCE)], dim=1)

        return ExactCurves(*(self.dim * x for x in on_a_line(moments, edges, tau, most=4 * _MOST_PANELS)))


def standard_normal(shape: tuple[int, ...], seed: int | torch.Generator) -> Tensor:
    """Independent N(0, 1), float64."""
    _checks.integer("num", shape[0], 1)
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(_checks.seed(seed))
    return torch.randn(shape, generator=generator, dtype=torch.float64)
