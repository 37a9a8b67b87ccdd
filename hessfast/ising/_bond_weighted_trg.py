"""The Ising model in a field on a 2^m x 2^m torus: tensor renormalization with bond weights, symmetric form.

The site tensor A[l,u,r,d] = sum_s e^{hs} Q[s,l] Q[s,u] Q[s,r] Q[s,d] has the symmetries of the square, and every
renormalized one keeps them, up to a sign p = +-1 per leg under reflections. So a single symmetric matrix
A[(l,u),(r,d)] is split, A = sum_a lambda_a v_a v_a^T, in place of two general ones, and it falls into two blocks: pairs
of legs that are even and odd under the reflection (l,u) -> p_l p_u (u,l). Four halves around a plaquette make

    A'[a,b,c,d] = trace(B_a E B_b E B_c E B_d E),  B_a = |lambda_a|^{3/4} v_a,  E' = sign(lambda) |lambda|^{-1/2},

E the weights of the old bonds, E' those of the new. With G_ab = B_a E B_b a block of A' is G W G^T, W = +-(pE)(pE):
it is applied to vectors and never formed. Each step turns the lattice by 45 degrees and halves the number of tensors.
"""

import math
from typing import NamedTuple

import numpy as np

NEGLIGIBLE = 1e-9  # relative eigenvalue below which a leg is dropped; moves log Z per spin by about 1e-11 at most
SPARE = 8  # vectors iterated beyond those kept, so that the last of these converge in three products


def bond_weighted_trg(coupling: float, field: float, doublings: int, max_bond: int) -> float:
    """log Z per spin at K = 1/T = `coupling`, h = H/T = `field`, side 2^doublings, with at most `max_bond` legs kept.

    Each of the 2 * doublings steps costs O(max_bond^5) operations and O(max_bond^4) memory.

    References:
        D. Adachi, T. Okubo, S. Todo, Phys. Rev. B 105, L060402 (2022), arXiv:2011.01679, with k = -1/2.
    """
    # e^{K(st - 1)} = sum_l Q[s,l] Q[t,l]: the largest weight is taken out, so that nothing overflows at low temperature
    even, odd = math.sqrt((1 + math.exp(-2 * coupling)) / 2), math.sqrt(-math.expm1(-2 * coupling) / 2)
    legs = np.array([[even, odd], [even, -odd]])
    parity, weights = np.ones(2), np.ones(2)
    blocks = [
        Block(_even(legs[:, :, None] * legs[:, None, :], parity).T, np.exp([field - abs(field), -field - abs(field)])),
        Block(np.zeros((1, 1)), np.zeros(1)),
    ]
    log_z, sites = 2 * coupling + abs(field), 1
    for _ in range(2 * doublings):
        largest, blocks, parity, weights = _step(blocks, parity, weights, max_bond)
        log_z += math.log(largest) / sites
        sites *= 2
    # one tensor is left; its opposite legs are joined
    joined = weights[:, None] * weights
    diagonal = [((block.rows**2) @ block.weights) for block in blocks]
    upper = joined[np.triu_indices(len(weights), 1)]
    total = diagonal[0] @ np.concatenate([np.diag(joined), upper]) + diagonal[1] @ upper
    return log_z + math.log(total) / sites


class Block(NamedTuple):
    """One parity block of A, kept as the product rows @ diag(weights) @ rows.T."""

    rows: np.ndarray
    weights: np.ndarray


def _step(blocks: list[Block], parity: np.ndarray, weights: np.ndarray, max_bond: int):
    """Split A and join four halves: the largest |lambda| (taken out), the new blocks, leg parities and bond weights."""
    (even, even_vectors), (odd, odd_vectors) = (_dominant(block, 5 * max_bond // 8 + SPARE) for block in blocks)
    values = np.concatenate([even, odd])
    largest = np.abs(values).max()
    kept = np.argsort(-np.abs(values))[:max_bond]
    kept = np.sort(kept[np.abs(values[kept]) > NEGLIGIBLE * largest])
    count = np.searchsorted(kept, len(even))
    vectors = np.concatenate(
        [
            _from_even(even_vectors[:, kept[:count]].T, parity),
            _from_odd(odd_vectors[:, kept[count:] - len(even)].T, parity),
        ]
    )
    values = values[kept] / largest
    halves = vectors * (np.abs(values) ** 0.75)[:, None, None]
    new_parity = np.where(np.arange(len(values)) < count, 1.0, -1.0)

    new, old = halves.shape[:2]
    pairs = (halves * weights).reshape(-1, old) @ halves.transpose(1, 0, 2).reshape(old, -1)
    pairs = pairs.reshape(new, old, new, old)
    a, b = np.triu_indices(new, 1)
    same, upper = pairs[range(new), :, range(new), :], pairs[a, :, b, :]
    # G_ba is the reflection of G_ab, so (G_ab +- p_a p_b G_ba) / sqrt(2) is sqrt(2) times a part of G_ab
    even_rows = np.concatenate([_even(same, parity), math.sqrt(2) * _even(upper, parity)])
    odd_rows = math.sqrt(2) * _odd(upper, parity)
    joined = (parity * weights)[:, None] * (parity * weights)
    upper = joined[np.triu_indices(old, 1)]
    blocks = [Block(even_rows, np.concatenate([np.diag(joined), upper])), Block(odd_rows, -upper)]
    return largest, blocks, new_parity, np.sign(values) * np.abs(values) ** -0.5


def _dominant(block: Block, count: int) -> tuple[np.ndarray, np.ndarray]:
    """About `count` eigenpairs of largest |lambda| of a block: Rayleigh-Ritz on three Krylov blocks, or all of them."""
    rows, weights = block
    size = len(rows)
    if size <= 4 * count:
        return np.linalg.eigh((rows * weights) @ rows.T)
    basis = last = np.linalg.qr(np.random.default_rng(0).standard_normal((size, count)))[0]
    for _ in range(2):
        last = rows @ (weights[:, None] * (rows.T @ last))
        for _ in range(2):  # once is not orthogonal to the last digit
            last = np.linalg.qr(last - basis @ (basis.T @ last))[0]
        basis = np.concatenate([basis, last], axis=1)
    half = basis.T @ rows
    values, vectors = np.linalg.eigh((half * weights) @ half.T)
    return values, basis @ vectors


def _even(pairs: np.ndarray, parity: np.ndarray) -> np.ndarray:
    """The even part of matrices [.., l, u] under (l,u) -> p_l p_u (u,l), in the orthonormal basis (l,l), (l<u)."""
    a, b = np.triu_indices(len(parity), 1)
    upper = (pairs[..., a, b] + parity[a] * parity[b] * pairs[..., b, a]) / math.sqrt(2)
    return np.concatenate([np.diagonal(pairs, axis1=-2, axis2=-1), upper], axis=-1)


def _odd(pairs: np.ndarray, parity: np.ndarray) -> np.ndarray:
    a, b = np.triu_indices(len(parity), 1)
    return (pairs[..., a, b] - parity[a] * parity[b] * pairs[..., b, a]) / math.sqrt(2)


def _from_even(vectors: np.ndarray, parity: np.ndarray) -> np.ndarray:
    """The matrices [.., l, u] of even vectors: the inverse of `_even`."""
    size = len(parity)
    a, b = np.triu_indices(size, 1)
    pairs = np.zeros((len(vectors), size, size))
    pairs[:, range(size), range(size)] = vectors[:, :size]
    pairs[:, a, b] = vectors[:, size:] / math.sqrt(2)
    pairs[:, b, a] = parity[a] * parity[b] * pairs[:, a, b]
    return pairs


def _from_odd(vectors: np.ndarray, parity: np.ndarray) -> np.ndarray:
    size = len(parity)
    a, b = np.triu_indices(size, 1)
    pairs = np.zeros((len(vectors), size, size))
    pairs[:, a, b] = vectors / math.sqrt(2)
    pairs[:, b, a] = -parity[a] * parity[b] * pairs[:, a, b]
    return pairs
