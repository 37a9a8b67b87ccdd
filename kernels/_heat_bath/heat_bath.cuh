// The random map of the heat bath, word by word; see kernels/_heat_bath/__init__.py.
#pragma once
#include "_random/random.cuh"

constexpr u64 HASH_CHILD = 1ull << 63;

constexpr int MOST_BITS = 64;

// Bit k of A_0 .. A_4, each spread over a word: loaded as four and one.
struct alignas(16) Bits {
    u32 of[4], last, unused[3];
};

// B and D_j of the five probabilities of a lattice, and where the bits of A_j are.
template <bool MONOTONE>
struct Thresholds {
    static constexpr int LOG2_ESCAPES = MONOTONE ? 2 : 0;
    static constexpr int MIN_BITS = MONOTONE ? 12 : 10;
    int num_bits;
    u64 codes[5], hashes[5];
    Bits* bits;  // num_bits of them, once write_bits was called for each

    // `table` has room for MOST_BITS.
    DEVICE_MEMBER Thresholds(const u64* p, Bits* table) : bits(table) {
        const u64 escapes = 1ull << LOG2_ESCAPES;
        for (num_bits = MIN_BITS;; ++num_bits) {
            const int low = 64 - num_bits;
            const u64 most = (0 - (escapes << low)) >> low;
            u64 rest = 0;
            for (int j = 0; j < 5; ++j) {
                const u64 limit = p[j] < 0 - escapes ? p[j] : 0 - escapes;
                const u64 code = (limit - (MONOTONE ? rest : 0)) >> low;
                codes[j] = code < most ? code : most;
                rest = limit - (codes[j] << low);
                hashes[j] = rest << (num_bits - LOG2_ESCAPES);
            }
            if (rest >> low < escapes) return;
        }
    }

    DEVICE_MEMBER void write_bits(int k) const {
        for (int j = 0; j < 4; ++j) bits[k].of[j] = 0 - (u32)(codes[j] >> k & 1);
        bits[k].last = 0 - (u32)(codes[4] >> k & 1);
    }
};

// Of the warp, or of the block, which must not read another lattice's any more.
template <bool MONOTONE>
DEVICE void write_bits_by_warp(const Thresholds<MONOTONE>& t) {
    warp_barrier();
    FOR_LANES(i, lane) for (int k = lane; k < t.num_bits; k += 32) t.write_bits(k);
    warp_barrier();
}

template <bool MONOTONE>
DEVICE void write_bits_by_block(const Thresholds<MONOTONE>& t) {
    barrier();
    FOR_THREADS(k, t.num_bits) t.write_bits((int)k);
    barrier();
}

DEVICE u64 twice(u32 x) { return (u64)x << 32 | x; }
DEVICE u32 mask_if_below(u64 x, u64 limit) {  // all ones or none
#ifdef __CUDACC__
    u32 mask;  // behind the compiler's back, which would select each word that is masked
    asm("{.reg .pred below; setp.lt.u64 below, %1, %2; selp.b32 %0, -1, 0, below;}" : "=r"(mask) : "l"(x), "l"(limit));
    return mask;
#else
    return x < limit ? ~0u : 0;
#endif
}

DEVICE u64 majority(u64 x, u64 y, u64 z) { return (x & (y | z)) | (y & z); }  // one LOP3 a half word

// f_0 .. f_4 of the 64 sites of each of WORDS words, number `word` and on: bit k of u is the complement of the k-th
// random word, least significant first.
template <int WORDS, bool MONOTONE>
DEVICE void draw_maps(Sfc64* const (&streams)[WORDS], u64 counter, const Thresholds<MONOTONE>& t, u64 hash_key, u64 word,
                      u64 used, u64 (&f)[WORDS][5]) {
    u64 any[WORDS];
    UNROLL
    for (int w = 0; w < WORDS; ++w) {
        any[w] = 0;
        UNROLL
        for (int j = 0; j < 5; ++j) f[w][j] = 0;
    }
    UNROLL_TWICE
    for (int k = 0; k < t.num_bits; ++k, ++counter) {
        const Bits b = t.bits[k];
        UNROLL
        for (int w = 0; w < WORDS; ++w) {
            const u64 r = streams[w]->next(counter);
            UNROLL
            for (int j = 0; j < 4; ++j) f[w][j] = majority(f[w][j], r, twice(b.of[j]));
            f[w][4] = majority(f[w][4], r, twice(b.last));
            if (k >= Thresholds<MONOTONE>::LOG2_ESCAPES) any[w] |= r;
        }
    }
    u64 escaped[WORDS], all = 0;
    UNROLL
    for (int w = 0; w < WORDS; ++w) all |= escaped[w] = ~any[w] & used;
    while (all) {  // one site of one of the words at a time: the lanes of a warp have few, and wait for each other
        u64 place = word + WORDS - 1, from = escaped[WORDS - 1];
        UNROLL
        for (int w = WORDS - 2; w >= 0; --w)
            if (escaped[w]) {
                from = escaped[w];
                place = word + w;
            }
        const u64 site = from & (0 - from);
        const u64 v = derive(hash_key, (place << 6) + lowest_bit(from));
        u64 here[WORDS];
        all = 0;
        UNROLL
        for (int w = 0; w < WORDS; ++w) {
            here[w] = place == word + w ? site : 0;
            all |= escaped[w] ^= here[w];
        }
        UNROLL
        for (int j = 0; j < 5; ++j) {
            const u64 up = twice(mask_if_below(v, t.hashes[j]));
            UNROLL
            for (int w = 0; w < WORDS; ++w) f[w][j] |= here[w] & up;
        }
    }
}

DEVICE u64 select(u64 which, u64 yes, u64 no) { return (which & yes) | (~which & no); }  // one LOP3 a half word

// The new spins of a word whose neighbours are the words a, b, c, d.
DEVICE u64 choose(const u64 (&f)[5], u64 a, u64 b, u64 c, u64 d) {
    const u64 p = a | b, q = c | d, x = a & b, y = c & d;
    const u64 one = p | q, two = x | y | (p & q), three = (x & q) | (p & y), four = x & y;
    return select(four, f[4], select(three, f[3], select(two, f[2], select(one, f[1], f[0]))));
}

DEVICE u64 rotate_left(u64 x) { return x << 1 | x >> 63; }
DEVICE u64 rotate_right(u64 x) { return x >> 1 | x << 63; }

// A 128 x 128 lattice in the registers of a warp: lane l holds word rows 2l and 2l + 1 of the four planes. CHAINS lattices
// are driven by the same random maps.
template <int CHAINS, bool MONOTONE>
struct Warp128 {
    u64 spins[CHAINS][4][2][LANES];
    Sfc64 streams[2][LANES];
    u64 counter, hash_key, step;

    // Visits every word: visit(chain 0 word, chain CHAINS - 1 word, its place among the 256 words of the lattice).
    template <class Visit>
    DEVICE_MEMBER void each_word(Visit visit) {
        FOR_LANES(i, lane) {
            UNROLL
            for (int p = 0; p < 4; ++p) {
                UNROLL
                for (int r = 0; r < 2; ++r) visit(spins[0][p][r][i], spins[CHAINS - 1][p][r][i], 64 * p + 2 * lane + r);
            }
        }
    }

    DEVICE_MEMBER bool chains_differ() {
        bool differs[LANES] = {};
        FOR_LANES(i, lane) {
            UNROLL
            for (int p = 0; p < 4; ++p) {
                UNROLL
                for (int r = 0; r < 2; ++r) differs[i] |= spins[0][p][r][i] != spins[CHAINS - 1][p][r][i];
            }
        }
        return any_lane(differs);
    }

    DEVICE_MEMBER void start(u64 key) {
        FOR_LANES(i, lane) UNROLL for (int r = 0; r < 2; ++r) streams[r][i] = stream_of(key, 2 * lane + r);
        counter = 1 + WARM_UP;
        hash_key = derive(key, HASH_CHILD);
        step = 0;
    }

    template <int PLANE>
    DEVICE_MEMBER void update(const Thresholds<MONOTONE>& t, int chains) {
        constexpr int ODD = PLANE & 1, COLOUR = PLANE >> 1, SAME = 2 * (1 - COLOUR) + ODD, OTHER = SAME ^ 1;
        FOR_LANES(i, lane) {
            u64 f[2][5];
            draw_maps<2>({&streams[0][i], &streams[1][i]}, counter, t, hash_key, step * 64 + 2 * lane, ~0ull, f);
            UNROLL
            for (int r = 0; r < 2; ++r) {
                UNROLL
                for (int n = 0; n < CHAINS; ++n) {
                    if (n >= chains) break;
                    const auto& other = spins[n][OTHER];
                    const u64 same = spins[n][SAME][r][i];
                    const u64 beside = ODD == COLOUR ? rotate_left(same) : rotate_right(same);
                    // Rows m - 1 and m for even rows, m and m + 1 for odd rows; the far one may be another lane's.
                    const u64 far = r == ODD ? from_lane(other[1 - r], i, ODD ? lane + 1 : lane + 31) : other[1 - r][i];
                    spins[n][PLANE][r][i] = choose(f[r], same, beside, other[r][i], far);
                }
            }
        }
        counter += t.num_bits;
        ++step;
    }

    DEVICE_MEMBER void sweep(const Thresholds<MONOTONE>& t, int chains = CHAINS) {
        update<0>(t, chains);
        update<1>(t, chains);
        update<2>(t, chains);
        update<3>(t, chains);
    }
};

// A lattice of any even size in memory: planes of `rows` word rows of `row` words, updated by the threads of a block.
struct Shape {
    i64 rows, row, words;  // words of a plane
    u64 last;              // used bits of the last word of a row

    DEVICE_MEMBER explicit Shape(i64 size) : rows(size / 2), row((size + 127) / 128), words(rows * row) {
        last = ~0ull >> (64 * row - rows);
    }
    DEVICE_MEMBER u64 used(i64 w) const { return w % row == row - 1 ? last : ~0ull; }
};

DEVICE u64 beside(const u64* plane, i64 w, const Shape& s, bool left) {
    const i64 first = w - w % s.row, top = (s.rows - 1) & 63;
    if (left) {
        const u64 carry = w == first ? plane[first + s.row - 1] >> top & 1 : plane[w - 1] >> 63;
        return plane[w] << 1 | carry;
    }
    if (w == first + s.row - 1) return plane[w] >> 1 | (plane[first] & 1) << top;
    return plane[w] >> 1 | plane[w + 1] << 63;
}

// One sweep of `chains` lattices by one block; `step` counts planes from the start of the run.
template <bool MONOTONE>
DEVICE void sweep_block(u64* const* lattices, int chains, Sfc64* streams, const Thresholds<MONOTONE>& t, u64 hash_key,
                        u64 step, const Shape& s) {
    for (int plane = 0; plane < 4; ++plane, ++step) {
        const int odd = plane & 1, colour = plane >> 1, same = 2 * (1 - colour) + odd, other = same ^ 1;
        FOR_THREADS(w, s.words) {
            u64 f[1][5];
            draw_maps<1>({streams + w}, 1 + WARM_UP + step * t.num_bits, t, hash_key, step * s.words + w, s.used(w), f);
            const i64 far = odd ? (w + s.row) % s.words : (w + s.words - s.row) % s.words;
            for (int n = 0; n < chains; ++n) {
                u64* p = lattices[n];
                const u64* own = p + same * s.words;
                const u64* across = p + other * s.words;
                p[plane * s.words + w] =
                    choose(f[0], own[w], beside(own, w, s, odd == colour), across[w], across[far]) & s.used(w);
            }
        }
        if (plane & 1) barrier();  // a colour reads only the other
    }
}
