// ising_observables on a GPU: one warp a lattice, the lanes share its words.
#include "_heat_bath/heat_bath.cuh"

DEVICE i64 sum_lanes(i64 (&x)[LANES]) {
    UNROLL
    for (int apart = 16; apart > 0; apart /= 2) {
        i64 sums[LANES];
        FOR_LANES(i, lane) sums[i] = x[i] + from_lane(x, i, lane + apart);
        FOR_LANES(i, lane) x[i] = sums[i];
    }
    return x[0];
}

KERNEL void ising_observables(const u64* words, i64 num, i64 size, i64* energy, i64* magnetization) {
    const Shape s(size);
    FOR_WARPS(n, num) {
        const u64* planes[4];
        for (int p = 0; p < 4; ++p) planes[p] = words + (4 * n + p) * s.words;
        i64 unequal[LANES] = {}, up[LANES] = {};
        FOR_LANES(i, lane) {
            for (i64 w = lane; w < s.words; w += 32) {
                for (int odd = 0; odd < 2; ++odd) {
                    const u64 black = planes[odd][w], white = planes[2 + odd][w];
                    const u64* across = planes[3 - odd];
                    const i64 far = odd ? (w + s.row) % s.words : (w + s.words - s.row) % s.words;
                    unequal[i] += count_ones(black ^ white) + count_ones(black ^ across[w]) +
                                  count_ones(black ^ across[far]) +
                                  count_ones((black ^ beside(planes[2 + odd], w, s, !odd)) & s.used(w));
                    up[i] += count_ones(black) + count_ones(white);
                }
            }
        }
        const i64 all_unequal = sum_lanes(unequal), all_up = sum_lanes(up);
        FOR_LANES(i, lane) if (lane == 0) {
            energy[n] = 2 * (all_unequal - size * size);
            magnetization[n] = 2 * all_up - size * size;
        }
    }
}
