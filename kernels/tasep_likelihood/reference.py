"""The weight of a configuration from the recursion as it stands, in rational numbers: exact, for short chains."""

from fractions import Fraction
from math import log


def tasep_likelihood(log_weight, error, words, num_sites, entry_fugacity, exit_fugacity, threshold):
    for i in range(len(words)):
        sites = [int(words[i, j // 64]) >> (j % 64) & 1 for j in range(num_sites)]
        for j, a in enumerate(entry_fugacity[i].tolist()):
            v = levels(sites, Fraction(a))
            for k, b in enumerate(exit_fugacity[i].tolist()):
                f = weight(v, Fraction(b))
                exponent = f.numerator.bit_length() - f.denominator.bit_length()
                log_weight[i, j, k] = log(f / Fraction(2) ** exponent) + exponent * log(2)
    error[...] = 0


def levels(sites, a):
    """<W| X_1 ... X_M, X = D at an occupied and E at an empty site."""
    v = [1]
    for occupied in sites:
        if occupied:
            v = [here + below for here, below in zip([*v, 0], [0, *v], strict=True)]
        else:
            floor = a * v[0]
            v = [here + above for here, above in zip(v, [*v[1:], 0], strict=True)]
            v[0] += floor
    return v


def weight(v, b):
    """<v|V>, with |V> = (1, b, b^2, ...)."""
    f = 0
    for level in reversed(v):
        f = f * b + level
    return f
