"""ising_cftp site by site."""

import numpy as np

from .._heat_bath.reference import HeatBath, pack
from .._random import ISING_CFTP
from .._random.reference import derive
from . import rung_start


def ising_cftp(thresholds, rungs, sample_ids, seed, size):
    root = derive(int(seed), ISING_CFTP)
    words, last_rungs = [], []
    for sample_id, row, rung in zip(sample_ids, thresholds, rungs, strict=True):
        key = derive(root, int(sample_id))
        up, rung = _from_the_past(row, int(rung), key, size)
        words.append(pack(np.where(up, 1, -1)[None])[0])
        last_rungs.append(rung)
    shape = (len(words), 4, size // 2, -(-size // 128))
    return np.array(words, np.uint64).reshape(shape), np.array(last_rungs, np.int64)


def _from_the_past(thresholds, first_rung: int, key: int, size: int) -> tuple[np.ndarray, int]:
    top, bottom = np.full((size, size), True), np.full((size, size), False)
    for rung in range(first_rung, -1, -1):
        bath = HeatBath(thresholds, size, derive(key, rung), monotone=True)
        for _ in range(rung_start(rung) - rung_start(rung - 1)):
            bath.sweep(top, bottom)
    if (top == bottom).all():
        return top, first_rung
    return _from_the_past(thresholds, first_rung + 2, key, size)
