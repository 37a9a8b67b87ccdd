"""The exact denoiser of a finite data set: no training, and what a perfectly memorising model would say."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hessfast._dispatch import kernel

from . import _samples
from ._predictions import of_sample
from .denoisers import Denoiser

_NEAR = 4  # neighbours: at their median squared distance MMSE' is off by 10 % in three dimensions, 80 % in one
_ASKED = 1024  # data whose neighbours are looked for


@dataclass(frozen=True, eq=False)
class EmpiricalDenoiser(Denoiser):
    """See `empirical_denoiser`."""

    data: Tensor = field(default_factory=lambda: torch.empty(0))
    left_out: Tensor | None = None  # number of the datum equal to each sample, `[n]`, left out of its mean; -1: none is

    def for_rows(self, samples: Tensor, rows: Tensor) -> Denoiser:
        if samples.shape[1:] != self.data.shape[1:]:
            shapes = f"{tuple(self.data.shape)}, got {tuple(samples.shape)}"
            raise ValueError(f"samples must have the shape of the data, {shapes}.")
        if self.left_out is None:
            return self
        if len(samples) == len(self.left_out):
            own = self.left_out[rows]
            some = own >= 0
            if torch.equal(samples[rows[some].to(samples.device)].to(self.data), self.data[own[some]]):
                return Denoiser(lambda y, tau: _Mean.apply(y, self.data, tau, own), self.coefficients, self.tau_range)
        raise ValueError("samples must be the data, in their order, of a denoiser that leaves each of them out.")

    def of_part(self, kept: Tensor, rows: Tensor) -> "EmpiricalDenoiser":
        """The denoiser of some of the data, to be asked for samples[rows].

        Args:
            kept: which data, bool `[n]`.
        """
        left_out = None
        if self.left_out is not None:
            places = torch.where(kept, kept.cumsum(0) - 1, -1)
            left_out = places[self.left_out[rows]]
        return _of(self.data[kept.to(self.data.device)], left_out, self.tau_range)


def empirical_denoiser(data: Any, *, leave_one_out: bool = False) -> EmpiricalDenoiser:
    """The denoiser of the uniform distribution on the data: their average with weights exp(-|y - x|^2 / 2 tau).

    Its MMSE' is that of the distribution behind the data from tau of about the squared distance of neighbours on,
    `tau_range[0]`; below, curves are those of isolated points. FI, and FIR still more, need a greater tau:
    `fisher_curve` tells from halves of the data where they are biased, and what error and bias add to their errors. y
    must be held out: pass other samples to `fisher_curve`, or the data themselves with `leave_one_out`.

    Args:
        data: `[n, ...]`, on the device where it is to run; used in float32.
        leave_one_out: each sample is denoised by the others; `fisher_curve` then takes the data, in their order.

    Example:
        Two points at +-1: D(y) = tanh(y / tau).

        >>> points = empirical_denoiser(torch.tensor([[-1.0], [1.0]]))
        >>> torch.allclose(points(torch.tensor([[0.3]]), 0.5), torch.tensor([[0.6]]).tanh())
        True
    """
    x = _samples.samples("data", data, dtype=torch.float32).contiguous()
    every = torch.arange(len(x)) if leave_one_out else None
    return _of(x, every, (_neighbour_distance(x.flatten(1)), math.inf))


def _of(x: Tensor, left_out: Tensor | None, tau_range: tuple[float, float] | None) -> EmpiricalDenoiser:
    return EmpiricalDenoiser(
        lambda y, tau: _Mean.apply(y, x, tau, None), of_sample, tau_range,
        data=x, left_out=left_out,
    )  # fmt: skip


def _neighbour_distance(x: Tensor) -> float:
    """Median squared distance of the _NEAR-th neighbours that are not copies."""
    some = torch.linspace(0, len(x) - 1, min(len(x), _ASKED), device=x.device).long()
    apart = _samples.distances(x, some)
    nearest = torch.where(apart > 0, apart, math.inf).topk(min(_NEAR, len(x)), dim=1, largest=False).values
    near = nearest.where(nearest.isfinite(), 0.0).amax(dim=1)  # fewer where there are no more
    return float(near.median()) ** 2


class _Mean(torch.autograd.Function):
    """E[X | y], whose Jacobian is Cov(X | y) / tau: symmetric, and never formed."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, data: Tensor, tau: float, rows: Tensor | None) -> Tensor:
        ctx.save_for_backward(y)
        ctx.rest = data, tau, rows
        return _moments(y, data, tau, rows, None)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (y,) = ctx.saved_tensors
        data, tau, rows = ctx.rest
        return _moments(y, data, tau, rows, v) / tau, None, None, None


def _moments(y: Tensor, data: Tensor, tau: float, rows: Tensor | None, v: Tensor | None) -> Tensor:
    """The mean, or the covariance times v; in the dtype of y."""
    num = len(y)
    queries, points = y.detach().float().flatten(1), data.flatten(1)
    probes = queries.new_zeros((num, 0, queries.shape[1])) if v is None else v.float().reshape(num, 1, -1)
    left_out = torch.full((num,), -1) if rows is None else rows
    tensors = queries, points, torch.full((num,), tau, dtype=torch.float64), probes, left_out
    device = str(data.device)
    if data.is_cuda:
        mean, _, covariance = kernel("posterior_moments", device)(*(x.to(data.device) for x in tensors))
    else:
        arrays = (x.cpu().contiguous().numpy() for x in tensors)
        mean, _, covariance = map(torch.as_tensor, kernel("posterior_moments")(*arrays))
    return (mean if v is None else covariance[:, 0]).reshape(y.shape).to(y)
