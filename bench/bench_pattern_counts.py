"""Counts of 3x3 patterns of 128 x 128 cells: us a lattice on one core."""

import numpy as np

from hessfast.kernels.pattern_counts import cpu, reference


def test_128x128(record_rate):
    cells = np.random.default_rng(0).integers(0, 2, (1000, 128, 128)).astype(np.uint8)
    few = cells[:3]
    np.testing.assert_array_equal(cpu.pattern_counts(few, 3, 3, True), reference.pattern_counts(few, 3, 3, True))
    record_rate(lambda: cpu.pattern_counts(cells, 3, 3, True), work=len(cells), unit="us/sample/core")
