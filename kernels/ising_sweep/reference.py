"""ising_sweep site by site."""

import numpy as np

from .._heat_bath.reference import HeatBath, pack, unpack
from .._random import ISING_SWEEP
from .._random.reference import derive


def ising_sweep(words, thresholds, num_sweeps, sample_ids, seed, size) -> None:
    root = derive(int(seed), ISING_SWEEP)
    up = unpack(words, size) > 0
    for i, lattice in enumerate(up):
        bath = HeatBath(thresholds[i], size, derive(root, int(sample_ids[i])), monotone=False)
        for _ in range(num_sweeps[i]):
            bath.sweep(lattice)
    words[:] = pack(np.where(up, 1, -1))
