"""The heat bath in numba: what a thread needs for it, and sweeps of packed lattices."""

from typing import NamedTuple

import numba
import numpy as np

from .._bits import lowest_bit
from .._random import WARM_UP
from .._random.cpu import derive
from . import LOG2_ESCAPES, MIN_BITS
from .draw import GROUP, JOB_WORDS, MOST_STEPS, STEP_WORDS, assemble, draw, write_jobs
from .planes import new_planes, shift_left, shift_right, whole_groups, wrap
from .vectors import LANES

BAND = 256  # words of a plane, about, that are drawn at a time: what they are drawn with stays in the first-level cache
_u64 = np.uint64
_BITS_SINGLE, _BITS_MONOTONE = MIN_BITS[False], MIN_BITS[True]
_LOG2_SINGLE, _LOG2_MONOTONE = LOG2_ESCAPES[False], LOG2_ESCAPES[True]


class Bath(NamedTuple):
    """The lattices of one thread, one or two that get the same random numbers, and what they are drawn with.

    A band is of even and of odd rows: what stands there once for each has an axis, or every second row.
    """

    planes: np.ndarray  # uint64 [4 lattices, words], see planes.py
    row: int  # words of a row
    streams: np.ndarray  # uint64 [3, padded]: a, b, c of sfc64
    shifted: np.ndarray  # uint64 [2 lattices, padded]: neighbours in the row, of a band
    escapes: np.ndarray  # uint64 [2, padded]: escaped sites of a band
    flags: np.ndarray  # uint64 [2, ...]: a byte for every vector of a band says which of its words hold escapes
    jobs: np.ndarray  # int64 [4, JOB_WORDS], see draw.py
    program: np.ndarray  # uint64 [MOST_STEPS, STEP_WORDS], see draw.py
    hashes: np.ndarray  # uint64 [5]


@numba.njit(cache=True)
def new_bath(num_lattices, size):
    row = (size + 127) // 128
    padded = whole_groups(size // 2 * row)
    if padded % 512 == 0:
        padded += GROUP  # rows a whole number of pages long would compete for the same cache sets
    num_flags = (padded // LANES + 7) // 8
    # One block of memory: arrays of their own would start at equal offsets in a page and compete for cache sets.
    block, start = np.empty((5 + 2 * num_lattices) * padded + 2 * num_flags + MOST_STEPS * STEP_WORDS + 5, np.uint64), 0
    streams, start = block[: 3 * padded].reshape(3, padded), 3 * padded
    shifted, start = (
        block[start : start + 2 * num_lattices * padded].reshape(-1, padded),
        start + 2 * num_lattices * padded,
    )
    escapes, start = block[start : start + 2 * padded].reshape(2, padded), start + 2 * padded
    flags, start = block[start : start + 2 * num_flags].reshape(2, num_flags), start + 2 * num_flags
    program, hashes = block[start:-5].reshape(MOST_STEPS, STEP_WORDS), block[-5:]
    planes, jobs = new_planes(num_lattices, size), np.empty((4, JOB_WORDS), np.int64)
    write_jobs(jobs, program, streams, escapes, flags, planes, shifted, row)
    return Bath(planes, row, streams, shifted, escapes, flags, jobs, program, hashes)


@numba.njit(cache=True)
def set_thresholds(bath, thresholds, monotone):
    """Prepare a bath for the five thresholds of a lattice; returns the number of bits."""
    codes = np.empty(5, np.uint64)
    num_bits = split(thresholds, monotone, codes, bath.hashes)
    assemble(codes, num_bits, _LOG2_MONOTONE if monotone else _LOG2_SINGLE, bath.program)
    return num_bits


@numba.njit(cache=True)
def split(thresholds, monotone, codes, hashes):
    """Fill `codes` and `hashes`, uint64 [5] each; return the number of bits B (see the package)."""
    log2_escapes = _LOG2_MONOTONE if monotone else _LOG2_SINGLE
    escapes = _u64(1 << log2_escapes)
    for num_bits in range(_BITS_MONOTONE if monotone else _BITS_SINGLE, 65):
        low = _u64(64 - num_bits)
        rest = _u64(0)
        for j in range(5):
            p = min(thresholds[j], _u64(0) - escapes)
            codes[j] = min((_u64(0) - (escapes << low)) >> low, (p - rest if monotone else p) >> low)
            rest = p - (codes[j] << low)
            hashes[j] = rest << _u64(num_bits - log2_escapes)
        if rest >> low < escapes:
            break
    return num_bits


@numba.njit(cache=True, inline="always")
def sweep(bath, num_bits, hash_key, time, size, num_lattices):
    """One random sweep, number `time` of its run, applied to the first `num_lattices` lattices."""
    if size == 128:  # as constants they let the compiler drop what only other sizes need
        _sweep(bath, num_bits, hash_key, time, num_lattices, 1, 64, 64)
    else:
        row = (size + 127) // 128
        _sweep(bath, num_bits, hash_key, time, num_lattices, row, size // 2, size // 2 * row)


@numba.njit(cache=True, inline="always")
def _sweep(bath, num_bits, hash_key, time, num_lattices, row, bits, num_words):
    planes, shifted = bath.planes, bath.shifted
    band = row * GROUP * max(1, BAND // (row * GROUP))  # whole rows, whole groups
    for colour in range(2):
        first, others = 2 * colour, 2 * (1 - colour)
        for start in range(0, num_words, band):
            stop = min(start + band, num_words)
            for lattice in range(num_lattices):
                # The other neighbour in the row is a column to the left for Be and Wo, to the right for Bo and We.
                left, right = 4 * lattice + others + colour, 4 * lattice + others + 1 - colour
                shift_left(planes, left, start, stop, row, bits, shifted, 2 * lattice + colour)
                shift_right(planes, right, start, stop, row, bits, shifted, 2 * lattice + 1 - colour)
            for odd in range(2):
                step = 4 * time + first + odd
                draw(bath, first + odd, start, stop, 1 + WARM_UP + step * num_bits, num_bits, num_lattices)
            for odd in range(2):  # only now: what was written of the even rows can be read without waiting
                step = 4 * time + first + odd
                _decide_escapes(bath, first + odd, start, stop, hash_key, step * num_words + start, num_lattices, row)
            for lattice in range(num_lattices):
                for own in range(4 * lattice + first, 4 * lattice + first + 2):
                    if bits & 63:
                        last = ~_u64(0) >> _u64(64 * row - bits)
                        for w in range(2 * row - 1 + start, row + stop, row):
                            planes[own, w] &= last
                    if stop == num_words:
                        wrap(planes, own, row, num_words)


@numba.njit(cache=True, inline="always")
def _decide_escapes(bath, plane, start, stop, hash_key, first_word, num_lattices, row):
    """Set the escaped sites of a band from their hash; also beyond the lattice, where nobody looks."""
    planes, shifted, escapes, flags, hashes = bath.planes, bath.shifted, bath.escapes, bath.flags, bath.hashes
    odd, same = plane & 1, 2 * (1 - (plane >> 1)) + (plane & 1)
    num_vectors = (stop - start + LANES - 1) // LANES
    for group in range((num_vectors + 7) // 8):
        left = flags[odd, group]
        if num_vectors - 8 * group < 8:
            left &= (_u64(1) << _u64(8 * (num_vectors - 8 * group))) - _u64(1)
        while left != _u64(0):
            flag = lowest_bit(left)
            left &= left - _u64(1)
            w = LANES * (8 * group + (flag >> 3)) + (flag & 7)
            at, above, bits = row + start + w, odd * row + start + w, escapes[odd, w]
            while bits != _u64(0):
                bit = _u64(lowest_bit(bits))
                v = derive(hash_key, (_u64(first_word + w) << _u64(6)) + bit)
                for lattice in range(0, 4 * num_lattices, 4):
                    n = (
                        (planes[lattice + same, at] >> bit & _u64(1))
                        + (planes[lattice + (same ^ 1), above] >> bit & _u64(1))
                        + (planes[lattice + (same ^ 1), above + row] >> bit & _u64(1))
                        + (shifted[lattice // 2 + odd, w] >> bit & _u64(1))
                    )
                    planes[lattice + plane, at] |= _u64(v < hashes[np.int64(n)]) << bit
                bits &= bits - _u64(1)
