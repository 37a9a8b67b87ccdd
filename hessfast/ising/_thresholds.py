"""The integer probabilities that the Ising kernels compare random bits with."""

import numpy as np

from hessfast._dispatch import kernel


def heat_bath(temperature: np.ndarray, field: np.ndarray) -> np.ndarray:
    """floor(2^64 / (1 + exp(-2 (2j - 4 + H) / T))) for j = 0 .. 4 up neighbours; uint64 [n, 5]."""
    neighbours = 4.0 * np.arange(5) - 8.0
    sums = neighbours + 2.0 * field[:, None]
    rests = _rest_of_sum(neighbours, 2.0 * field[:, None], sums)
    temperatures = np.repeat(temperature, 5)
    return kernel("integer_probabilities", name="logistic64")(sums.ravel(), rests.ravel(), temperatures).reshape(-1, 5)


def bonds(temperature: np.ndarray, field: np.ndarray) -> np.ndarray:
    """floor(2^64 q) for q = p/(2-p) and p of the bonds, p = 1 - exp(-2/T), and of the ghost bonds; uint64 [n, 4]."""
    op = kernel("integer_probabilities", name="one_minus_exp64")
    bond, bond_half = op(np.full_like(temperature, 2.0), temperature)
    ghost, ghost_half = op(2.0 * np.abs(field), temperature)
    return np.stack([bond_half, bond, ghost_half, ghost], axis=1)


def stays(temperature: np.ndarray, field: np.ndarray, magnetization: np.ndarray) -> np.ndarray:
    """floor(2^64 P) that a lattice keeps its sign, P = 1 / (1 + exp(-2 H M / T)); uint64 [n]."""
    moment = 2.0 * field * magnetization
    return kernel("integer_probabilities", name="logistic64")(moment, np.zeros_like(moment), temperature)


def _rest_of_sum(a, b, s):
    """What rounding took from s = a + b, exactly (Knuth)."""
    t = s - a
    return (a - (s - t)) + (b - t)
