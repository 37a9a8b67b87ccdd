// The dynamics of the open TASEP: one thread per chain, its bits where they are, in global memory.
// A tick reads and writes one word (rarely two) at a random place; tens of thousands of chains hide the way there.
#include "_random/random.cuh"

// Move the particle on bit `at` one site on, if there is one and it can; `at` + 1 may lie in the next word.
DEVICE void hop(u64 *words, i64 at) {
    u64 *word = words + (at >> 6);
    int bit = (int)(at & 63);
    if (bit < 63) {
        if ((*word >> bit & 3) == 1) *word ^= 3ull << bit;
    } else if (word[0] >> 63 && !(word[1] & 1)) {
        word[0] ^= 1ull << 63;
        word[1] ^= 1;
    }
}

DEVICE bool passes(double rate, u64 key, u64 index) {
    return rate >= 1.0 || derive(key, index) < (u64)(rate * 18446744073709551616.0);
}

DEVICE void tick(u64 *words, i64 num_sites, i64 bond, double entry_rate, double exit_rate, u64 aside,
             u64 index) {
    if (bond == 0) {
        if (passes(entry_rate, aside, index)) words[0] |= 1;
    } else if (bond == num_sites) {
        if (passes(exit_rate, aside, index)) words[(num_sites - 1) >> 6] &= ~(1ull << ((num_sites - 1) & 63));
    } else {
        hop(words, bond - 1);
    }
}

DEVICE void chain(u64 *words, i64 num_sites, double entry_rate, double exit_rate, i64 num_slices,
              i64 least, const u64 *thresholds, i64 num_thresholds, u64 key) {
    u64 num_bonds = (u64)num_sites + 1;
    u32 unfair = (0u - (u32)num_bonds) % (u32)num_bonds;  // 2^32 % num_bonds
    for (i64 t = 0; t < num_slices; t++) {
        u64 bonds = derive(key, 2 * t), aside = derive(key, 2 * t + 1), drawn = derive(aside, 0);
        i64 ticks = 0, end = num_thresholds;  // the number of thresholds that the word reaches
        while (ticks < end) {
            i64 middle = (ticks + end) >> 1;
            if (thresholds[middle] <= drawn) ticks = middle + 1;
            else end = middle;
        }
        ticks += least;
        u64 done = 0;
        for (u64 index = 0; done < (u64)ticks; index++) {
            u64 word = derive(bonds, index);
            for (int half = 0; half < 2 && done < (u64)ticks; half++, word <<= 32) {
                u64 scaled = (word >> 32) * num_bonds;
                if ((u32)scaled < unfair) continue;
                done++;
                tick(words, num_sites, (i64)(scaled >> 32), entry_rate, exit_rate, aside, done);
            }
        }
    }
}

KERNEL void tasep_evolve(u64 *words, const double *entry_rate, const double *exit_rate, const u64 *thresholds,
                         i64 num_thresholds, i64 num_sites, i64 num_slices, i64 least, u64 root, u64 first_id, i64 num) {
    FOR_BLOCKS(b, (num + 127) / 128) FOR_THREADS(t, 128) {
        const i64 n = 128 * b + t;
        if (n < num)
            chain(words + n * ((num_sites + 63) / 64), num_sites, entry_rate[n], exit_rate[n], num_slices, least,
                  thresholds, num_thresholds, derive(root, first_id + n));
    }
}
