"""Step 2 of the TASEP sampler in numba: two rows of bits with a given number of ones, uniform among all such.

Row k of M + 1 bits lies in words [k * per_row, (k + 1) * per_row), per_row = M // 64 + 1; bits past the end are zero.
"""

import numba
import numpy as np

from .._bits import popcount
from .._random import WARM_UP
from .._random.cpu import derive, seed_streams
from . import LANES, PLANES
from ._exponents import _LOW_HALF

_ONES = np.uint64(2**64 - 1)


@numba.njit(cache=True, inline="always")
def _next(lanes, lane, counter):
    """The next word of sfc64 stream `lane`; a, b, c of all streams follow one another."""
    a, b, c = lanes[lane], lanes[LANES + lane], lanes[2 * LANES + lane]
    out = a + b + counter
    lanes[lane] = b ^ (b >> np.uint64(11))
    lanes[LANES + lane] = c + (c << np.uint64(3))
    lanes[2 * LANES + lane] = ((c << np.uint64(24)) | (c >> np.uint64(40))) + out
    return out


@numba.njit(cache=True)
def _independent_bits(rows, num_words, lanes, key, threshold):
    """Bits that are one with probability threshold / 2^PLANES: one random word per binary digit of it."""
    seed_streams(key, lanes[: 3 * LANES].reshape(3, LANES))
    counter = np.uint64(1 + WARM_UP)
    first = 0
    while not threshold >> first & 1:
        first += 1
    for block in range(0, num_words, LANES):
        for lane in range(LANES):
            lanes[3 * LANES + lane] = _ONES if threshold == 2**PLANES else np.uint64(0)
        for plane in range(first, PLANES):
            digit = np.uint64(0) - np.uint64(threshold >> plane & 1)
            for lane in range(LANES):
                random = _next(lanes, lane, counter)
                bits = lanes[3 * LANES + lane]
                lanes[3 * LANES + lane] = (random & bits) | (digit & (random | bits))
            counter += np.uint64(1)
        for lane in range(LANES):
            rows[block + lane] = lanes[3 * LANES + lane]


@numba.njit(cache=True)
def draw_rows(rows, lanes, draws, key, M, s):
    size, per_row = M + 1, M // 64 + 1
    ones = M + s + 2
    threshold = 2**PLANES - (2**PLANES + 1) * (2 * size - ones) // (2 * size)
    _independent_bits(rows, 2 * per_row, lanes, key, threshold)
    tail = _ONES >> np.uint64(64 * per_row - size)
    rows[per_row - 1] &= tail
    rows[2 * per_row - 1] &= tail
    surplus = -ones
    for w in range(2 * per_row):
        surplus += popcount(rows[w])
    # Flip uniformly chosen ones (or zeros) until their number is right. A wrong guess flips nothing: no branch on it.
    wrong = np.uint64(surplus > 0)
    missing = abs(surplus)
    unfair = np.uint64(2**32 % size)
    draws_key, drawn = draws[0], draws[1]
    while missing > 0:
        place = derive(draws_key, drawn)
        drawn += np.uint64(1)
        scaled = (place >> np.uint64(32)) * np.uint64(size)
        column = scaled >> np.uint64(32)
        w = (np.uint64(per_row) & (np.uint64(0) - (place & np.uint64(1)))) + (column >> np.uint64(6))
        bit = column & np.uint64(63)
        hit = ~((rows[w] >> bit) ^ wrong) & np.uint64(scaled & _LOW_HALF >= unfair)
        rows[w] ^= hit << bit
        missing -= np.int64(hit)
    draws[1] = drawn
