"""The law of the exponents (e, f) in Z_M = sum N_M(e+f) a^e b^f: s = e + f first, then the split between a and b.

The weight N_M(s) h_s(a, b) of s is log-concave, falls at least like exp(-(s-s*)^2/M) from its largest value at s*, and
is summed over |s - s*| <= 7 sqrt(M) only: what is left out is below e^-45 of the sum. Given s, the exponent of the
smaller fugacity is a truncated geometric variable.
"""

from collections.abc import Iterator
from math import ceil, sqrt

import numpy as np

_CHUNK = 1 << 20  # terms held at a time
# B_2k/(2k)!, the coefficients of x^(2k-1) in 1/(e^x - 1) - 1/x + 1/2
_BERNOULLI = [1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600]
_BERNOULLI += [-3617 / 10670622842880000, 43867 / 5109094217170944000]


def log_fugacities(rates: np.ndarray) -> np.ndarray:
    """log((1 - rate)/rate); log 0, which only rate 1 has, is taken as -300.

    The next larger value is -36.7, so e^-300 stands for 0 to all digits, in the derivatives per fugacity too.
    """
    with np.errstate(divide="ignore"):
        return np.maximum(np.log1p(-rates) - np.log(rates), -300.0)


def _log_multiplicity(num_sites: int) -> np.ndarray:
    """log N_M(s), s = 0..M, from Stirling's series: 6e-12 off at M = 16,384, where lgamma would be 1e-10 off."""
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


def laws(
    alpha: np.ndarray, beta: np.ndarray, num_sites: int
) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
    """Chunk by chunk of the flattened rates: (their slice, s, probability of s, log Z_M)."""
    log_n = _log_multiplicity(num_sites)
    half = min(ceil(sqrt(45 * num_sites)) + 1, num_sites)
    chunk = max(1, _CHUNK // (2 * half + 1))
    for start in range(0, alpha.size, chunk):
        at = slice(start, start + chunk)
        log_a, log_b = log_fugacities(alpha.flat[at])[:, None], log_fugacities(beta.flat[at])[:, None]
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


def cumulants(log_fugacity: np.ndarray, s: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the exponents (e, f) of a and b, e + f = s ~ weight: means, covariance, and covariance - diag(means)."""
    few, few_pairs = _smaller_exponent(s + 1, _gap(log_fugacity[:, :1], log_fugacity[:, 1:]))
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
    swap = log_fugacity[:, :1] > log_fugacity[:, 1:]
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
