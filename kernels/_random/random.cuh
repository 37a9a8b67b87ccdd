// SplitMix64 keys and sfc64 streams; see kernels/_random/__init__.py.
#pragma once
#include "_cuda/lanes.cuh"

constexpr u64 GOLDEN = 0x9E3779B97F4A7C15ull;

DEVICE u64 mix(u64 x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

DEVICE u64 derive(u64 key, u64 index) { return mix(key + GOLDEN * (index + 1)); }

// One sfc64 stream; all streams of a key share the counter, so it is passed in.
struct Sfc64 {
    u64 a, b, c;

    DEVICE_MEMBER u64 next(u64 counter) {
        u64 out = a + b + counter;
        a = b ^ (b >> 11);
        b = c + (c << 3);
        c = ((c << 24) | (c >> 40)) + out;
        return out;
    }
};

constexpr u64 WARM_UP = 12;  // outputs thrown away; the counter is then 1 + WARM_UP

DEVICE Sfc64 stream_of(u64 key, u64 stream) {
    Sfc64 s = {derive(key, 3 * stream), derive(key, 3 * stream + 1), derive(key, 3 * stream + 2)};
    for (u64 i = 1; i <= WARM_UP; ++i) s.next(i);
    return s;
}
