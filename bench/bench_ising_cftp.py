"""Perfect samples by coupling spins from the past: us a 128 x 128 lattice on one core, through the public function."""

import numpy as np

from hessfast import ising
from hessfast.ising import _methods


def declared(num):
    """(T, H) uniform on [1, 5] x [-2, 2] where spins are the declared method: the data set without its hard part."""
    rng = np.random.default_rng(0)
    temperature, field = rng.uniform(1, 5, 2 * num), rng.uniform(-2, 2, 2 * num)
    chosen = np.flatnonzero(_methods.declared(temperature, field))[:num]
    return temperature[chosen], field[chosen]


def check():
    for temperature, field in ((3.0, 0.1), (1.5, -1.0)):
        cpu, reference = (ising.sample(temperature, field, 16, seed=1, backend=each) for each in ("cpu", "reference"))
        np.testing.assert_array_equal(cpu.words, reference.words)


def test_declared_region(record_rate):
    check()
    temperature, field = declared(5000)
    record_rate(
        lambda: ising.sample(temperature, field, method="cftp"), work=len(field), unit="us/sample/core", goal=40
    )


def test_weak_field(record_rate):
    check()
    record_rate(lambda: ising.sample(np.full(200, 2.6), 0.0, method="cftp"), work=200, unit="us/sample/core")


def test_strong_field(record_rate):
    check()
    record_rate(lambda: ising.sample(np.full(2000, 2.0), 2.0, method="cftp"), work=2000, unit="us/sample/core")
