"""block_tridiagonal in numba: a system a thread, its factors in scratch of its own.

Block k is factored as P_k = G_k G_k^T; W_k = L_k G_k^-T carries it to the next. Loops over d are left to LLVM: for
d = 2 the whole system is 9 KB a hundred blocks, and the divisions and square roots of the pivots are what takes time.
"""

import numba
import numpy as np

from .._threads import numbers, share


def block_tridiagonal(diagonal, lower, right):
    solution, definite = np.zeros(right.shape), np.zeros(len(right), np.bool_)
    share(_solve_all, len(right), diagonal, lower, right, solution, definite)
    return solution, definite


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _solve_all(tickets, diagonal, lower, right, solution, definite):
    _, m, dim = right.shape
    factors, carried = np.empty((m, dim, dim)), np.empty((max(m - 1, 1), dim, dim))
    for n in numbers(tickets):
        definite[n] = _solve(diagonal[n], lower[n], right[n], solution[n], factors, carried)


@numba.njit(cache=True, error_model="numpy")
def _solve(diagonal, lower, right, x, factors, carried):
    m, dim = right.shape
    for k in range(m):
        G = factors[k]
        for i in range(dim):
            for j in range(i + 1):
                pivot = diagonal[k, i, j]
                if k > 0:
                    for a in range(dim):
                        pivot -= carried[k - 1, i, a] * carried[k - 1, j, a]
                for a in range(j):
                    pivot -= G[i, a] * G[j, a]
                if i != j:
                    G[i, j] = pivot / G[j, j]
                elif 0.0 < pivot < np.inf:
                    G[i, i] = np.sqrt(pivot)
                else:
                    x[:] = 0.0
                    return False
        for i in range(dim):
            rest = right[k, i]
            if k > 0:
                for a in range(dim):
                    rest -= carried[k - 1, i, a] * x[k - 1, a]
            for a in range(i):
                rest -= G[i, a] * x[k, a]
            x[k, i] = rest / G[i, i]
        if k + 1 < m:
            for i in range(dim):
                for j in range(dim):
                    total = lower[k, i, j]
                    for a in range(j):
                        total -= carried[k, i, a] * G[j, a]
                    carried[k, i, j] = total / G[j, j]
    for k in range(m - 1, -1, -1):
        for i in range(dim - 1, -1, -1):
            rest = x[k, i]
            if k + 1 < m:
                for a in range(dim):
                    rest -= carried[k, a, i] * x[k + 1, a]
            for a in range(i + 1, dim):
                rest -= factors[k, a, i] * x[k, a]
            x[k, i] = rest / factors[k, i, i]
    return True
