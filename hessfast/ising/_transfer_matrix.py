"""The Ising model in a field on a narrow torus: the exact transfer matrix, one momentum at a time."""

import functools

import numpy as np

WIDEST = 14  # 16384 states in 8 blocks of at most 1182


def transfer_matrix(coupling: float, field: float, length: int, width: int) -> float:
    """log Z (total) at K = 1/T = `coupling`, h = H/T = `field` of a torus of `length` rings of `width` <= 14 spins.

    Z = sum_i lambda_i^length with T = D^{1/2} V D^{1/2}: D holds the bonds and the field of one ring, V the bonds
    between two. T commutes with rotations of the ring; momenta k and -k share their eigenvalues.
    """
    from scipy.special import logsumexp

    distances, spins, periods, ring_bonds = _rings(width)
    log_diagonal = coupling * (ring_bonds - width) + field * spins - abs(field) * width
    root = np.exp(log_diagonal / 2) * np.sqrt(periods)
    between = np.exp(-2 * coupling * distances)
    log_terms = []
    for momentum in range(width // 2 + 1):
        allowed = momentum * periods % width == 0
        wave = np.exp(-2j * np.pi * momentum * np.arange(width) / width)
        block = np.tensordot(wave, between[:, allowed][:, :, allowed], axes=1) / width
        block = block.real if momentum in (0, width / 2) else block
        values = np.linalg.eigvalsh(root[allowed, None] * block * root[allowed])
        copies = 1 if momentum in (0, width / 2) else 2
        log_terms.append(length * np.log(np.maximum(values, 1e-300)) + np.log(copies))
    return length * width * (2 * coupling + abs(field)) + float(np.asarray(logsumexp(np.concatenate(log_terms))))


@functools.lru_cache(maxsize=4)
def _rings(width: int):
    """One ring per class of rotations: distances [shift, ring, ring] to the turned rings, and what they hold."""
    states = np.arange(1 << width)
    turned = np.array([((states << j) | (states >> (width - j))) & ((1 << width) - 1) for j in range(width)])
    rings = np.flatnonzero(turned.min(0) == states)
    turned = turned[:, rings]
    ones = np.array([int(state).bit_count() for state in states], dtype=np.int8)
    distances = ones[rings[:, None] ^ turned[:, None, :]]
    periods = width // (turned == rings).sum(0)
    spins = 2.0 * ones[rings] - width
    ring_bonds = width - 2.0 * ones[rings ^ turned[1]]
    return distances, spins, periods, ring_bonds
