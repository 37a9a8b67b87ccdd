"""Energy and magnetisation of packed 128 x 128 lattices: ns a lattice on one core."""

import numpy as np

from hessfast.kernels.ising_observables import cpu, reference


def test_128x128(record_rate):
    words = np.random.default_rng(0).integers(0, 2**64, (10_000, 4, 64, 1), dtype=np.uint64)
    np.testing.assert_array_equal(cpu.ising_observables(words[:5], 128), reference.ising_observables(words[:5], 128))
    record_rate(lambda: cpu.ising_observables(words, 128), work=len(words), unit="us/sample/core")
