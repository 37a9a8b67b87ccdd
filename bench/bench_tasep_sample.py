"""Exact stationary TASEP configurations of 16,384 sites: microseconds each, in every phase."""

import numpy as np
import pytest

from hessfast.kernels.tasep_sample import cpu, reference

SITES, NUM = 16384, 1000
RATES = {
    "uniform": None,  # alpha and beta uniform on (0, 1): the data set
    "maximal_current": (0.8, 0.7),
    "triple_point": (0.5, 0.5),
    "coexistence": (0.3, 0.3),
    "low_density": (0.2, 0.7),
    "high_density": (0.7, 0.2),
}


def arrays(alpha, beta, sites):
    n = len(alpha)
    return np.zeros((n, -(-sites // 64)), np.uint64), np.zeros((n, 2), np.int64), alpha, beta, sites, 1, 0


@pytest.mark.parametrize("where", RATES)
def test_16384_sites(record_rate, where):
    alpha, beta = np.random.default_rng(0).uniform(size=(2, NUM))
    if RATES[where] is not None:
        alpha[:], beta[:] = RATES[where]
    small = [arrays(alpha[:5], beta[:5], 300) for _ in range(2)]
    cpu.tasep_sample(*small[0])
    reference.tasep_sample(*small[1])
    np.testing.assert_array_equal(small[0][0], small[1][0])
    large = arrays(alpha, beta, SITES)
    record_rate(lambda: cpu.tasep_sample(*large), work=NUM, unit="us/sample/core", goal=10)
