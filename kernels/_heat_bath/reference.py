"""The heat bath site by site, on Python integers: what the compiled forms must reproduce bit for bit."""

import numpy as np

from .._random.reference import Sfc64, derive
from . import HASH_CHILD, LOG2_ESCAPES, MIN_BITS


def split(thresholds, monotone: bool) -> tuple[int, list[int], list[int]]:
    """Number of bits B, codes A_j and hash thresholds D_j of the five probabilities (see the package)."""
    log2_escapes = LOG2_ESCAPES[monotone]
    escapes = 1 << log2_escapes
    for num_bits in range(MIN_BITS[monotone], 65):
        low, rest = 64 - num_bits, 0
        codes, rests = [], []
        for p in thresholds:
            p = min(int(p), 2**64 - escapes)
            codes.append(min(2**num_bits - escapes, (p - rest * monotone) >> low))
            rest = p - (codes[-1] << low)
            rests.append(rest)
        if rest < escapes << low:
            return num_bits, codes, [d << (num_bits - log2_escapes) for d in rests]
    raise AssertionError("unreachable: 64 bits hold every threshold")


def unpack(words: np.ndarray, size: int) -> np.ndarray:
    """Packed lattices [n, 4, size/2, words] as spins int8 [n, size, size] in {-1, +1}."""
    half = size // 2
    bits = np.unpackbits(np.ascontiguousarray(words, "<u8").view(np.uint8), axis=-1, bitorder="little")[..., :half]
    spins = np.empty((len(words), size, size), np.int8)
    for plane in range(4):
        row, colour = plane & 1, plane >> 1
        spins[:, row::2, row ^ colour :: 2] = bits[:, plane]
    return 2 * spins - 1


def pack(spins: np.ndarray) -> np.ndarray:
    """Spins [n, size, size], up where positive, as packed lattices."""
    size = spins.shape[-1]
    bits = np.zeros((len(spins), 4, size // 2, -(-size // 128) * 64), np.uint8)
    for plane in range(4):
        row, colour = plane & 1, plane >> 1
        bits[:, plane, :, : size // 2] = spins[:, row::2, row ^ colour :: 2] > 0
    return np.packbits(bits, axis=-1, bitorder="little").view("<u8").astype(np.uint64)


class HeatBath:
    """One run of sweeps: `sweep` applies the next random map to every lattice (up = bool [size, size]) given."""

    def __init__(self, thresholds, size: int, key: int, monotone: bool):
        self.num_bits, self.codes, self.hashes = split(thresholds, monotone)
        self.first_escape = 2**self.num_bits - (1 << LOG2_ESCAPES[monotone])
        self.size, self.hash_key, self.time = size, derive(key, HASH_CHILD), 0
        self.words_per_row = -(-size // 128)
        self.streams = [Sfc64(key, s) for s in range(size // 2 * self.words_per_row)]

    def sweep(self, *lattices: np.ndarray) -> None:
        for plane in range(4):
            first_row, colour = plane & 1, plane >> 1
            columns = range(first_row ^ colour, self.size, 2)
            drawn = [[stream.next() for _ in range(self.num_bits)] for stream in self.streams]
            for row in range(first_row, self.size, 2):
                for k, column in enumerate(columns):
                    self._update(lattices, plane, row, column, k, drawn)
        self.time += 1

    def _update(self, lattices, plane, row, column, k, drawn) -> None:
        stream, bit = row // 2 * self.words_per_row + k // 64, k % 64
        u = sum((~word >> bit & 1) << i for i, word in enumerate(drawn[stream]))
        site = ((4 * self.time + plane) * len(self.streams) + stream) * 64 + bit
        v = derive(self.hash_key, site)
        for up in lattices:
            j = sum(
                int(up[(row + a) % self.size, (column + b) % self.size]) for a, b in ((0, 1), (0, -1), (1, 0), (-1, 0))
            )
            up[row, column] = u < self.codes[j] if u < self.first_escape else v < self.hashes[j]
