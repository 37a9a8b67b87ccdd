"""Step 1 of the TASEP sampler in numba: (e, f), and the single random words that steps 2 and 3 draw as well.

`draws` is [key, number of words drawn]. The arithmetic is that of reference.py, operation for operation.
"""

import numba
import numpy as np

from .._random.cpu import derive

_LOW_HALF = np.uint64(2**32 - 1)


@numba.njit(cache=True, inline="always")
def word(draws):
    draws[1] += np.uint64(1)
    return derive(draws[0], draws[1] - np.uint64(1))


@numba.njit(cache=True)
def happens(draws, probability):
    drawn = word(draws)
    return probability >= 1.0 or drawn < np.uint64(probability * 2.0**64)


@numba.njit(cache=True)
def below(draws, n):
    """A uniform integer in [0, n)."""
    unfair = np.uint64(2**32 % n)
    while True:
        scaled = (word(draws) >> np.uint64(32)) * np.uint64(n)
        if scaled & _LOW_HALF >= unfair:
            return np.int64(scaled >> np.uint64(32))


@numba.njit(cache=True)
def bit_length(n):
    bits = 0
    while n >> bits:
        bits += 1
    return bits


@numba.njit(cache=True)
def geometric_sum(r, n):
    """(1 + r + ... + r^(n-1), r^n)."""
    total, power = 0.0, 1.0
    for k in range(bit_length(n) - 1, -1, -1):
        total, power = total + total * power, power * power
        if n >> k & 1:
            total, power = 1.0 + r * total, r * power
    return total, power


@numba.njit(cache=True)
def geometric(draws, r, bits):
    g, power = 0, r
    for k in range(bits):
        g += np.int64(happens(draws, power / (1.0 + power))) << k
        power = power * power
    return g


@numba.njit(cache=True, inline="always", error_model="numpy")
def odds(M, slow, s):
    return (1.0 - slow) * (M - s) / (slow * (M + s + 3))


@numba.njit(cache=True, error_model="numpy")
def step(M, slow, ratio, s):
    return odds(M, slow, s) * (s + 2) / (s + 1) * (ratio + 1.0 / geometric_sum(ratio, s + 1)[0])


@numba.njit(cache=True, error_model="numpy")
def weight(M, slow, ratio, x, c):
    product = 1.0
    for s in range(min(x, c), max(x, c)):
        product = product * odds(M, slow, s)
    slope = (x + 1) * geometric_sum(ratio, x + 1)[0] / ((c + 1) * geometric_sum(ratio, c + 1)[0])
    return product * slope if x >= c else slope / product


@numba.njit(cache=True, error_model="numpy")
def bulk(M, slow, ratio):
    N, p = M + 1.5, 1.0 - slow
    power, x = 1.0, 0.0
    for _ in range(2):
        B = N * (1.0 - 2.0 * p) + p * power
        x = min(max((np.sqrt(B * B + 4.0 * p * N * power) - B) / 2.0, 1.0), M + 1.0)
        power = 1.0 + x * (ratio + 1.0 / geometric_sum(ratio, np.int64(x))[0] - 1.0)
    return np.int64(x) - 1, 1 + np.int64(np.sqrt(1.0 / (2.0 * N / (N * N - x * x) + power / (x * x))))


@numba.njit(cache=True, error_model="numpy")
def draw_height(draws, M, slow, ratio):
    mode, width = bulk(M, slow, ratio)
    while step(M, slow, ratio, mode) > 1.0:
        mode += 1
    while mode > 0 and step(M, slow, ratio, mode - 1) < 1.0:
        mode -= 1
    low, high = max(mode - width, 0), min(mode + width, M)
    up = step(M, slow, ratio, high)
    down = 1.0 / step(M, slow, ratio, low - 1) if low > 0 else 0.0
    bits = bit_length(M)
    centre = high - low + 1
    right = weight(M, slow, ratio, high, mode) * up * geometric_sum(up, 1 << bits)[0]
    left = weight(M, slow, ratio, low, mode) * down * geometric_sum(down, 1 << bits)[0]
    while True:
        if happens(draws, centre / (centre + (left + right))):
            s = low + below(draws, centre)
            if happens(draws, weight(M, slow, ratio, s, mode)):
                return s
        elif happens(draws, right / (left + right)):
            beyond = geometric(draws, up, bits) + 1
            s = high + beyond
            if s <= M and happens(draws, weight(M, slow, ratio, s, high) / geometric_sum(up, beyond)[1]):
                return s
        else:
            beyond = geometric(draws, down, bits) + 1
            s = low - beyond
            if s >= 0 and happens(draws, weight(M, slow, ratio, s, low) / geometric_sum(down, beyond)[1]):
                return s


@numba.njit(cache=True, error_model="numpy")
def draw_exponents(draws, M, alpha, beta):
    slow, fast = min(alpha, beta), max(alpha, beta)
    ratio = (1.0 - fast) * slow / (fast * (1.0 - slow)) if slow < 1.0 else 0.0
    s = draw_height(draws, M, slow, ratio)
    minor = s + 1
    while minor > s:
        minor = geometric(draws, ratio, bit_length(s))
    return (s - minor, minor) if alpha <= beta else (minor, s - minor)
