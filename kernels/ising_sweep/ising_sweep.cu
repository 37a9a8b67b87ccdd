// ising_sweep on a GPU: a warp a lattice of 128 x 128 with the state in registers, or a block a lattice of any size.
#include "_heat_bath/heat_bath.cuh"

constexpr int WARPS_PER_BLOCK = 4;  // of gpu.py

KERNEL void ising_sweep_128(u64* words, const u64* thresholds, const i64* num_sweeps, const u64* sample_ids, u64 root,
                            i64 num) {
    SHARED CodeBit tables[WARPS_PER_BLOCK][MOST_BITS];
    FOR_WARPS(n, num) {
        u64* planes = words + n * 256;
        const Thresholds<false> t(thresholds + 5 * n, tables[warp_of_block()]);
        write_code_bits_by_warp(t);
        Warp128<1, false> warp;
        warp.start(derive(root, sample_ids[n]));
        warp.each_word([&](u64& word, u64&, int place) { word = planes[place]; });
        for (i64 time = 0; time < num_sweeps[n]; ++time) warp.sweep(t);
        warp.each_word([&](u64& word, u64&, int place) { planes[place] = word; });
    }
}

// `streams` has room for three words for each word of a plane and each lattice.
KERNEL void ising_sweep_any(u64* words, const u64* thresholds, const i64* num_sweeps, const u64* sample_ids, u64 root,
                            i64 num, i64 size, u64* streams) {
    SHARED CodeBit table[MOST_BITS];
    const Shape shape(size);
    FOR_BLOCKS(n, num) {
        u64* lattice = words + n * 4 * shape.words;
        Sfc64* own = (Sfc64*)streams + n * shape.words;
        const Thresholds<false> t(thresholds + 5 * n, table);
        write_code_bits_by_block(t);
        const u64 key = derive(root, sample_ids[n]), hash_key = derive(key, HASH_CHILD);
        FOR_THREADS(w, shape.words) own[w] = stream_of(key, w);
        barrier();
        for (i64 time = 0; time < num_sweeps[n]; ++time) sweep_block<1>(&lattice, own, t, hash_key, 4 * time, shape);
    }
}
