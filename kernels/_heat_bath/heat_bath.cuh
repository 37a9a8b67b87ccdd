// The heat bath, word by word; see kernels/_heat_bath/__init__.py.
#pragma once
#include "_random/random.cuh"

constexpr u64 HASH_CHILD = 1ull << 63;

constexpr int MOST_BITS = 64;

// A bit for each j: bit k of the thresholds A_j, or [V < D_j].
struct alignas(16) CodeBit {
    u32 step[4];  // of j + 1 less that of j: 0, 1, or -1 as 2^32 - 1
    u32 decides;  // bit k of 2^B - E, the first u that escapes; not set for [V < D_j]
    u32 mask[5];  // 0 or all ones, as is `decides`

    DEVICE_MEMBER static CodeBit of(const bool (&bits)[5]) {
        CodeBit bit;
        for (int j = 0; j < 5; ++j) bit.mask[j] = 0 - (u32)bits[j];
        for (int j = 0; j < 4; ++j) bit.step[j] = (u32)bits[j + 1] - (u32)bits[j];
        return bit;
    }
};

DEVICE u64 both_halves(u32 x) { return (u64)x << 32 | x; }
DEVICE u64 choose(u64 which, u64 yes, u64 no) { return (which & yes) | (~which & no); }  // one LOP3 a half word
DEVICE u64 majority(u64 x, u64 y, u64 z) { return (x & (y | z)) | (y & z); }             // one, too

// more_than[j] has the sites of a word with more than j up neighbours.
struct UpNeighbours {
    u64 more_than[4];

    DEVICE_MEMBER UpNeighbours() = default;
    DEVICE_MEMBER UpNeighbours(u64 a, u64 b, u64 c, u64 d) {  // the words of the four neighbours
        const u64 p = a | b, q = c | d, x = a & b, y = c & d;
        more_than[0] = p | q;
        more_than[1] = x | y | (p & q);
        more_than[2] = (x & q) | (p & y);
        more_than[3] = x & y;
    }
    // The bit of the j of each site, as a sum of products, without carries: a multiprocessor makes products in a unit
    // of their own, and its unit of logical operations has enough to do.
    DEVICE_MEMBER u64 select(const CodeBit& bit) const {
        u32 low = bit.mask[0], high = bit.mask[0];
        UNROLL
        for (int j = 0; j < 4; ++j) {
            low += bit.step[j] * (u32)more_than[j];
            high += bit.step[j] * (u32)(more_than[j] >> 32);
        }
        return (u64)high << 32 | low;
    }
    // f_j for the j of each site.
    DEVICE_MEMBER u64 apply(const u64 (&f)[5]) const {
        u64 chosen = f[0];
        UNROLL
        for (int j = 0; j < 4; ++j) chosen = choose(more_than[j], f[j + 1], chosen);
        return chosen;
    }
};

// B and D_j of the five probabilities of a lattice, and where the bits of A_j are.
template <bool MONOTONE>
struct Thresholds {
    static constexpr int LOG2_ESCAPES = MONOTONE ? 2 : 0;
    static constexpr int MIN_BITS = MONOTONE ? 12 : 10;
    static constexpr int UNROLLED_BITS = MONOTONE ? 1 : 3;  // fastest on an H200; see bench/device/NOTES.md
    int num_bits = MIN_BITS;
    u64 codes[5], hashes[5];
    CodeBit* code_bits;  // num_bits of them, least significant first, once write_code_bit was called for each

    // `table` has room for MOST_BITS.
    DEVICE_MEMBER Thresholds(const u64* p, CodeBit* table) : code_bits(table) {
        const u64 escapes = 1ull << LOG2_ESCAPES;
        for (;; ++num_bits) {
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
            if (!MONOTONE || rest >> low < escapes) return;  // a single chain needs no more
        }
    }

    DEVICE_MEMBER void write_code_bit(int k) const {
        bool bits[5];
        for (int j = 0; j < 5; ++j) bits[j] = codes[j] >> k & 1;
        code_bits[k] = CodeBit::of(bits);
        code_bits[k].decides = k < LOG2_ESCAPES ? 0 : ~0u;
    }

    // [v < D_j] for every j, for sites that escaped.
    DEVICE_MEMBER CodeBit below_hashes(u64 v) const {
        bool below[5];
        for (int j = 0; j < 5; ++j) below[j] = v < hashes[j];
        return CodeBit::of(below);
    }
};

// Fill t.code_bits. The first barrier: no thread reads those of the lattice before any more.
template <bool MONOTONE>
DEVICE void write_code_bits_by_warp(const Thresholds<MONOTONE>& t) {
    warp_barrier();
    FOR_LANES(i, lane) for (int k = lane; k < t.num_bits; k += 32) t.write_code_bit(k);
    warp_barrier();
}

template <bool MONOTONE>
DEVICE void write_code_bits_by_block(const Thresholds<MONOTONE>& t) {
    barrier();
    FOR_THREADS(k, t.num_bits) t.write_code_bit((int)k);
    barrier();
}

// What is drawn for WORDS words: the new spins of one lattice whose neighbours are known, with one comparison a site;
// or the random maps f_0 .. f_4, with five, which two lattices share. each(word, bit, visit) calls visit(result, its bit).
template <int WORDS>
struct NewSpins {
    UpNeighbours up[WORDS];
    u64 spins[WORDS] = {};

    template <class Visit>
    DEVICE_MEMBER void each(int w, const CodeBit& bit, Visit visit) {
        visit(spins[w], up[w].select(bit));
    }
};

template <int WORDS>
struct RandomMaps {
    u64 f[WORDS][5] = {};

    template <class Visit>
    DEVICE_MEMBER void each(int w, const CodeBit& bit, Visit visit) {
        UNROLL
        for (int j = 0; j < 5; ++j) visit(f[w][j], both_halves(bit.mask[j]));
    }
};

// Fills `found`, NewSpins or RandomMaps, of words number `word` and on, of whose 64 sites `used` exist. Bit k of u is
// the complement of the k-th random word, least significant first, so that the majority of what was found so far, the
// random word and the bit of A_j compares one bit more.
template <int WORDS, bool MONOTONE, class Found>
DEVICE void draw(Sfc64* const (&streams)[WORDS], u64 counter, const Thresholds<MONOTONE>& t, u64 hash_key, u64 word,
                 u64 used, Found& found) {
    u64 decided[WORDS] = {};
    UNROLL_BY(Thresholds<MONOTONE>::UNROLLED_BITS)
    for (int k = 0; k < t.num_bits; ++k, ++counter) {
        const CodeBit bit = t.code_bits[k];
        UNROLL
        for (int w = 0; w < WORDS; ++w) {
            const u64 random = streams[w]->next(counter);
            found.each(w, bit, [&](u64& below, u64 a) { below = majority(below, random, a); });
            decided[w] |= MONOTONE ? random & both_halves(bit.decides) : random;
        }
    }
    u32 escaped[2 * WORDS], all = 0;  // in half words
    UNROLL
    for (int w = 0; w < WORDS; ++w) {
        escaped[2 * w] = (u32)(~decided[w] & used);
        escaped[2 * w + 1] = (u32)((~decided[w] & used) >> 32);
        all |= escaped[2 * w] | escaped[2 * w + 1];
    }
    const u64 site_0 = hash_key + GOLDEN * ((word << 6) + 1);  // derive(hash_key, site) is mix(GOLDEN * site more)
    while (all) {  // one site of one of the words at a time: the lanes of a warp have few, and wait for each other
        int half = 2 * WORDS - 1;
        u32 from = escaped[half];
        UNROLL
        for (int h = half - 1; h >= 0; --h)
            if (escaped[h]) {
                from = escaped[h];
                half = h;
            }
        const u32 site = from & (0 - from);
        const CodeBit bit = t.below_hashes(mix(site_0 + GOLDEN * (u32)(32 * half + place_of(site))));
        all = 0;
        UNROLL
        for (int w = 0; w < WORDS; ++w) {
            const u32 low = half == 2 * w ? site : 0, high = half == 2 * w + 1 ? site : 0;
            all |= (escaped[2 * w] ^= low) | (escaped[2 * w + 1] ^= high);
            const u64 sites = (u64)high << 32 | low;
            found.each(w, bit, [&](u64& below, u64 d) { below |= sites & d; });
        }
    }
}

DEVICE u64 rotate_left(u64 x) { return x << 1 | x >> 63; }
DEVICE u64 rotate_right(u64 x) { return x >> 1 | x << 63; }

// A 128 x 128 lattice in the registers of a warp: lane l holds word rows 2l and 2l + 1 of the four planes. CHAINS
// lattices are driven by the same random numbers.
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
    DEVICE_MEMBER UpNeighbours up_neighbours(int n, int r, int i, int lane) const {
        constexpr int ODD = PLANE & 1, COLOUR = PLANE >> 1;
        const auto& other = spins[n][PLANE ^ 3];
        const u64 same = spins[n][PLANE ^ 2][r][i];
        const u64 beside = ODD == COLOUR ? rotate_left(same) : rotate_right(same);
        // Rows m - 1 and m for even rows, m and m + 1 for odd rows; the far one may be another lane's.
        const u64 far = r == ODD ? from_lane(other[1 - r], i, ODD ? lane + 1 : lane + 31) : other[1 - r][i];
        return {same, beside, other[r][i], far};
    }

    // Of the first DRIVEN lattices.
    template <int PLANE, int DRIVEN>
    DEVICE_MEMBER void update(const Thresholds<MONOTONE>& t) {
        FOR_LANES(i, lane) {
            Sfc64* const own[2] = {&streams[0][i], &streams[1][i]};
            const u64 word = step * 64 + 2 * lane;
            if constexpr (DRIVEN == 1) {
                NewSpins<2> now;
                UNROLL
                for (int r = 0; r < 2; ++r) now.up[r] = up_neighbours<PLANE>(0, r, i, lane);
                draw(own, counter, t, hash_key, word, ~0ull, now);
                UNROLL
                for (int r = 0; r < 2; ++r) spins[0][PLANE][r][i] = now.spins[r];
            } else {
                RandomMaps<2> maps;
                draw(own, counter, t, hash_key, word, ~0ull, maps);
                UNROLL
                for (int r = 0; r < 2; ++r) {
                    UNROLL
                    for (int n = 0; n < DRIVEN; ++n)
                        spins[n][PLANE][r][i] = up_neighbours<PLANE>(n, r, i, lane).apply(maps.f[r]);
                }
            }
        }
        counter += t.num_bits;
        ++step;
    }

    template <int DRIVEN = CHAINS>
    DEVICE_MEMBER void sweep(const Thresholds<MONOTONE>& t) {
        update<0, DRIVEN>(t);
        update<1, DRIVEN>(t);
        update<2, DRIVEN>(t);
        update<3, DRIVEN>(t);
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

// One sweep of CHAINS lattices by one block; `step` counts planes from the start of the run.
template <int CHAINS, bool MONOTONE>
DEVICE void sweep_block(u64* const* lattices, Sfc64* streams, const Thresholds<MONOTONE>& t, u64 hash_key, u64 step,
                        const Shape& s) {
    for (int plane = 0; plane < 4; ++plane, ++step) {
        const int odd = plane & 1, colour = plane >> 1, same = plane ^ 2, other = plane ^ 3;
        FOR_THREADS(w, s.words) {
            const i64 far = odd ? (w + s.row) % s.words : (w + s.words - s.row) % s.words;
            const auto up_neighbours = [&](int n) -> UpNeighbours {
                const u64* own = lattices[n] + same * s.words;
                const u64* across = lattices[n] + other * s.words;
                return {own[w], beside(own, w, s, odd == colour), across[w], across[far]};
            };
            Sfc64* const own[1] = {streams + w};
            const u64 counter = 1 + WARM_UP + step * t.num_bits, word = step * s.words + w;
            if constexpr (CHAINS == 1) {
                NewSpins<1> now;
                now.up[0] = up_neighbours(0);
                draw(own, counter, t, hash_key, word, s.used(w), now);
                lattices[0][plane * s.words + w] = now.spins[0] & s.used(w);
            } else {
                RandomMaps<1> maps;
                draw(own, counter, t, hash_key, word, s.used(w), maps);
                UNROLL
                for (int n = 0; n < CHAINS; ++n)
                    lattices[n][plane * s.words + w] = up_neighbours(n).apply(maps.f[0]) & s.used(w);
            }
        }
        if (plane & 1) barrier();  // a colour reads only the other
    }
}
