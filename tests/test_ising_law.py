"""The law of every Ising sampler: the states of small tori, counted, and moments at 128 x 128.

Seeds are fixed; HESSFAST_TEST_SEED=<integer> draws everything anew, and `pytest -s` prints what was seen.
"""

import functools
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hessfast import ising
from hessfast.ising._methods import certificates
from hessfast.ising._transfer_matrix import transfer_matrix
from hessfast.ising.enumeration import DensityOfStates, density_of_states
from hessfast.ising.log_partition import TEMPERATURE_CRITICAL as TC
from hessfast.ising.moments import moments

SEED = 1000 * int(os.environ.get("HESSFAST_TEST_SEED", "0"))
METHODS = ("cftp", "fk-cftp", "mcmc", "sweep")


def draw(method, temperature, field, size, num, seed):
    """`num` samples; "sweep" takes exact ones through one to five sweeps, which must leave their law alone."""
    if method == "cftp" and temperature < 2 and abs(field) < 1:
        pytest.skip("spins meet from the past after about exp(4 size / T) sweeps: not here")
    temperature = np.full(num, temperature)
    if method != "sweep":
        return ising.sample(temperature, field, size, seed, method=method)
    return ising.sweep(ising.sample(temperature, field, size, seed), temperature, field, np.arange(num) % 5 + 1, seed)


# ---- Small tori: every state counted --------------------------------------------------------------------------------

SOME_POINTS = [(1.5, 0.01), (TC, 0.0), (2.5, -0.3)]
POINTS = [
    (0.7, 0.0), (0.8, 0.02), (0.9, -0.05), (1.0, 0.0), (1.0, -0.04), (1.3, 1.5), (2.0, -0.4),
    (TC, 0.0), (2.3, 0.02), (3.0, 4.0), (5.0, 0.0), (5.0, -2.0),
]  # fmt: skip


def chi_squared(counts, law, least=10):
    """The p-value of counts of cells with known probabilities; cells are taken together until `least` are expected."""
    assert counts[law == 0].sum() == 0  # what cannot be was not drawn
    expected = law * counts.sum()
    large = expected >= least
    rare = np.where(large, 0, expected)
    num_rare = int(rare.sum() // least)  # bins of rare cells, in their order; too few of them join the first large cell
    bins = np.minimum(np.cumsum(rare) // least, max(num_rare - 1, 0)).reshape(large.shape)
    bins = np.where(large, num_rare - 1 + np.cumsum(large).reshape(large.shape), bins)
    expected, counts = (np.bincount(bins.ravel().astype(int), each.ravel()) for each in (expected, counts))
    return float(stats.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue)


def joint_counts(energies, magnetizations, batch):
    counts = np.zeros((len(energies), len(magnetizations)), int)
    row = np.searchsorted(energies, batch.bond_energy())
    np.testing.assert_array_equal(energies[row], batch.bond_energy())
    np.add.at(counts, (row, np.searchsorted(magnetizations, batch.magnetization())), 1)
    return counts


@functools.cache
def states_of(size):
    if size < 12:
        return density_of_states(size, size)
    path = Path(__file__).parent / "data" / "ising_counts_12x12.npz"
    if not path.exists():
        pytest.skip(f"{path.name} is not here; data/make_ising_counts.py makes it")
    with np.load(path) as file:
        return DensityOfStates(12, 12, file["energies"], file["magnetizations"], file["counts"])


def check_joint_law(size, temperature, field, method, num):
    states = states_of(size)
    counts = joint_counts(states.energies, states.magnetizations, draw(method, temperature, field, size, num, SEED + 1))
    p = chi_squared(counts, states.joint_law(temperature, field))
    print(f"{size}x{size} T={temperature:.4g} H={field:g} {method}: p={p:.3g}")
    assert p > 1e-4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("size", "temperature", "field"),
    [(size, *point) for size in (2, 4, 6, 12) for point in (POINTS if size == 4 else SOME_POINTS)],
)
def test_joint_law_of_energy_and_magnetization(size, temperature, field, method):
    check_joint_law(size, temperature, field, method, 3000 if size < 12 else 1000)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("temperature", "field"), POINTS)
@pytest.mark.parametrize("size", [4, 12])
def test_joint_law_with_more_samples(size, temperature, field, method):
    check_joint_law(size, temperature, field, method, 30_000 if size < 12 else 5000)


@pytest.mark.parametrize(("temperature", "field"), [(1.5, 0.02), (3.0, 0.5)])
def test_counts_at_12_by_12_are_those_of_the_transfer_matrix(temperature, field):
    expected = transfer_matrix(1 / temperature, field / temperature, 12, 12) / 144
    assert states_of(12).log_partition(temperature, field) == pytest.approx(expected, abs=1e-12)


# ---- 128 x 128: moments from log Z ----------------------------------------------------------------------------------

FEW_CELLS = [
    (1.0, 0.0),
    (1.5, 0.0),
    (2.5, 0.0),
    (3.0, 0.0),
    (5.0, 0.0),
    (1.0, 2.0),
    (1.5, 1.0),
    (2.3, -0.5),
    (4.0, -2.0),
]
CELLS = [
    (temperature, field)
    for temperature in (1.0, 1.4, 1.8, 2.1, 2.2, TC, 2.35, 2.6, 3.2, 5.0)
    for field in (0.0, 1e-4, -0.005, 0.05, -0.3, 2.0)
]


def z_scores(batch, temperature, field):
    """(mean - exact) / standard error of E, M, E^2 and M^2."""
    # at H = 0 itself `moments` takes differences between Kaufman's formula and a renormalization of another error
    exact, sites, num = moments(temperature, field or 1e-7, batch.size, max_bond=12), batch.size**2, len(batch)
    z = []
    for seen, mean, variance in (
        (batch.bond_energy(), exact.mean_bond_energy, exact.variance_bond_energy),
        (batch.magnetization(), exact.mean_magnetization, exact.variance_magnetization),
    ):
        mean, variance, seen = float(mean * sites), float(variance * sites), seen.astype(float)
        square = seen**2
        z += [
            (seen.mean() - mean) / np.sqrt(variance / num),
            (square.mean() - mean**2 - variance) / np.sqrt(square.var() / num),
        ]
    return np.array(z)[[0, 2, 1, 3]]


def check_cells(cells, method, num):
    """|z| < 5 everywhere; prints the table and, for each column, the p-value of its sum of squares."""
    table = []
    for i, (temperature, field) in enumerate(cells):
        count = num(temperature, field)
        batch = draw(method, temperature, field, 128, count, SEED + 100 + i)
        table.append(z_scores(batch, temperature, field))
        print(
            f"T={temperature:.4g} H={field:g} {batch.certificate[0]} n={count}: z(E, M, E^2, M^2) =", table[-1].round(2)
        )
    table = np.array(table)
    p = stats.chi2.sf((table**2).sum(0), len(table))
    largest, total = np.abs(table).max(0).round(2), (table**2).sum(0).round(1)
    print(f"{method}: {len(table)} cells, max |z| {largest}, sum z^2 {total}, p {p.round(4)}")
    assert np.abs(table).max() < 5
    assert p.min() > 1e-4


def affordable(temperature, field):
    """Fewer samples where one takes a quarter of a second."""
    if certificates(np.array([temperature]), np.array([field]), "auto")[0] == "cftp":
        return 300
    return 120 if temperature < 1.9 else 30


def test_moments_at_size_128():
    check_cells(FEW_CELLS, "auto", lambda temperature, field: 100)


@pytest.mark.slow
def test_moments_at_size_128_in_many_cells():
    names = certificates(*np.array(CELLS).T, "auto")
    assert len(CELLS) >= 50 and min((names == "cftp").sum(), (names == "fk-cftp").sum()) >= 15
    check_cells(CELLS, "auto", affordable)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mcmc", "sweep"])
def test_moments_of_the_dynamics_at_size_128(method):
    check_cells([(1.0, 0.0), (2.0, 0.05), (TC, 0.0), (2.35, -0.005), (3.2, 0.0)], method, lambda *_: 40)


# ---- Independence ---------------------------------------------------------------------------------------------------


def coins(method, seed, num=64, num_sweeps=1):
    """Lattices at T = 10^9: all spins are fair coins, to 1 part in 10^8."""
    if method == "sweep":
        up = ising.pack(np.ones((num, 128, 128), np.int8))
        return ising.sweep(up, 1e9, 0.0, num_sweeps, seed).spins() > 0
    return ising.sample(np.full(num, 1e9), 0.0, 128, seed, method=method).spins() > 0


FOURS = {  # sixteen outcomes of four spins, from spins [lattice, row, column]
    "a block, one spin of each plane": lambda s: [s[:, i::2, j::2] for i in (0, 1) for j in (0, 1)],
    "a row": lambda s: [s[:, :, j::4] for j in range(4)],
    "a column": lambda s: [s[:, i::4] for i in range(4)],
    "bits of a word": lambda s: [s[:, :, 2 * j :: 8] for j in range(4)],
    "words of a plane": lambda s: [s[:, 2 * i :: 8] for i in range(4)],
    "a site and its neighbours": lambda s: [np.roll(s, shift, (1, 2)) for shift in ((0, 0), (1, 0), (-1, 0), (0, 1))],
    "lattices": lambda s: [s[i::4] for i in range(4)],
}


def check_fair(four):
    """Chi-squared of the sixteen outcomes; overlapping fours only make the test milder or stricter by their number."""
    outcomes = np.bincount(sum(spin.ravel().astype(int) << k for k, spin in enumerate(four)), minlength=16)
    p = stats.chisquare(outcomes).pvalue
    assert p > 1e-5, outcomes


@pytest.mark.parametrize("method", ["cftp", "fk-cftp", "sweep"])
def test_spins_at_infinite_temperature_are_fair_coins(method):
    spins = coins(method, SEED + 3)
    for four in FOURS.values():
        check_fair(four(spins))


def test_sweeps_seeds_and_methods_are_independent():
    check_fair([coins("sweep", SEED + 4, num_sweeps=k) for k in (1, 2, 3, 7)])
    check_fair([coins("cftp", SEED + seed) for seed in (4, 5, 6, 2**32)])
    check_fair([*(coins(method, SEED + 4) for method in ("cftp", "fk-cftp", "mcmc", "sweep"))])


@pytest.mark.parametrize("method", ["cftp", "fk-cftp"])
def test_samples_of_different_numbers_are_uncorrelated(method):
    batch = ising.sample(np.full(1500, 2.4), 0.0, 16, SEED + 7, method=method)
    energy, spins = batch.bond_energy() - batch.bond_energy().mean(), batch.spins().astype(float)
    for values in (
        energy[1:] * energy[:-1],
        (spins[1:] * spins[:-1]).sum((1, 2)),
        (spins[2:] * spins[:-2]).sum((1, 2)),
    ):
        assert abs(values.mean()) < 5 * values.std() / np.sqrt(len(values))
