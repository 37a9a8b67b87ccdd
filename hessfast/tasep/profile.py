"""The exact current and density profile of the open TASEP in its stationary state."""

from math import exp, log
from typing import Any

import numpy as np

from hessfast import _arrays

from ._exponents import laws
from ._rates import checked_rates
from .log_partition import current_limit, log_partition


def current(entry_rate: Any, exit_rate: Any, num_sites: int) -> Any:
    """The stationary current J = Z_(M-1)/Z_M, particles per unit time.

    Both partition functions run over the same h_s, and the ratio of their multiplicities is rational, so that
    J = E[(M-s)(M+s+2)] / (2M(2M+1)) under the law of s in `log_partition`: accurate to about 1e-12 relative.

    Args:
        entry_rate: alpha in (0, 1]. Broadcasts.
        exit_rate: beta in (0, 1]. Broadcasts.
        num_sites: M >= 1.

    Returns:
        float64 of the broadcast shape; a tensor if a rate is one.

    Raises:
        ValueError: for a rate outside (0, 1], rates that do not broadcast, or num_sites < 1.

    Example:
        At alpha = beta = 1 the weights are Catalan numbers and J = (M+2) / (2(2M+1)):

        >>> bool(abs(current(1, 1, 3) - 5 / 14) < 1e-15)
        True

    References:
        Derrida, Evans, Hakim, Pasquier, J. Phys. A 26, 1493 (1993), section 4.
    """
    alpha, beta, m = checked_rates(entry_rate, exit_rate, num_sites)
    result = np.empty(alpha.shape)
    for at, s, weight, _ in laws(alpha, beta, m):
        result.flat[at] = (weight * ((m - s) * (m + s + 2.0))).sum(axis=1) / (2.0 * m * (2 * m + 1))
    return _arrays.back(result[()], entry_rate, exit_rate)


def density_profile(entry_rate: Any, exit_rate: Any, num_sites: int) -> Any:
    """The mean occupation <tau_i> of every site in the stationary state.

    With the Catalan numbers C_p, n = M - i sites to the right of site i = 1..M, and z_n = Z_n at entry rate 1,

        <tau_i> Z_M = sum_{p=0..n} C_p Z_(M-1-p) + b z_n Z_(i-1),    b = (1 - beta)/beta.

    All z_k and Z_k follow from first-order recursions in k, run in the direction in which every term is positive:
    O(M) work per pair of rates, relative accuracy about 1e-11 at 16,384 sites.

    Args:
        entry_rate: alpha in (0, 1]. Broadcasts.
        exit_rate: beta in (0, 1]. Broadcasts.
        num_sites: M >= 1.

    Returns:
        float64 [*batch, num_sites], site 0 being the entry; a tensor if a rate is one.

    Raises:
        ValueError: for a rate outside (0, 1], rates that do not broadcast, or num_sites < 1.

    Example:
        On the line alpha + beta = 1 every site is occupied with probability alpha:

        >>> bool(np.allclose(density_profile(0.25, 0.75, 5), 0.25, rtol=0, atol=1e-14))
        True

    References:
        Derrida, Evans, Hakim, Pasquier, J. Phys. A 26, 1493 (1993), for the profile as a double sum. Its inner sum
        and the recursions here follow from sum_M Z_M x^M = (1+t)^2 / ((1-at)(1-bt)), x = t/(1+t)^2.
    """
    alpha, beta, m = checked_rates(entry_rate, exit_rate, num_sites)
    rates = np.stack([alpha, beta, log_partition(alpha, beta, m), log_partition(1.0, beta, m)], axis=-1)
    profiles = np.empty((*alpha.shape, m))
    for index in np.ndindex(alpha.shape):
        profiles[index] = _profile(rates[index], m)
    return _arrays.back(profiles, entry_rate, exit_rate)


def _profile(rates: np.ndarray, m: int) -> np.ndarray:
    """One profile. Every sequence is divided by its own rate of growth to the power k, so that nothing overflows."""
    alpha, beta, log_z, log_z_open = rates.tolist()
    k = np.arange(m + 1.0)
    growth_open = 1 / float(current_limit(1.0, beta))
    growth = 1 / float(current_limit(alpha, beta))
    catalan = np.cumprod(np.concatenate([[1.0], (2 * k[1:] - 1) / (2 * k[1:] + 2)]))  # C_k / 4^k
    catalan_next = catalan * (4 * k + 2) / (k + 2)  # C_(k+1) / 4^k

    # z_k = beta(1-beta) z_(k+1) + beta^2 C_(k+1)
    last = exp(log_z_open - m * log(growth_open))
    sources = beta**2 * catalan_next * (4 / growth_open) ** k
    z_open = _recursion(last, beta * (1 - beta) * growth_open, sources[-2::-1])[::-1]

    # Z_k = alpha(1-alpha) Z_(k+1) + alpha(alpha+beta-1)/beta z_k
    excess = alpha * (alpha + beta - 1) / beta * z_open * (growth_open / growth) ** k
    if alpha + beta >= 1:
        last = exp(log_z - m * log(growth))
        z = _recursion(last, alpha * (1 - alpha) * growth, excess[-2::-1])[::-1]
    else:
        step = 1 / (alpha * (1 - alpha) * growth)
        z = _recursion(1.0, step, -step * excess[:-1])

    from_right = z[-2::-1] / (growth * z[-1])  # Z_(M-1-n) / Z_M growth^-n, n = 0..M-1
    injected = np.cumsum(catalan[:-1] * (4 / growth) ** k[:-1] * from_right)
    blocked = (1 - beta) / beta * z_open[:-1] * (growth_open / growth) ** k[:-1] * from_right
    return (injected + blocked)[::-1]


def _recursion(first: float, factor: float, sources: np.ndarray) -> np.ndarray:
    """x_0 = first, x_(j+1) = factor x_j + sources_j."""
    from scipy.signal import lfilter

    return np.asarray(lfilter([1.0], [1.0, -factor], np.concatenate([[first], sources])))
