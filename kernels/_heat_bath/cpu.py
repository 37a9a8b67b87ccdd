"""The heat bath in numba: streams of random words, the random map of a plane, and whole sweeps of packed lattices."""

from typing import NamedTuple

import numba
import numpy as np

from .._random.cpu import derive, popcount
from . import LOG2_ESCAPES, MIN_BITS
from .fold import LANES, WIDTH, draw_masks
from .update import apply

_WARM_UP = 12
_u64 = np.uint64
_BITS_SINGLE, _BITS_MONOTONE = MIN_BITS[False], MIN_BITS[True]
_LOG2_SINGLE, _LOG2_MONOTONE = LOG2_ESCAPES[False], LOG2_ESCAPES[True]


class Bath(NamedTuple):
    """Scratch of one thread: streams, the masks of one plane, and the thresholds as `split` and `folds` put them."""

    streams: np.ndarray  # uint64 [3, padded]: a, b, c of sfc64
    masks: np.ndarray  # uint64 [6, padded]: f_0 .. f_4, escapes
    codes: np.ndarray  # uint64 [5]
    hashes: np.ndarray  # uint64 [5]
    folds: np.ndarray  # uint64 [32, 6]
    shifted: np.ndarray  # uint64 [words of a plane]
    escaped: np.ndarray  # uint64 [words of a plane + 1]: the words that hold escapes


@numba.njit(cache=True)
def new_bath(size):
    num_words = size // 2 * ((size + 127) // 128)
    padded = (num_words + LANES - 1) // LANES * LANES
    # One block of memory: arrays of their own would start at equal offsets in a page and compete for cache sets.
    block = np.empty(9 * padded + 5 + 5 + 192 + num_words + num_words + 1, np.uint64)
    ends = np.cumsum(np.array([3 * padded, 6 * padded, 5, 5, 192, num_words, num_words + 1]))
    return Bath(
        block[: ends[0]].reshape(3, padded),
        block[ends[0] : ends[1]].reshape(6, padded),
        block[ends[1] : ends[2]],
        block[ends[2] : ends[3]],
        block[ends[3] : ends[4]].reshape(32, 6),
        block[ends[4] : ends[5]],
        block[ends[5] : ends[6]],
    )


@numba.njit(cache=True)
def set_thresholds(bath, thresholds, monotone):
    """Prepare a bath for the five thresholds of a lattice; returns the number of bits."""
    num_bits = split(thresholds, monotone, bath.codes, bath.hashes)
    for d in range(num_bits // 2):
        for j in range(5):
            bath.folds[d, j] = _u64(WIDTH) * (bath.codes[j] >> _u64(2 * d) & _u64(3))
        bath.folds[d, 5] = 3 * WIDTH * (2 * d >= (_LOG2_MONOTONE if monotone else _LOG2_SINGLE))
    return num_bits


@numba.njit(cache=True)
def split(thresholds, monotone, codes, hashes):
    """Fill `codes` and `hashes`, uint64 [5] each; return the number of bits B (see the package)."""
    log2_escapes = _LOG2_MONOTONE if monotone else _LOG2_SINGLE
    escapes = _u64(1 << log2_escapes)
    for num_bits in range(_BITS_MONOTONE if monotone else _BITS_SINGLE, 65, 2):
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
def seed_streams(key, streams):
    """Start the sfc64 streams of a key; their common counter is then 1 + _WARM_UP."""
    a, b, c = streams[0], streams[1], streams[2]
    for s in range(a.size):
        a[s] = derive(key, _u64(3 * s))
        b[s] = derive(key, _u64(3 * s + 1))
        c[s] = derive(key, _u64(3 * s + 2))
    for i in range(1, _WARM_UP + 1):
        for s in range(a.size):
            out = a[s] + b[s] + _u64(i)
            a[s] = b[s] ^ (b[s] >> _u64(11))
            b[s] = c[s] + (c[s] << _u64(3))
            c[s] = ((c[s] << _u64(24)) | (c[s] >> _u64(40))) + out


@numba.njit(cache=True, inline="always")
def sweep(bath, num_bits, hash_key, time, size, lattices):
    """One random sweep, number `time` of its run, applied to each of `lattices` [chains, 4, (rows + 2) words]."""
    if size == 128:  # as constants they let the compiler drop what only other sizes need
        _sweep(bath, num_bits, hash_key, time, lattices, 1, 64, 64)
    else:
        row = (size + 127) // 128
        _sweep(bath, num_bits, hash_key, time, lattices, row, size // 2, size // 2 * row)


@numba.njit(cache=True, inline="always")
def _sweep(bath, num_bits, hash_key, time, lattices, row, bits, num_words):
    # Bound once: every binding of an array counts a reference.
    streams, masks, hashes = bath.streams, bath.masks, bath.hashes
    folds, shifted, escaped = bath.folds, bath.shifted, bath.escaped
    for plane in range(4):
        step = 4 * time + plane
        draw_masks(streams, 1 + _WARM_UP + step * num_bits, folds, num_bits, masks)
        _decide_escapes(masks, escaped, hashes, hash_key, step * num_words, num_words, bits, row)
        for lattice in lattices:
            apply(masks, lattice, plane, row, bits, num_words, shifted)


@numba.njit(cache=True, inline="always")
def _decide_escapes(masks, escaped, hashes, hash_key, first_word, num_words, bits_per_row, row):
    """Set f_0 .. f_4 of the escaped sites from their hash, with next to no branch that depends on random bits."""
    last = ~_u64(0) >> _u64(64 * row - bits_per_row)
    count = 0
    for w in range(num_words):
        bits = masks[5, w]
        if last != ~_u64(0) and (w + 1) % row == 0:
            bits &= last
        escaped[count] = w
        count += bits != _u64(0)
    h0, h1, h2, h3, h4 = hashes[0], hashes[1], hashes[2], hashes[3], hashes[4]
    for i in range(count):
        w = np.int64(escaped[i])
        bits = masks[5, w]
        if last != ~_u64(0) and (w + 1) % row == 0:
            bits &= last
        while bits != _u64(0):
            rest = bits & (bits - _u64(1))
            bit = _u64(popcount((bits ^ rest) - _u64(1)))
            v = derive(hash_key, (_u64(first_word + w) << _u64(6)) + bit)
            masks[0, w] |= _u64(v < h0) << bit
            masks[1, w] |= _u64(v < h1) << bit
            masks[2, w] |= _u64(v < h2) << bit
            masks[3, w] |= _u64(v < h3) << bit
            masks[4, w] |= _u64(v < h4) << bit
            bits = rest
