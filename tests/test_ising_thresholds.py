"""Integer thresholds of the Ising kernels against their formulas in 60 digits."""

import mpmath
import numpy as np

from hessfast.ising import _thresholds


def _points():
    rng = np.random.default_rng(1)
    temperature = np.concatenate([rng.uniform(1, 5, 100), [0.01, 0.3, 1.0, 2.0, 1e6, 1e-300]])
    field = np.concatenate([rng.uniform(-2, 2, 100), [-2.0, 0.1, 0.0, 2.0, -1e3, 1e300]])
    return temperature, field


def _floor64(p):
    return min(int(mpmath.floor(mpmath.ldexp(p, 64))), 2**64 - 1)


def test_heat_bath():
    temperature, field = _points()
    thresholds = _thresholds.heat_bath(temperature, field)
    assert (thresholds[:, 1:] >= thresholds[:, :-1]).all()
    with mpmath.workdps(60):
        for t, h, row in zip(temperature, field, thresholds, strict=True):
            for j, got in enumerate(row):
                assert int(got) == _floor64(1 / (1 + mpmath.exp(-2 * (2 * j - 4 + mpmath.mpf(h)) / mpmath.mpf(t))))


def test_bonds():
    temperature, field = _points()
    with mpmath.workdps(60):
        for t, h, row in zip(temperature, field, _thresholds.bonds(temperature, field), strict=True):
            p, g = (-mpmath.expm1(-2 * abs(mpmath.mpf(x)) / mpmath.mpf(t)) for x in (1.0, h))
            assert [int(x) for x in row] == [_floor64(x) for x in (p / (2 - p), p, g / (2 - g), g)]


def test_sign_of_a_lattice():
    stays = _thresholds.stays(np.array([2.0, 2.0, 2.0]), np.array([0.5, -0.5, 0.0]), np.array([4, 4, 4]))
    with mpmath.workdps(60):
        assert [int(x) for x in stays] == [_floor64(1 / (1 + mpmath.exp(-2 * s))) for s in (1, -1, 0)]
