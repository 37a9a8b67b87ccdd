"""mcising: sequential Metropolis in Rust, one object per lattice."""

import mcising
import numpy as np

from . import SIDE, aligned


class Peer:
    dynamics, has_field, sweeps_at_least = "sequential Metropolis", True, 1

    def __init__(self, temperature, field, seed):
        # The core object, not Simulation: many sweeps a call, nothing measured in between.
        self.temperature = [float(t) for t in temperature]
        self.lattices = [
            mcising.IsingSimulation(SIDE, 1.0, 0.0, 0.0, float(h), seed + i, "metropolis", "square")
            for i, h in enumerate(field)
        ]
        for lattice, spins in zip(self.lattices, aligned(field), strict=True):
            lattice.set_spins(spins)

    def sweeps(self, num_sweeps):
        for lattice, t in zip(self.lattices, self.temperature, strict=True):
            lattice.sweep(num_sweeps, temperature=t)
        return len(self.lattices) * SIDE * SIDE * num_sweeps

    def spins(self):
        return np.stack([lattice.get_spins() for lattice in self.lattices])
