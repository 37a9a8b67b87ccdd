"""The systems written out as dense matrices."""

import numpy as np


def block_tridiagonal(diagonal, lower, right):
    num, m, dim = right.shape
    solution, definite = np.zeros_like(right), np.zeros(num, bool)
    for n in range(num):
        matrix = np.zeros((m, dim, m, dim))
        for k in range(m):
            matrix[k, :, k] = diagonal[n, k]
        for k in range(m - 1):
            matrix[k + 1, :, k] = lower[n, k]
            matrix[k, :, k + 1] = lower[n, k].T
        matrix = matrix.reshape(m * dim, m * dim)
        definite[n] = bool(np.isfinite(matrix).all()) and bool(np.linalg.eigvalsh(matrix)[0] > 0)
        if definite[n]:
            solution[n] = np.linalg.solve(matrix, right[n].ravel()).reshape(m, dim)
    return solution, definite
