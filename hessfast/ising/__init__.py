"""The two-dimensional Ising model in a field on a periodic square lattice: exact samples and exact references.

E(s) = -sum_<ij> s_i s_j - H sum_i s_i,  p(s) = exp(-E/T) / Z,  J = k_B = 1.
Samples have sums over the lattice; log_partition, mean_bond_energy and mean_magnetization are per spin.
"""

from .enumeration import DensityOfStates, density_of_states
from .log_partition import TEMPERATURE_CRITICAL, log_partition
from .log_partition_table import LogPartitionTable
from .moments import Moments, mean_bond_energy, mean_magnetization, moments
from .sampling import IsingBatch, pack, sample, sweep

__all__ = [
    "TEMPERATURE_CRITICAL",
    "DensityOfStates",
    "IsingBatch",
    "LogPartitionTable",
    "Moments",
    "density_of_states",
    "log_partition",
    "mean_bond_energy",
    "mean_magnetization",
    "moments",
    "pack",
    "sample",
    "sweep",
]
