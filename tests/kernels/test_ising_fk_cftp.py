"""ising_fk_cftp: reference = numba bit for bit; the law against enumeration, counting and Kaufman's torus."""

import functools
import os
import subprocess
import sys

import mpmath
import numba
import numpy as np
import pytest
import scipy.stats

from hessfast.kernels.ising_fk_cftp import cpu, reference

from ..threads import threads

CRITICAL = 2 / np.log(1 + np.sqrt(2))  # Onsager 1944
# low and high temperature, criticality; no, small, negative, large field
POINTS = [(0.4, 0.02), (1.0, 0.0), (CRITICAL, 0.0), (CRITICAL, -0.15), (2.0, 0.6), (6.0, -3.0)]


def problem(temperature, field, num, size, first_id=0, seed=2**64 - 3):
    with mpmath.workprec(200):
        q = []
        for energy in (2, 2 * abs(mpmath.mpf(field))):
            p = 1 - mpmath.exp(-mpmath.mpf(energy) / mpmath.mpf(temperature))
            q += [int(mpmath.floor(2**64 * x)) for x in (p / (2 - p), p)]
    thresholds = np.repeat(np.array([q], np.uint64), num, axis=0)
    ids = np.arange(first_id, first_id + num, dtype=np.uint64)
    return thresholds, np.full(num, np.sign(field), np.int8), ids, np.uint64(seed), size


def unpack(words, size):
    """Spins int [n, size, size], from the layout in words of the contract."""
    spins = np.empty((len(words), size, size), int)
    for i in range(size):
        for j in range(size):
            k = j // 2
            word = words[:, 2 * ((i + j) % 2) + i % 2, i // 2, k // 64]
            spins[:, i, j] = 2 * (word >> np.uint64(k % 64) & np.uint64(1)).astype(int) - 1
    return spins


def statistics(spins):
    """Horizontal and vertical sums of s_i s_j, and the magnetisation: int [n, 3]."""
    bonds = [(spins * np.roll(spins, -1, axis)).sum((1, 2)) for axis in (2, 1)]
    return np.stack([*bonds, spins.sum((1, 2))], axis=1)


def chi_squared(observed, law):
    """p value of samples (rows of integers) under a law {row: probability}; rare rows are merged."""
    index = {row: k for k, row in enumerate(law)}
    counts = np.zeros(len(law))
    for row in map(tuple, observed.tolist()):
        counts[index[row]] += 1
    expected = np.array(list(law.values())) * len(observed)
    order = np.argsort(expected)
    few = order[: np.searchsorted(np.cumsum(expected[order]), 8) + 1]
    while len(few) < len(order) and expected[order[len(few)]] < 8:
        few = order[: len(few) + 1]
    rest = order[len(few) :]
    f, e = np.append(counts[rest], counts[few].sum()), np.append(expected[rest], expected[few].sum())
    return scipy.stats.chi2.sf(((f - e) ** 2 / e).sum(), max(len(f) - 1, 1))


def law_by_enumeration(temperature, field, size=4):
    """The joint law of `statistics` from all 2^16 states."""
    states = np.arange(2 ** (size * size))[:, None] >> np.arange(size * size) & 1
    rows, counts = np.unique(statistics((2 * states - 1).reshape(-1, size, size)), axis=0, return_counts=True)
    weight = np.log(counts) + (rows[:, 0] + rows[:, 1] + field * rows[:, 2]) / temperature
    p = np.exp(weight - weight.max())
    return {tuple(r): x for r, x in zip(rows.tolist(), p / p.sum(), strict=True)}


@numba.njit
def add_row(states, bonds, ups, most_bonds, most_ups):
    """Counts [last row, unsatisfied bonds, up spins] with one more row: bonds[old, new] and ups[new] more."""
    grown = np.zeros_like(states)
    for old in range(len(states)):
        for new in range(len(states)):
            e, m = bonds[old, new], ups[new]
            for k in range(most_bonds + 1):
                for n in range(most_ups + 1):
                    grown[new, k + e, m + n] += states[old, k, n]
    return grown


@functools.cache
def counts(size):
    """Number of states by unsatisfied bonds and by up spins, a row at a time: [2 sites + 1, sites + 1]."""
    rows = np.arange(2**size)
    rotated = np.array([(rows << k | rows >> (size - k)) % 2**size for k in range(size)])
    bits = np.array([row.bit_count() for row in rows.tolist()])
    within, across = bits[rows ^ rotated[1]], bits[rows[:, None] ^ rows]
    total = np.zeros((2 * size * size + 1, size * size + 1))
    for first, orbit in zip(*np.unique(rotated.min(0), return_counts=True), strict=True):
        states = np.zeros((len(rows), *total.shape))
        states[first, within[first], bits[first]] = orbit
        for below in range(1, size):
            states = add_row(states, across + within, bits, 2 * size * below, size * below)
        for row in rows:
            total[across[row, first] :] += states[row, : len(total) - across[row, first]]
    return total


def law_by_counting(temperature, field, size):
    """The joint law of (sum of s_i s_j, magnetisation)."""
    sites = size * size
    law = {(2 * (sites - e), 2 * m - sites): np.log(c) for (e, m), c in np.ndenumerate(counts(size)) if c}
    weight = np.array([c + (e + field * m) / temperature for (e, m), c in law.items()])
    p = np.exp(weight - weight.max())
    return dict(zip(law, p / p.sum(), strict=True))


@pytest.mark.parametrize("size", [2, 4, 10, 16])
def test_numba_equals_reference(size):
    for temperature, field in [*POINTS, (CRITICAL, 0.003)]:
        arguments = problem(temperature, field, 4 if size < 10 else 1, size, first_id=2**63)
        expected, got = reference.ising_fk_cftp(*arguments), cpu.ising_fk_cftp(*arguments)
        np.testing.assert_array_equal(got[0], expected[0])
        np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize(
    ("size", "temperature", "field"), [(66, 1.5, 0), (130, 0.8, 0), (128, 0.8, 0), (66, 0.4, -0.05)]
)
def test_rows_of_several_words_equal_the_reference(size, temperature, field):
    arguments = problem(temperature, field, 1, size)
    np.testing.assert_array_equal(cpu.ising_fk_cftp(*arguments)[0], reference.ising_fk_cftp(*arguments)[0])


@pytest.mark.parametrize(("temperature", "field"), [(CRITICAL, 0.0), (1.5, 0.0), (2.0, 0.05), (CRITICAL, 0.003)])
def test_a_longer_horizon_returns_the_same_sample(temperature, field):
    arguments = problem(temperature, field, 4, 64)
    expected, _ = cpu.ising_fk_cftp(*arguments)
    for horizon in (1, 7, 40):
        got, sweeps = cpu.ising_fk_cftp(*arguments, horizon=horizon)
        np.testing.assert_array_equal(got, expected)
        assert (sweeps >= horizon).all() and (sweeps > 1).all()


def test_threads_and_companions_do_not_matter():
    parts = [problem(temperature, field, 3, 32, first_id=7 * k) for k, (temperature, field) in enumerate(POINTS)]
    together = [np.concatenate([p[k] for p in parts]) for k in range(3)]
    with threads(1):
        expected = np.concatenate([cpu.ising_fk_cftp(*p)[0] for p in parts])
    np.testing.assert_array_equal(cpu.ising_fk_cftp(*together, *parts[0][3:])[0], expected)


def test_no_samples_and_extreme_thresholds():
    assert cpu.ising_fk_cftp(*problem(1, 0, 0, 6))[0].shape == (0, 4, 3, 1)
    frozen = np.full((2, 4), 2**64 - 1, np.uint64)
    spins = unpack(cpu.ising_fk_cftp(frozen, np.array([1, -1], np.int8), np.arange(2, dtype=np.uint64), 0, 6)[0], 6)
    assert (spins[0] == 1).all() and (spins[1] == -1).all()
    hot = unpack(
        cpu.ising_fk_cftp(np.zeros((400, 4), np.uint64), np.zeros(400, np.int8), np.arange(400, dtype=np.uint64), 0, 6)[
            0
        ],
        6,
    )
    assert abs(hot.mean()) < 5 / np.sqrt(hot.size) and abs((hot * np.roll(hot, 1, 2)).mean()) < 5 / np.sqrt(hot.size)


def test_python_without_the_compiler_draws_the_same():
    code = (
        "import numpy as np; from tests.kernels import test_ising_fk_cftp as t\n"
        "for size in (2, 4):\n"
        "    for p in t.POINTS[1:4]:\n"
        "        a = t.problem(*p, 2, size)\n"
        "        assert (t.cpu.ising_fk_cftp(*a)[0] == t.reference.ising_fk_cftp(*a)[0]).all()\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": root}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, env=environment, cwd=root)


@pytest.mark.parametrize(("temperature", "field"), POINTS)
def test_joint_law_on_4x4(temperature, field):
    words, _ = cpu.ising_fk_cftp(*problem(temperature, field, 20_000, 4))
    assert chi_squared(statistics(unpack(words, 4)), law_by_enumeration(temperature, field)) > 1e-3


def test_counting_equals_enumeration():
    enumerated = {}
    for (horizontal, vertical, m), p in law_by_enumeration(2.0, 0.1).items():
        enumerated[horizontal + vertical, m] = enumerated.get((horizontal + vertical, m), 0) + p
    counted = law_by_counting(2.0, 0.1, 4)
    assert max(abs(counted.get(k, 0) - p) for k, p in enumerated.items()) < 1e-12


@pytest.mark.parametrize(("temperature", "field"), POINTS)
@pytest.mark.parametrize(("size", "num"), [(6, 8_000), pytest.param(8, 100_000, marks=pytest.mark.slow)])
def test_law_of_energy_and_magnetisation(size, num, temperature, field):
    words, _ = cpu.ising_fk_cftp(*problem(temperature, field, num, size))
    horizontal, vertical, magnetisation = statistics(unpack(words, size)).T
    observed = np.stack([horizontal + vertical, magnetisation], axis=1)
    assert chi_squared(observed, law_by_counting(temperature, field, size)) > 1e-3


def kaufman_bond_energy(temperature, size):
    """Mean of s_i s_j on the torus (Kaufman 1949), by a numerical derivative of log Z."""

    def log_partition(coupling):
        dual = -mpmath.log(mpmath.tanh(coupling)) / 2
        g = [2 * (coupling - dual)]
        level = mpmath.cosh(2 * coupling) ** 2 / mpmath.sinh(2 * coupling)
        g += [mpmath.acosh(level - mpmath.cos(mpmath.pi * k / size)) for k in range(1, 2 * size)]
        products = [
            mpmath.fprod(2 * f(size * x / 2) for x in g[parity::2])
            for parity in (1, 0)
            for f in (mpmath.cosh, mpmath.sinh)
        ]
        return size**2 / mpmath.mpf(2) * mpmath.log(2 * mpmath.sinh(2 * coupling)) + mpmath.log(sum(products) / 2)

    with mpmath.workdps(40):
        return float(mpmath.diff(log_partition, 1 / mpmath.mpf(temperature), h=mpmath.mpf(10) ** -12) / (2 * size**2))


def test_kaufman_equals_enumeration():
    law = law_by_enumeration(2.5, 0.0)
    assert kaufman_bond_energy(2.5, 4) == pytest.approx(sum((a + b) * p for (a, b, _), p in law.items()) / 32, abs=1e-9)


def bond_energy_z(temperature, num, size=128):
    spins = unpack(cpu.ising_fk_cftp(*problem(temperature, 0.0, num, size))[0], size)
    energy = statistics(spins)[:, :2].sum(1) / (2 * size**2)
    return (energy.mean() - kaufman_bond_energy(temperature, size)) / (energy.std() / np.sqrt(num))


def test_energy_on_128_against_kaufman():
    assert abs(bond_energy_z(1.5, 200)) < 4


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [2.0, 2.2, CRITICAL, 2.4])
def test_energy_on_128_against_kaufman_near_criticality(temperature):
    assert abs(bond_energy_z(temperature, 400)) < 4
