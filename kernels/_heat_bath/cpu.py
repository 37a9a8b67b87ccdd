"""The heat bath in numba: what a thread needs for it, and sweeps of packed lattices."""

from typing import NamedTuple

import numba
import numpy as np

from .._bits import lowest_bit
from .._random import WARM_UP
from .._random.cpu import derive
from . import LOG2_ESCAPES, MIN_BITS
from .draw import GROUP, JOB_WORDS, MOST_STEPS, STEP_WORDS, assemble, draw, right_beside, write_jobs
from .planes import new_edges, new_planes, whole_groups, wrap
from .vectors import LANES

BAND = 256  # words of a plane, about, that are drawn at a time: what they are drawn with stays in the first-level cache
_u64 = np.uint64
_BITS_SINGLE, _BITS_MONOTONE = MIN_BITS[False], MIN_BITS[True]
_LOG2_SINGLE, _LOG2_MONOTONE = LOG2_ESCAPES[False], LOG2_ESCAPES[True]


class Bath(NamedTuple):
    """The lattices of one thread, one or two that get the same random numbers, and what they are drawn with.

    Addresses of its arrays stand in `jobs`.
    """

    planes: np.ndarray  # uint64 [4 lattices, words], see planes.py
    edges: np.ndarray  # uint64 [2, padded]: all ones at the first word of each row, and at the last
    streams: np.ndarray  # uint64 [3, padded]: a, b, c of sfc64
    escapes: np.ndarray  # uint64 [2, padded]: escaped sites of a band, of even and of odd rows
    flags: np.ndarray  # uint64 [2, groups]: a byte for every vector of `escapes` says which of its words hold any
    jobs: np.ndarray  # int64 [4, JOB_WORDS], see draw.py
    program: np.ndarray  # uint64 [MOST_STEPS, STEP_WORDS], see draw.py
    hashes: np.ndarray  # uint64 [5]
    size: int
    row: int  # words of a row


@numba.njit(cache=True)
def new_bath(num_lattices, size):
    row = (size + 127) // 128
    padded = whole_groups(size // 2 * row)
    if padded % 512 == 0:
        padded += GROUP  # rows a whole number of pages long would compete for the same cache sets
    groups = (padded // LANES + 7) // 8
    # One block of memory: arrays of their own would start at equal offsets in a page and compete for cache sets.
    block = np.empty(5 * padded + 2 * groups + MOST_STEPS * STEP_WORDS + 5, np.uint64)
    streams, rest = block[: 3 * padded].reshape(3, padded), block[3 * padded :]
    escapes, rest = rest[: 2 * padded].reshape(2, padded), rest[2 * padded :]
    flags, rest = rest[: 2 * groups].reshape(2, groups), rest[2 * groups :]
    program, hashes = rest[:-5].reshape(MOST_STEPS, STEP_WORDS), rest[-5:]
    planes, edges = new_planes(num_lattices, size), new_edges(padded, row)
    jobs = np.empty((4, JOB_WORDS), np.int64)
    write_jobs(jobs, program, streams, escapes, flags, edges, planes, size)
    return Bath(planes, edges, streams, escapes, flags, jobs, program, hashes, size, row)


@numba.njit(cache=True)
def set_thresholds(bath, thresholds, monotone):
    """Prepare a bath for the five thresholds of a lattice; returns the number of bits."""
    codes = np.empty(5, np.uint64)
    num_bits = split(thresholds, monotone, codes, bath.hashes)
    assemble(codes, num_bits, _LOG2_MONOTONE if monotone else _LOG2_SINGLE, bath.row, bath.program, bath.jobs)
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
    planes = bath.planes
    band = row * GROUP * max(1, BAND // (row * GROUP))  # whole rows, whole groups
    for colour in range(2):
        first = 2 * colour
        for start in range(0, num_words, band):
            stop = min(start + band, num_words)
            for odd in range(2):
                step = 4 * time + first + odd
                draw(bath, first + odd, start, stop, 1 + WARM_UP + step * num_bits, num_bits, num_lattices)
            for odd in range(2):  # only now: what was written of the even rows can be read without waiting
                step = 4 * time + first + odd
                _decide_escapes(bath, first + odd, start, stop, hash_key, step * num_words, num_lattices, row, bits)
            for lattice in range(num_lattices):
                for own in range(4 * lattice + first, 4 * lattice + first + 2):
                    if bits & 63:
                        last = ~_u64(0) >> _u64(64 * row - bits)
                        for w in range(2 * row - 1 + start, row + stop, row):
                            planes[own, w] &= last
                    if stop == num_words:
                        wrap(planes, own, row, num_words)


@numba.njit(cache=True, inline="always")
def _decide_escapes(bath, plane, start, stop, hash_key, first_word, num_lattices, row, bits):
    """Set the escaped sites of a band from their hash; also beyond the lattice, where nobody looks."""
    planes, escapes, flags, hashes = bath.planes, bath.escapes, bath.flags, bath.hashes
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
            sites = escapes[odd, w]
            w += start
            while sites != _u64(0):
                site = lowest_bit(sites)
                sites &= sites - _u64(1)
                v, bit = derive(hash_key, (_u64(first_word + w) << _u64(6)) + _u64(site)), _u64(site)
                beside, bit_beside = _beside(w, site, row, bits, right_beside(plane))
                for lattice in range(0, 4 * num_lattices, 4):
                    n = (
                        (planes[lattice + same, row + w] >> bit & _u64(1))
                        + (planes[lattice + same, row + beside] >> _u64(bit_beside) & _u64(1))
                        + (planes[lattice + (same ^ 1), odd * row + w] >> bit & _u64(1))
                        + (planes[lattice + (same ^ 1), odd * row + row + w] >> bit & _u64(1))
                    )
                    planes[lattice + plane, row + w] |= _u64(v < hashes[np.int64(n)]) << bit


@numba.njit(cache=True, inline="always")
def _beside(word, bit, row, bits, right):
    """The place, periodically, of the next bit in a row: to the right, which is the higher bit, or to the left."""
    if right:
        if row == 1:
            return word, (bit + 1 if bit != bits - 1 else 0) & 63
        if word % row == row - 1 and bit == (bits - 1) & 63:
            return word - row + 1, 0
        return word + (bit == 63), (bit + 1) & 63
    if bit:
        return word, bit - 1
    if row == 1:
        return word, bits - 1
    if word % row == 0:
        return word + row - 1, (bits - 1) & 63
    return word - 1, 63
