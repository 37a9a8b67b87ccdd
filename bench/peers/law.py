"""Does a peer draw from the Ising model it was asked for? Two checks that hold for every sampler in equilibrium.

1. Given its neighbours a spin is up with probability 1/(1+exp(-2 (sum of neighbours + H)/T)), and given all white spins
   the black ones are independent, and the other way round: up spins per number of neighbours up are exact binomials.
2. At H = 0 the energy is Onsager's: at T >= 3 a side of 128 is infinite to less than 1e-12 per spin.

Together they see 1 % in T and 0.03 in H (tried).
"""

import functools

import numpy as np
from scipy.special import ellipk

from bench.peers import SIDE

BURN_IN, SNAPSHOTS, BETWEEN = 200, 8, 25
LARGEST_Z = 5.0  # about one false alarm in ten thousand runs of all peers


def onsager_energy(temperature: float) -> float:
    """-coth 2K [1 + (2/pi) (2 tanh^2 2K - 1) K(k)] per spin, k = 2 sinh 2K / cosh^2 2K, K = 1/T, H = 0 (Onsager 1944).

    >>> round(onsager_energy(2.2692), 3)    # -sqrt(2) at the critical point, 2.269185
    -1.414
    """
    double = 2.0 / temperature
    modulus = 2.0 * np.sinh(double) / np.cosh(double) ** 2
    return float(-(1.0 + 2.0 / np.pi * (2.0 * np.tanh(double) ** 2 - 1.0) * ellipk(modulus**2)) / np.tanh(double))


def excess(spins: np.ndarray, temperature: np.ndarray, field: np.ndarray) -> np.ndarray:
    """[colour, number of neighbours up, 2]: up spins beyond the number expected, and the variance of that number."""
    around = np.zeros(spins.shape, np.int64)
    for axis, shift in ((1, 1), (1, -1), (2, 1), (2, -1)):
        around += np.roll(spins, shift, axis)
    up = 1.0 / (1.0 + np.exp(-2.0 * (around + field[:, None, None]) / temperature[:, None, None]))
    colour = np.broadcast_to(np.add.outer(np.arange(SIDE), np.arange(SIDE)) % 2, spins.shape)
    cell = (5 * colour + (around + 4) // 2).ravel()
    sums = [np.bincount(cell, weights.ravel(), minlength=10) for weights in ((spins > 0) - up, up * (1 - up))]
    return np.stack(sums, axis=-1).reshape(2, 5, 2)


@functools.cache
def violations(peer_class: type, seed: int = 0) -> list[str]:
    """One sentence for each check that fails; empty for a peer that does what it says."""
    temperature, field = np.linspace(3.0, 5.0, 16), np.zeros(16)
    if peer_class.has_field:
        temperature = np.concatenate([temperature, np.linspace(1.5, 5.0, 16)])
        field = np.concatenate([field, np.linspace(0.4, 2.0, 16) * np.tile([1, -1], 8)])
    peer = peer_class(temperature, field, seed)
    peer.sweeps(BURN_IN)
    total, energies = np.zeros((2, 5, 2)), []
    for _ in range(SNAPSHOTS):
        peer.sweeps(BETWEEN)
        spins = peer.spins()
        total += excess(spins, temperature, field)
        bonds = spins[:16] * (np.roll(spins[:16], 1, 1) + np.roll(spins[:16], 1, 2))
        energies.append(-bonds.mean((1, 2)))
    # The number of neighbours and the colour each point at another mistake; their sum is sharpest for a wrong field.
    cells = np.concatenate([total.reshape(10, 2), total.sum((0, 1))[None]])
    score = np.abs(cells[:, 0] / np.sqrt(cells[:, 1])).max()
    difference = np.mean(energies, axis=0) - [onsager_energy(t) for t in temperature[:16]]
    energy_score = abs(difference.mean() / (difference.std(ddof=1) / 4))
    found = []
    if score > LARGEST_Z:
        found.append(f"spins given their neighbours are {score:.1f} sigma off.")
    if energy_score > LARGEST_Z:
        found.append(f"the energy at H = 0 is {energy_score:.1f} sigma from Onsager's.")
    return found
