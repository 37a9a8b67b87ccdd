// The exact TASEP sampler: one thread per sample for (e, f), then one warp per sample for the rest, integers only.
// A warp works in shared memory, for long chains in global memory. Every phase is a function of the lane and ends with
// a barrier of the warp; lanes speak through memory only. So the host can run it too, lane by lane.
#include "tasep_sample/brackets.cuh"
#include "tasep_sample/exponents.cuh"

constexpr int WARP = 32, PLANES = 8;
constexpr int SHARED_WORDS = 640, WARPS_PER_BLOCK = 4;  // of gpu.py

DEVICE void exclusive_or(u64 *word, u64 bits) {
#ifdef __CUDACC__
    atomicXor(word, bits);
#else
    *word ^= bits;
#endif
}

struct Scratch {  // 2 * per_row + 2 * WARP words
    u64 *first, *second;   // the two rows; the second becomes the unmatched brackets
    i64 *opened, *closed;  // [WARP] each, for what lanes tell one another
};

// Step 2. Word w of both rows comes from lane w % WARP.
DEVICE void independent_bits(const Scratch &at, i64 size, i64 per_row, u64 key, int threshold) {
    u64 tail = ~0ull >> (64 * per_row - size);
    int lowest = 0;
    while (!(threshold >> lowest & 1)) lowest++;
    FOR_LANES(i, lane) {
        Sfc64 stream = stream_of(key, lane);
        u64 counter = WARM_UP;
        i64 ones = 0;
        for (i64 w = lane; w < 2 * per_row; w += WARP) {
            u64 bits = threshold == 1 << PLANES ? ~0ull : 0;
            for (int plane = lowest; plane < PLANES; plane++) {
                u64 random = stream.next(++counter);
                bits = threshold >> plane & 1 ? bits | random : bits & random;
            }
            if (w == per_row - 1 || w == 2 * per_row - 1) bits &= tail;
            at.first[w] = bits;
            ones += count_ones(bits);
        }
        at.opened[lane] = ones;
    }
    warp_barrier();
}

DEVICE i64 told_sum(const i64 *told, int lanes) {
    i64 sum = 0;
    for (int lane = 0; lane < lanes; lane++) sum += told[lane];
    return sum;
}

// WARP guesses at a time; a guess counts if no earlier one of them hits the same place and the number is not yet right.
DEVICE void flip_surplus(const Scratch &at, Draws &draws, i64 size, i64 per_row, i64 surplus) {
    u32 unfair = unfair_for(size);
    i64 missing = surplus < 0 ? -surplus : surplus;
    while (missing > 0) {
        FOR_LANES(i, lane) {
            u64 word = derive(draws.key, draws.drawn + lane), scaled = (word >> 32) * (u64)size;
            i64 bit = (i64)(scaled >> 32) + (word & 1) * 64 * per_row;
            bool hit = (u32)scaled >= unfair && (at.first[bit >> 6] >> (bit & 63) & 1) == (surplus > 0);
            at.opened[lane] = hit ? bit : -1;
        }
        warp_barrier();
        FOR_LANES(i, lane) {
            bool again = false;
            for (int other = 0; other < lane; other++) again |= at.opened[other] == at.opened[lane];
            at.closed[lane] = !again && at.opened[lane] >= 0;
        }
        warp_barrier();
        FOR_LANES(i, lane) {
            i64 bit = at.opened[lane];
            if (at.closed[lane] && told_sum(at.closed, lane) < missing)
                exclusive_or(&at.first[bit >> 6], 1ull << (bit & 63));
        }
        warp_barrier();
        int guesses = 0;
        for (; guesses < WARP && missing > 0; guesses++) missing -= at.closed[guesses];
        draws.drawn += guesses;
        warp_barrier();  // all have read what the next guesses overwrite
    }
}

// Closing brackets that stretch `left` of `opened` and `closed` brackets lets through to its left, if `from_right` come.
DEVICE i64 pass_left(i64 opened, i64 closed, i64 from_right) {
    return closed + (from_right > opened ? from_right - opened : 0);
}

// Step 3: lane l looks after words [l * share, (l + 1) * share) of the rows, as brackets.
DEVICE void keep_unmatched(const Scratch &at, i64 size, i64 per_row, i64 share) {
    u64 tail = ~0ull >> (64 * per_row - size);
    auto match = [&](i64 w, u64 u[LEVELS + 1]) {
        u64 a = at.first[w], b = at.second[w];
        return match_within(a & b, ~(a | b) & (w == per_row - 1 ? tail : ~0ull), u);
    };
    auto end = [&](int lane) { return (lane + 1) * share < per_row ? (lane + 1) * share : per_row; };
    FOR_LANES(i, lane) {
        i64 opened = 0, closed = 0;
        for (i64 w = end(lane) - 1; w >= lane * share; w--) {
            u64 u[LEVELS + 1];
            i64 d = match(w, u), over = (i64)u[LEVELS] - closed;
            closed = pass_left((i64)u[LEVELS], d, closed);
            opened += over > 0 ? over : 0;
        }
        at.opened[lane] = opened;
        at.closed[lane] = closed;
    }
    warp_barrier();
    i64 over_the_seam = 0;
    for (int lane = WARP - 1; lane >= 0; lane--) over_the_seam = pass_left(at.opened[lane], at.closed[lane], over_the_seam);
    FOR_LANES(i, lane) {
        i64 closed = over_the_seam;
        for (int right = WARP - 1; right > lane; right--) closed = pass_left(at.opened[right], at.closed[right], closed);
        for (i64 w = end(lane) - 1; w >= lane * share; w--) {
            u64 u[LEVELS + 1];
            i64 d = match(w, u), over = (i64)u[LEVELS] - closed;
            closed = pass_left((i64)u[LEVELS], d, closed);
            at.second[w] = leftmost(u, over > 0 ? over : 0);
        }
    }
    warp_barrier();
}

DEVICE bool follows(i64 number, i64 origin, i64 e, i64 s) {
    return (origin < number && number <= origin + e) || number <= origin + e - (s + 1);
}

// Step 4; the place of the origin is returned.
DEVICE i64 clear_exits(const Scratch &at, i64 per_row, i64 share, i64 e, i64 s, i64 origin) {
    FOR_LANES(i, lane) {
        i64 kept = 0;
        for (i64 w = lane * share; w < (lane + 1) * share && w < per_row; w++) kept += count_ones(at.second[w]);
        at.opened[lane] = kept;
    }
    warp_barrier();
    FOR_LANES(i, lane) {
        i64 rank = told_sum(at.opened, lane);
        for (i64 w = lane * share; w < (lane + 1) * share && w < per_row; w++) {
            u64 bits = at.second[w];
            if (!bits) continue;
            i64 begin = rank;
            rank += count_ones(bits);
            bool cleared = follows(begin, origin, e, s);
            if ((origin < begin || origin >= rank) && cleared == follows(rank - 1, origin, e, s)) {
                if (cleared) at.first[w] ^= bits;
                continue;
            }
            for (i64 number = begin; number < rank; number++) {
                u64 lowest = bits & (~bits + 1);
                bits ^= lowest;
                if (number == origin) at.closed[0] = 64 * w + count_ones(lowest - 1);
                else if (follows(number, origin, e, s)) at.first[w] ^= lowest;
            }
        }
    }
    warp_barrier();
    return at.closed[0];
}

// Step 5.
DEVICE void read_circle(const Scratch &at, u64 *sites, i64 M, i64 start) {
    i64 size = M + 1, num_words = (M + 63) / 64, per_row = M / 64 + 1;
    FOR_LANES(i, lane) {
        for (i64 w = lane; w < num_words; w += WARP) {
            i64 from = start + 64 * w < size ? start + 64 * w : start + 64 * w - size, left = size - from;
            int bit = (int)(from & 63);
            u64 word = at.first[from >> 6] >> bit;
            if (bit && (from >> 6) + 1 < per_row) word |= at.first[(from >> 6) + 1] << (64 - bit);
            if (left < 64) word |= at.first[0] << left;  // past the end every bit is zero
            if (w == num_words - 1) word &= ~0ull >> (64 * num_words - M);
            sites[w] = word;
        }
    }
    warp_barrier();
}

// Steps 2 to 5 of a sample with the key `key`, whose step 1 drew `drawn` words.
DEVICE void draw_configuration(const Scratch &at, u64 *sites, i64 M, i64 e, i64 s, u64 drawn, u64 key) {
    i64 size = M + 1, per_row = M / 64 + 1, share = (per_row + WARP - 1) / WARP, ones = M + s + 2;
    Draws draws = {derive(key, 0), drawn};
    int zeros = 0;  // in 2^PLANES: (2^PLANES + 1) (2 size - ones) / (2 size), without a division
    for (int digit = 1 << PLANES; digit; digit >>= 1)
        if ((zeros + digit) * 2 * size <= ((1 << PLANES) + 1) * (2 * size - ones)) zeros += digit;
    independent_bits(at, size, per_row, derive(key, 1), (1 << PLANES) - zeros);
    i64 surplus = told_sum(at.opened, WARP) - ones;
    warp_barrier();  // all have read it
    flip_surplus(at, draws, size, per_row, surplus);
    i64 origin = below(draws, s + 1);
    keep_unmatched(at, size, per_row, share);
    read_circle(at, sites, M, clear_exits(at, per_row, share, e, s, origin) + 1);
}

KERNEL void tasep_exponents(i64 *exponents, u64 *drawn, const double *entry_rate, const double *exit_rate, i64 M,
                            u64 root, u64 first_id, i64 num) {
    FOR_BLOCKS(b, (num + 127) / 128) FOR_THREADS(t, 128) {
        const i64 n = 128 * b + t;
        if (n >= num) continue;
        Draws draws = {derive(derive(root, first_id + n), 0), 0};
        i64 e, s = draw_exponents(draws, M, entry_rate[n], exit_rate[n], e);
        exponents[2 * n] = e;
        exponents[2 * n + 1] = s - e;
        drawn[n] = draws.drawn;
    }
}

// `scratch` has room for every warp of the launch, unless `in_shared`.
KERNEL void tasep_configurations(u64 *words, const i64 *exponents, const u64 *drawn, i64 M, u64 root, u64 first_id,
                                 i64 num, u64 *scratch, i64 in_shared) {
    const i64 per_row = M / 64 + 1, num_words = (M + 63) / 64;
    u64 *mine = scratch;
#ifdef __CUDACC__
    __shared__ u64 shared[WARPS_PER_BLOCK * SHARED_WORDS];
    const i64 warp = threadIdx.x >> 5;
    mine = in_shared ? shared + warp * SHARED_WORDS
                     : scratch + (blockIdx.x * (i64)WARPS_PER_BLOCK + warp) * (2 * per_row + 2 * WARP);
#endif
    i64 *told = (i64 *)(mine + 2 * per_row);
    FOR_WARPS(n, num) {
        const i64 e = exponents[2 * n], s = e + exponents[2 * n + 1];
        draw_configuration({mine, mine + per_row, told, told + WARP}, words + n * num_words, M, e, s, drawn[n],
                           derive(root, first_id + n));
    }
}
