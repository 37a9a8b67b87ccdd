"""Exact stationary configurations of the open TASEP, each with its own rates, in O(M) integer work.

    tasep_sample(words, exponents, entry_rate, exit_rate, num_sites, seed, first_id)

| argument   | dtype   | shape             |     | meaning                                                     |
|------------|---------|-------------------|-----|-------------------------------------------------------------|
| words      | uint64  | [n, ceil(M / 64)] | OUT | site j is bit j % 64 of word j // 64; padding bits are zero |
| exponents  | int64   | [n, 2]            | OUT | (e, f), the powers of a and b drawn on the way              |
| entry_rate | float64 | [n]               | IN  | alpha in (0, 1]                                             |
| exit_rate  | float64 | [n]               | IN  | beta in (0, 1]                                              |
| num_sites  | int     |                   | IN  | M in [1, 2^30]                                              |
| seed       | int     |                   | IN  | in [0, 2^64)                                                |
| first_id   | int     |                   | IN  | sample i is number first_id + i and depends on nothing else |

With a = (1 - alpha) / alpha, b = (1 - beta) / beta and s = e + f, Z_M = sum_{e,f} N_M(s) a^e b^f counts lattice paths:
N_M(s) = C(2M+2, M-s) (s+1) / (M+1) (two-line representation: Bryc, Zatitskii 2024). One sample takes five steps.

1. (e, f): s by rejection below a hat of a flat centre and two geometric tails (the weight is log-concave in s),
   then the exponent of the smaller of a and b from a truncated geometric law, drawn bit by bit.
2. Two rows of M + 1 bits with M + s + 2 ones, uniform: independent bits whose density is a multiple of 1/256 near
   the wanted one, then ones (or zeros) at uniformly chosen places are flipped until the number is right.
3. A column with two ones is an opening bracket, with two zeros a closing one, other columns are skipped. On the
   circle s + 1 opening brackets stay unmatched; one of them, uniformly chosen, is the origin (cycle lemma).
4. Clear the first row's ones at the e unmatched columns that follow the origin (the last exits of Pitman's transform).
5. The first row, read from the column after the origin, is the configuration.

Law: exact but for the rounding of float64 in step 1, about 1e-14 in total variation at M = 16,384, which is also what
one unit in the last place of a rate changes. Only +, -, *, / and sqrt are used: the same bits on every IEEE machine.
Random words: key = derive(derive(seed, TASEP_SAMPLE), id). Single draws are derive(derive(key, 0), 0, 1, 2, ...), in
order: those of step 1, one per guess of a place to flip (bit 0 the row, the upper half the column), the origin. The
rows come from LANES sfc64 streams of derive(key, 1), word w of the two rows from lane w % LANES.
Work: 8 (M + 1) / 32 random words and about 50 word operations per 64 sites. Bytes: M / 8 written.
"""

LANES = 32  # streams of random words in step 2: the width of a warp, and eight AVX2 registers
PLANES = 8  # the density of step 2 is a multiple of 2^-PLANES
