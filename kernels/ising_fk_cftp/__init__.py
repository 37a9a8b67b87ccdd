"""Perfect samples of the Ising model on a torus by coupling from the past of Fortuin-Kasteleyn bonds.

Where spins are slow to coalesce (low temperature in a small field, and the critical region) bonds are not. A bond is
open or closed; open bonds join sites into clusters, and a site whose ghost bond is open belongs to the cluster of the
ghost, which carries the sign of the field. Bonds alone have the law
    P(bonds) ~ prod_open p prod_closed (1 - p) 2^(clusters),   p = 1 - exp(-2/T),  ghost bonds 1 - exp(-2|H|/T),
and given the bonds each cluster without the ghost takes a fair sign. The heat bath of one bond, with U uniform,
    open if U < p/(2 - p);   closed if U >= p;   between: open if and only if the bond's ends are joined without it,
is monotone, so a chain from all bonds closed and one from all bonds open, driven by the same U over the sweeps
-horizon..-1, enclose every other; where they meet, the state at time 0 is exactly distributed (Propp, Wilson 1996).
If they do not meet the horizon grows by half and the old sweeps return with the same U. Nothing is ever capped.

    ising_fk_cftp(thresholds, sign, sample_ids, seed, size, horizon=0) -> words, sweeps

| name       |     | dtype, shape                     | meaning                                                        |
|------------|-----|----------------------------------|----------------------------------------------------------------|
| thresholds | IN  | uint64 [n, 4]                    | floor(2^64 q) for q_0 = p/(2-p), q_1 = p; the ghost's q_0, q_1 |
| sign       | IN  | int8 [n]                         | sign of the field; not used without ghost bonds                |
| sample_ids | IN  | uint64 [n]                       | number of the sample; fixes its random words, with the seed    |
| seed       | IN  | int                              | in [0, 2^64)                                                   |
| size       | IN  | int                              | even side >= 2; on side 2 two bonds join a pair of neighbours  |
| horizon    | IN  | int                              | first horizon tried, 0: from the thresholds; `words` ignore it |
| words      | OUT | uint64 [n, 4, size/2, row_words] | planes Be, Bo, We, Wo; row_words = ceil(size/128)              |
| sweeps     | OUT | int64 [n]                        | the horizon at which the chains met                            |

Bit k of black row i (i = 2m in Be, 2m + 1 in Bo) is column 2k + (i & 1), of white row i column 2k + 1 - (i & 1).

Order of one sweep: right bonds of even sites (row + column even), down bonds of even sites, right bonds of odd sites,
down bonds of odd sites, ghost bonds; rows first inside each class. Each lattice class is a perfect matching, so the
bonds of a class are far apart and the others tell most of their connections. The first sweep of a horizon is replaced
by its bracket [U < q_0] <= bonds <= [U < q_1], which encloses it.

Randomness. key = derive(derive(derive(derive(seed, ISING_FK_CFTP), sample_id), t), plane) for the sweep t = 1, 2, ...
before time 0 and the plane 0 (right bonds), 1 (down), 2 (ghost). The top BITS bits of U, least significant first, are
bit j % 64 of BITS consecutive words: word j // 64 of row i has number q = i * ceil(size/64) + j // 64, and takes draws
BITS * (q // STREAMS) onwards of sfc64 stream q % STREAMS of that key. The next 64 bits of U are
derive(derive(key, 3 * STREAMS), i * size + j). So U is exact to 2^-64 and the number of draws depends on nothing.
A cluster without the ghost is up if the top bit of derive(derive(sample key, 0), its first site) is set.

Work: a sweep and chain takes O(size^2 log size) operations in any state; 3 sweeps bring the chains together at T = 1,
12 at the critical point of 128x128. Memory: about 50 bytes a site and thread. Bytes that must move: the result.
"""

BITS = 8  # bits of U drawn for whole words; the remaining ones matter to one bond in 2^BITS per threshold
STREAMS = 16
