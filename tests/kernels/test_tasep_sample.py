"""The exact TASEP sampler: its law over the rationals, the same bits from every form, statistics where M is large."""

from collections import defaultdict
from fractions import Fraction
from itertools import product
from math import comb

import pytest

from hessfast.kernels.tasep_sample import reference

RATES = [  # (alpha, beta): the three phases, their boundaries, the ends of the interval
    (Fraction(1), Fraction(1)),
    (Fraction(1), Fraction(1, 3)),
    (Fraction(2, 7), Fraction(1)),
    (Fraction(1, 2), Fraction(1, 2)),
    (Fraction(1, 3), Fraction(1, 3)),
    (Fraction(1, 5), Fraction(7, 10)),
    (Fraction(4, 5), Fraction(1, 10)),
    (Fraction(3, 5), Fraction(9, 10)),
    (Fraction(1, 100), Fraction(1, 99)),
]


class Branches:
    """Follows every choice of the sampler; `law` is the exact distribution of what a function of choices returns."""

    def law(self, function, *args):
        outer = self.__dict__.copy()
        total, self.path = defaultdict(Fraction), []
        while True:
            self.depth = 0
            value = function(*args)
            weight = Fraction(1)
            for options, taken in self.path:
                weight *= options[taken][1]
            total[value] += weight
            while self.path and self.path[-1][1] + 1 == len(self.path[-1][0]):
                self.path.pop()
            if not self.path:
                break
            self.path[-1][1] += 1
        self.__dict__.update(outer)
        return dict(total)

    def choose(self, options):
        if self.depth == len(self.path):
            self.path.append([[(value, weight) for value, weight in options() if weight], 0])
        chosen, taken = self.path[self.depth]
        self.depth += 1
        return chosen[taken][0]

    def happens(self, probability):
        assert 0 <= probability <= 1
        return self.choose(lambda: [(True, probability), (False, 1 - probability)])

    def below(self, n):
        return self.choose(lambda: [(k, Fraction(1, n)) for k in range(n)])

    def rows(self, size, threshold):
        one = Fraction(threshold, 256)
        weight = [one**k * (1 - one) ** (2 * size - k) for k in range(2 * size + 1)]
        pairs = product(range(2**size), repeat=2)
        return list(self.choose(lambda: [(pair, weight[pair[0].bit_count() + pair[1].bit_count()]) for pair in pairs]))

    def until(self, propose, *args):
        """What a loop returns that starts afresh until it is not None: the law of one turn, given that it is not."""

        def options():
            law = self.law(propose, *args)
            law.pop(None, None)
            return [(value, weight / sum(law.values())) for value, weight in law.items()]

        return self.choose(options)


def exponents_law(M, alpha, beta):
    """P(e, f) = N_M(e + f) a^e b^f / Z_M."""
    a, b = (1 - alpha) / alpha, (1 - beta) / beta
    weights = {
        (e, s - e): Fraction(comb(2 * M + 2, M - s) * (s + 1), M + 1) * a**e * b ** (s - e)
        for s in range(M + 1)
        for e in range(s + 1)
    }
    return {key: weight / sum(weights.values()) for key, weight in weights.items() if weight}


def stationary(M, alpha, beta):
    """The stationary law of the chain of M sites, site j the bit j of a state: the master equation by elimination."""
    states = 2**M
    generator = [[Fraction(0)] * (states + 1) for _ in range(states)]

    def jump(source, target, rate):
        generator[target][source] += rate
        generator[source][source] -= rate

    for x in range(states):
        if not x & 1:
            jump(x, x | 1, alpha)
        if x >> (M - 1) & 1:
            jump(x, x ^ 1 << (M - 1), beta)
        for j in range(M - 1):
            if x >> j & 3 == 1:
                jump(x, x ^ 3 << j, Fraction(1))
    generator[-1] = [Fraction(1)] * (states + 1)  # one equation is redundant: normalise instead
    for i in range(states):
        pivot = next(r for r in range(i, states) if generator[r][i])
        generator[i], generator[pivot] = generator[pivot], generator[i]
        generator[i] = [value / generator[i][i] for value in generator[i]]
        for r in range(states):
            if r != i and generator[r][i]:
                factor = generator[r][i]
                generator[r] = [x - factor * y for x, y in zip(generator[r], generator[i], strict=True)]
    return [row[-1] for row in generator]


@pytest.mark.parametrize(("alpha", "beta"), RATES)
@pytest.mark.parametrize("M", [1, 2, 3, 4, 9])
def test_law_of_the_exponents(M, alpha, beta):
    choices = Branches()
    assert choices.law(reference.draw_exponents, choices, M, alpha, beta) == exponents_law(M, alpha, beta)


@pytest.mark.parametrize(("M", "s"), [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
def test_law_of_the_rows(M, s):
    choices = Branches()
    law = choices.law(lambda: tuple(reference.draw_rows(choices, M, s)))
    assert len(law) == comb(2 * M + 2, M + s + 2)
    assert set(law.values()) == {Fraction(1, len(law))}


@pytest.mark.parametrize("bit", [False, True])
def test_a_flip_finds_every_place_alike(bit):
    choices = Branches()
    for rows in product(range(2**4), repeat=2):
        places = [(row, column) for row in range(2) for column in range(4) if rows[row] >> column & 1 == bit]
        if places:
            law = choices.law(lambda rows=rows: choices.until(reference.find, choices, rows, 4, bit))
            assert law == {place: Fraction(1, len(places)) for place in places}


def configuration_law(M, e, s):
    """The law of the sites given e and s, over all rows with M + s + 2 ones and all origins."""
    choices, total = Branches(), defaultdict(Fraction)
    for rows in product(range(2 ** (M + 1)), repeat=2):
        if rows[0].bit_count() + rows[1].bit_count() == M + s + 2:
            for sites, weight in choices.law(reference.configuration, choices, M, e, s, *rows).items():
                total[sites] += weight / comb(2 * M + 2, M + s + 2)
    return total


@pytest.mark.parametrize("M", [1, 2, 3, 4])
def test_law_of_a_sample_solves_the_master_equation(M):
    given = {(e, s): configuration_law(M, e, s) for s in range(M + 1) for e in range(s + 1)}
    for alpha, beta in RATES:
        choices = Branches()
        mixture = [Fraction(0)] * 2**M
        for (e, f), weight in choices.law(reference.draw_exponents, choices, M, alpha, beta).items():
            for sites, conditional in given[e, e + f].items():
                mixture[sites] += weight * conditional
        assert mixture == stationary(M, alpha, beta)
