"""The weight of a configuration from the recursion as it stands, in rational numbers: exact, for short chains."""

from fractions import Fraction
from math import log


def tasep_likelihood(log_weight, error, words, num_sites, entry_fugacity, exit_fugacity, threshold):
    error[...] = 0
    for i, j, k in [(i, j, k) for i, ni in enumerate(log_weight) for j, nj in enumerate(ni) for k, _ in enumerate(nj)]:
        sites = [int(words[i, site // 64]) >> (site % 64) & 1 for site in range(num_sites)]
        f = weight(sites, Fraction(float(entry_fugacity[i, j])), Fraction(float(exit_fugacity[i, k])))
        exponent = f.numerator.bit_length() - f.denominator.bit_length()
        log_weight[i, j, k] = log(f / Fraction(2) ** exponent) + exponent * log(2)


def weight(sites, a, b):
    """f(sites) = <W| product of D (occupied) and E (empty) |V>, with <W|V> = 1."""
    v = [1]
    for occupied in sites:
        if occupied:
            v = [here + below for here, below in zip([*v, 0], [0, *v], strict=True)]
        else:
            v = [a * v[0] * (g == 0) + here + above for g, (here, above) in enumerate(zip(v, [*v[1:], 0], strict=True))]
    return sum(level * b**g for g, level in enumerate(v))
