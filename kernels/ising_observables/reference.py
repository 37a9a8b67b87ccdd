"""ising_observables on unpacked spins."""

import numpy as np

from .._heat_bath.reference import unpack


def ising_observables(words, size):
    spins = unpack(words, size).astype(np.int64)
    bonds = spins * np.roll(spins, 1, axis=1) + spins * np.roll(spins, 1, axis=2)
    return -bonds.sum((1, 2)), spins.sum((1, 2))
