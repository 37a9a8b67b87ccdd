"""The open TASEP in continuous time, random-sequential, from any configurations: many chains, each with its own rates.

    tasep_evolve(words, entry_rate, exit_rate, num_sites, duration, seed, first_id)

| argument   | dtype   | shape             |       | meaning                                                     |
|------------|---------|-------------------|-------|-------------------------------------------------------------|
| words      | uint64  | [n, ceil(M / 64)] | INOUT | site j is bit j % 64 of word j // 64; padding bits are zero |
| entry_rate | float64 | [n]               | IN    | alpha in (0, 1]                                             |
| exit_rate  | float64 | [n]               | IN    | beta in (0, 1]                                              |
| num_sites  | int     |                   | IN    | M in [1, 2^30]                                              |
| duration   | float   |                   | IN    | time, in units of 1 / (bulk rate); finite, >= 0             |
| seed       | int     |                   | IN    | in [0, 2^64)                                                |
| first_id   | int     |                   | IN    | chain i is number first_id + i                              |

Uniformisation: M + 1 clocks tick at rate 1, one per bond (0 the entry, M the exit), so the number of ticks in a time t
is Poisson((M + 1) t) and each tick chooses its bond uniformly. A tick moves the particle left of its bond if the
place to the right is free; at the entry (exit) only with probability alpha (beta). This is the law of the continuous
chain without a time step. The time is cut into equal slices with at most TICKS expected ticks; the number in a
slice comes from 64-bit thresholds of the Poisson law (`_ticks.py`), so each of its probabilities is right to 2^-64.

Random words: key = derive(derive(seed, TASEP_EVOLVE), id). Slice t reads its bonds from the upper, then the lower half
of words 0, 1, ... under derive(key, 2 t), skipping the few (below (M + 1) / 2^32) that would not be fair; under
derive(key, 2 t + 1), word 0 is the number of ticks and word 1 + k decides whether tick k passes the entry or exit.
Work: one tick per bond and unit of time, half a random word each. Bytes: M / 4 read and written per chain.
"""

TICKS = 1024  # expected in a slice, at most
