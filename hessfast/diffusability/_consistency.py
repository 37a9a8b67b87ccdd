"""What speaks against a curve: the sweep itself, a linear denoiser that excels it, laws that it breaks, and the data.

Laws that the curves of any distribution keep: what a model breaks, beyond its standard errors, is not to be trusted:
I falls, by the integral of R; R >= I^2 / D; tau I <= D; the MMSE is at most the variance and grows with tau.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ._samples import chunks
from ._sweep import Estimate

if TYPE_CHECKING:
    from ._half_samples import OfData
    from .curves import FisherCurve

_SIGMAS = 4  # standard errors
_ROUNDED = 0.01  # of an estimate: what rounding may be without a word
_COMPARED = 60  # samples, from which on plug-in and DSM are compared: of fewer their standard errors are too uncertain
_BIASED = 0.1  # of an estimate: what few data may make it wrong by without a word
_FEW = 20  # samples, whose standard error is itself off by a sixth for a normal distribution, for others by more
_AGREEMENT = 0.2  # MMSE' of the data alone is itself 10 % off where it begins
_SHORT = {"fisher_information": "FI", "fisher_information_rate": "FIR", "mmse_rate": "MMSE'"}
# Relative error of integrating R as a power law between neighbouring tau a third of a decade apart. It grows as the
# square of wider spacings; beyond a decade no check is made.
_QUADRATURE, _SPACED = 0.05, 1 / 3


@dataclass(frozen=True)
class Doubt:
    """A reason to distrust estimates: a sentence, and the noise variances that it is about; None: all of them."""

    sentence: str
    tau: tuple[float, ...] | None = None

    def __str__(self) -> str:
        return self.sentence

    def about(self, tau: np.ndarray) -> np.ndarray:
        """Which of these noise variances it is about, `[len(tau)]`."""
        return np.full(len(tau), True) if self.tau is None else np.isin(tau, self.tau)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"sentence": self.sentence, "tau": None if self.tau is None else list(self.tau)}

    @classmethod
    def from_dict(cls, kept: dict[str, Any] | str) -> "Doubt":
        """The doubt that `to_dict` made this of, or of a sentence alone, as older runs hold them."""
        if isinstance(kept, str):
            return cls(kept)
        return cls(kept["sentence"], None if kept["tau"] is None else tuple(kept["tau"]))


def doubts(
    estimated: dict[str, Estimate],
    levels: np.ndarray,
    x: Tensor | None,
    tau_range: tuple[float, float] | None,
    rounding: dict[str, np.ndarray],
    data: "Mapping[str, OfData]" = MappingProxyType({}),
) -> tuple[Doubt, ...]:
    """Reasons to doubt what a denoiser says of the samples x; None: of samples that are gone.

    Args:
        tau_range: what the denoiser is good for, if that is known.
        rounding: by how much estimates may be off by it.
        data: error and bias of an empirical denoiser.
    """
    divergence, plug_in, dsm = (estimated[f"fisher_information{kind}"] for kind in ("", "_plug_in", "_dsm"))
    mmse, found = estimated["mmse"], []
    few = int(divergence.num_samples.min())
    gap, noise = plug_in.mean - dsm.mean, np.hypot(plug_in.sem, dsm.sem)
    wrong = (np.abs(gap) > 4 * noise + 0.05 * np.abs(divergence.mean)) & (divergence.num_samples >= _COMPARED)
    if wrong.any():
        found.append(_doubt("the score is not that of the samples", levels[wrong], ": plug-in and DSM disagree"))
    if x is not None and few >= _FEW and (worse := mmse.mean - 4 * mmse.sem > _linear_mmse(x, levels)).any():
        found.append(_doubt("the denoiser is worse than the best linear one", levels[worse]))
    if tau_range is not None:
        low, high = tau_range
        if (out := (levels < low * (1 - 1e-9)) | (levels > high * (1 + 1e-9))).any():
            found.append(
                _doubt("the denoiser is out of its range", levels[out], f": it is good for {low:.3g} to {high:.3g}")
            )
    for name, short in _SHORT.items():
        if (lost := _lost(estimated[name], rounding[name])).any():
            remedy = ": use float64, or the raw network with from_edm_raw"
            found.append(_doubt(f"{short} is blurred by rounding", levels[lost], remedy))
    for name, of_data in data.items():
        biased = np.abs(of_data.bias) > _BIASED * np.abs(estimated[name].mean) + 2 * of_data.bias_error
        if name in _SHORT and biased.any():
            found.append(_doubt(f"{_SHORT[name]} is not that of the distribution behind the data", levels[biased]))
    if any(np.isinf(of_data.error).any() for of_data in data.values()):
        found.append(Doubt("standard errors are unknown from fewer than 8 data"))
    if few < _FEW:
        found.append(Doubt(f"standard errors of {few} samples may be several times too small"))
    return tuple(found)


def unmet(levels: np.ndarray, short: np.ndarray, beyond: np.ndarray) -> tuple[Doubt, ...]:
    """Where too few samples kept the relative error from being met, and where no number of samples would do."""
    found = {
        "samples ran out before the relative error was met": short,
        "the denoiser's data, or rounding, do not allow the relative error": beyond,
    }
    return tuple(_doubt(claim, levels[where]) for claim, where in found.items() if where.any())


def with_errors(estimated: dict[str, Estimate], *errors: Mapping[str, np.ndarray]) -> dict[str, Estimate]:
    """Estimates whose standard errors contain others that are independent of theirs."""
    for each in errors:
        estimated = estimated | {
            name: estimated[name]._replace(sem=np.hypot(estimated[name].sem, error)) for name, error in each.items()
        }
    return estimated


def _lost(estimate: Estimate, blur: np.ndarray) -> np.ndarray:
    return blur > _ROUNDED * np.abs(estimate.mean)


def _linear_mmse(x: Tensor, levels: np.ndarray) -> np.ndarray:
    """MMSE of the best linear denoiser, coordinate by coordinate where these are many.

    It is fitted to every other sample and judged on the rest, and the other way round: on its own samples it would be
    better than the truth.
    """
    even, odd = x[::2], x[1::2]
    return (_linear_mmse_of(even, odd, levels) + _linear_mmse_of(odd, even, levels)) / 2


def _linear_mmse_of(fitted: Tensor, judged: Tensor, levels: np.ndarray) -> np.ndarray:
    dim = fitted[0].numel()
    whole = dim <= 1024 and len(fitted) > 2 * dim
    mean = torch.stack([part.flatten(1).double().sum(dim=0) for part in chunks(fitted)]).sum(dim=0) / len(fitted)
    variance, off = torch.zeros((dim, dim) if whole else dim, dtype=torch.float64, device=fitted.device), mean * 0
    for part in chunks(fitted):
        apart = part.flatten(1).double() - mean
        variance += apart.T @ apart if whole else apart.square().sum(dim=0)
    variance /= max(len(fitted) - 1, 1)
    axes = None
    if whole:
        variance, axes = torch.linalg.eigh(variance)
    for part in chunks(judged):
        apart = part.flatten(1).double() - mean
        off += (apart if axes is None else apart @ axes).square().sum(dim=0)
    off, variance = (off / len(judged)).cpu().numpy(), variance.clamp(min=0).cpu().numpy()
    share = variance / (variance + levels[:, None])
    return ((1 - share) ** 2 * off + share**2 * levels[:, None]).sum(axis=1)


def broken_laws(curve: "FisherCurve", variance: float) -> list[Doubt]:
    """The laws that are broken, with the tau where they are.

    Args:
        variance: E|X - E X|^2.
    """
    tau, dim = curve.tau, curve.dim
    information, rate, mmse = curve.fisher_information, curve.fisher_information_rate, curve.mmse
    fall, noise = information.mean[:-1] - information.mean[1:], _noise(information)
    expected = _integral(tau, rate.mean)
    decades = np.diff(np.log10(tau))
    inexact = np.where(decades > 1, np.inf, _QUADRATURE * np.maximum(decades / _SPACED, 1) ** 2)
    allowed = _SIGMAS * (noise + expected * np.maximum(*_pairs(rate.sem / rate.mean))) + inexact * expected
    found = {
        "FI does not fall": (fall < -_SIGMAS * noise, tau[1:]),
        "FI does not fall by the integral of FIR": (np.abs(fall - expected) > allowed, tau[1:]),
        "FIR < FI^2 / D": (_above(information.mean**2 / dim - rate.mean, information, rate, dim), tau),
        "tau FI > D": (tau * (information.mean - _SIGMAS * information.sem) > dim * (1 + 1e-6), tau),
        "MMSE > the variance": (mmse.mean - _SIGMAS * (mmse.sem + variance / mmse.num_samples) > variance, tau),
        "the MMSE does not grow": (mmse.mean[:-1] - mmse.mean[1:] > _SIGMAS * _noise(mmse), tau[1:]),
    }
    return [_doubt(law, tau[where]) for law, (where, tau) in found.items() if np.any(where)]


def disagreements(curve: "FisherCurve", empirical: "FisherCurve") -> list[Doubt]:
    """The quantities in which a trained denoiser contradicts the data, where they tell it alone."""
    found, own = [], curve.last(len(empirical.tau))
    for key, name in _SHORT.items():
        one, other = getattr(own, key), getattr(empirical, key)
        allowed = _AGREEMENT * other.mean + _SIGMAS * np.hypot(one.sem, other.sem)
        if (off := np.abs(one.mean - other.mean) > allowed).any():
            found.append(_doubt(f"{name} is not what the data alone say", own.tau[off]))
    return found


def _integral(tau: np.ndarray, rate: np.ndarray) -> np.ndarray:
    """The integral of R between neighbouring tau, as of a power law."""
    (low, high), (first, last) = _pairs(tau), _pairs(rate)
    power = np.log(last / first) / np.log(high / low)
    near = np.abs(power + 1) < 1e-6
    return np.where(near, first * low * np.log(high / low), (last * high - first * low) / np.where(near, 1, power + 1))


def _above(excess: np.ndarray, information: Estimate, rate: Estimate, dim: int) -> np.ndarray:
    return excess > _SIGMAS * np.hypot(2 * information.mean * information.sem / dim, rate.sem) + 1e-6 * rate.mean


def _noise(estimate: Estimate) -> np.ndarray:
    return np.hypot(*_pairs(estimate.sem))


def _pairs(values: np.ndarray) -> Any:
    return values[:-1], values[1:]


def _doubt(claim: str, tau: np.ndarray, remark: str = "") -> Doubt:
    """A claim, where it holds, and a remark."""
    listed = ", ".join(f"{t:.3g}" for t in tau)
    return Doubt(f"{claim} at tau = {listed}{remark}", tuple(tau.tolist()))
