"""Newton's systems of 500 geodesics of 90 points in two dimensions: us each on one core, by LAPACK's bands, too."""

import numpy as np
from scipy.linalg import solveh_banded

from hessfast.kernels.block_tridiagonal import cpu, reference

NUM, M, DIM = 500, 88, 2


def _systems(num: int):
    """Diagonally dominant, as those of a short geodesic."""
    rng = np.random.default_rng(0)
    half, lower = rng.normal(size=(num, M, DIM, DIM)), 0.3 * rng.normal(size=(num, M - 1, DIM, DIM))
    diagonal = half @ half.swapaxes(-1, -2) + 5 * np.eye(DIM)
    return diagonal, lower, rng.normal(size=(num, M, DIM))


def _banded(diagonal, lower):
    """The lower bands `[num, 2 DIM, M DIM]` of LAPACK."""
    bands = np.zeros((len(diagonal), 2 * DIM, M * DIM))
    for i in range(DIM):
        for j in range(DIM):
            if i >= j:
                bands[:, i - j, j::DIM] = diagonal[:, :, i, j]
            bands[:, DIM + i - j, j : (M - 1) * DIM : DIM] = lower[:, :, i, j]
    return bands


def test_geodesics(record_rate):
    few, many = _systems(3), _systems(NUM)
    np.testing.assert_allclose(cpu.block_tridiagonal(*few)[0], reference.block_tridiagonal(*few)[0], rtol=1e-9)
    record_rate(lambda: cpu.block_tridiagonal(*many), work=NUM, unit="us/system/core")


def test_peer_banded(record_rate):
    diagonal, lower, right = _systems(NUM)
    bands, flat = _banded(diagonal, lower), right.reshape(NUM, -1)

    def solve():
        return [solveh_banded(ab, b, lower=True, check_finite=False) for ab, b in zip(bands, flat, strict=True)]

    expected = cpu.block_tridiagonal(diagonal, lower, right)[0].reshape(NUM, -1)
    np.testing.assert_allclose(solve(), expected, rtol=1e-9, atol=1e-12)
    record_rate(solve, work=NUM, unit="us/system/core")
