// ising_cftp on a GPU: one warp a lattice of 128 x 128, both chains in registers; or one block a lattice of any size.
#include "_heat_bath/heat_bath.cuh"

DEVICE i64 rung_start(i64 rung) { return rung < 0 ? 0 : (4 + 2 * (rung & 1)) << (rung >> 1); }
DEVICE i64 num_sweeps(i64 rung) { return rung_start(rung) - rung_start(rung - 1); }

constexpr int WARPS_PER_BLOCK = 4;  // of gpu.py

// Warps take tickets, so that the long runs, which come first, do not leave others idle.
KERNEL_OF(32 * WARPS_PER_BLOCK, 4)
void ising_cftp_128(u64* words, i64* rungs, const u64* thresholds, const u64* sample_ids, u64 root, i64 num,
                    u64* tickets) {
    SHARED CodeBit tables[WARPS_PER_BLOCK][MOST_BITS];
    for (i64 n = take_ticket(tickets); n < num; n = take_ticket(tickets)) {
        const Thresholds<true> t(thresholds + 5 * n, tables[warp_of_block()]);
        write_code_bits_by_warp(t);
        const u64 key = derive(root, sample_ids[n]);
        Warp128<2, true> warp;
        i64 first = rungs[n], rung, left;  // sweeps that are left of the rung
        const auto enter = [&] {
            left = num_sweeps(rung);
            warp.start(derive(key, rung));
        };
        const auto meet = [&] {  // whether the chains do, from rung `first` on
            warp.each_word([](u64& top, u64& bottom, int) {
                top = ~0ull;
                bottom = 0;
            });
            for (rung = first; rung >= 0; --rung) {
                enter();
                while (left-- > 0) {
                    warp.sweep(t);
                    if (!warp.chains_differ()) return true;
                }
            }
            return false;
        };
        while (!meet()) first += 2;
        while (true) {  // one chain is left, to time 0
            while (left-- > 0) warp.sweep<1>(t);
            if (--rung < 0) break;
            enter();
        }
        u64* planes = words + n * 256;
        warp.each_word([&](u64& top, u64&, int place) { planes[place] = top; });
        FOR_LANES(i, lane) if (lane == 0) rungs[n] = first;
    }
}

// `scratch` has room for seven words for each word of a plane and each lattice: the bottom chain and the streams.
KERNEL void ising_cftp_any(u64* words, i64* rungs, const u64* thresholds, const u64* sample_ids, u64 root, i64 num,
                           i64 size, u64* scratch) {
    SHARED CodeBit table[MOST_BITS];
    const Shape shape(size);
    FOR_BLOCKS(n, num) {
        u64* lattices[2] = {words + n * 4 * shape.words, scratch + n * 7 * shape.words};
        Sfc64* streams = (Sfc64*)(lattices[1] + 4 * shape.words);
        const Thresholds<true> t(thresholds + 5 * n, table);
        write_code_bits_by_block(t);
        const u64 key = derive(root, sample_ids[n]);
        i64 first = rungs[n];
        for (bool met = false; !met; first += met ? 0 : 2) {
            FOR_THREADS(w, 4 * shape.words) {
                lattices[0][w] = shape.used(w);
                lattices[1][w] = 0;
            }
            for (i64 rung = first; rung >= 0; --rung) {
                const u64 run_key = derive(key, rung), hash_key = derive(run_key, HASH_CHILD);
                FOR_THREADS(w, shape.words) streams[w] = stream_of(run_key, w);
                barrier();
                for (i64 time = 0; time < num_sweeps(rung); ++time) {
                    if (met) {
                        sweep_block<1>(lattices, streams, t, hash_key, 4 * time, shape);
                    } else {
                        sweep_block<2>(lattices, streams, t, hash_key, 4 * time, shape);
                        bool differs = false;
                        FOR_THREADS(w, 4 * shape.words) differs |= lattices[0][w] != lattices[1][w];
                        met = !any_thread(differs);
                    }
                }
            }
        }
        FOR_THREADS(t, 1) rungs[n] = first;
    }
}
