"""What networks predict, F, of Y = X + sqrt(tau) Z. The denoiser and the score are affine in it,

    D = skip y + out F,    s = (D - y) / tau = slope y + (out / tau) F,    slope = (skip - 1) / tau,

with numbers that depend on tau alone. Kept apart they lose no digits: s at small tau and Jac D at large tau are small
differences of large terms when computed from each other.
"""

import math
from typing import Any, NamedTuple


class Coefficients(NamedTuple):
    """skip, out and slope at a tau."""

    skip: Any
    out: Any
    slope: Any


def of_sample(tau: float) -> Coefficients:
    """F = x."""
    return Coefficients(0.0, 1.0, -1 / tau)


def of_score(tau: float) -> Coefficients:
    """F = grad log p_tau(y)."""
    return Coefficients(1.0, tau, 0.0)


def of_noise(tau: float) -> Coefficients:
    """F = z: x = y - sqrt(tau) z."""
    return Coefficients(1.0, -math.sqrt(tau), 0.0)


def of_v(tau: float) -> Coefficients:
    """F = v = a z - sqrt(1 - a^2) x at x_t = a y, a^2 = 1 / (1 + tau): x = a x_t - sqrt(1 - a^2) v."""
    return Coefficients(1 / (1 + tau), -math.sqrt(tau / (1 + tau)), -1 / (1 + tau))


def of_flow(tau: float) -> Coefficients:
    """F = z - x at x_t = (1 - t) x + t z: x = x_t - t F, x_t = (1 - t) y."""
    t = flow_time(tau)
    return Coefficients(1 - t, -t, -t / tau)


def flow_time(tau: float) -> float:
    """t in (0, 1) of tau = (t / (1 - t))^2."""
    return math.sqrt(tau) / (1 + math.sqrt(tau))


def of_edm(tau: Any, variance: float) -> Coefficients:
    """The raw network of Karras et al. (2022), of data of that variance; tau is a number or a tensor."""
    total = tau + variance
    return Coefficients(variance / total, (tau * variance / total) ** 0.5, -1 / total)
