"""Perfect samples by coupling Fortuin-Kasteleyn bonds from the past: us a 128 x 128 lattice on one core."""

import numpy as np
import pytest

from hessfast import ising
from hessfast.ising import _methods

CRITICAL = 2 / np.log(1 + np.sqrt(2))
# (T, H): lattices a round, us that a first prototype took on a newer core (Zen 5): the goal is to beat it here
POINTS = {
    (CRITICAL, 0.0): (8, 208_000),
    (2.2, 0.0): (8, 102_000),
    (2.3, 0.02): (16, 43_000),
    (2.0, 0.0): (16, 29_000),
    (2.0, 0.05): (32, 16_000),
    (1.5, 0.0): (64, 3_100),
    (1.0, 0.3): (256, 290),
    (1.0, 0.0): (256, 310),
}


def check():
    for temperature, field in ((CRITICAL, 0.0), (1.5, -0.1)):
        cpu, reference = (
            ising.sample(temperature, field, 16, seed=1, method="fk-cftp", backend=each)
            for each in ("cpu", "reference")
        )
        np.testing.assert_array_equal(cpu.words, reference.words)


@pytest.mark.parametrize(("temperature", "field"), POINTS)
def test_point(record_rate, temperature, field):
    check()
    num, goal = POINTS[temperature, field]
    temperatures = np.full(num, temperature)
    record_rate(lambda: ising.sample(temperatures, field, method="fk-cftp"), work=num, unit="us/sample/core", goal=goal)


def test_complement_of_the_declared_region(record_rate):
    """(T, H) uniform on [1, 5] x [-2, 2] where spins are not the declared method: the hard part of the data set."""
    check()
    rng = np.random.default_rng(0)
    temperature, field = rng.uniform(1, 5, 6000), rng.uniform(-2, 2, 6000)
    chosen = np.flatnonzero(~_methods.declared(temperature, field))
    temperature, field = temperature[chosen], field[chosen]
    record_rate(
        lambda: ising.sample(temperature, field, method="fk-cftp"), work=len(chosen), unit="us/sample/core", goal=2600
    )
