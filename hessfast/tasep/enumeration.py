"""The open TASEP on a few sites, from nothing but its master equation: the oracle of the tests."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from hessfast import _checks

MAX_SITES = 10  # 2^10 states fill a dense matrix of 8 MB


def transitions(entry_rate: Any, exit_rate: Any, num_sites: int) -> Iterator[tuple[int, int, Any]]:
    """Every jump as (state, next state, rate); site j of a state is bit j of the integer."""
    last = 1 << (num_sites - 1)
    for state in range(1 << num_sites):
        if not state & 1:
            yield state, state | 1, entry_rate
        if state & last:
            yield state, state & ~last, exit_rate
        for j in range(num_sites - 1):
            if (state >> j) & 3 == 1:
                yield state, state ^ (3 << j), 1


def stationary_law(entry_rate: Any, exit_rate: Any, num_sites: int) -> np.ndarray:
    """The stationary probability of every configuration, by solving the master equation.

    State reduction (Grassmann, Taksar, Heyman 1985): the states are taken out one by one and their rates are
    handed on to the others; nothing is ever subtracted, so floats keep full relative accuracy, and integers and
    fractions stay exact. The work is O(8^num_sites).

    Args:
        entry_rate: rate of entering an empty first site, in (0, 1]. The type of the two rates is the arithmetic:
            `fractions.Fraction` (or int) gives exact fractions, float gives floats.
        exit_rate: rate of leaving an occupied last site, in (0, 1].
        num_sites: from 1 to 10; fractions take under a second up to 7 sites, and each further site ten times as long.

    Returns:
        Array of shape [2^num_sites], float64 or of Fractions; entry `state` belongs to the configuration whose
        site j is bit j of `state`.

    Raises:
        ValueError: for a rate outside (0, 1] or too many sites.

    Example:
        One site fills at rate 1/3 and empties at rate 1/2, so it is occupied for (1/3)/(1/3 + 1/2) of the time:

        >>> from fractions import Fraction
        >>> stationary_law(Fraction(1, 3), Fraction(1, 2), 1)
        array([Fraction(3, 5), Fraction(2, 5)], dtype=object)

    References:
        Grassmann, Taksar, Heyman, Operations Research 33, 1107 (1985).
    """
    num_sites = _checks.integer("num_sites", num_sites, 1, MAX_SITES)
    exact = isinstance(entry_rate, (int, Fraction)) and isinstance(exit_rate, (int, Fraction))
    number = Fraction if exact else float
    entry_rate, exit_rate = number(entry_rate), number(exit_rate)
    for name, rate in (("entry_rate", entry_rate), ("exit_rate", exit_rate)):
        if not 0 < rate <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {rate}.")
    num_states = 1 << num_sites
    rates = np.full((num_states, num_states), number(0), dtype=object if exact else np.float64)
    for state, target, rate in transitions(entry_rate, exit_rate, num_sites):
        rates[state, target] += rate

    leaving = np.full(num_states, number(0), dtype=rates.dtype)
    for state in range(num_states - 1, 0, -1):
        leaving[state] = rates[state, :state].sum()
        sources, targets = np.flatnonzero(rates[:state, state]), np.flatnonzero(rates[state, :state])
        # A visit to `state` ends where its own rates lead: it is bypassed.
        rates[np.ix_(sources, targets)] += np.outer(rates[sources, state], rates[state, targets] / leaving[state])

    law = np.full(num_states, number(1), dtype=rates.dtype)
    for state in range(1, num_states):
        law[state] = (law[:state] * rates[:state, state]).sum() / leaving[state]
    return law / law.sum()


def net_flow(law: np.ndarray, entry_rate: Any, exit_rate: Any, num_sites: int) -> np.ndarray:
    """d(law)/dt of the master equation, shape [2^num_sites]: zero for the stationary law and for no other."""
    flow = law * 0
    for state, target, rate in transitions(entry_rate, exit_rate, num_sites):
        flow[state] -= law[state] * rate
        flow[target] += law[state] * rate
    return flow


def occupations(num_sites: int) -> np.ndarray:
    """All configurations as uint8 of shape [2^num_sites, num_sites], in the order of `stationary_law`."""
    return (np.arange(1 << num_sites)[:, None] >> np.arange(num_sites) & 1).astype(np.uint8)
