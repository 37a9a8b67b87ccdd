"""Every state of a small torus, counted: the exact integers g(E, M), and every exact law and moment that follows."""

from dataclasses import dataclass

import numpy as np

from hessfast import _checks


@dataclass(frozen=True, eq=False)
class DensityOfStates:
    """How many states of a torus have bond energy E = -sum_<ij> s_i s_j and magnetisation M = sum_i s_i.

    Attributes:
        rows, columns: sides of the torus; a side of 2 has two bonds between the same two neighbours.
        energies: the values of E, int64 `[num_energies]`, ascending.
        magnetizations: the values of M, int64 `[num_magnetizations]`, ascending.
        counts: g(E, M), uint64 (float64 where it exceeds 2^63) `[num_energies, num_magnetizations]`.
    """

    rows: int
    columns: int
    energies: np.ndarray
    magnetizations: np.ndarray
    counts: np.ndarray

    def log_weights(self, temperature: float, field: float) -> np.ndarray:
        """log g(E, M) - E/T + H M/T, float64 `[num_energies, num_magnetizations]`; -inf where no state is."""
        temperature, field = _checks.positive("temperature", temperature), _checks.number("field", field)
        with np.errstate(divide="ignore"):
            log_counts = np.log(self.counts.astype(np.float64))
        return log_counts + (field * self.magnetizations - self.energies[:, None]) / temperature

    def log_partition(self, temperature: float, field: float) -> float:
        """log Z per spin."""
        from scipy.special import logsumexp

        return float(np.asarray(logsumexp(self.log_weights(temperature, field)))) / (self.rows * self.columns)

    def joint_law(self, temperature: float, field: float) -> np.ndarray:
        """The probabilities p(E, M), float64 `[num_energies, num_magnetizations]`.

        Example:
            Four spins in a square have double bonds; at T = 4 the two aligned states outweigh the others:

            >>> law = density_of_states(2, 2).joint_law(temperature=4.0, field=0.0)
            >>> bool(np.isclose(law[0].sum(), 2 * np.exp(2) / (2 * np.exp(2) + 12 + 2 * np.exp(-2))))
            True
        """
        from scipy.special import softmax

        return softmax(self.log_weights(temperature, field))


def density_of_states(rows: int, columns: int) -> DensityOfStates:
    """Count the states of a small torus by (E, M), exactly, in integers.

    Spins are added one by one to each possible first ring; what is kept is the number of ways to reach each last ring
    with each number of broken bonds and of up spins. First rings that differ by a rotation, a reflection or a flip of
    all spins are done once. Work and memory grow as 2^min(rows, columns): 4x4 takes 10 ms, 6x6 a second, 8x8 minutes.

    Args:
        rows: number of rows, >= 2.
        columns: number of columns, >= 2, with rows * columns <= 64, so that every count fits into 64 bits.

    Raises:
        ValueError: if a side is below 2 or the torus has more than 64 spins.
        TypeError: if a side is no integer.

    References:
        G. Bhanot, J. Stat. Phys. 60, 55 (1990): the counts by a transfer matrix over polynomials.

    Example:
        >>> states = density_of_states(4, 4)
        >>> int(states.counts.sum()), int(states.counts[0].sum()), int(states.energies[0])
        (65536, 2, -32)
    """
    rows, columns = (_checks.integer(name, side, 2) for name, side in (("rows", rows), ("columns", columns)))
    sites = rows * columns
    if sites > 64:
        raise ValueError(
            f"rows * columns must be <= 64 for exact 64-bit counts, got {sites}. "
            "Use ising.log_partition for larger tori."
        )
    length, width = max(rows, columns), min(rows, columns)
    counts = np.zeros((2 * sites + 1, sites + 1), dtype=np.uint64)
    for ring, members in _ring_classes(width).items():
        ways = _ways(ring, length, width)
        # half of a class's rings are reached from the other half by flipping every spin
        counts += np.uint64(members // 2) * (ways + ways[:, ::-1])
    possible = np.flatnonzero(counts.any(1))
    energies = 2 * possible - 2 * sites
    return DensityOfStates(rows, columns, energies, np.arange(-sites, sites + 1, 2), counts[possible])


def _ring_classes(width: int) -> dict[int, int]:
    """The smallest ring of each class under rotation, reflection and flip of all spins, and the size of its class."""
    full = (1 << width) - 1
    members: dict[int, int] = {}
    for ring in range(1 << width):
        mirror = int(f"{ring:0{width}b}"[::-1], 2)
        images = (((r << j) | (r >> (width - j))) & full for r in (ring, mirror) for j in range(width))
        smallest = min(min(image, image ^ full) for image in images)
        members[smallest] = members.get(smallest, 0) + 1
    return members


def _ways(ring: int, length: int, width: int) -> np.ndarray:
    """The number of states with first ring `ring`, by broken bonds and up spins: uint64 `[2 sites + 1, sites + 1]`."""
    sites = length * width
    states = np.arange(1 << width)
    broken = (ring ^ ((ring >> 1) | ((ring & 1) << (width - 1)))).bit_count()
    ways = np.zeros((1 << width, 2 * sites + 1, sites + 1), dtype=np.uint64)
    ways[ring, broken, ring.bit_count()] = 1
    for site in range(width, sites):
        bit = site % width
        up = (states >> bit) & 1
        breaks = (up != (states >> (bit - 1)) & 1).astype(int) if bit else np.zeros(len(states), dtype=int)
        if bit == width - 1:
            breaks += up != (states & 1)
        grown = np.zeros_like(ways)
        for above in (0, 1):  # 1: the spin above differs
            source = states ^ (above << bit)
            for more in range(3):
                for spin in (0, 1):
                    chosen = (breaks == more) & (up == spin)
                    b = above + more
                    grown[chosen, b:, spin:] += ways[source[chosen], : ways.shape[1] - b, : sites + 1 - spin]
        ways = grown
    total = np.zeros_like(ways[0])
    for state in states:
        b = (int(state) ^ ring).bit_count()
        total[b:] += ways[state, : len(total) - b]
    return total
