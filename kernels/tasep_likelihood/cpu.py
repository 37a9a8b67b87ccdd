"""The weight of configurations in numba: one recursion per fugacity, eight sites per pass over the levels."""

import math

import numba
import numpy as np

from .._threads import numbers, share

_STEP = 8  # sites per pass
_WORD = 64  # sites that share one x
_POWERS = 2.0 ** -np.arange(129.0)
_POWERS[-1] = 0.0
_NEVER = 2**40  # exponent of a zero
_UNDERFLOW = 1e-300  # more than 64 sites can lose below the smallest normal numbers


def tasep_likelihood(log_weight, error, words, num_sites, entry_fugacity, exit_fugacity, threshold):
    share(_weights, len(words), log_weight, error, words, num_sites, entry_fugacity, exit_fugacity, threshold)


@numba.njit(cache=True, nogil=True)
def _weights(tickets, log_weight, error, words, num_sites, entry_fugacity, exit_fugacity, threshold):
    for i in numbers(tickets):
        _weight(log_weight[i], error[i], words[i], num_sites, entry_fugacity[i], exit_fugacity[i], threshold)


@numba.njit(cache=True)
def _weight(log_weight, error, words, M, entry_fugacity, exit_fugacity, threshold):
    size = (M // _WORD + 1) * _WORD
    # Behind the last site: not to be recorded on the left; on the right one more, whose record is the whole chain.
    forward, backward = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    zeros = 0
    for j in range(M):
        forward[j] = (words[j >> 6] >> np.uint64(j & 63)) & np.uint64(1)
        backward[M - 1 - j] = 1 - forward[j]
        zeros += 1 - int(forward[j])
    backward[M] = 1
    forward_tilt, backward_tilt = tilts(forward), tilts(backward)
    n_a, n_b = entry_fugacity.size, exit_fugacity.size
    left, left_exponent = np.ones((n_a, 2, zeros + 1)), np.zeros((n_a, zeros + 1), np.int64)
    right, right_exponent = np.ones((n_b, 2, zeros + 1)), np.zeros((n_b, zeros + 1), np.int64)
    for k in range(n_a):
        a = entry_fugacity[k]
        returns(left[k], left_exponent[k], a, forward, np.uint8(0), a, forward_tilt, threshold)
    for k in range(n_b):
        returns(right[k], right_exponent[k], 1.0, backward, np.uint8(1), exit_fugacity[k], backward_tilt, threshold)
        _reverse(right[k, 0], right[k, 1], right_exponent[k])
    for k in range(n_a):
        for m in range(n_b):
            low, high, exponent = product_sums(left[k], left_exponent[k], right[m], right_exponent[m])
            log_weight[k, m] = np.log(low) + exponent * math.log(2.0)
            error[k, m] = math.log(high / low) if low > 0 else np.inf


@numba.njit(cache=True)
def tilts(sites):
    """Per word the x at which the walk has no drift, zeros/ones on the greatest convex minorant of the particle count.

    Its slopes rise, so x falls, and in every part of the chain the walk returns to 0 with a power law at worst.
    """
    num_words = len(sites) // _WORD
    particles, length = np.empty(num_words), np.empty(num_words, np.int64)
    top = -1
    for w in range(num_words):
        count = 1.0  # one more particle and one more hole than there are, half of each: x stays finite and positive
        for j in range(w * _WORD, (w + 1) * _WORD):
            count += sites[j]
        top += 1
        particles[top], length[top] = count, 1
        while top > 0 and particles[top - 1] * length[top] >= particles[top] * length[top - 1]:
            particles[top - 1] += particles[top]
            length[top - 1] += length[top]
            top -= 1
    x, w = np.empty(num_words), 0
    for segment in range(top + 1):
        ones = particles[segment]
        for _ in range(length[segment]):
            x[w] = ((_WORD + 2) * length[segment] - ones) / ones
            w += 1
    return x


@numba.njit(cache=True)
def returns(bounds, exponents, norm, sites, wanted, a, tilt, threshold):
    """norm v_0 before each `wanted` site: between bounds[0] and bounds[1], times 2^exponents, in the last entries."""
    particles = 0
    for site in sites:
        particles += int(site)
    k = exponents.size - (particles if wanted else len(sites) - particles)
    # Level g is y[base + g]. A particle moves the base down by one instead of all levels up: then one site does the
    # same to y in either case, y[j] = q y[j] + p y[j+1], and no level ever lies above y[particles].
    y = np.zeros(particles + 2 * _STEP + 1)
    base = end = particles
    y[base] = 1.0
    low = np.empty(2 * _STEP)
    norm, exponent = math.frexp(norm)  # v_g = y_g x^-g norm 2^exponent
    x, mass, dropped = np.inf, 1.0, 0.0
    for word in range(len(tilt)):
        if k == exponents.size:
            break
        new_x = min(x, tilt[word])
        if a * new_x > 1:
            new_x = 1 / a
        if new_x < x:
            factor = 1.0
            for j in range(base + 1, end + 1):
                factor *= new_x / x
                y[j] *= factor
            x = new_x
        p, q = 1 / (1 + x), x / (1 + x)
        floor, growth_occupied, growth_empty = (1 + a) * q, 1 + x, 1 + 1 / x
        for start in range(word * _WORD, (word + 1) * _WORD, _STEP):
            # Levels below _STEP see the floor: site by site, from twice as many levels.
            for g in range(2 * _STEP):
                low[g] = y[base + g]
            for j in range(start, start + _STEP):
                if sites[j] == wanted:
                    high, shift = math.frexp((low[0] + dropped) * norm)
                    bounds[0, k] = math.ldexp(low[0] * norm, -shift)
                    bounds[1, k] = high
                    exponents[k] = exponent + shift if high > 0 else -_NEVER
                    k += 1
                if sites[j]:
                    base -= 1
                    for g in range(2 * _STEP - 1, 0, -1):
                        low[g] = p * low[g] + q * low[g - 1]
                    low[0] *= p
                    norm *= growth_occupied
                else:
                    low[0] = floor * low[0] + p * low[1]
                    for g in range(1, 2 * _STEP - 1):
                        low[g] = q * low[g] + p * low[g + 1]
                    norm *= growth_empty
                if norm > 2.0**20:
                    norm, shift = math.frexp(norm)
                    exponent += shift
            _eight_sites(y[base + _STEP : end + 1 + _STEP], p, q)
            for g in range(_STEP):
                y[base + g] = low[g]
            while end > base and y[end] < threshold * mass:
                dropped += y[end]
                y[end] = 0.0
                end -= 1
        mass = 0.0
        for j in range(base, end + 1):
            mass += y[j]
        dropped += _UNDERFLOW
        if mass < 2.0**-64:
            shift = math.frexp(mass)[1]
            for j in range(base, end + 1):
                y[j] = math.ldexp(y[j], -shift)
            dropped, mass, exponent = math.ldexp(dropped, -shift), math.ldexp(mass, -shift), exponent + shift


@numba.njit(cache=True)
def _eight_sites(y, p, q):
    """Eight times y[j] = q y[j] + p y[j+1], by the binomial law, in place and without the last eight."""
    c0, c1, c2, c3, c4 = q**8, 8 * q**7 * p, 28 * q**6 * p**2, 56 * q**5 * p**3, 70 * q**4 * p**4
    c5, c6, c7, c8 = 56 * q**3 * p**5, 28 * q**2 * p**6, 8 * q * p**7, p**8
    for j in range(len(y) - 8):
        y[j] = (
            ((c0 * y[j] + c1 * y[j + 1]) + (c2 * y[j + 2] + c3 * y[j + 3]))
            + ((c4 * y[j + 4] + c5 * y[j + 5]) + (c6 * y[j + 6] + c7 * y[j + 7]))
        ) + c8 * y[j + 8]


@numba.njit(cache=True)
def _reverse(low, high, exponents):
    for j in range(exponents.size // 2):
        low[j], low[-1 - j] = low[-1 - j], low[j]
        high[j], high[-1 - j] = high[-1 - j], high[j]
        exponents[j], exponents[-1 - j] = exponents[-1 - j], exponents[j]


@numba.njit(cache=True, fastmath={"reassoc"})
def product_sums(left, left_exponent, right, right_exponent):
    """The inner products of the lower and of the upper bounds, and the power of two to multiply both by."""
    top = -2 * _NEVER
    for j in range(left_exponent.size):
        top = max(top, left_exponent[j] + right_exponent[j])
    low = high = 0.0
    for j in range(left_exponent.size):
        power = _POWERS[min(top - left_exponent[j] - right_exponent[j], _POWERS.size - 1)]
        low += left[0, j] * right[0, j] * power
        high += left[1, j] * right[1, j] * power
    return low, high, top
