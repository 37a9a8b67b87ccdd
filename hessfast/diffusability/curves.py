"""Fisher information, its rate and the MMSE of a denoiser over noise, each with its standard error, in one sweep.

For Y = X + sqrt(tau) Z with score s and H = grad s (Prop. 2.1 of arXiv:2604.02751 with constant 1)

    FI = E|s|^2,   FIR = -dFI/dtau = E|H|^2,   MMSE = E|X - D(Y)|^2,   MMSE' = E|Jac D|^2,   Jac D = 1 + tau H,

with Frobenius norms, of which one vector-Jacobian product with a random sign vector v estimates |J^T v|^2 without bias.
Sample i has the same Z and v at every tau and in every run with the same seed, whatever the batches and the ranks.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from hessfast import _checks

from . import _samples
from ._consistency import Doubt, doubts, unmet, with_errors
from ._half_samples import of_data
from ._sweep import (
    BLOCK,
    ESTIMATES,
    WIDTH,
    Estimate,
    Probing,
    effective_blocks,
    estimates,
    refuse_mixing,
    roundings,
    sweep,
)
from .denoisers import Denoiser, checked
from .empirical import EmpiricalDenoiser

# 1,024 samples before the standard errors are looked at: with 256, heavy tails not seen yet made them too small.
_FIRST_BLOCKS = 1024 // BLOCK
_EFFECTIVE_BLOCKS = 8  # fewer that contribute to the variance: rare events have been seen too seldom to stop


@dataclass(frozen=True, eq=False)
class FisherCurve:
    """What a denoiser says of a distribution at each of the noise variances `tau`.

    Attributes:
        tau: `[len(tau)]`, ascending.
        dim: D, numbers in a sample.
        fisher_information: -E v^T H v, the estimator of least variance.
        fisher_information_plug_in: E|s|^2, with |Z|^2 / tau as control variate.
        fisher_information_dsm: (dim tau - mmse) / tau^2, from denoising score matching (DSM), never above the truth in
            expectation. It and the plug-in are alike for a score that is true, and their mean is the first: a gap
            proves an error of the model.
        fisher_information_rate: E|H^T v|^2.
        mmse: E|X - D(Y)|^2.
        mmse_rate: E|Jac D^T v|^2.
        warnings: what makes these numbers doubtful, and at which tau.
        asymmetry: E|(H - H^T) / 2|^2, the part of the rate that no gradient of a density has; E (H^T v).(H v) is the
            rate less twice this. None unless asked for.
    """

    tau: np.ndarray
    dim: int
    fisher_information: Estimate
    fisher_information_plug_in: Estimate
    fisher_information_dsm: Estimate
    fisher_information_rate: Estimate
    mmse: Estimate
    mmse_rate: Estimate
    warnings: tuple[Doubt, ...]
    asymmetry: Estimate | None = None

    @classmethod
    def of(
        cls, found: dict[str, Estimate], tau: np.ndarray, dim: int, warnings: tuple[Doubt, ...], asymmetry: bool
    ) -> "FisherCurve":
        """Of all estimates of a sweep; their asymmetry is 0 where it was not asked for."""
        rest = {name: each for name, each in found.items() if asymmetry or name != "asymmetry"}
        return cls(tau, dim, **rest, warnings=warnings)

    def to_dict(self) -> dict[str, Any]:
        """Every field, arrays as lists, for JSON; see `from_dict`."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> "FisherCurve":
        """The curve that `to_dict` was asked of."""
        rows = {
            name: Estimate(**{part: np.array(values) for part, values in row.items()})
            for name, row in kept.items()
            if isinstance(row, dict)
        }
        return cls(np.array(kept["tau"]), kept["dim"], warnings=tuple(map(Doubt.from_dict, kept["warnings"])), **rows)

    def last(self, num: int) -> "FisherCurve":
        """The curve at its `num` greatest tau alone."""
        first = len(self.tau) - _checks.integer("num", num, 0, len(self.tau))
        rows = {
            field.name: Estimate(*(part[first:] for part in row))
            for field in fields(self)
            if isinstance(row := getattr(self, field.name), Estimate)
        }
        return replace(self, tau=self.tau[first:], **rows)

    @property
    def fisher_information_rate_by_differences(self) -> np.ndarray:
        """-dFI/dtau between neighbouring tau, `[len(tau)]`: as exact as the grid is fine."""
        if len(self.tau) < 2:
            return np.full(len(self.tau), np.nan)
        mean = self.fisher_information.mean
        slope = np.gradient(np.log(mean), np.log(self.tau)) if (mean > 0).all() else np.full(len(self.tau), np.nan)
        return -slope * mean / self.tau

    @property
    def intrinsic_dimension(self) -> dict[str, np.ndarray]:
        """D - tau FI, D - tau^2 FIR, MMSE / tau, MMSE', `[len(tau)]`: they tend to that of the support as tau falls."""
        return {
            "fisher_information": self.dim - self.tau * self.fisher_information.mean,
            "fisher_information_rate": self.dim - self.tau**2 * self.fisher_information_rate.mean,
            "mmse": self.mmse.mean / self.tau,
            "mmse_rate": self.mmse_rate.mean,
        }


def fisher_curve(
    denoiser: Denoiser,
    samples: Any,
    tau: Any,
    num_probes: int = 1,
    seed: int = 0,
    *,
    relative_error: float | None = None,
    watched: Sequence[str] = ("fisher_information", "fisher_information_rate", "mmse_rate"),
    batch_size: int = 256,
    asymmetry: bool = False,
) -> FisherCurve:
    """All curves of one distribution, each with its standard error.

    Errors are those of sampling, for an `empirical_denoiser` of its data with their bias, too, and of rounding in what
    the denoiser returns; an imperfect network's own error is not in them; `warnings` tell some of it. Where that
    rounding may change FI, FIR or MMSE' by 1 % or more, a warning says so: D and y that are nearly alike lose FI, as
    `from_denoiser` and `from_edm` in float32 do where tau FI / D is below 1e-5. What a denoiser loses inside nobody
    sees: where in doubt, compare with float64.

    Args:
        denoiser: a `Denoiser`, made by `from_denoiser` and its neighbours, `empirical_denoiser` or `train_denoiser`;
            networks in it may come from `torch.compile`.
        samples: `[n, ...]`, x itself, not seen in training; on the device that the denoiser takes, and in its dtype
            unless it is a network, whose dtype they are brought to.
        tau: noise variances, > 0 and ascending; a number or `[t]`.
        num_probes: random sign vectors a sample; more samples do more for the error.
        seed: of Z and v.
        relative_error: at each tau, stop once sem / |mean| of every estimate in `watched` is at most this.
        watched: the estimates that `relative_error` is asked of, by their names in `FisherCurve`.
        batch_size: samples at a time; memory grows with this, not with n. Ranks of torch.distributed share the samples.
        asymmetry: measure it too, by second derivatives of the denoiser, which triple the work.

    Raises:
        ValueError: for tau that is not positive, samples that are not finite or fewer than two, answers of other shape,
            networks with dropout or batch normalisation in training, or whose answers depend on the other samples.
        TypeError: for what is no `Denoiser`, answers that are no tensors.

    Example:
        X ~ N(0, 1) has FI = 1 / (1 + tau) whatever the sample, for D(y) = y / (1 + tau).

        >>> from hessfast.diffusability import from_denoiser
        >>> normal = from_denoiser(lambda y, tau: y / (1 + tau))
        >>> curve = fisher_curve(normal, torch.randn(100, 1), [1.0])
        >>> curve.fisher_information.mean.round(6).tolist(), curve.mmse_rate.mean.round(6).tolist()
        ([0.5], [0.25])
    """
    x, levels = checked(denoiser).brought(_samples.samples("samples", samples)), levels_of(tau)
    denoiser.for_rows(x, torch.arange(0))  # refuses samples that it cannot take
    num_probes, seed = _checks.integer("num_probes", num_probes, 1), _checks.seed(seed)
    how = Probing(num_probes, seed, _checks.integer("batch_size", batch_size, 1), bool(asymmetry))
    goal = 0.0 if relative_error is None else _checks.positive("relative_error", relative_error)
    if isinstance(watched, str):
        raise TypeError(f"watched must be a list of names, got {watched!r}. Pass [{watched!r}].")
    for name in watched:
        _checks.choice("watched", name, ESTIMATES[:-1])
    if not isinstance(denoiser, EmpiricalDenoiser):
        refuse_mixing(denoiser, x, float(levels[0]), how.batch_size)
    num_blocks, dim = -(-len(x) // BLOCK), x[0].numel()
    sums = np.zeros((num_blocks, len(levels), WIDTH))
    data = of_data(denoiser, x, levels, how) if isinstance(denoiser, EmpiricalDenoiser) else {}
    errors = {name: np.hypot(each.error, each.bias) for name, each in data.items()}
    open_levels, done = np.ones(len(levels), bool), 0
    upto = num_blocks if relative_error is None else min(_FIRST_BLOCKS, num_blocks)
    while open_levels.any() and done < num_blocks:
        sweep(denoiser, x, levels, open_levels, how, range(done, upto), sums)
        done = upto
        if relative_error is not None:
            many = np.all([effective_blocks(sums, name) >= _EFFECTIVE_BLOCKS for name in watched], axis=0)
            found = estimates(sums, levels, dim)
            whole, beyond = with_errors(found, errors), _beyond(found, goal, watched, errors)
            open_levels &= ~(many & (_precise(whole, goal, watched) | (beyond & _precise(found, goal, watched))))
        upto = min(2 * done, num_blocks)
    found, rounding = estimates(sums, levels, dim), roundings(sums)
    whole = with_errors(found, errors, rounding)
    against = doubts(found, levels, x, denoiser.tau_range, rounding, data)
    if relative_error is not None:
        beyond = _beyond(found, goal, watched, errors, rounding)
        short = ~_precise(whole, goal, watched) | (open_levels & (num_blocks >= _EFFECTIVE_BLOCKS))
        against += unmet(levels, short & ~beyond, beyond)
    return FisherCurve.of(whole, levels, dim, against, asymmetry)


def fisher_information(denoiser: Denoiser, samples: Any, tau: Any, **options: Any) -> Estimate:
    """`FisherCurve.fisher_information` alone, with the arguments of `fisher_curve` but `watched`.

    `relative_error` is asked of it alone; what would be in the curve's `warnings` is warned of.

    Example:
        X ~ N(0, 1): FI = 1 / (1 + tau).

        >>> from hessfast.diffusability import from_denoiser
        >>> normal = from_denoiser(lambda y, tau: y / (1 + tau))
        >>> fisher_information(normal, torch.randn(100, 1), 3.0).mean.round(6).tolist()
        [0.25]
    """
    return _alone("fisher_information", denoiser, samples, tau, **options)


def fisher_information_rate(denoiser: Denoiser, samples: Any, tau: Any, **options: Any) -> Estimate:
    """`FisherCurve.fisher_information_rate` alone; see `fisher_information`.

    Example:
        X ~ N(0, 1): FIR = 1 / (1 + tau)^2.

        >>> from hessfast.diffusability import from_denoiser
        >>> normal = from_denoiser(lambda y, tau: y / (1 + tau))
        >>> fisher_information_rate(normal, torch.randn(100, 1), 3.0).mean.round(6).tolist()
        [0.0625]
    """
    return _alone("fisher_information_rate", denoiser, samples, tau, **options)


def mmse_rate(denoiser: Denoiser, samples: Any, tau: Any, **options: Any) -> Estimate:
    """`FisherCurve.mmse_rate` alone; see `fisher_information`.

    Example:
        X ~ N(0, 1): MMSE = tau / (1 + tau), which grows by 1 / (1 + tau)^2.

        >>> from hessfast.diffusability import from_denoiser
        >>> normal = from_denoiser(lambda y, tau: y / (1 + tau))
        >>> mmse_rate(normal, torch.randn(100, 1), 3.0).mean.round(6).tolist()
        [0.0625]
    """
    return _alone("mmse_rate", denoiser, samples, tau, **options)


def _alone(name: str, denoiser: Denoiser, samples: Any, tau: Any, **options: Any) -> Estimate:
    if "watched" in options:
        raise TypeError(f"watched must be left out for {name} alone, got {options['watched']!r:.80}. Use fisher_curve.")
    curve = fisher_curve(denoiser, samples, tau, watched=(name,), **options)
    for doubt in curve.warnings:
        warnings.warn(doubt.sentence, stacklevel=3)
    return getattr(curve, name)


def _precise(found: dict[str, Estimate], goal: float, watched: Sequence[str]) -> np.ndarray:
    """Levels where what is watched is known well enough."""
    return np.all([found[name].sem <= goal * np.abs(found[name].mean) for name in watched], axis=0)


def _beyond(
    found: dict[str, Estimate], goal: float, watched: Sequence[str], *errors: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Levels where errors beside those of the samples are too large already."""
    still = {name: each._replace(sem=np.zeros_like(each.sem)) for name, each in found.items()}
    return ~_precise(with_errors(still, *errors), goal, watched)


def levels_of(tau: Any) -> np.ndarray:
    """Positive, ascending, `[t]`."""
    levels = np.atleast_1d(_checks.float_array("tau", tau))
    if levels.ndim != 1 or not levels.size or not (levels > 0).all() or not (np.diff(levels) > 0).all():
        raise ValueError(f"tau must be positive and ascending, got {tau}.")
    return levels


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate | Doubt):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
