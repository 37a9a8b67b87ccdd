"""The exact partition function Z_M of the open TASEP and its derivatives, for any rates and any number of sites.

With the fugacities a = (1 - alpha)/alpha and b = (1 - beta)/beta, both >= 0,

    Z_M = sum_{s=0..M} N_M(s) h_s(a, b),    N_M(s) = C(2M+2, M-s) (s+1)/(M+1),    h_s = sum_{e+f=s} a^e b^f.

Every term is positive, so nothing cancels; `_exponents` has the law of (e, f) that the terms define.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hessfast import _arrays, _checks

from ._exponents import cumulants, laws, log_fugacities
from ._rates import checked_rates


@dataclass(frozen=True, eq=False)
class LogPartitionDerivatives:
    """log Z_M and its derivatives in two coordinates, the first belonging to the entry, the second to the exit."""

    value: Any  # [*batch]
    gradient: Any  # [*batch, 2]
    hessian: Any  # [*batch, 2, 2]


def log_partition(entry_rate: Any, exit_rate: Any, num_sites: int) -> Any:
    """log Z_M, the logarithm of the total stationary weight of the open TASEP (not divided by the number of sites).

    The weights are those of the matrix product of Derrida, Evans, Hakim and Pasquier, in which a single occupied
    site weighs 1/exit_rate and a single empty one 1/entry_rate; so Z_(M-1)/Z_M is the current. Accurate to about
    1e-11 at 16,384 sites. A call costs O(num_sites) time and memory, about ten arrays of that length, and each pair
    of rates O(sqrt(num_sites)) on top.

    Args:
        entry_rate: rate alpha of entering an empty first site, in (0, 1]; bulk jumps have rate 1. Broadcasts.
        exit_rate: rate beta of leaving an occupied last site, in (0, 1]. Broadcasts.
        num_sites: M >= 1.

    Returns:
        float64 of the broadcast shape; a tensor if a rate is one.

    Raises:
        ValueError: for a rate outside (0, 1], rates that do not broadcast, or num_sites < 1.

    Example:
        On the line alpha + beta = 1 the sites are independent and Z_M = (alpha beta)^-M:

        >>> bool(abs(log_partition(0.25, 0.75, 1000) + 1000 * np.log(0.25 * 0.75)) < 1e-11)
        True

    References:
        Derrida, Evans, Hakim, Pasquier, J. Phys. A 26, 1493 (1993), section 3.
    """
    alpha, beta, num_sites = checked_rates(entry_rate, exit_rate, num_sites)
    result = np.empty(alpha.shape)
    for at, _, _, log_z in laws(alpha, beta, num_sites):
        result.flat[at] = log_z
    return _arrays.back(result[()], entry_rate, exit_rate)


def log_partition_derivatives(
    entry_rate: Any, exit_rate: Any, num_sites: int, with_respect_to: str = "log_fugacities"
) -> LogPartitionDerivatives:
    """log Z_M with its exact gradient and Hessian.

    In the logarithms of the fugacities they are the mean and the covariance of the exponents (e, f) under the law
    N_M(e+f) a^e b^f / Z_M: log Z_M is convex there. In the rates it is not convex, and the derivatives at rate 1
    are the one-sided ones.

    Args:
        entry_rate: alpha in (0, 1]. Broadcasts.
        exit_rate: beta in (0, 1]. Broadcasts.
        num_sites: M >= 1.
        with_respect_to: "log_fugacities", (log a, log b) with a = (1-alpha)/alpha, b = (1-beta)/beta;
            or "rates", (alpha, beta).

    Raises:
        ValueError: as `log_partition`, or for unknown coordinates.

    Example:
        One site has Z = 1/alpha + 1/beta = 2 + a + b:

        >>> log_partition_derivatives(0.5, 0.5, 1, with_respect_to="rates").gradient
        array([-1., -1.])
    """
    coordinates = _checks.choice("with_respect_to", with_respect_to, ("log_fugacities", "rates"))
    alpha, beta, num_sites = checked_rates(entry_rate, exit_rate, num_sites)
    value = np.empty(alpha.shape)
    gradient, hessian = np.empty((*alpha.shape, 2)), np.empty((*alpha.shape, 2, 2))
    flat_gradient, flat_hessian = gradient.reshape(-1, 2), hessian.reshape(-1, 2, 2)
    for at, s, weight, log_z in laws(alpha, beta, num_sites):
        value.flat[at] = log_z
        rates = np.stack([alpha.flat[at], beta.flat[at]], axis=-1)
        mean, covariance, cumulant = cumulants(log_fugacities(rates), s, weight)
        if coordinates == "rates":
            # The chain rule through log a, of slope -1/(alpha (1 - alpha)); at rate 1 the stand-in of log_fugacities.
            rest = np.maximum(1 - rates, np.exp(-300.0))
            slope = -1 / (rates * rest)
            flat_gradient[at] = mean * slope
            bent = cumulant + np.eye(2) * (2 * rest * mean)[:, :, None]
            with np.errstate(over="ignore"):  # a second derivative may be beyond float64
                flat_hessian[at] = bent * slope[:, :, None] * slope[:, None, :]
        else:
            possible = rates < 1  # else the exponent is 0 for certain
            flat_gradient[at], flat_hessian[at] = (
                mean * possible,
                covariance * possible[:, :, None] * possible[:, None, :],
            )
    return LogPartitionDerivatives(*(_arrays.back(x, entry_rate, exit_rate) for x in (value[()], gradient, hessian)))


def phase(entry_rate: Any, exit_rate: Any) -> np.ndarray:
    """The phase of a long chain: "low density", "high density", "maximal current", or "coexistence" of the first two.

    Always a NumPy array, for torch has none of text.

    Example:
        >>> print(phase(0.2, 0.7), phase(0.7, 0.7))
        low density maximal current
    """
    alpha, beta, _ = checked_rates(entry_rate, exit_rate, 1)
    low, high = (alpha < 0.5) & (alpha < beta), (beta < 0.5) & (beta < alpha)
    names = ["low density", "high density", "coexistence"]
    return np.select([low, high, (alpha == beta) & (alpha < 0.5)], names, "maximal current")[()]


def current_limit(entry_rate: Any, exit_rate: Any) -> Any:
    """The current of an infinitely long chain, p(1-p) with p = min(alpha, beta, 1/2); log Z_M / M tends to -log of it.

    Example:
        >>> float(current_limit(0.9, 0.8))
        0.25
    """
    alpha, beta, _ = checked_rates(entry_rate, exit_rate, 1)
    slowest = np.minimum(np.minimum(alpha, beta), 0.5)
    return _arrays.back((slowest * (1 - slowest))[()], entry_rate, exit_rate)
