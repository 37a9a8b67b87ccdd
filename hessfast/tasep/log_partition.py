"""The exact partition function Z_M of the open TASEP and its derivatives, for any rates and any number of sites.

With the fugacities a = (1 - alpha)/alpha and b = (1 - beta)/beta, both >= 0,

    Z_M = sum_{s=0..M} N_M(s) h_s(a, b),    N_M(s) = C(2M+2, M-s) (s+1)/(M+1),    h_s = sum_{e+f=s} a^e b^f.

Every term is positive, so nothing cancels. The summand is log-concave in s, falls at least like exp(-(s-s*)^2/M)
from its largest term s*, and is summed over |s - s*| <= 7 sqrt(M) only: what is left out is below e^-45 of the sum.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Any

import numpy as np

from hessfast import _checks

_MAX_SITES = 2**30
_CHUNK = 1 << 20  # terms held at a time
# B_2k/(2k)!, the coefficients of x^(2k-1) in 1/(e^x - 1) - 1/x + 1/2
_BERNOULLI = [1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600]
_BERNOULLI += [-3617 / 10670622842880000, 43867 / 5109094217170944000]


@dataclass(frozen=True)
class LogPartitionDerivatives:
    """log Z_M and its derivatives in two coordinates, the first belonging to the entry, the second to the exit."""

    value: Any  # [*batch]
    gradient: Any  # [*batch, 2]
    hessian: Any  # [*batch, 2, 2]


def log_partition(entry_rate: Any, exit_rate: Any, num_sites: int) -> Any:
    """log Z_M, the logarithm of the total stationary weight of the open TASEP (not divided by the number of sites).

    The weights are those of the matrix product of Derrida, Evans, Hakim and Pasquier, in which a single occupied
    site weighs 1/exit_rate and a single empty one 1/entry_rate; so Z_(M-1)/Z_M is the current. Accurate to about
    1e-11 at 16,384 sites; the cost is O(sqrt(num_sites)) per pair of rates.

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
    alpha, beta, num_sites = check(entry_rate, exit_rate, num_sites)
    result = np.empty(alpha.shape)
    for at, _, _, log_z in laws(alpha, beta, num_sites):
        result.flat[at] = log_z
    return like(result[()], entry_rate, exit_rate)


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
    alpha, beta, num_sites = check(entry_rate, exit_rate, num_sites)
    value = np.empty(alpha.shape)
    gradient, hessian = np.empty((*alpha.shape, 2)), np.empty((*alpha.shape, 2, 2))
    flat_gradient, flat_hessian = gradient.reshape(-1, 2), hessian.reshape(-1, 2, 2)
    for at, s, weight, log_z in laws(alpha, beta, num_sites):
        value.flat[at] = log_z
        rates = np.stack([alpha.flat[at], beta.flat[at]], axis=-1)
        fugacities = np.exp(_log_fugacities(rates))
        mean, covariance, cumulant = _exponent_cumulants(fugacities, s, weight)
        if coordinates == "rates":
            # The chain rule through a = 1/alpha - 1; d log Z/da = mean/a, d^2 log Z/da^2 = cumulant/a^2.
            slope, bend = -(rates**-2) / fugacities, 2 * rates**-3 / fugacities
            flat_gradient[at] = mean * slope
            flat_hessian[at] = cumulant * slope[:, :, None] * slope[:, None, :] + np.eye(2) * (mean * bend)[:, :, None]
        else:
            possible = rates < 1  # else the exponent is 0 for certain
            flat_gradient[at], flat_hessian[at] = (
                mean * possible,
                covariance * possible[:, :, None] * possible[:, None, :],
            )
    return LogPartitionDerivatives(*(like(x, entry_rate, exit_rate) for x in (value[()], gradient, hessian)))


def phase(entry_rate: Any, exit_rate: Any) -> np.ndarray:
    """The phase of a long chain: "low density", "high density", "maximal current", or "coexistence" of the first two.

    Example:
        >>> print(phase(0.2, 0.7), phase(0.7, 0.7))
        low density maximal current
    """
    alpha, beta, _ = check(entry_rate, exit_rate, 1)
    low, high = (alpha < 0.5) & (alpha < beta), (beta < 0.5) & (beta < alpha)
    names = ["low density", "high density", "coexistence"]
    return np.select([low, high, (alpha == beta) & (alpha < 0.5)], names, "maximal current")[()]


def current_limit(entry_rate: Any, exit_rate: Any) -> Any:
    """The current of an infinitely long chain, p(1-p) with p = min(alpha, beta, 1/2); log Z_M / M tends to -log of it.

    Example:
        >>> float(current_limit(0.9, 0.8))
        0.25
    """
    alpha, beta, _ = check(entry_rate, exit_rate, 1)
    slowest = np.minimum(np.minimum(alpha, beta), 0.5)
    return like((slowest * (1 - slowest))[()], entry_rate, exit_rate)


def check(entry_rate: Any, exit_rate: Any, num_sites: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """The two rates, float64 of one shape and in (0, 1], and the number of sites; or a refusal."""
    rates = {"entry_rate": entry_rate, "exit_rate": exit_rate}
    arrays = {name: _checks.float_array(name, value) for name, value in rates.items()}
    for (name, rate), reason in zip(
        arrays.items(), ("no particle ever enters", "no particle ever leaves"), strict=True
    ):
        outside = rate[~((rate > 0) & (rate <= 1))]
        if outside.size:
            because = f" At rate 0 {reason} and the stationary state is frozen." if (outside == 0).any() else ""
            raise ValueError(f"{name} must be in (0, 1], got {outside[0]}.{because}")
    scalar = not any(rate.ndim for rate in arrays.values())
    alpha, beta = (rate.reshape(()) if scalar else rate for rate in _checks.broadcast(**arrays))
    return alpha, beta, _checks.integer("num_sites", num_sites, 1, _MAX_SITES)


def like(result: Any, *arguments: Any) -> Any:
    """The result as a tensor on the device of the first argument that is one, else as it is."""
    tensors = [argument for argument in arguments if _checks.is_tensor(argument)]
    if not tensors:
        return result
    import torch

    return torch.as_tensor(result, device=tensors[0].device)


def _log_fugacities(rates: np.ndarray) -> np.ndarray:
    """log((1 - rate)/rate); log 0, which only rate 1 has, is taken as -300.

    The next larger value is -36.7, so e^-300 stands for 0 to all digits, in the derivatives per fugacity too.
    """
    with np.errstate(divide="ignore"):
        return np.maximum(np.log1p(-rates) - np.log(rates), -300.0)


def _log_multiplicity(num_sites: int) -> np.ndarray:
    """log N_M(s), s = 0..M, from Stirling's series: differences of lgamma would lose four digits at M = 16,384."""
    k, n = num_sites - np.arange(num_sites + 1.0), 2.0 * num_sites + 2
    some, rest = np.maximum(k, 1), n - k
    binomial = some * np.log(n / some) + rest * np.log(n / rest) + 0.5 * np.log(n / (2 * np.pi * some * rest))
    binomial += _stirling_error(np.array(n)) - _stirling_error(some) - _stirling_error(rest)
    return np.where(k > 0, binomial, 0.0) + np.log((num_sites - k + 1) / (num_sites + 1))


def _stirling_error(n: np.ndarray) -> np.ndarray:
    """log n! - log(sqrt(2 pi n) (n/e)^n), n >= 1."""
    from scipy.special import gammaln

    series = (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / n**2) / n**2) / n**2) / n**2) / n
    small = np.minimum(n, 16)
    return np.where(
        n > 16, series, gammaln(small + 1) - (small + 0.5) * np.log(small) + small - 0.5 * np.log(2 * np.pi)
    )


def laws(alpha: np.ndarray, beta: np.ndarray, num_sites: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray, Any]]:
    """Chunk by chunk of the flattened rates: (their slice, s, probability of s, log Z_M)."""
    log_n = _log_multiplicity(num_sites)
    half = min(ceil(sqrt(45 * num_sites)) + 1, num_sites)
    chunk = max(1, _CHUNK // (2 * half + 1))
    for start in range(0, alpha.size, chunk):
        at = slice(start, start + chunk)
        log_a, log_b = _log_fugacities(alpha.flat[at])[:, None], _log_fugacities(beta.flat[at])[:, None]
        larger, gap = np.maximum(log_a, log_b), _gap(log_a, log_b)

        low, high = np.zeros(larger.shape, dtype=np.int64), np.full(larger.shape, num_sites)
        while (low < high).any():
            s = np.minimum((low + high) // 2, num_sites - 1)
            growth = np.expm1(-(s + 2) * gap) / np.expm1(-(s + 1) * gap)
            rising = log_n[s + 1] - log_n[s] + larger + np.log(growth) > 0
            low, high = np.where(rising & (low < high), s + 1, low), np.where(rising | (low == high), high, s)

        s = np.clip(low - half, 0, num_sites - min(2 * half, num_sites)) + np.arange(min(2 * half, num_sites) + 1)
        log_term = log_n[s] + s * larger
        top = np.take_along_axis(log_term, low - s[:, :1], axis=1)
        weight = np.exp(log_term - top) * (np.expm1(-(s + 1) * gap) / np.expm1(-gap))
        total = weight.sum(axis=1, keepdims=True)
        yield at, s, weight / total, (top + np.log(total))[:, 0]


def _gap(log_a: np.ndarray, log_b: np.ndarray) -> np.ndarray:
    """d = |log a - log b|, never 0: at 1e-300 the limits d -> 0 of the formulas below are reached to all digits."""
    return np.maximum(np.abs(log_a - log_b), 1e-300)


def _exponent_cumulants(
    fugacities: np.ndarray, s: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the exponents (e, f) of a and b, e + f = s ~ weight: means, covariance, and covariance - diag(means)."""
    few, few_pairs = _smaller_exponent(s + 1, _gap(*np.log(fugacities)[:, None, :].transpose(2, 0, 1)))
    many, spread = s - few, few_pairs + few - few**2
    many_pairs, cross = (s - 1) * (many - few) + few_pairs, (s - 1) * few - few_pairs

    def averages(*values: np.ndarray) -> np.ndarray:
        return np.stack([(weight * x).sum(axis=1) for x in values], axis=-1)

    mean = averages(few, many)
    off_few, off_many = few - mean[:, :1], many - mean[:, 1:]
    mixed = off_few * off_many - spread
    covariance = averages(spread + off_few**2, mixed, mixed, spread + off_many**2).reshape(-1, 2, 2)
    factorial = averages(few_pairs, cross, cross, many_pairs).reshape(-1, 2, 2)
    # The centred form keeps the digits of large exponents, the factorial moments those of small ones (rates near 1).
    size = np.where(np.eye(2) > 0, mean[:, :, None], mean.max(axis=1)[:, None, None])
    means = mean[:, :, None] * np.eye(2)
    cumulant = np.where(size > 1, covariance - means, factorial - mean[:, :, None] * mean[:, None, :])
    covariance = np.where(size > 1, covariance, cumulant + means)
    swap = (fugacities[:, 0] > fugacities[:, 1])[:, None]
    mean = np.where(swap, mean[:, ::-1], mean)
    covariance, cumulant = (np.where(swap[:, :, None], x[:, ::-1, ::-1], x) for x in (covariance, cumulant))
    return mean, covariance, cumulant


def _smaller_exponent(n: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[e] and E[e(e-1)] for e in 0..n-1 with weight exp(-e gap)."""
    x = n * gap
    with np.errstate(over="ignore"):
        free, cut = 1 / np.expm1(gap), n / np.expm1(x)
        mean = free - cut
        pairs = 2 * free * mean - (n - 1) * cut
    # Below x = 1 both fractions are about 1/gap; without the poles, which cancel, the digits stay.
    (odd_1, even_1), (odd_n, even_n) = _bernoulli(np.minimum(gap, 1.0)), _bernoulli(np.minimum(x, 1.0))
    series_mean, spread = (n - 1) / 2 + odd_1 - n * odd_n, n**2 * even_n - even_1
    mean = np.where(x < 1, series_mean, mean)
    pairs = np.where(x < 1, spread + series_mean**2 - series_mean, pairs)
    return mean, np.where(n > 2, pairs, 0.0)


def _bernoulli(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1/(e^x - 1) - 1/x + 1/2 and its derivative, for 0 <= x <= 1."""
    square = x * x
    value, slope = np.zeros_like(x), np.zeros_like(x)
    for k, coefficient in reversed(list(enumerate(_BERNOULLI))):
        value, slope = value * square + coefficient, slope * square + coefficient * (2 * k + 1)
    return value * x, slope
