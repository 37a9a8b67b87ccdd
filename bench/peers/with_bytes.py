"""Loops over one-byte spins in numba: as most people write it, and with all that helps without changing the idea."""

import numba
import numpy as np

from . import aligned


def probabilities_up(temperature, field):
    """[n, 5]: heat-bath probability of spin up, given 0..4 neighbours up."""
    around = np.arange(-4, 5, 2) + np.asarray(field)[:, None]
    return 1.0 / (1.0 + np.exp(-2.0 * around / np.asarray(temperature)[:, None]))


class Plain:
    """Three nested loops, indices modulo the side, a table of probabilities, NumPy's random numbers inside numba."""

    dynamics, has_field, sweeps_at_least = "sequential heat bath, np.random", True, 1

    def __init__(self, temperature, field, seed):
        self.table = probabilities_up(temperature, field)
        self.lattices = aligned(field)
        _seed(seed)

    def sweeps(self, num_sweeps):
        _plain(self.lattices, self.table, num_sweeps)
        return self.lattices.size * num_sweeps

    def spins(self):
        return self.lattices.copy()


class Tuned:
    """No division, no floating point: xoshiro256++ in registers, integer thresholds, spins 0/1, running neighbours."""

    dynamics, has_field, sweeps_at_least = "sequential heat bath, xoshiro256++", True, 1

    def __init__(self, temperature, field, seed):
        self.thresholds = (probabilities_up(temperature, field) * 2.0**64).clip(max=2.0**64 - 2**11).astype(np.uint64)
        self.lattices = (aligned(field) > 0).astype(np.uint8)
        self.states = np.random.default_rng(seed).integers(1, 2**63, (len(self.lattices), 4), dtype=np.uint64)

    def sweeps(self, num_sweeps):
        _tuned(self.lattices, self.thresholds, self.states, num_sweeps)
        return self.lattices.size * num_sweeps

    def spins(self):
        return 2 * self.lattices.astype(np.int8) - 1


@numba.njit(cache=True)
def _seed(seed):
    np.random.seed(seed)  # noqa: NPY002  numba's generator lives apart and is seeded inside compiled code


@numba.njit(cache=True)
def _plain(lattices, table, num_sweeps):
    n, side, _ = lattices.shape
    for b in range(n):
        s = lattices[b]
        for _ in range(num_sweeps):
            for i in range(side):
                for j in range(side):
                    around = s[(i + 1) % side, j] + s[(i - 1) % side, j] + s[i, (j + 1) % side] + s[i, (j - 1) % side]
                    s[i, j] = 1 if np.random.random() < table[b, (around + 4) // 2] else -1  # noqa: NPY002


@numba.njit(cache=True)
def _tuned(lattices, thresholds, states, num_sweeps):
    n, side, _ = lattices.shape
    for b in range(n):
        s, threshold = lattices[b], thresholds[b]
        s0, s1, s2, s3 = states[b, 0], states[b, 1], states[b, 2], states[b, 3]
        for _ in range(num_sweeps):
            for i in range(side):
                above, row, below = s[i - 1 if i else side - 1], s[i], s[i + 1 if i + 1 < side else 0]
                left = row[side - 1]
                for j in range(side):
                    right = row[j + 1 if j + 1 < side else 0]
                    word = s0 + s3
                    word = (word << np.uint64(23) | word >> np.uint64(41)) + s0
                    t = s1 << np.uint64(17)
                    s2 ^= s0
                    s3 ^= s1
                    s1 ^= s2
                    s0 ^= s3
                    s2 ^= t
                    s3 = s3 << np.uint64(45) | s3 >> np.uint64(19)
                    left = np.uint8(word < threshold[above[j] + below[j] + left + right])
                    row[j] = left
        states[b, 0], states[b, 1], states[b, 2], states[b, 3] = s0, s1, s2, s3
