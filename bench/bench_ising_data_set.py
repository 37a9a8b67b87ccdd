"""The paper's data set: lattices of 128 x 128 with (T, H) uniform on [1, 5] x [-2, 2], every one certified exact."""

import numpy as np

from hessfast import ising

NUM = 4000


def test_uniform_parameters(record_rate):
    rng = np.random.default_rng(0)
    temperature, field = rng.uniform(1, 5, NUM), rng.uniform(-2, 2, NUM)
    batch = ising.sample(temperature[:50], field[:50])
    assert "mcmc" not in batch.certificate
    np.testing.assert_array_equal(batch.words, ising.sample(temperature[:50], field[:50]).words)
    record_rate(lambda: ising.sample(temperature, field), work=NUM, unit="us/sample/core", goal=167)
