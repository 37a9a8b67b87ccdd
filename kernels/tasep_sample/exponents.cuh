// Step 1 of the TASEP sampler for CUDA and the host: (e, f). The arithmetic is that of reference.py, operation for
// operation: `times` stands where a compiler would fuse a product with the sum around it, which rounds differently.
#pragma once
#include "_random/random.cuh"
#ifndef __CUDACC__
#include <cmath>
using std::sqrt;
#endif

DEVICE double times(double x, double y) {  // never contracted with a following addition
#ifdef __CUDACC__
    return __dmul_rn(x, y);
#else
    return x * y;
#endif
}

struct Draws {  // single random words, in their order
    u64 key, drawn;
};

DEVICE u64 draw_word(Draws &draws) { return derive(draws.key, draws.drawn++); }

DEVICE bool happens(Draws &draws, double probability) {
    u64 word = draw_word(draws);
    return probability >= 1.0 || word < (u64)(probability * 18446744073709551616.0);
}

DEVICE u32 unfair_for(i64 n) { return (0u - (u32)n) % (u32)n; }  // 2^32 % n

DEVICE i64 below(Draws &draws, i64 n) {
    u32 unfair = unfair_for(n);
    for (;;) {
        u64 scaled = (draw_word(draws) >> 32) * (u64)n;
        if ((u32)scaled >= unfair) return (i64)(scaled >> 32);
    }
}

DEVICE int bit_length(i64 n) {
    int bits = 0;
    while (n >> bits) bits++;
    return bits;
}

struct GeometricSum {
    double total, power;  // 1 + r + ... + r^(n-1), and r^n
};

DEVICE GeometricSum geometric_sum(double r, i64 n) {
    double total = 0.0, power = 1.0;
    for (int k = bit_length(n) - 1; k >= 0; k--) {
        total = total + times(total, power);
        power = power * power;
        if (n >> k & 1) {
            total = 1.0 + times(r, total);
            power = r * power;
        }
    }
    return {total, power};
}

DEVICE i64 geometric(Draws &draws, double r, int bits) {
    i64 g = 0;
    double power = r;
#pragma unroll 1
    for (int k = 0; k < bits; k++) {
        g += (i64)happens(draws, power / (1.0 + power)) << k;
        power = power * power;
    }
    return g;
}

struct HeightLaw {  // w(s) = N_M(s) q^s (1 + r + ... + r^s), q = (1 - slow) / slow, r = ratio
    i64 M;
    double slow, ratio;

    DEVICE_MEMBER double odds(i64 s) const { return (1.0 - slow) * (double)(M - s) / (slow * (double)(M + s + 3)); }

    DEVICE_MEMBER double sum(i64 s) const { return geometric_sum(ratio, s + 1).total; }

    DEVICE_MEMBER double step(i64 s) const {
        return odds(s) * (double)(s + 2) / (double)(s + 1) * (ratio + 1.0 / sum(s));
    }

    DEVICE_MEMBER double weight(i64 x, i64 c) const {  // w(x) / w(c)
        double product = 1.0;
#pragma unroll 1  // unrolled, its divisions spill registers
        for (i64 s = x < c ? x : c; s < (x < c ? c : x); s++) product = product * odds(s);
        double slope = (double)(x + 1) * sum(x) / ((double)(c + 1) * sum(c));
        return x >= c ? product * slope : slope / product;
    }

    DEVICE_MEMBER i64 mode(i64 &width) const {
        double N = (double)M + 1.5, p = 1.0 - slow, power = 1.0, x = 0.0;
        for (int round = 0; round < 2; round++) {
            double B = times(N, 1.0 - times(2.0, p)) + times(p, power);
            x = (sqrt(times(B, B) + times(4.0 * p * N, power)) - B) / 2.0;
            x = x < 1.0 ? 1.0 : x > (double)M + 1.0 ? (double)M + 1.0 : x;
            power = 1.0 + times(x, ratio + 1.0 / geometric_sum(ratio, (i64)x).total - 1.0);
        }
        width = 1 + (i64)sqrt(1.0 / (2.0 * N / (times(N, N) - times(x, x)) + power / (x * x)));
        i64 mode = (i64)x - 1;
        while (step(mode) > 1.0) mode++;
        while (mode > 0 && step(mode - 1) < 1.0) mode--;
        return mode;
    }

    DEVICE_MEMBER i64 draw(Draws &draws) const {
        i64 width, mode = this->mode(width);
        i64 low = mode > width ? mode - width : 0, high = mode + width < M ? mode + width : M;
        double up = step(high), down = low > 0 ? 1.0 / step(low - 1) : 0.0;
        int bits = bit_length(M);
        double centre = (double)(high - low + 1);
        double right = times(weight(high, mode) * up, geometric_sum(up, 1ll << bits).total);
        double left = times(weight(low, mode) * down, geometric_sum(down, 1ll << bits).total);
        for (;;) {
            i64 s, base;
            double hat = 1.0;
            if (happens(draws, centre / (centre + (left + right)))) {
                s = low + below(draws, high - low + 1);
                base = mode;
            } else if (happens(draws, right / (left + right))) {
                i64 beyond = geometric(draws, up, bits) + 1;
                hat = geometric_sum(up, beyond).power;
                s = high + beyond;
                base = high;
            } else {
                i64 beyond = geometric(draws, down, bits) + 1;
                hat = geometric_sum(down, beyond).power;
                s = low - beyond;
                base = low;
            }
            if (s >= 0 && s <= M && happens(draws, weight(s, base) / hat)) return s;
        }
    }
};

// s = e + f is returned.
DEVICE i64 draw_exponents(Draws &draws, i64 M, double alpha, double beta, i64 &e) {
    double slow = alpha < beta ? alpha : beta, fast = alpha < beta ? beta : alpha;
    double ratio = slow < 1.0 ? (1.0 - fast) * slow / (fast * (1.0 - slow)) : 0.0;
    i64 s = HeightLaw{M, slow, ratio}.draw(draws), minor;
    do {
        minor = geometric(draws, ratio, bit_length(s));
    } while (minor > s);
    e = alpha <= beta ? s - minor : minor;
    return s;
}
