"""The tabulated log Z against the values and moments that it stands for."""

import numpy as np
import pytest

from hessfast.ising import enumeration
from hessfast.ising.log_partition import TEMPERATURE_CRITICAL, log_partition
from hessfast.ising.log_partition_table import LogPartitionTable
from hessfast.ising.moments import mean_bond_energy, mean_magnetization


@pytest.fixture(scope="module")
def small():
    return LogPartitionTable.build((1.0, 5.0), 2.0, size=4, nodes=(40, 36), num_checks=10)


@pytest.fixture(scope="module")
def shipped():
    return LogPartitionTable.load()


def test_values_and_derivatives_equal_enumeration(small):
    states = enumeration.density_of_states(4, 4)
    for temperature in (1.0, 1.3, TEMPERATURE_CRITICAL, 5.0):
        for field in (-2.0, -1e-3, 0.0, 0.05, 1.1):
            law = states.joint_law(temperature, field)
            assert small(temperature, field) == pytest.approx(states.log_partition(temperature, field), abs=1e-9)
            energy, magnetization = (law.sum(1) @ states.energies / 16, law.sum(0) @ states.magnetizations / 16)
            assert small.mean_bond_energy(temperature, field) == pytest.approx(energy, abs=1e-6)
            assert small.mean_magnetization(temperature, field) == pytest.approx(magnetization, abs=1e-6)
    assert small.error < 1e-9


def test_the_error_is_that_of_the_worst_check():
    coarse = LogPartitionTable.build((1.0, 5.0), 2.0, size=4, nodes=(6, 6), num_checks=40)
    rng = np.random.default_rng(5)
    temperature, field = rng.uniform(1, 5, 200), rng.uniform(-2, 2, 200)
    worst = np.abs(coarse(temperature, field) - log_partition(temperature, field, 4)).max()
    assert worst / 10 < coarse.error < worst * 10


def test_arrays_broadcast_and_the_field_is_a_symmetry(small):
    values = small(np.array([[2.0], [3.0]]), [-0.5, 0.0, 0.5])
    assert values.shape == (2, 3)
    assert np.array_equal(values[:, 0], values[:, 2])
    assert small(2.0, 0.5).shape == ()
    assert small.mean_bond_energy(np.zeros((0, 1)), 0.5).shape == (0, 1)


def test_a_saved_table_is_the_same_table(small, tmp_path):
    small.save(tmp_path / "table.npz")
    again = LogPartitionTable.load(tmp_path / "table.npz")
    assert np.array_equal(again.coefficients, small.coefficients)
    assert repr(again) == repr(small)


def test_the_shipped_table_of_128(shipped):
    assert (shipped.temperatures, shipped.largest_field, shipped.size) == ((1.0, 5.0), 2.0, 128)
    assert shipped.error < 1e-7
    temperature = np.linspace(1, 5, 81)
    error = np.abs(shipped(temperature, 0.0) - log_partition(temperature, 0.0))
    assert error.max() < 2.5e-7  # at T = 1, where the bend at H = 0 is sharpest for its nodes
    assert error[temperature > 1.25].max() < 5e-8
    points = np.array([[1.1, 0.01], [1.6, 0.003], [2.9, 0.02], [5.0, -2.0], [3.3, 1.0]]).T
    assert np.allclose(shipped(*points), log_partition(*points, max_bond=24), atol=1e-8, rtol=0)
    assert np.allclose(
        shipped.mean_bond_energy(*points[:, 3:]), mean_bond_energy(*points[:, 3:], max_bond=24), atol=1e-7
    )
    found, expected = (f(*points[:, 3:]) for f in (shipped.mean_magnetization, mean_magnetization))
    assert np.allclose(found, expected, atol=1e-7)


def test_points_outside_the_box_and_bad_boxes_are_refused(small):
    with pytest.raises(ValueError, match=r"temperature must be within \(1.0, 5.0\), the table's box, got 0.9 to 2.0"):
        small([0.9, 2.0], 0.0)
    with pytest.raises(ValueError, match=r"field must be within \+-2.0, the table's box, got 2.5"):
        small(2.0, -2.5)
    with pytest.raises(ValueError, match="temperature must be finite"):
        small(np.nan, 0.0)
    with pytest.raises(ValueError, match="temperature and field must have shapes that broadcast"):
        small([1.0, 2.0], [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"temperatures must be two ascending numbers, got \(5.0, 1.0\)"):
        LogPartitionTable.build((5.0, 1.0))
    with pytest.raises(ValueError, match=r"largest_field must be > 0, got 0.0"):
        LogPartitionTable.build(largest_field=0.0)
    with pytest.raises(ValueError, match="nodes must be two numbers, got 4"):
        LogPartitionTable.build(size=4, nodes=4)
    with pytest.raises(ValueError, match="nodes must be >= 2, got 1"):
        LogPartitionTable.build(nodes=(1, 4))
    with pytest.raises(ValueError, match="size must be a power of two"):
        LogPartitionTable.build(size=100, nodes=(2, 2))
