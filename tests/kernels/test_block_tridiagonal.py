"""block_tridiagonal: numba against dense matrices, and what is not positive definite."""

import numpy as np
import pytest

from hessfast.kernels.block_tridiagonal import cpu, reference


def problem(num, m, dim, seed=0, shift=0.5):
    """Random symmetric systems; without a shift about half are indefinite."""
    rng = np.random.default_rng(seed)
    lower = rng.normal(size=(num, m - 1, dim, dim))
    half = rng.normal(size=(num, m, dim, dim))
    diagonal = half @ half.swapaxes(-1, -2) + shift * np.eye(dim)
    for k in range(m - 1):  # larger than what is beside them
        diagonal[:, k] += shift * 2 * np.eye(dim) * np.linalg.norm(lower[:, k], axis=(1, 2))[:, None, None]
        diagonal[:, k + 1] += shift * 2 * np.eye(dim) * np.linalg.norm(lower[:, k], axis=(1, 2))[:, None, None]
    return diagonal, lower, rng.normal(size=(num, m, dim))


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
@pytest.mark.parametrize("m", [1, 2, 7, 90])
def test_numba_equals_dense(m, dim):
    case = problem(5, m, dim)
    (got, definite), (expected, truth) = cpu.block_tridiagonal(*case), reference.block_tridiagonal(*case)
    assert definite.all() and truth.all()
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)


def test_a_chain_of_springs():
    """-x_k-1 + 2 x_k - x_k+1 = 1 with ends held at 0: x_k = k (m + 1 - k) / 2 for k = 1 .. m."""
    m = 50
    solution, definite = cpu.block_tridiagonal(
        np.full((1, m, 1, 1), 2.0), np.full((1, m - 1, 1, 1), -1.0), np.ones((1, m, 1))
    )
    k = np.arange(1, m + 1)
    assert definite[0]
    np.testing.assert_allclose(solution[0, :, 0], k * (m + 1 - k) / 2, rtol=1e-10)


def test_indefinite_systems_are_told_from_definite_ones():
    case = problem(200, 4, 2, shift=0.25)
    (got, definite), (expected, truth) = cpu.block_tridiagonal(*case), reference.block_tridiagonal(*case)
    assert 20 < truth.sum() < 180
    np.testing.assert_array_equal(definite, truth)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_system_with_nan_leaves_the_others(bad):
    diagonal, lower, right = problem(3, 5, 2)
    expected, _ = cpu.block_tridiagonal(diagonal, lower, right)
    diagonal[1, 3, 0, 0] = bad
    got, definite = cpu.block_tridiagonal(diagonal, lower, right)
    np.testing.assert_array_equal(definite, [True, False, True])
    np.testing.assert_array_equal(got[[0, 2]], expected[[0, 2]])
    assert (got[1] == 0).all()


def test_no_systems():
    solution, definite = cpu.block_tridiagonal(np.empty((0, 3, 2, 2)), np.empty((0, 2, 2, 2)), np.empty((0, 3, 2)))
    assert solution.shape == (0, 3, 2) and definite.shape == (0,)
