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
    """Scratch of one thread: streams, the masks of one plane, and the thresholds as `split` and `folds_of` put them."""

    streams: np.ndarray  # uint64 [3, padded]: a, b, c of sfc64
    masks: np.ndarray  # uint64 [6, padded]: f_0 .. f_4, escapes
    codes: np.ndarray  # uint64 [5]
    hashes: np.ndarray  # uint64 [5]
    folds: np.ndarray  # int64 [32, 6]
    shifted: np.ndarray  # uint64 [words of a plane]
    escaped_words: np.ndarray  # int64 [64 words of a plane, and one]
    escaped_bits: np.ndarray  # uint64 [64 words of a plane, and one]


@numba.njit(cache=True)
def new_bath(size):
    num_words = size // 2 * ((size + 127) // 128)
    padded = (num_words + LANES - 1) // LANES * LANES
    return Bath(
        np.empty((3, padded), np.uint64),
        np.empty((6, padded), np.uint64),
        np.empty(5, np.uint64),
        np.empty(5, np.uint64),
        np.empty((32, 6), np.int64),
        np.empty(num_words, np.uint64),
        np.empty(64 * num_words + 1, np.int64),
        np.empty(64 * num_words + 1, np.uint64),
    )


@numba.njit(cache=True)
def set_thresholds(bath, thresholds, monotone):
    """Prepare a bath for the five thresholds of a lattice; returns the number of bits."""
    num_bits = split(thresholds, monotone, bath.codes, bath.hashes)
    for d in range(num_bits // 2):
        for j in range(5):
            bath.folds[d, j] = WIDTH * np.int64(bath.codes[j] >> _u64(2 * d) & _u64(3))
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


@numba.njit(cache=True)
def sweep(bath, num_bits, hash_key, time, size, first, second, both):
    """One random sweep, number `time` of its run, applied to the lattice `first` and, if `both`, to `second`."""
    words_per_row = (size + 127) // 128
    for plane in range(4):
        step = 4 * time + plane
        draw_masks(bath.streams, 1 + _WARM_UP + step * num_bits, bath.folds, num_bits, bath.masks)
        _decide_escapes(bath, hash_key, step * bath.shifted.size, size, words_per_row)
        apply(bath.masks, first, plane, words_per_row, size // 2, bath.shifted)
        if both:
            apply(bath.masks, second, plane, words_per_row, size // 2, bath.shifted)


@numba.njit(cache=True, inline="always")
def _decide_escapes(bath, hash_key, first_word, size, words_per_row):
    """Set f_0 .. f_4 of the escaped sites from their hash. Written without branches that depend on random bits."""
    masks, words, bits = bath.masks, bath.escaped_words, bath.escaped_bits
    last = ~_u64(0) >> _u64(64 * words_per_row - size // 2)
    count = 0
    for w in range(bath.shifted.size):
        escaped = masks[5, w]
        if last != ~_u64(0) and (w + 1) % words_per_row == 0:
            escaped &= last
        words[count] = w
        bits[count] = escaped
        count += escaped != _u64(0)
    h0, h1, h2, h3, h4 = bath.hashes
    i = 0
    while i < count:
        w, escaped = words[i], bits[i]
        rest = escaped & (escaped - _u64(1))
        bit = _u64(popcount((escaped ^ rest) - _u64(1)))
        v = derive(hash_key, (_u64(first_word + w) << _u64(6)) + bit)
        masks[0, w] |= _u64(v < h0) << bit
        masks[1, w] |= _u64(v < h1) << bit
        masks[2, w] |= _u64(v < h2) << bit
        masks[3, w] |= _u64(v < h3) << bit
        masks[4, w] |= _u64(v < h4) << bit
        words[count] = w
        bits[count] = rest
        count += rest != _u64(0)
        i += 1
