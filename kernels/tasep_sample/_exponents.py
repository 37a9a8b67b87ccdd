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
        longer, higher = 1.0 + r * total, r * power
        odd = n >> k & 1  # both ways are computed: no branch to guess wrong
        total, power = longer if odd else total, higher if odd else power
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
def step(M, slow, ratio, s, total):
    """w(s + 1) / w(s); `total` is geometric_sum(ratio, s + 1)."""
    return odds(M, slow, s) * (s + 2) / (s + 1) * (ratio + 1.0 / total)


@numba.njit(cache=True, error_model="numpy")
def weight(M, slow, x, x_total, c, c_total):
    """w(x) / w(c)."""
    product = 1.0
    for s in range(min(x, c), max(x, c)):
        product = product * odds(M, slow, s)
    slope = (x + 1) * x_total / ((c + 1) * c_total)
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
    mode_total = geometric_sum(ratio, mode + 1)[0]
    while step(M, slow, ratio, mode, mode_total) > 1.0:
        mode += 1
        mode_total = geometric_sum(ratio, mode + 1)[0]
    while mode > 0:
        total = geometric_sum(ratio, mode)[0]
        if step(M, slow, ratio, mode - 1, total) >= 1.0:
            break
        mode, mode_total = mode - 1, total
    low, high = max(mode - width, 0), min(mode + width, M)
    low_total, high_total = geometric_sum(ratio, low + 1)[0], geometric_sum(ratio, high + 1)[0]
    up = step(M, slow, ratio, high, high_total)
    down = 1.0 / step(M, slow, ratio, low - 1, geometric_sum(ratio, low)[0]) if low > 0 else 0.0
    bits = bit_length(M)
    centre = high - low + 1
    right = weight(M, slow, high, high_total, mode, mode_total) * up * geometric_sum(up, 1 << bits)[0]
    left = weight(M, slow, low, low_total, mode, mode_total) * down * geometric_sum(down, 1 << bits)[0]
    while True:
        if happens(draws, centre / (centre + (left + right))):
            s, hat, total, base = low + below(draws, centre), 1.0, mode_total, mode
        elif happens(draws, right / (left + right)):
            beyond = geometric(draws, up, bits) + 1
            s, hat, total, base = high + beyond, geometric_sum(up, beyond)[1], high_total, high
        else:
            beyond = geometric(draws, down, bits) + 1
            s, hat, total, base = low - beyond, geometric_sum(down, beyond)[1], low_total, low
        s_total = geometric_sum(ratio, s + 1)[0] if 0 <= s <= M else 0.0
        if 0 <= s <= M and happens(draws, weight(M, slow, s, s_total, base, total) / hat):
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
