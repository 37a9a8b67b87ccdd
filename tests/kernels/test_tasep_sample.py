"""The exact TASEP sampler: its law over the rationals, and the same bits from every form of it."""

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest

from hessfast.kernels._cuda import KERNELS, path
from hessfast.kernels._random import TASEP_SAMPLE
from hessfast.kernels._random.reference import derive
from hessfast.kernels.tasep_sample import cpu, reference
from hessfast.tasep import sampling as tasep
from hessfast.tasep.enumeration import stationary_law

from ..threads import threads
from . import cuda_host

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

    def place(self, size):
        return self.choose(lambda: [(place, Fraction(1, 2 * size)) for place in product(range(2), range(size))])

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
        assert mixture == list(stationary_law(alpha, beta, M))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000, 16385, 2**30 + 1])
def test_parts_are_equal(n):
    """Each k of n gets 2^32 // n of the halves; too many is at most the first of those that multiply into its part."""
    for k in {0, min(1, n - 1), n // 3, n // 2, n - 1}:
        begin, end = (-(-(j * 2**32) // n) for j in (k, k + 1))
        refused = reference.fair(begin, n) is None
        assert end - begin - refused == 2**32 // n
        assert {reference.fair(half, n) for half in (begin + refused, end - 1)} == {k}


def test_density_of_the_rows(monkeypatch):
    """Over all 2^8 combinations of the random bits at a place, exactly `threshold` give a one."""

    class EveryCombination:  # word n of lane l < 4 holds bit n of 64 l, 64 l + 1, ..., 64 l + 63
        def __init__(self, key, lane):
            self.numbers, self.drawn = range(64 * lane, 64 * lane + 64), 0

        def next(self):
            self.drawn += 1
            return sum((number >> (self.drawn - 1) & 1) << i for i, number in enumerate(self.numbers))

    monkeypatch.setattr(reference, "Sfc64", EveryCombination)
    for threshold in range(1, 257):
        first, second = reference.Choices(0).rows(128, threshold)
        assert first.bit_count() + second.bit_count() == threshold


def draw(module, M, alpha, beta, seed=5, first_id=0):
    words = np.full((len(alpha), -(-M // 64)), 0xDEAD, np.uint64)
    exponents = np.full((len(alpha), 2), -7)
    module.tasep_sample(words, exponents, np.asarray(alpha, float), np.asarray(beta, float), M, seed, first_id)
    return words, exponents


def rates(n, seed):
    alpha, beta = np.random.default_rng(seed).uniform(size=(2, n))
    special = [(1, 1), (1, 0.3), (0.2, 1), (0.5, 0.5), (0.3, 0.3), (1e-9, 1e-9), (1e-300, 0.5), (5e-324, 5e-324)]
    alpha[: len(special)], beta[: len(special)] = np.transpose(special)
    return alpha, beta


@pytest.mark.parametrize("M", [1, 2, 31, 62, 63, 64, 65, 127, 128, 129, 700])
@pytest.mark.parametrize(("seed", "first_id"), [(0, 0), (2**64 - 1, 2**63)])
def test_same_bits_as_the_reference(M, seed, first_id):
    alpha, beta = rates(20, M)
    words, exponents = draw(cpu, M, alpha, beta, seed, first_id)
    expected_words, expected_exponents = draw(reference, M, alpha, beta, seed, first_id)
    np.testing.assert_array_equal(exponents, expected_exponents)
    np.testing.assert_array_equal(words, expected_words)


def test_same_bits_as_the_reference_at_full_size():
    alpha, beta = [0.8, 0.5, 0.3, 0.05], [0.7, 0.5, 0.3, 0.9]
    for ours, expected in zip(draw(cpu, 16384, alpha, beta), draw(reference, 16384, alpha, beta), strict=True):
        np.testing.assert_array_equal(ours, expected)


def draw_as_on_a_gpu(M, alpha, beta, seed, first_id, in_shared=0):
    """The steps of gpu.py with the CUDA kernels compiled for the host; memory starts as rubbish."""
    n, root = len(alpha), derive(seed, TASEP_SAMPLE)
    words, exponents = np.full((n, -(-M // 64)), 0xDEAD, np.uint64), np.full((n, 2), -7)
    drawn, scratch = np.full(n, 9, np.uint64), np.full(2 * (M // 64 + 1) + 64, 2**64 - 1, np.uint64)
    cuda_host.run("tasep_sample", "tasep_exponents", exponents, drawn, alpha, beta, M, root, first_id, n)
    arguments = words, exponents, drawn, M, root, first_id, n, scratch, in_shared
    cuda_host.run("tasep_sample", "tasep_configurations", *arguments)
    return words, exponents


@pytest.mark.parametrize("M", [1, 2, 31, 62, 63, 64, 65, 127, 128, 129, 700, 2047, 16384])
def test_same_bits_from_the_cuda_kernels(M):
    alpha, beta = rates(100, M)
    for ours, expected in zip(
        draw_as_on_a_gpu(M, alpha, beta, 2**64 - 1, 2**63), draw(cpu, M, alpha, beta, 2**64 - 1, 2**63), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("M", [1, 64, 700, 16384, 18431, 18432, 50_000])
def test_same_bits_from_a_gpu(M):
    alpha, beta = (
        each[8:] for each in rates(300, M)
    )  # the public function refuses the special rates that are too small
    ours = tasep.sample(alpha, beta, M, 3, device="cuda", first_id=7)
    expected = tasep.sample(alpha, beta, M, 3, first_id=7)
    np.testing.assert_array_equal(ours.words.cpu().numpy(), expected.words)
    np.testing.assert_array_equal(ours.exponents.cpu().numpy(), expected.exponents)


def test_cuda_fuses_no_products_with_sums():
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    command = [
        nvcc,
        "-std=c++17",
        "-arch=sm_80",
        f"-I{KERNELS}",
        "-ptx",
        "-o",
        "/dev/stdout",
        str(path("tasep_sample")),
    ]
    ptx = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "div.rn.f64" in ptx
    assert "fma.rn.f64" not in ptx


def test_a_sample_depends_on_its_number_only():
    alpha, beta = rates(40, 1)
    whole = draw(cpu, 300, alpha, beta)
    with threads(1):
        alone = draw(cpu, 300, alpha, beta)
        part = draw(cpu, 300, alpha[17:], beta[17:], first_id=17)
    for k in range(2):
        np.testing.assert_array_equal(alone[k], whole[k])
        np.testing.assert_array_equal(part[k], whole[k][17:])


def test_no_samples():
    words, exponents = draw(cpu, 100, [], [])
    assert words.shape == (0, 2)
    assert exponents.shape == (0, 2)


def test_symmetry_of_particles_and_holes_in_law():
    """Exchanging the rates, the particles with the holes and the two ends leaves the law as it is."""
    n, M = 20_000, 40
    bits = [
        np.unpackbits(draw(cpu, M, [a] * n, [b] * n)[0].view(np.uint8), axis=1, bitorder="little", count=M)
        for a, b in [(0.3, 0.6), (0.6, 0.3)]
    ]
    difference = bits[0].mean(0) - (1 - bits[1][:, ::-1]).mean(0)
    assert np.abs(difference).max() < 5 * np.sqrt(2 * 0.25 / n)


def test_without_compiling():
    """The kernel is also plain Python: there every index is checked."""
    code = """if True:
        import warnings; warnings.simplefilter("ignore")  # NumPy warns when scalars wrap around 2^64
        import numpy as np
        from hessfast.kernels.tasep_sample import cpu, reference
        for M in (1, 63, 64, 130):
            alpha, beta = np.array([1.0, 0.5, 0.2, 0.7]), np.array([1.0, 0.5, 0.9, 0.3])
            results = [(np.zeros((4, -(-M // 64)), np.uint64), np.zeros((4, 2), np.int64)) for _ in range(2)]
            for module, result in zip((cpu, reference), results):
                module.tasep_sample(*result, alpha, beta, M, 3, 4)
            assert all((x == y).all() for x, y in zip(*results)), M
    """
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
