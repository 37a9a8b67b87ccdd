"""The exact TASEP sampler on Python integers and any exact number: floats draw the bits, fractions prove the law."""

from math import sqrt

from .._random import TASEP_SAMPLE
from .._random.reference import Sfc64, derive
from . import LANES, PLANES


def tasep_sample(words, exponents, entry_rate, exit_rate, num_sites, seed, first_id):
    for i in range(len(words)):
        choices = Choices(derive(derive(seed, TASEP_SAMPLE), first_id + i))
        e, f = exponents[i] = draw_exponents(choices, num_sites, float(entry_rate[i]), float(exit_rate[i]))
        rows = draw_rows(choices, num_sites, e + f)
        sites = configuration(choices, num_sites, e, e + f, *rows)
        for w in range(words.shape[1]):
            words[i, w] = sites >> (64 * w) & (2**64 - 1)


class Choices:
    """The random choices of one sample. A test replaces it by one that follows every choice with its probability."""

    def __init__(self, key):
        self.key, self.rows_key, self.drawn = derive(key, 0), derive(key, 1), 0

    def word(self):
        self.drawn += 1
        return derive(self.key, self.drawn - 1)

    def happens(self, probability):
        return self.word() < int(probability * 2**64)

    def below(self, n):
        """A uniform integer in [0, n), or None with a probability below n / 2^32."""
        return fair(self.word() >> 32, n)

    def place(self, size):
        """A uniform row (0 or 1) and column (in [0, size), or None), of one word."""
        word = self.word()
        return word & 1, fair(word >> 32, size)

    def until(self, propose, *args):
        """The first proposal that is not None."""
        while (proposal := propose(*args)) is None:
            pass
        return proposal

    def rows(self, size, threshold):
        """Two rows of `size` independent bits, each one with probability threshold / 2^PLANES."""
        streams = [Sfc64(self.rows_key, lane) for lane in range(LANES)]
        per_row = -(-size // 64)
        words = []
        while len(words) < 2 * per_row:
            block = [2**64 - 1 if threshold == 2**PLANES else 0] * LANES
            for plane in range((threshold & -threshold).bit_length() - 1, PLANES):
                for lane, stream in enumerate(streams):
                    random = stream.next()
                    block[lane] = block[lane] | random if threshold >> plane & 1 else block[lane] & random
            words += block
        both = sum(word << (64 * w) for w, word in enumerate(words))
        return [both >> (64 * per_row * row) & (2**size - 1) for row in range(2)]


def fair(half, n):
    """Which of n equal parts of [0, 2^32) holds `half`; None for the 2^32 % n values that are too many."""
    return half * n >> 32 if half * n % 2**32 >= 2**32 % n else None


def draw_exponents(choices, M, alpha, beta):
    """(e, f) with probability proportional to N_M(e + f) a^e b^f."""
    slow, fast = min(alpha, beta), max(alpha, beta)
    ratio = (1 - fast) * slow / (fast * (1 - slow)) if slow < 1 else 0 * slow  # of a and b, the smaller to the larger
    s = draw_height(choices, M, slow, ratio)
    minor = choices.until(geometric_within, choices, ratio, s + 1)
    return (s - minor, minor) if alpha <= beta else (minor, s - minor)


def draw_height(choices, M, slow, ratio):
    """s with probability proportional to w(s) = N_M(s) q^s (1 + r + ... + r^s), q = (1 - slow) / slow, r = ratio."""

    def odds(s):  # of C(2M+2, M-s) q^s at s + 1 to that at s
        return (1 - slow) * (M - s) / (slow * (M + s + 3))

    def step(s):  # w(s + 1) / w(s), falling in s
        return odds(s) * (s + 2) / (s + 1) * (ratio + 1 / geometric_sum(ratio, s + 1)[0])

    def weight(x, c):  # w(x) / w(c)
        product = 1
        for s in range(min(x, c), max(x, c)):
            product = product * odds(s)
        slope = (x + 1) * geometric_sum(ratio, x + 1)[0] / ((c + 1) * geometric_sum(ratio, c + 1)[0])
        return product * slope if x >= c else slope / product

    mode, width = bulk(M, float(slow), float(ratio))
    while step(mode) > 1:
        mode += 1
    while mode > 0 and step(mode - 1) < 1:
        mode -= 1
    low, high = max(mode - width, 0), min(mode + width, M)
    up = step(high)
    down = 1 / step(low - 1) if low > 0 else 0 * slow
    bits = M.bit_length()
    centre = high - low + 1
    right = weight(high, mode) * up * geometric_sum(up, 1 << bits)[0]
    left = weight(low, mode) * down * geometric_sum(down, 1 << bits)[0]

    def propose():
        if choices.happens(centre / (centre + (left + right))):
            s, hat, base = low + choices.until(choices.below, centre), 1, mode
        elif choices.happens(right / (left + right)):
            beyond = geometric(choices, up, bits) + 1
            s, hat, base = high + beyond, geometric_sum(up, beyond)[1], high
        else:
            beyond = geometric(choices, down, bits) + 1
            s, hat, base = low - beyond, geometric_sum(down, beyond)[1], low
        return s if 0 <= s <= M and choices.happens(weight(s, base) / hat) else None

    return choices.until(propose)


def bulk(M, slow, ratio):
    """Where the weight of `draw_height` has its mode, nearly, and how wide it is: a hint that no law depends on."""
    N, p = M + 1.5, 1 - slow
    power, x = 1.0, 0.0  # w is nearly a binomial times x^power, x = s + 1
    for _ in range(2):
        B = N * (1 - 2 * p) + p * power
        x = min(max((sqrt(B * B + 4 * p * N * power) - B) / 2, 1.0), M + 1.0)
        power = 1 + x * (ratio + 1 / geometric_sum(ratio, int(x))[0] - 1)
    return int(x) - 1, 1 + int(sqrt(1 / (2 * N / (N * N - x * x) + power / (x * x))))


def geometric_sum(r, n):
    """(1 + r + ... + r^(n-1), r^n) by doubling: no cancellation, however near r is to 1."""
    total, power = 0 * r, 0 * r + 1
    for bit in f"{n:b}":
        total, power = total + total * power, power * power
        if bit == "1":
            total, power = 1 + r * total, r * power
    return total, power


def geometric(choices, r, bits):
    """g in [0, 2^bits) with probability proportional to r^g: the binary digits of g are independent."""
    g, power = 0, r
    for k in range(bits):
        g += choices.happens(power / (1 + power)) << k
        power = power * power
    return g


def geometric_within(choices, r, n):
    g = geometric(choices, r, (n - 1).bit_length())
    return g if g < n else None


def draw_rows(choices, M, s):
    """Two rows of M + 1 bits with M + s + 2 ones, uniform among all such."""
    size = M + 1
    ones = M + s + 2
    zeros = 2 * size - ones
    # Too few zeros are cheaply made more, too many are hard to find: round the density of zeros down where it is low.
    rows = choices.rows(size, 2**PLANES - (2**PLANES + 1) * zeros // (2 * size))
    while (surplus := rows[0].bit_count() + rows[1].bit_count() - ones) != 0:
        row, column = choices.until(find, choices, rows, size, surplus > 0)
        rows[row] ^= 1 << column
    return rows


def find(choices, rows, size, bit):
    """A uniform place if `bit` stands there."""
    row, column = choices.place(size)
    return None if column is None or rows[row] >> column & 1 != bit else (row, column)


def configuration(choices, M, e, s, first, second):
    """The sites as bits, from two rows whose lattice path rises by s + 1."""
    size = M + 1
    unmatched = unmatched_openings(first & second, ~(first | second), size)
    origin = choices.until(choices.below, s + 1)
    for i in range(origin + 1, origin + 1 + e):
        first ^= 1 << unmatched[i % (s + 1)]
    start = unmatched[origin] + 1
    return (first >> start | first << (size - start)) & (2**M - 1)


def unmatched_openings(opening, closing, size):
    """The positions, rising, of the opening brackets on a circle that no closing bracket matches."""
    closed = 0
    for _ in range(2):  # the first round learns how many closing brackets reach over the seam
        unmatched = []
        for j in reversed(range(size)):
            if closing >> j & 1:
                closed += 1
            elif opening >> j & 1 and closed:
                closed -= 1
            elif opening >> j & 1:
                unmatched.append(j)
    return unmatched[::-1]
