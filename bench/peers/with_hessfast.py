"""hessfast: checkerboard heat bath on packed words, through the public function."""

import numpy as np

from hessfast import ising

from . import SIDE, aligned


class Peer:
    dynamics, has_field, sweeps_at_least = "checkerboard heat bath, exact to 2^-64", True, 1

    def __init__(self, temperature, field, seed):
        self.temperature, self.field, self.seed = np.asarray(temperature), np.asarray(field), seed
        self.batch = ising.pack(aligned(field))

    def sweeps(self, num_sweeps):
        self.seed += 1
        self.batch = ising.sweep(self.batch, self.temperature, self.field, num_sweeps, self.seed)
        return len(self.temperature) * SIDE * SIDE * num_sweeps

    def spins(self):
        return np.asarray(self.batch.spins())
