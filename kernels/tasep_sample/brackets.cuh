// Step 3 of the TASEP sampler for CUDA and the host, within one word: see _brackets.py for the recursion.
#pragma once
#include "_cuda/lanes.cuh"

constexpr int LEVELS = 6;

DEVICE u64 left_fields(int level) { return ~0ull / ((1ull << (1 << level)) + 1); }  // every other field of 2^level bits

DEVICE u64 top_bits(int level) {  // of the fields of 2^(level + 1) bits
    return level == LEVELS - 1 ? 1ull << 63 : ~0ull / ((1ull << (2 << level)) - 1) << ((2 << level) - 1);
}

DEVICE u64 excess(u64 x, u64 y, int level) {  // max(0, x - y) in every field of 2^(level + 1) bits
    u64 top = top_bits(level), difference = (x | top) - y, positive = difference & top;
    return difference & (positive - (positive >> ((2 << level) - 1)));
}

// Opening brackets u[level] of every node that its node leaves; returns the closing ones that the word leaves.
DEVICE int match_within(u64 openings, u64 closings, u64 u[LEVELS + 1]) {
    u[0] = openings;
#pragma unroll
    for (int level = 0; level < LEVELS; level++) {
        u64 mask = left_fields(level);
        u64 u_left = u[level] & mask, u_right = u[level] >> (1 << level) & mask;
        u64 d_left = closings & mask, d_right = closings >> (1 << level) & mask;
        u64 over = excess(d_right, u_left, level);
        u[level + 1] = u_right + (u_left + over - d_right);
        closings = d_left + over;
    }
    return (int)closings;
}

// The `kept` leftmost of the opening brackets that the word leaves.
DEVICE u64 leftmost(const u64 u[LEVELS + 1], u64 kept) {
#pragma unroll
    for (int level = LEVELS - 1; level >= 0; level--) {
        u64 left = u[level + 1] - (u[level] >> (1 << level) & left_fields(level));
        left -= excess(left, kept, level);
        kept = left | (kept - left) << (1 << level);
    }
    return kept;
}
