"""What speaks against a curve: laws that it breaks, and the data themselves.

Laws that the curves of any distribution keep: what a model breaks, beyond its standard errors, is not to be trusted:
I falls, by the integral of R; R >= I^2 / D; tau I <= D; the MMSE is at most the variance and grows with tau.
"""

from typing import Any

import numpy as np

from ._doubts import listed
from .curves import Estimate, FisherCurve

_SIGMAS = 4  # standard errors
_AGREEMENT = 0.2  # MMSE' of the data alone is itself 10 % off where it begins
_QUADRATURE = 0.05  # of a piecewise power law through R, between neighbouring tau a third of a decade apart


def broken_laws(curve: FisherCurve, variance: float) -> list[str]:
    """A sentence for each law that is broken, with the tau where it is.

    Args:
        variance: E|X - E X|^2.
    """
    tau, dim = curve.tau, curve.dim
    information, rate, mmse = curve.fisher_information, curve.fisher_information_rate, curve.mmse
    fall, noise = information.mean[:-1] - information.mean[1:], _noise(information)
    expected = _integral(tau, rate.mean)
    allowed = _SIGMAS * (noise + expected * np.maximum(*_pairs(rate.sem / rate.mean))) + _QUADRATURE * expected
    found = {
        "FI does not fall": (fall < -_SIGMAS * noise, tau[1:]),
        "FI does not fall by the integral of FIR": (np.abs(fall - expected) > allowed, tau[1:]),
        "FIR < FI^2 / D": (_above(information.mean**2 / dim - rate.mean, information, rate, dim), tau),
        "tau FI > D": (tau * (information.mean - _SIGMAS * information.sem) > dim * (1 + 1e-6), tau),
        "MMSE > the variance": (mmse.mean - _SIGMAS * mmse.sem > variance, tau),
        "the MMSE does not grow": (mmse.mean[:-1] - mmse.mean[1:] > _SIGMAS * _noise(mmse), tau[1:]),
    }
    return [f"{law} at tau = {listed(tau[where])}" for law, (where, tau) in found.items() if np.any(where)]


def disagreements(curve: FisherCurve, empirical: FisherCurve) -> list[str]:
    """A sentence for each quantity in which a trained denoiser contradicts the data, where they tell it alone."""
    found, own = [], curve.last(len(empirical.tau))
    for key, name in (("fisher_information", "FI"), ("fisher_information_rate", "FIR"), ("mmse_rate", "MMSE'")):
        one, other = getattr(own, key), getattr(empirical, key)
        allowed = _AGREEMENT * other.mean + _SIGMAS * np.hypot(one.sem, other.sem)
        if (off := np.abs(one.mean - other.mean) > allowed).any():
            found.append(f"{name} is not what the data alone say at tau = {listed(own.tau[off])}")
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
