"""Integer probabilities against 60-digit arithmetic."""

import mpmath
import numpy as np
import pytest

from hessfast import _probabilities


def _points():
    rng = np.random.default_rng(1)
    temperature = np.concatenate([rng.uniform(1, 5, 150), [0.01, 0.3, 1.0, 2.0, 1e6, 1e-300]])
    field = np.concatenate([rng.uniform(-2, 2, 150), [-2.0, 0.1, 0.0, 2.0, -1e3, 1e300]])
    return temperature, field


def test_heat_bath_thresholds_are_the_floor_of_the_exact_probability():
    temperature, field = _points()
    thresholds = _probabilities.heat_bath_thresholds(temperature, field)
    with mpmath.workdps(60):
        for t, h, row in zip(temperature, field, thresholds, strict=True):
            for j, got in enumerate(row):
                p = 1 / (1 + mpmath.exp(-2 * (2 * j - 4 + mpmath.mpf(float(h))) / mpmath.mpf(float(t))))
                assert int(got) == min(int(mpmath.floor(mpmath.ldexp(p, 64))), 2**64 - 1), (t, h, j)


def test_thresholds_are_monotone_and_symmetric():
    temperature, field = _points()
    up = _probabilities.heat_bath_thresholds(temperature, field)
    down = _probabilities.heat_bath_thresholds(temperature, -field)
    assert (up[:, 1:] >= up[:, :-1]).all()
    # floor(2^64 p) + floor(2^64 (1 - p)) is 2^64 - 1, or 0 modulo 2^64 where 2^64 p is an integer
    total = up + down[:, ::-1]
    assert np.isin(total, np.array([0, 2**64 - 1, 2**64 - 2], dtype=np.uint64)).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_one_minus_exp(seed):
    rng = np.random.default_rng(seed)
    temperature = np.concatenate([rng.uniform(0.2, 6, 100), [1e-3, 1e9, 2.0]])
    numerator = np.concatenate([rng.uniform(0, 4, 100), [2.0, 2.0, 0.0]])
    p, halved = _probabilities.one_minus_exp64(numerator, temperature)
    with mpmath.workdps(60):
        for i in range(len(p)):
            exact = -mpmath.expm1(-mpmath.mpf(float(numerator[i])) / mpmath.mpf(float(temperature[i])))
            assert int(p[i]) == min(int(mpmath.floor(mpmath.ldexp(exact, 64))), 2**64 - 1)
            assert int(halved[i]) == min(int(mpmath.floor(mpmath.ldexp(exact / (2 - exact), 64))), 2**64 - 1)
