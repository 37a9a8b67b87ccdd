"""log Z of the Ising model and its derivatives against enumeration, transfer matrices, mpmath and each other."""

import dataclasses
import pathlib
import warnings
from functools import partial

import mpmath
import numpy as np
import pytest

from hessfast.ising import LogPartitionTable, enumeration
from hessfast.ising._bond_weighted_trg import bond_weighted_trg
from hessfast.ising._kaufman import kaufman
from hessfast.ising._transfer_matrix import transfer_matrix
from hessfast.ising.log_partition import TEMPERATURE_CRITICAL as TC
from hessfast.ising.log_partition import log_partition
from hessfast.ising.moments import Moments, mean_bond_energy, mean_magnetization, moments

POINTS = [(1.0, 0.0), (1.0, 0.1), (2.0, 0.3), (TC, 0.0), (3.0, -1.0), (5.0, 2.0)]


def exact_moments(states, temperature, field):
    law = states.joint_law(temperature, field)
    E, M = states.energies[:, None], states.magnetizations
    e, m = (law * E).sum(), (law * M).sum()
    second = (law * (E - e) ** 2).sum(), (law * (E - e) * (M - m)).sum(), (law * (M - m) ** 2).sum()
    return np.array([e, m, *second]) / (states.rows * states.columns)


@pytest.mark.parametrize("sides", [(2, 2), (4, 4), (2, 3), (3, 5)])
def test_density_of_states_counts_every_state(sides):
    rows, columns = sides
    sites = rows * columns
    spins = (1 - 2 * ((np.arange(1 << sites)[:, None] >> np.arange(sites)) & 1)).reshape(-1, rows, columns)
    E = -(spins * np.roll(spins, 1, 1) + spins * np.roll(spins, 1, 2)).sum((1, 2))
    M = spins.sum((1, 2))
    states = enumeration.density_of_states(rows, columns)
    counts = np.zeros_like(states.counts)
    np.add.at(counts, (np.searchsorted(states.energies, E), (M + sites) // 2), np.uint64(1))
    assert set(states.energies) == set(E)
    assert np.array_equal(counts, states.counts)


def test_density_of_states_does_not_depend_on_the_orientation():
    assert np.array_equal(enumeration.density_of_states(3, 6).counts, enumeration.density_of_states(6, 3).counts)


def test_stored_counts_of_12x12_equal_the_transfer_matrix():
    with np.load(pathlib.Path(__file__).parent / "data" / "ising_counts_12x12.npz") as file:
        states = enumeration.DensityOfStates(12, 12, **file)
    assert states.energies[:2].tolist() == [-288, -280]
    assert np.allclose(states.counts[:2].sum(1), [2, 2 * 144], rtol=1e-9)  # all aligned; one turned
    assert np.array_equal(states.counts, states.counts[:, ::-1])
    for temperature, field in [(1.5, 0.2), (TC, 0.0), (3.0, 0.5), (5.0, 1.0)]:
        expected = transfer_matrix(1 / temperature, field / temperature, 12, 12) / 144
        assert states.log_partition(temperature, field) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("sides", [(2, 2), (2, 5), (3, 4), (6, 5)])
@pytest.mark.parametrize("point", POINTS)
def test_transfer_matrix_equals_enumeration(sides, point):
    temperature, field = point
    states = enumeration.density_of_states(*sides)
    for length, width in (sides, sides[::-1]):
        found = transfer_matrix(1 / temperature, field / temperature, length, width) / (length * width)
        assert found == pytest.approx(states.log_partition(*point), abs=3e-15, rel=1e-14)


@pytest.mark.parametrize("sides", [(2, 2), (4, 4), (6, 8), (8, 5), (3, 9), (10, 40)])
@pytest.mark.parametrize("temperature", [0.1, 1.0, TC - 1e-9, TC, TC + 1e-9, 5.0, 1e4])
def test_kaufman_equals_the_transfer_matrix(sides, temperature):
    rows, columns = sides
    expected = transfer_matrix(1 / temperature, 0.0, columns, rows) / (rows * columns)
    assert log_partition(temperature, 0.0, sides) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("coupling", [0.1, 0.43, float(1 / TC), 0.45, 1.0])
def test_kaufman_and_its_derivatives_equal_the_formula_of_1949_at_fifty_digits(coupling):
    rows, columns = 6, 10

    def log_z(K):
        dual = -mpmath.log(mpmath.tanh(K)) / 2
        c = mpmath.cosh(2 * K) ** 2 / mpmath.sinh(2 * K)
        gamma = [2 * (K - dual)] + [mpmath.acosh(c - mpmath.cos(mpmath.pi * k / rows)) for k in range(1, 2 * rows)]
        terms = [
            mpmath.fprod(2 * function(columns * g / 2) for g in gamma[start::2])
            for start in (0, 1)
            for function in (mpmath.cosh, mpmath.sinh)
        ]
        return mpmath.log((2 * mpmath.sinh(2 * K)) ** (mpmath.mpf(rows * columns) / 2) / 2 * mpmath.fsum(terms))

    with mpmath.workdps(50):
        K = mpmath.mpf(coupling)
        expected = [float(log_z(K)), float(mpmath.diff(log_z, K)), float(mpmath.diff(log_z, K, 2))]
    assert np.allclose(kaufman(np.array(coupling), rows, columns), expected, rtol=1e-12, atol=0)


def test_the_variance_at_a_low_temperature_is_that_of_the_series():
    """log Z per spin = 2 K + x^2 + 2 x^3 + 9 x^4 / 2 + 12 x^5 .. with x = exp(-4 K), beside a slope squared of 1e9."""
    powers = np.exp(-8.0) ** np.arange(2, 6)
    variance = 16 * powers @ [4 * 1, 9 * 2, 16 * 4.5, 25 * 12]
    assert kaufman(np.array(2.0), 128, 128)[2] / 128**2 == pytest.approx(variance, rel=1e-10)


def test_known_values_at_128():
    values = log_partition([1.5, 2.0, TC, 2.5], 0.0)
    assert np.allclose(values, [1.339004429963, 1.025835119041, 0.929734455770, 0.879363820775], atol=6e-13, rtol=0)
    assert log_partition(2.0, 0.01) == pytest.approx(1.0303585365, abs=6e-11 + 2e-8)
    assert log_partition(TC, 0.01) == pytest.approx(0.932741838, abs=6e-10)


def test_any_size_has_its_log_partition_without_a_field():
    assert log_partition(5.0, 0.0, 100) == pytest.approx(log_partition(5.0, 0.0, 128), rel=1e-14)


@pytest.mark.parametrize("doublings", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_renormalization_is_exact_where_nothing_is_cut(doublings, point):
    temperature, field = point
    side = 1 << doublings
    expected = enumeration.density_of_states(side, side).log_partition(*point)
    found = bond_weighted_trg(1 / temperature, field / temperature, doublings, 16)
    assert found == pytest.approx(expected, abs=2e-11)


@pytest.mark.parametrize("point", POINTS)
def test_renormalization_equals_the_transfer_matrix_at_side_8(point):
    temperature, field = point
    expected = transfer_matrix(1 / temperature, field / temperature, 8, 8) / 64
    tolerance = 1e-8 if abs(temperature - TC) > 0.2 else 1e-7
    assert bond_weighted_trg(1 / temperature, field / temperature, 3, 32) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("offset", [-1.0, -0.21, 0.21, 1.0])
def test_renormalization_equals_kaufman_at_side_128(offset):
    coupling = 1 / (TC + offset)
    expected = float(kaufman(np.array(coupling), 128, 128)[0]) / 128**2
    assert bond_weighted_trg(coupling, 0.0, 7, 24) == pytest.approx(expected, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [1.2, 1.8, 2.05, 2.2, TC, 2.3, 2.45, 2.8, 4.0])
def test_renormalization_in_a_field_has_converged_at_side_128(temperature):
    field = [1e-4, 1e-3, 1e-2, 0.1, 1.0]
    error = np.abs(log_partition(temperature, field) - log_partition(temperature, field, max_bond=48)).max()
    assert error < (1e-8 if abs(temperature - TC) > 0.2 else 1e-7)


def test_a_weak_field_at_the_critical_point_is_anchored_to_kaufman():
    at_zero, nearby = log_partition(TC, [0.0, 1e-9], max_bond=16)
    assert abs(nearby - at_zero) < 1e-10  # max_bond = 16 alone errs by 5e-7


def test_a_weak_field_is_weaker_on_a_smaller_torus():
    found, exact = (log_partition(TC, 1e-3, 16, max_bond=max_bond) for max_bond in (8, 24))
    assert abs(found - exact) < 2e-6  # max_bond = 8 alone errs by 5e-5


@pytest.mark.parametrize("point", [*POINTS, (1.2, 0.1), (TC, -0.01)])
@pytest.mark.parametrize("side", [4, 6])
def test_moments_equal_enumeration(point, side):
    expected = exact_moments(enumeration.density_of_states(side, side), *point)
    found = moments(*point, size=side)
    found = np.array([getattr(found, name) for name in Moments.__dataclass_fields__])
    assert np.allclose(found, expected, rtol=1e-7, atol=1e-7)
    assert mean_bond_energy(*point, size=side) == pytest.approx(expected[0], abs=1e-7)
    assert mean_magnetization(*point, size=side) == pytest.approx(expected[1], abs=1e-7)


def test_a_frozen_lattice_in_a_field_has_two_bonds_a_spin():
    assert mean_bond_energy([0.01, 0.1], 0.1, 8) == pytest.approx(-2, abs=1e-12)


def test_energies_are_refused_where_their_digits_cancel():
    assert mean_bond_energy(1e4, 0.0, 8) == pytest.approx(-2e-4, rel=1e-7)
    for function in (mean_bond_energy, moments):
        with pytest.raises(ValueError, match=r"temperature must be <= 10000 .* got 1e\+06"):
            function([1.0, 1e6], 0.0, 8)


def test_arguments_broadcast_and_the_sign_of_the_field_is_a_symmetry():
    values = log_partition(np.array([[2.0], [3.0]]), np.array([-0.5, 0.0, 0.5]), size=4)
    assert values.shape == (2, 3)
    assert values.dtype == np.float64
    assert np.array_equal(values[:, 0], values[:, 2])
    assert log_partition(2.0, 0.5, size=4).shape == ()
    assert log_partition(np.zeros(0), 0.5).shape == (0,)
    magnetization = mean_magnetization(2.0, [-0.5, 0.0, 0.5], size=4)
    assert magnetization[1] == 0
    assert magnetization[0] == -magnetization[2] < 0


def test_tensors_in_tensors_out():
    torch = pytest.importorskip("torch")
    arrays = np.array([2.0, 3.0]), np.array([0.5, -0.1])
    tensors = [torch.from_numpy(each) for each in arrays]
    table = LogPartitionTable.build((1.0, 5.0), 1.0, size=4, nodes=(16, 12))
    functions = [table, table.mean_bond_energy, table.mean_magnetization]
    functions += [partial(each, size=4) for each in (log_partition, mean_bond_energy, mean_magnetization)]
    functions += [lambda T, H, name=name: getattr(moments(T, H, size=4), name) for name in vars(moments(2.0, 0.1, 4))]
    for function in functions:
        assert torch.equal(function(*tensors), torch.from_numpy(function(*arrays)))
        assert torch.is_tensor(function(tensors[0], 0.5)) and isinstance(function(2.0, 0.5), np.float64)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.nan, 0.0), ValueError, "temperature must be finite, got nan"),
        ((2.0, np.inf), ValueError, "field must be finite, got inf"),
        ((0.0, 0.0), ValueError, r"temperature must be >= 0.01, got 0.0"),
        ((-1.0, 0.0), ValueError, r"temperature must be >= 0.01, got -1.0"),
        (("cold", 0.0), TypeError, "temperature must be a number"),
        (([1.0, 2.0], [1.0, 2.0, 3.0]), ValueError, r"temperature and field must have shapes that broadcast"),
        ((2.0, 0.0, 1), ValueError, "size must be >= 2, got 1"),
        ((2.0, 0.0, 8.0), TypeError, "size must be an integer, got 8.0"),
        ((2.0, 0.1, 100), ValueError, r"size must be a power of two, .* got 100. Use size=128."),
        ((2.0, 0.1, (64, 128)), ValueError, r"size must be a power of two, .* got \(64, 128\)"),
        ((2.0, 0.1, (128, 32)), ValueError, r"got \(128, 32\). Use size=64."),
    ],
)
@pytest.mark.parametrize("function", [log_partition, moments])
def test_bad_arguments_are_refused(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)


def test_bad_max_bond_and_bad_sides_of_the_enumeration_are_refused():
    with pytest.raises(ValueError, match="max_bond must be >= 8 and <= 96, got 4"):
        log_partition(2.0, 0.1, max_bond=4)
    with pytest.raises(ValueError, match=r"rows \* columns must be <= 64 .* got 144. Use ising.log_partition"):
        enumeration.density_of_states(12, 12)
    with pytest.raises(ValueError, match="columns must be >= 2, got 1"):
        enumeration.density_of_states(12, 1)
    with pytest.raises(ValueError, match=r"temperature must be > 0, got 0\.0"):
        enumeration.density_of_states(2, 2).joint_law(0.0, 0.0)


@pytest.mark.parametrize("T", [0.5, 1.0, 2.0, 1e4])
@pytest.mark.parametrize("sides", [(2, 2), (2, 3), (4, 4)])
def test_moments_in_strong_fields(T, sides):
    """Just above |H| / T = 6, where clusters of turned spins are summed; and far above."""
    expected = exact_moments(enumeration.density_of_states(*sides), T, 6.001 * T)
    for field, sign in ((6.001 * T, 1), (-6.001 * T, -1)):
        found = np.array(dataclasses.astuple(moments(T, field, size=sides))) * [1, sign, 1, sign, 1]
        np.testing.assert_allclose(found, expected, rtol=1e-8)  # of which 8e-9 are all four spins turned
        assert (mean_bond_energy(T, field, size=sides), sign * mean_magnetization(T, field, size=sides)) == tuple(
            found[:2]
        )
    for field in (1e8 * T, -1e16, 1e300):
        found = moments(T, field, size=128)
        assert (found.mean_magnetization, found.mean_bond_energy) == (np.sign(field), -2)
        assert found.variance_bond_energy == found.covariance == found.variance_magnetization == 0


def test_temperatures_without_end():
    """Without a warning: Kaufman's derivatives overflow, which log Z does not need."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log_partition(1e300, 0.0) == pytest.approx(np.log(2), rel=1e-15)
