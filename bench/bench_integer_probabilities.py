"""The five thresholds of a lattice's heat bath, right in all 64 bits: ns each on one core."""

import numpy as np

from hessfast.kernels.integer_probabilities import cpu, reference

NUM = 100_000


def test_logistic(record_rate):
    rng = np.random.default_rng(0)
    high, denominator = rng.uniform(-12, 12, NUM), rng.uniform(1, 5, NUM)
    low = high * rng.uniform(-1e-17, 1e-17, NUM)
    few = slice(200)
    expected = reference.logistic64(high[few], low[few], denominator[few])
    np.testing.assert_array_equal(cpu.logistic64(high[few], low[few], denominator[few]), expected)
    record_rate(lambda: cpu.logistic64(high, low, denominator), work=NUM, unit="ns/threshold/core")
