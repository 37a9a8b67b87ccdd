"""ising_cftp: perfect samples of the Ising model by monotone coupling from the past (Propp and Wilson 1996).

    ising_cftp(thresholds, rungs, sample_ids, seed, size) -> words, rungs

| argument   | dtype  | shape                          | meaning                                            |     |
|------------|--------|--------------------------------|----------------------------------------------------|-----|
| thresholds | uint64 | [n, 5]                         | floor(2^64 P(up | j neighbours up))                | IN  |
| rungs      | int64  | [n]                            | rung of `rung_start` to begin with                 | IN  |
| sample_ids | uint64 | [n]                            | identity of each sample for its randomness         | IN  |
| seed       | uint64 | scalar                         |                                                    | IN  |
| size       | int64  | scalar                         | side, even, >= 2                                   | IN  |
| words      | uint64 | [n, 4, size/2, ceil(size/128)] | the samples, packed (see _heat_bath)               | OUT |
| rungs      | int64  | [n]                            | the rung from which the chains met                 | OUT |

Two chains, from all up and from all down, run over the sweeps [-h, 0) with the same random maps; if they meet the
common state at time 0 is the sample, if not h grows and the same maps are used again. There is no cap: giving up would
bias the result. Past time is cut at rungs h = 4, 6, 8, 12, 16, 24, ... and each piece [-h_r, -h_(r-1)) is a run of its
own, of key derive(derive(derive(seed, ISING_CFTP), sample id), r). Thus a sample does not depend on the rung it began
with, which only sets the cost: too low wastes the short attempts, too high the early sweeps.
Work: sweeps of two chains with shared maps until they meet, of one chain from there to time 0.
"""


def rung_start(rung: int) -> int:
    """Number of sweeps back in time of a rung: 4, 6, 8, 12, 16, 24, 32, 48, ...; 0 of rung -1, which is the present."""
    return 0 if rung < 0 else (4 + 2 * (rung & 1)) << (rung >> 1)
