"""The open TASEP in continuous time: entry rate alpha, bulk rate 1, exit rate beta; exact samples and references.

log_partition and its derivatives are those of the whole chain, not per site as those of `hessfast.ising`.
"""

from .enumeration import stationary_law
from .likelihood import log_likelihood, log_likelihood_grid
from .log_partition import LogPartitionDerivatives, current_limit, log_partition, log_partition_derivatives, phase
from .profile import current, density_profile
from .sampling import TasepBatch, evolve, pack, sample

__all__ = [
    "LogPartitionDerivatives",
    "TasepBatch",
    "current",
    "current_limit",
    "density_profile",
    "evolve",
    "log_likelihood",
    "log_likelihood_grid",
    "log_partition",
    "log_partition_derivatives",
    "pack",
    "phase",
    "sample",
    "stationary_law",
]
