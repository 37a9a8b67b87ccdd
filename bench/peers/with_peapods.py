"""peapods: sequential Metropolis in Rust, all temperatures in one object; it has no field and starts at random."""

import warnings

import numpy as np
import peapods

from . import SIDE


class Peer:
    dynamics, has_field, sweeps_at_least = "sequential Metropolis, H = 0", False, 1

    def __init__(self, temperature, field, seed):
        if np.any(field):
            raise ValueError("field must be 0 for peapods.")
        self.model = peapods.Ising((SIDE, SIDE), temperatures=np.asarray(temperature))
        self.count = len(temperature)

    def sweeps(self, num_sweeps):
        with warnings.catch_warnings():
            # All sweeps are "warm-up", so that nothing is measured; the averages over no sweep are NaN.
            warnings.simplefilter("ignore", RuntimeWarning)
            self.model.sample(num_sweeps, sweep_mode="metropolis", warmup_ratio=1.0, sequential=True)
        return self.count * SIDE * SIDE * num_sweeps

    def spins(self):
        return np.asarray(self.model._sim.get_spins()).reshape(self.count, SIDE, SIDE).astype(np.int8)
