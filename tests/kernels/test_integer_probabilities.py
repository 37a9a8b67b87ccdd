"""integer_probabilities: double-double equals 120-digit arithmetic in every one of the 64 bits."""

import numpy as np

from hessfast.kernels.integer_probabilities import cpu, reference


def test_logistic():
    rng = np.random.default_rng(1)
    high = np.concatenate(
        [rng.uniform(-12, 12, 900), [0.0, -0.0, 1e-300, 44.4, -44.4, 1e9, -1e9, 1e300, -1e300, 1e-17]]
    )
    low = high * rng.uniform(-1e-17, 1e-17, len(high))
    denominator = np.concatenate([rng.uniform(1, 5, 900), [1, 1, 1, 1, 1, 1, 1, 1e-300, 1e-300, 1e300]])
    np.testing.assert_array_equal(cpu.logistic64(high, low, denominator), reference.logistic64(high, low, denominator))


def test_one_minus_exp():
    rng = np.random.default_rng(2)
    numerator = np.concatenate([rng.uniform(0, 4, 400), rng.uniform(0, 1e-9, 100), [0.0, 2.0, 2.0, 1e300]])
    denominator = np.concatenate([rng.uniform(0.2, 6, 500), [1.0, 1e-3, 1e9, 1e-300]])
    for got, expected in zip(
        cpu.one_minus_exp64(numerator, denominator), reference.one_minus_exp64(numerator, denominator), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_values_known_by_hand():
    half, almost = cpu.logistic64(np.array([0.0, 1e9]), np.zeros(2), np.ones(2))
    assert (int(half), int(almost)) == (2**63, 2**64 - 1)
    assert int(cpu.one_minus_exp64(np.array([0.0]), np.ones(1))[0][0]) == 0
