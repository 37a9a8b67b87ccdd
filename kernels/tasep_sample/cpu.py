"""The exact TASEP sampler in numba: one sample after the other on each core, 64 sites to a word."""

import numba
import numpy as np

from .._bits import lowest_bit, popcount
from .._random import TASEP_SAMPLE
from .._random.cpu import derive
from .._threads import numbers, share
from . import LANES
from ._brackets import keep_unmatched
from ._exponents import below, draw_exponents
from ._rows import draw_rows

_ONES = np.uint64(2**64 - 1)


def tasep_sample(words, exponents, entry_rate, exit_rate, num_sites, seed, first_id):
    arguments = words, exponents, entry_rate, exit_rate, num_sites, np.uint64(seed), np.uint64(first_id)
    share(_samples, len(words), *arguments)


@numba.njit(cache=True, nogil=True)
def _samples(tickets, words, exponents, entry_rate, exit_rate, M, seed, first_id):
    root = derive(seed, np.uint64(TASEP_SAMPLE))
    per_row = M // 64 + 1
    lanes = np.empty(4 * LANES, np.uint64)
    rows = np.empty((2 * per_row + LANES - 1) // LANES * LANES, np.uint64)
    openings = np.empty((7, per_row), np.uint64)
    kept = np.empty(per_row, np.uint64)
    draws = np.empty(2, np.uint64)
    for i in numbers(tickets):
        key = derive(root, first_id + np.uint64(i))
        draws[0] = derive(key, np.uint64(0))
        draws[1] = 0
        e, f = draw_exponents(draws, M, entry_rate[i], exit_rate[i])
        exponents[i, 0] = e
        exponents[i, 1] = f
        draw_rows(rows, lanes, draws, derive(key, np.uint64(1)), M, e + f)
        _configuration(words[i], rows, openings, kept, M, e, e + f, below(draws, e + f + 1))


@numba.njit(cache=True)
def _configuration(sites, rows, openings, kept, M, e, s, origin):
    size, per_row = M + 1, M // 64 + 1
    first, closings = rows[:per_row], rows[per_row : 2 * per_row]
    for w in range(per_row):
        openings[0, w] = first[w] & closings[w]
        closings[w] = ~(first[w] | closings[w])  # in the place of the second row
    closings[per_row - 1] &= _ONES >> np.uint64(64 * per_row - size)
    keep_unmatched(openings, closings, kept)
    start = _clear_exits(first, kept, e, s, origin) + 1

    # Lay the circle down twice, then read M bits from `start`.
    circle = openings.reshape(-1)
    whole, part = size // 64, np.uint64(size % 64)
    circle[per_row] = 0
    for w in range(per_row):
        circle[w] = first[w]
    circle[whole] |= first[0] << part
    for w in range(1, per_row):
        circle[whole + w] = (first[w] << part) | _shift_right(first[w - 1], part)
    circle[whole + per_row] = _shift_right(first[per_row - 1], part)
    whole, part = start // 64, np.uint64(start % 64)
    for w in range(len(sites)):
        sites[w] = (circle[whole + w] >> part) | ((circle[whole + w + 1] << (np.uint64(63) - part)) << np.uint64(1))
    sites[-1] &= _ONES >> np.uint64(64 * len(sites) - M)


@numba.njit(cache=True, inline="always")
def _shift_right(word, part):
    """word >> (64 - part), where a shift by 64 gives 0."""
    return (word >> (np.uint64(63) - part)) >> np.uint64(1)


@numba.njit(cache=True)
def _clear_exits(first, unmatched, e, s, origin):
    """Clear `first` at the e unmatched brackets that follow bracket number `origin` on the circle; return its place."""
    place = rank = 0
    for w in range(len(first)):
        bits = unmatched[w]
        if not bits:
            continue
        begin, rank = rank, rank + popcount(bits)
        cleared = _follows(begin, origin, e, s)
        if (origin < begin or origin >= rank) and cleared == _follows(rank - 1, origin, e, s):
            if cleared:
                first[w] ^= bits
            continue
        for number in range(begin, rank):
            lowest = bits & (~bits + np.uint64(1))
            bits ^= lowest
            if number == origin:
                place = 64 * w + lowest_bit(lowest)
            elif _follows(number, origin, e, s):
                first[w] ^= lowest
    return place


@numba.njit(cache=True, inline="always")
def _follows(number, origin, e, s):
    """Whether bracket `number` of s + 1 on a circle is among the e after `origin`."""
    return origin < number <= origin + e or number <= origin + e - (s + 1)
