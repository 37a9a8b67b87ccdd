"""ising_cftp site by site."""

import numpy as np

from .._heat_bath.reference import HeatBath, pack
from .._random import ISING_CFTP
from .._random.reference import derive
from . import rung_start


def ising_cftp(words, horizons, thresholds, sample_ids, seed, size) -> None:
    root = derive(int(seed), ISING_CFTP)
    for i in range(len(words)):
        key = derive(root, int(sample_ids[i]))
        while True:
            top, bottom = np.full((size, size), True), np.full((size, size), False)
            for rung in range(horizons[i], -1, -1):
                bath = HeatBath(thresholds[i], size, derive(key, rung), monotone=True)
                for _ in range(rung_start(rung) - (rung_start(rung - 1) if rung else 0)):
                    bath.sweep(top, bottom)
            if (top == bottom).all():
                break
            horizons[i] += 2
        words[i] = pack(np.where(top, 1, -1)[None])[0]
