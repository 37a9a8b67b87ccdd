"""log Z of the 128 x 128 Ising model: microseconds a point by method, and how far off it is, which is asserted."""

import numpy as np
import pytest

from hessfast.ising import enumeration
from hessfast.ising._bond_weighted_trg import bond_weighted_trg
from hessfast.ising.log_partition import TEMPERATURE_CRITICAL, log_partition
from hessfast.ising.log_partition_table import LogPartitionTable
from hessfast.ising.moments import moments


def test_without_a_field(record_rate):
    temperature = np.linspace(1, 5, 50)
    record_rate(lambda: log_partition(temperature, 0.0), work=50, unit="us/point/core")


@pytest.mark.parametrize("max_bond", [16, 24, 32])
@pytest.mark.parametrize(
    ("place", "temperature", "field"),
    [("far", 4.0, 1.0), ("below", 1.8, 0.01), ("critical", TEMPERATURE_CRITICAL, 1e-4)],
)
def test_renormalization(record_rate, place, temperature, field, max_bond):
    """The prototype took 0.2, 0.8 and 5 s a point on two cores."""
    coupling = 1 / temperature
    exact = float(log_partition(temperature, 0.0))
    error = abs(bond_weighted_trg(coupling, 0.0, 7, max_bond) - exact)
    assert error < {"far": 1e-9, "below": 1e-7, "critical": 1e-6}[place]
    record_rate(lambda: bond_weighted_trg(coupling, field / temperature, 7, max_bond), work=1, unit="us/point/core")


def test_moments(record_rate):
    """Thirty values of log Z at T = 3, H = 1."""
    record_rate(lambda: moments(3.0, 1.0), work=1, unit="us/point/core")


def test_transfer_matrix_12x12(record_rate):
    record_rate(lambda: log_partition(2.5, 0.1, 12), work=1, unit="us/point/core")


def test_density_of_states_4x4(record_rate):
    record_rate(lambda: enumeration.density_of_states(4, 4), work=1, unit="us/torus/core")


def test_table(record_rate):
    """Reading the shipped table."""
    table = LogPartitionTable.load()
    rng = np.random.default_rng(0)
    temperature, field = rng.uniform(1, 5, 1000), rng.uniform(-2, 2, 1000)
    assert np.abs(table(temperature[:3], field[:3]) - log_partition(temperature[:3], field[:3])).max() < 1e-7
    record_rate(lambda: table(temperature, field), work=1000, unit="us/point/core")
