"""The dynamics of the open TASEP on Python integers: bits 0 and M + 1 are the reservoirs at the two ends."""

from bisect import bisect_right

from .._random import TASEP_EVOLVE
from .._random.reference import derive
from ._ticks import slices


def tasep_evolve(words, entry_rate, exit_rate, num_sites, duration, seed, first_id):
    num_slices, least, thresholds = slices(num_sites, duration)
    for i in range(len(words)):
        key = derive(derive(seed, TASEP_EVOLVE), first_id + i)
        passes = [int(float(entry_rate[i]) * 2**64), int(float(exit_rate[i]) * 2**64)]
        state = 1 | sum(int(word) << (64 * w) for w, word in enumerate(words[i])) << 1
        for t in range(num_slices):
            bonds = fair_bonds(derive(key, 2 * t), num_sites + 1)
            aside = derive(key, 2 * t + 1)
            for k in range(least + bisect_right(thresholds, derive(aside, 0))):
                bond = next(bonds)
                if 0 < bond < num_sites or derive(aside, 1 + k) < passes[bond > 0]:
                    state = tick(state, bond, num_sites)
        for w in range(words.shape[1]):
            words[i, w] = state >> (64 * w + 1) & (2**64 - 1)


def fair_bonds(key, n):
    """Uniform integers in [0, n), two from each word."""
    index = 0
    while True:
        word = derive(key, index)
        for half in (word >> 32, word % 2**32):
            if half * n % 2**32 >= 2**32 % n:
                yield half * n >> 32
        index += 1


def tick(state, bond, num_sites):
    if state >> bond & 3 == 1:
        state ^= 3 << bond
    return (state | 1) & ~(1 << (num_sites + 1))  # the reservoirs stay as they are
