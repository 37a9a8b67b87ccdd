"""The dynamics of the open TASEP in numba: one byte per site while a chain runs, chains in parallel."""

import numba
import numpy as np

from .._random import TASEP_EVOLVE
from .._random.cpu import derive
from .._threads import numbers, share
from ._ticks import slices

_LOW_HALF = np.uint64(2**32 - 1)


def tasep_evolve(words, entry_rate, exit_rate, num_sites, duration, seed, first_id):
    law = slices(num_sites, duration)
    share(_chains, len(words), words, entry_rate, exit_rate, num_sites, *law, np.uint64(seed), np.uint64(first_id))


@numba.njit(cache=True, nogil=True)
def _chains(tickets, words, entry_rate, exit_rate, M, num_slices, least, thresholds, seed, first_id):
    root = derive(seed, np.uint64(TASEP_EVOLVE))
    sites = np.empty(M + 2, np.uint8)  # between the reservoir that feeds and the one that drains
    for i in numbers(tickets):
        key = derive(root, first_id + np.uint64(i))
        for j in range(M):
            sites[j + 1] = (words[i, j >> 6] >> np.uint64(j & 63)) & np.uint64(1)
        sites[0], sites[M + 1] = 1, 0
        for t in range(num_slices):
            aside = derive(key, np.uint64(2 * t + 1))
            ticks = least + np.searchsorted(thresholds, derive(aside, np.uint64(0)), side="right")
            _slice(sites, M, ticks, derive(key, np.uint64(2 * t)), aside, entry_rate[i], exit_rate[i])
        for w in range(words.shape[1]):
            word = np.uint64(0)
            for j in range(64 * w, min(64 * w + 64, M)):
                word |= np.uint64(sites[j + 1]) << np.uint64(j & 63)
            words[i, w] = word


@numba.njit(cache=True)
def _slice(sites, M, ticks, bonds, aside, entry_rate, exit_rate):
    num_bonds, unfair = np.uint64(M + 1), np.uint64(2**32 % (M + 1))
    done, index = 0, np.uint64(0)
    while done < ticks:
        word = derive(bonds, index)
        index += np.uint64(1)
        for half in (word >> np.uint64(32), word & _LOW_HALF):
            scaled = half * num_bonds
            if scaled & _LOW_HALF < unfair or done == ticks:
                continue
            done += 1
            bond = scaled >> np.uint64(32)
            if bond - np.uint64(1) >= np.uint64(M - 1):  # the entry, 0 - 1 being the largest of all, or the exit
                rate = exit_rate if bond else entry_rate
                if rate < 1.0 and derive(aside, np.uint64(done)) >= np.uint64(rate * 2.0**64):
                    continue
                sites[0], sites[M + 1] = 1, 0
            moved = sites[bond] & ~sites[bond + np.uint64(1)]
            sites[bond] ^= moved
            sites[bond + np.uint64(1)] |= moved
    sites[0], sites[M + 1] = 1, 0
