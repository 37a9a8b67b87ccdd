"""The two-dimensional Ising model in a field on a periodic square lattice: exact samples and exact references.

E(s) = -sum_<ij> s_i s_j - H sum_i s_i,  p(s) = exp(-E/T) / Z,  J = k_B = 1.
"""

from .sampling import IsingBatch, pack, sample, sweep

__all__ = ["IsingBatch", "pack", "sample", "sweep"]
