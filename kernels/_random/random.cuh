// SplitMix64 keys and sfc64 streams; see kernels/_random/__init__.py.
#pragma once
#include "_cuda/lanes.cuh"

DEVICE u64 derive(u64 key, u64 index) {
    u64 x = key + 0x9E3779B97F4A7C15ull * (index + 1);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// Shifts by products: on a GPU logical operations are what kernels wait for, and the units that multiply are idle. In
// constant memory a factor is unknown to the compiler, which would make a shift of it.
#ifdef __CUDACC__
__constant__ u32 TWO_TO_21 = 1u << 21, TWO_TO_24 = 1u << 24;

DEVICE u64 product(u32 x, u32 y, u64 added) {
    u64 result;
    asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(result) : "r"(x), "r"(y), "l"(added));
    return result;
}
DEVICE u64 shift_right_11(u64 x) {
    return product((u32)(x >> 32), TWO_TO_21, __umulhi((u32)x, TWO_TO_21));
}
DEVICE u64 rotate_left_24(u64 x) {
    const u64 low = product((u32)x, TWO_TO_24, 0), both = product((u32)(x >> 32), TWO_TO_24, low >> 32 | low << 32);
    return both >> 32 | both << 32;
}
#else
DEVICE u64 shift_right_11(u64 x) { return x >> 11; }
DEVICE u64 rotate_left_24(u64 x) { return x << 24 | x >> 40; }
#endif

// One sfc64 stream; all streams of a key share the counter, so it is passed in.
struct Sfc64 {
    u64 a, b, c;

    DEVICE_MEMBER u64 next(u64 counter) {
        u64 out = a + b + counter;
        a = b ^ shift_right_11(b);
        b = c + (c << 3);
        c = rotate_left_24(c) + out;
        return out;
    }
};

constexpr u64 WARM_UP = 12;  // outputs thrown away; the counter is then 1 + WARM_UP

DEVICE Sfc64 stream_of(u64 key, u64 stream) {
    Sfc64 s = {derive(key, 3 * stream), derive(key, 3 * stream + 1), derive(key, 3 * stream + 2)};
    for (u64 i = 1; i <= WARM_UP; ++i) s.next(i);
    return s;
}
