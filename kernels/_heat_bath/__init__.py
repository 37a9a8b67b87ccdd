"""Heat bath of the checkerboard Ising model: the layout, the thresholds and the random map that its kernels share.

**Layout.** `words` uint64 [n, 4, size/2, ceil(size/128)]: planes Be, Bo, We, Wo are the black sites of even and of odd
rows and the white sites of even and of odd rows; word row m of a plane is lattice row i = 2m or 2m + 1. Bit k of a word
row is column 2k + (i & 1) of a black plane and column 2k + 1 - (i & 1) of a white one; 1 is up; unused bits are 0.
Black sites have row + column even. The neighbours of plane p are in plane p ^ 2, in the same rows, and in plane p ^ 3,
in the rows above and below. For size 128 a word row is one uint64 and a lattice is 2 KB.

**Thresholds.** `thresholds` uint64 [n, 5]: P_j = floor(2^64 / (1 + exp(-2 (2j - 4 + H) / T))), j = number of up
neighbours. A site becomes up with probability P_j / 2^64 exactly (P_j above 2^64 - E counts as 2^64 - E, with E below).

**Random map.** The randomness of one half-sweep is a map j -> {0, 1} per site that depends on no spin, so that the
chains of a coupling from the past share it. Per site:
    1. B random bits, least significant first, make u. If u < 2^B - E: f_j = [u < A_j].
    2. Otherwise (E of the 2^B values of u escape, whatever the spins are) a 64-bit hash V decides: f_j = [V < D_j].
Most kernels count the up neighbours first and then find f_j for the site's own j alone.
`split` finds E, B, A_j and D_j with P_j = A_j 2^(64 - B) + D_j E / 2^B, so that the law is exact. For single chains
E = 1 and B = 10: A_j and D_j are the high and the low bits of P_j. A coupling needs f_0 <= f_1 <= ... <= f_4, hence A_j
and D_j both non-decreasing; E = 4 and the first B >= 12 that admits this (12 but for 1 in 120 of uniform (T, H) in
[1, 5] x [-2, 2]). More bits cost more random words, fewer cost more hashes.

**Randomness.** A run of sweeps has a key. Word w of word row m draws from the sfc64 stream m * ceil(size/128) + w of
that key: per sweep black then white; per colour the even rows, then the odd rows; per plane B words, bit k of u being
the complement of word k. V of a site is derive(derive(key, 2^63), site) with
site = (((4 sweep + plane) * streams + stream) << 6) + bit, `sweep` being counted from the start of the run.
"""

MIN_BITS = {False: 10, True: 12}  # random bits a site, for single chains and for monotone maps
LOG2_ESCAPES = {False: 0, True: 2}  # codes of u that are left to the hash: one, or four so that the map is monotone
HASH_CHILD = 1 << 63
