"""The heat bath in numba: streams of random words, the random map of a plane, and whole sweeps of packed lattices."""

from typing import NamedTuple

import numba
import numpy as np

from .._bits import lowest_bit
from .._random import WARM_UP
from .._random.cpu import derive
from . import LOG2_ESCAPES, MIN_BITS
from .fold import MOST_STEPS, STEP_WORDS, assemble, draw_masks
from .update import apply, whole_vectors
from .vectors import LANES

BAND = 256  # words of a plane, about, that are drawn and applied at a time: their masks stay in the first-level cache
_u64 = np.uint64
_BITS_SINGLE, _BITS_MONOTONE = MIN_BITS[False], MIN_BITS[True]
_LOG2_SINGLE, _LOG2_MONOTONE = LOG2_ESCAPES[False], LOG2_ESCAPES[True]


class Bath(NamedTuple):
    """Scratch of one thread: streams, the masks of one plane, and the thresholds as `split` and `assemble` put them."""

    streams: np.ndarray  # uint64 [3, padded]: a, b, c of sfc64
    masks: np.ndarray  # uint64 [6, padded]: f_0 .. f_4, escapes of a band
    shifted: np.ndarray  # uint64 [padded]
    program: np.ndarray  # uint64 [MOST_STEPS, STEP_WORDS], see fold.py
    escaped: np.ndarray  # uint64: a byte for every vector of a band says which of its words hold escapes
    hashes: np.ndarray  # uint64 [5]


@numba.njit(cache=True)
def new_bath(size):
    padded = whole_vectors(size // 2 * ((size + 127) // 128))
    if padded % 512 == 0:
        padded += LANES  # rows a whole number of pages long would compete for the same cache sets
    num_flags, program_words = (padded // LANES + 7) // 8, MOST_STEPS * STEP_WORDS
    # One block of memory: arrays of their own would start at equal offsets in a page and compete for cache sets.
    block = np.empty(10 * padded + program_words + num_flags + 5, np.uint64)
    streams, masks, shifted = block[: 3 * padded], block[3 * padded : 9 * padded], block[9 * padded : 10 * padded]
    rest = block[10 * padded :]
    program, escaped, hashes = rest[:program_words], rest[program_words:-5], rest[-5:]
    return Bath(
        streams.reshape(3, padded), masks.reshape(6, padded), shifted, program.reshape(MOST_STEPS, STEP_WORDS),
        escaped, hashes,
    )  # fmt: skip


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
def sweep(bath, num_bits, hash_key, time, size, planes, num_lattices):
    """One random sweep, number `time` of its run, applied to the first `num_lattices` lattices of `planes`."""
    if size == 128:  # as constants they let the compiler drop what only other sizes need
        _sweep(bath, num_bits, hash_key, time, planes, num_lattices, 1, 64, 64)
    else:
        row = (size + 127) // 128
        _sweep(bath, num_bits, hash_key, time, planes, num_lattices, row, size // 2, size // 2 * row)


@numba.njit(cache=True, inline="always")
def _sweep(bath, num_bits, hash_key, time, planes, num_lattices, row, bits, num_words):
    # Bound once: every binding of an array counts a reference.
    streams, masks, shifted, program = bath.streams, bath.masks, bath.shifted, bath.program
    escaped, hashes = bath.escaped, bath.hashes
    band = row * LANES * max(1, BAND // (row * LANES))  # whole rows, whole vectors
    for plane in range(4):
        step = 4 * time + plane
        for start in range(0, num_words, band):
            stop = min(start + band, num_words)
            draw_masks(streams, start, stop, 1 + WARM_UP + step * num_bits, program, num_bits, masks, escaped)
            _decide_escapes(masks, escaped, hashes, hash_key, step * num_words + start, stop - start)
            for lattice in range(num_lattices):
                apply(masks, planes, lattice, plane, start, stop, row, bits, num_words, shifted)


@numba.njit(cache=True, inline="always")
def _decide_escapes(masks, escaped, hashes, hash_key, first_word, num_words):
    """Set f_0 .. f_4 of the escaped sites from their hash; also beyond the lattice, where nobody looks."""
    h0, h1, h2, h3, h4 = hashes[0], hashes[1], hashes[2], hashes[3], hashes[4]
    num_vectors = (num_words + LANES - 1) // LANES
    for group in range((num_vectors + 7) // 8):
        flags = escaped[group]
        if num_vectors - 8 * group < 8:
            flags &= (_u64(1) << _u64(8 * (num_vectors - 8 * group))) - _u64(1)
        while flags != _u64(0):
            flag = lowest_bit(flags)
            flags &= flags - _u64(1)
            w = LANES * (8 * group + (flag >> 3)) + (flag & 7)
            bits = masks[5, w]
            while bits != _u64(0):
                bit = _u64(lowest_bit(bits))
                v = derive(hash_key, (_u64(first_word + w) << _u64(6)) + bit)
                masks[0, w] |= _u64(v < h0) << bit
                masks[1, w] |= _u64(v < h1) << bit
                masks[2, w] |= _u64(v < h2) << bit
                masks[3, w] |= _u64(v < h3) << bit
                masks[4, w] |= _u64(v < h4) << bit
                bits &= bits - _u64(1)
