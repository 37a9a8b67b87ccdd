"""The dynamics of the open TASEP: clock ticks (attempted jumps) per nanosecond, beside a plain loop doing the same."""

import numba
import numpy as np
import pytest

from hessfast.kernels.tasep_evolve import cpu, reference

CHAINS, TICKS = 8, 4e6


@pytest.mark.parametrize("sites", [256, 16384])
def test_ticks(record_rate, sites):
    words = [np.zeros((CHAINS, -(-300 // 64)), np.uint64) for _ in range(2)]
    rates = np.full(CHAINS, 0.6), np.full(CHAINS, 0.7)
    cpu.tasep_evolve(words[0], *rates, 300, 20.0, 1, 0)
    reference.tasep_evolve(words[1], *rates, 300, 20.0, 1, 0)
    np.testing.assert_array_equal(*words)
    large = np.zeros((CHAINS, sites // 64), np.uint64)
    duration = TICKS / CHAINS / (sites + 1)
    record_rate(lambda: cpu.tasep_evolve(large, *rates, sites, duration, 1, 0), work=TICKS, unit="ticks/ns/core")


def test_plain_loop_of_16384_sites(record_rate):
    record_rate(lambda: plain_loop(16384, 0.6, 0.7, int(TICKS)), work=TICKS, unit="ticks/ns/core")


@numba.njit(cache=True)
def plain_loop(num_sites, alpha, beta, ticks):
    """What one would write first, with NumPy's generator in numba; one chain."""
    sites = np.zeros(num_sites + 1, np.int8)
    for _ in range(ticks):
        bond = np.random.randint(0, num_sites + 1)  # noqa: NPY002
        if bond == 0:
            if sites[1] == 0 and np.random.random() < alpha:  # noqa: NPY002
                sites[1] = 1
        elif bond == num_sites:
            if sites[bond] == 1 and np.random.random() < beta:  # noqa: NPY002
                sites[bond] = 0
        elif sites[bond] == 1 and sites[bond + 1] == 0:
            sites[bond], sites[bond + 1] = 0, 1
    return sites
