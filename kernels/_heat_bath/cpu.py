"""The heat bath in numba: what a thread needs for it, and sweeps of packed lattices."""

from typing import NamedTuple

import numba
import numpy as np

from .._bits import lowest_bit
from .._random import WARM_UP
from .._random.cpu import derive, seed_streams
from . import HASH_CHILD, LOG2_ESCAPES, MIN_BITS
from .planes import new_planes, used_bits, words_per_row, wrap
from .update import GROUP, JOB_WORDS, MOST_STEPS, STEP_WORDS, assemble, right_beside, update, write_jobs
from .vectors import LANES

BAND = 256  # words of a plane, about, that are updated at a time: few enough for the first-level cache
_u64 = np.uint64
_HASH_CHILD = _u64(HASH_CHILD)
_BITS_SINGLE, _BITS_MONOTONE = MIN_BITS[False], MIN_BITS[True]
_LOG2_SINGLE, _LOG2_MONOTONE = LOG2_ESCAPES[False], LOG2_ESCAPES[True]


class Bath(NamedTuple):
    """The lattices of one thread, one or two that get the same random numbers, and what they are updated with.

    Addresses of its arrays stand in `jobs`.
    """

    size: int
    row: int  # words of a row
    planes: np.ndarray  # uint64 [4 lattices, words], see planes.py
    edges: np.ndarray  # uint64 [2, padded]: all ones at the first word of each row, and at the last
    streams: np.ndarray  # uint64 [3, padded]: a, b, c of sfc64
    escapes: np.ndarray  # uint64 [2, padded]: escaped sites of a band, of even and of odd rows
    flags: np.ndarray  # uint64 [2, groups]: a byte for every vector of `escapes` says which of its words hold any
    jobs: np.ndarray  # int64 [4, JOB_WORDS], see update.py
    program: np.ndarray  # uint64 [MOST_STEPS, STEP_WORDS], see update.py
    hashes: np.ndarray  # uint64 [5]


@numba.njit(cache=True)
def new_bath(num_lattices, size):
    row = words_per_row(size)
    num_words = (size // 2 * row + GROUP - 1) // GROUP * GROUP
    # Rows of streams and escapes a whole number of pages long would compete for the same cache sets.
    padded = num_words + GROUP if num_words % 512 == 0 else num_words
    groups = (padded // LANES + 7) // 8
    # They stand in one block: arrays of their own would begin at equal offsets in a page, and compete likewise.
    block = np.empty(5 * padded + 2 * groups + MOST_STEPS * STEP_WORDS + 5, np.uint64)
    streams, rest = block[: 3 * padded].reshape(3, padded), block[3 * padded :]
    escapes, rest = rest[: 2 * padded].reshape(2, padded), rest[2 * padded :]
    flags, rest = rest[: 2 * groups].reshape(2, groups), rest[2 * groups :]
    program, hashes = rest[:-5].reshape(MOST_STEPS, STEP_WORDS), rest[-5:]
    edges, jobs = np.zeros((2, padded), np.uint64), np.empty((4, JOB_WORDS), np.int64)
    for end in range(2):
        for w in range(end * (row - 1), padded, row):
            edges[end, w] = ~_u64(0)
    planes = new_planes(num_lattices, row, num_words)
    bath = Bath(size, row, planes, edges, streams, escapes, flags, jobs, program, hashes)
    write_jobs(bath)
    return bath


@numba.njit(cache=True)
def set_thresholds(bath, thresholds, monotone):
    """Prepare a bath for the five thresholds of a lattice; returns the number of bits."""
    codes = np.empty(5, np.uint64)
    num_bits = split(thresholds, monotone, codes, bath.hashes)
    assemble(bath, codes, num_bits, _LOG2_MONOTONE if monotone else _LOG2_SINGLE)
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


@numba.njit(cache=True)
def start(bath, key):
    """Seed the streams of a run; returns the key of its hashes."""
    seed_streams(key, bath.streams)
    return derive(key, _HASH_CHILD)


@numba.njit(cache=True, inline="always")
def sweep(bath, num_bits, hash_key, time, num_lattices):
    """One random sweep, number `time` of its run, applied to the first `num_lattices` lattices."""
    if bath.size == 128:  # as constants they let the compiler drop what only other sizes need
        _sweep(bath, num_bits, hash_key, time, num_lattices, 1, 64)
    else:
        _sweep(bath, num_bits, hash_key, time, num_lattices, bath.row, bath.size // 2)


@numba.njit(cache=True, inline="always")
def _sweep(bath, num_bits, hash_key, time, num_lattices, row, bits):
    num_words, band = bits * row, row * GROUP * max(1, BAND // (row * GROUP))  # whole rows, whole groups
    for colour in range(0, 4, 2):
        for first in range(0, num_words, band):
            stop = min(first + band, num_words)
            for plane in range(colour, colour + 2):
                counter = 1 + WARM_UP + (4 * time + plane) * num_bits
                update(bath, plane, first, stop, counter, num_bits, num_lattices)
            # Only now: what was written of the first of them can be read without waiting.
            for plane in range(colour, colour + 2):
                first_stream = (4 * time + plane) * num_words
                _decide_escapes(bath, plane, first, stop, hash_key, first_stream, num_lattices, row, bits)
                _close(bath.planes, plane, first, stop, num_lattices, row, bits)


@numba.njit(cache=True, inline="always")
def _close(planes, plane, start, stop, num_lattices, row, bits):
    """Clear unused bits, and renew the periodic rows once the plane is complete."""
    for own in range(plane, 4 * num_lattices, 4):
        if bits & 63:
            used = used_bits(2 * bits)
            for w in range(2 * row - 1 + start, row + stop, row):
                planes[own, w] &= used
        if stop == bits * row:
            wrap(planes, own, row, stop)


@numba.njit(cache=True, inline="always")
def _decide_escapes(bath, plane, start, stop, hash_key, first_stream, num_lattices, row, bits):
    """Set the escaped sites of a band from their hash; also beyond the lattice, where nobody looks."""
    planes, escapes, flags, hashes = bath.planes, bath.escapes, bath.flags, bath.hashes
    odd, right = plane & 1, right_beside(plane)
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
                v = derive(hash_key, (_u64(first_stream + w) << _u64(6)) + _u64(site))
                beside = _beside(w, site, row, bits, right)
                for lattice in range(0, 4 * num_lattices, 4):
                    up = _count_up(planes, lattice + plane, w, site, beside, row)
                    planes[lattice + plane, row + w] |= _u64(v < hashes[up]) << _u64(site)


@numba.njit(cache=True, inline="always")
def _count_up(planes, plane, word, bit, beside, row):
    """Number of up neighbours of one site."""
    same, other, above = plane ^ 2, plane ^ 3, row * (plane & 1) + word
    up = (
        (planes[same, row + word] >> _u64(bit) & _u64(1))
        + (planes[same, row + beside[0]] >> _u64(beside[1]) & _u64(1))
        + (planes[other, above] >> _u64(bit) & _u64(1))
        + (planes[other, above + row] >> _u64(bit) & _u64(1))
    )
    return np.int64(up)


@numba.njit(cache=True, inline="always")
def _beside(word, bit, row, bits, right):
    """Word and bit, periodically, of the next column: to the right, which is the higher bit, or to the left."""
    last = (bits - 1) & 63
    if right:
        if word % row == row - 1 and bit == last:
            return word - row + 1, 0
        return word + (bit == 63), (bit + 1) & 63
    if bit:
        return word, bit - 1
    return (word + row - 1, last) if word % row == 0 else (word - 1, 63)
