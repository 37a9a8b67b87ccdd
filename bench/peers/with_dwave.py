"""dwave-samplers: simulated annealing in C++, at constant beta, the square lattice being a general graph."""

import numpy as np
from dwave.samplers.sa.simulated_annealing import simulated_annealing

from . import SIDE, aligned


class Peer:
    # A call turns the graph from Python lists into C++ vectors; 500 sweeps make that a few per cent.
    dynamics, has_field, sweeps_at_least = "sequential Metropolis on a graph", True, 500

    def __init__(self, temperature, field, seed):
        site = np.arange(SIDE * SIDE)
        row, column = divmod(site, SIDE)
        neighbours = np.concatenate([row * SIDE + (column + 1) % SIDE, (row + 1) % SIDE * SIDE + column])
        self.bonds = np.tile(site, 2).tolist(), neighbours.tolist(), [-1.0] * len(neighbours)
        self.parameters = [(1.0 / float(t), [-float(h)] * len(site)) for t, h in zip(temperature, field, strict=True)]
        self.states = aligned(field).reshape(-1, SIDE * SIDE)
        self.seed = seed

    def sweeps(self, num_sweeps):
        # The function under SimulatedAnnealingSampler.sample: no sample sets, no labels; states change in place.
        for state, (beta, biases) in zip(self.states, self.parameters, strict=True):
            self.seed += 1
            simulated_annealing(1, biases, *self.bonds, num_sweeps, [beta], self.seed, state[None])
        return self.states.size * num_sweeps

    def spins(self):
        return self.states.reshape(-1, SIDE, SIDE).copy()
