"""Heat-bath sweeps of lattices, each with its own temperature and field, by their side: flips/ns on one core."""

import numpy as np

from hessfast.ising import _thresholds
from hessfast.kernels._heat_bath.reference import pack
from hessfast.kernels.ising_sweep import cpu, reference


def problem(num, size, num_sweeps):
    rng = np.random.default_rng(size)
    words = pack(rng.choice([-1, 1], (num, size, size)))
    thresholds = _thresholds.heat_bath(rng.uniform(1, 5, num), rng.uniform(-2, 2, num))
    return words, thresholds, np.full(num, num_sweeps), np.arange(num, dtype=np.uint64), np.uint64(1), size


def check(size):
    expected, *rest = problem(2, size, 2)
    got = expected.copy()
    reference.ising_sweep(expected, *rest)
    cpu.ising_sweep(got, *rest)
    np.testing.assert_array_equal(got, expected)


def test_128x128(record_rate):
    check(128)
    arguments = problem(16, 128, 2000)
    record_rate(lambda: cpu.ising_sweep(*arguments), work=16 * 2000 * 128**2, unit="flips/ns/core", goal=10)


def test_1024x1024(record_rate):
    check(256)
    arguments = problem(2, 1024, 100)
    record_rate(lambda: cpu.ising_sweep(*arguments), work=2 * 100 * 1024**2, unit="flips/ns/core", goal=10)


def test_256x256(record_rate):
    check(256)
    arguments = problem(8, 256, 500)
    record_rate(lambda: cpu.ising_sweep(*arguments), work=8 * 500 * 256**2, unit="flips/ns/core")


def test_4096x4096(record_rate):
    check(258)  # rows of several words, in several bands
    arguments = problem(1, 4096, 10)
    record_rate(lambda: cpu.ising_sweep(*arguments), work=10 * 4096**2, unit="flips/ns/core", goal=10)


def test_64x64(record_rate):
    check(64)
    arguments = problem(16, 64, 2000)
    record_rate(lambda: cpu.ising_sweep(*arguments), work=16 * 2000 * 64**2, unit="flips/ns/core")
