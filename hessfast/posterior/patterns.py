"""Features of packed lattices that know nothing of the model: counts of local patterns, profiles of the density."""

import numpy as np
from scipy.interpolate import BSpline

from hessfast import _arrays, _checks
from hessfast._dispatch import kernel
from hessfast.ising import IsingBatch
from hessfast.tasep import TasepBatch

_CHUNK = 512  # configurations that are unpacked at once


def ising_patterns(batch: IsingBatch, height: int = 3, width: int = 3, *, backend: str | None = None) -> np.ndarray:
    """Frequencies of the height x width patterns of spins on the torus, float64 [n, 2^(height width)].

    Each window of the lattice shows one of 2^(height width) patterns; a row sums to one. Energy and magnetisation are
    two of the linear functions of the frequencies, among all others of the local order; nothing tells them apart here.
    0.1 ms a 128 x 128 lattice on one core.

    Args:
        batch: lattices, as `ising.sample` or `ising.pack` return them.
        height, width: of the window; at most 16 cells, and no larger than the lattice.
        backend: "cpu" or "reference".

    Raises:
        TypeError, ValueError: for what is no IsingBatch, or a window that does not fit.

    Example:
        All spins up: only the pattern of all ones occurs.

        >>> from hessfast import ising
        >>> ising_patterns(ising.pack(np.ones((1, 4, 4))), 2, 2)[0, -1].item()
        1.0
    """
    if not isinstance(batch, IsingBatch):
        raise TypeError(f"batch must be an IsingBatch, got {type(batch).__name__}. Make one with ising.pack.")
    height = _checks.integer("height", height, 1, min(16, batch.size))
    width = _checks.integer("width", width, 1, min(16 // height, batch.size))
    op = kernel("pattern_counts", backend=backend)
    counts = np.empty((len(batch), 1 << height * width))
    for start in range(0, len(batch), _CHUNK):
        part = slice(start, start + _CHUNK)
        up = _arrays.to_numpy(batch[part].spins()) > 0
        counts[part] = op(up.view(np.uint8), height, width, True)
    return counts / batch.size**2


def tasep_profile(
    batch: TasepBatch, num_blocks: int = 1, num_densities: int = 64, width: int = 1, *, backend: str | None = None
) -> np.ndarray:
    """How the density of blocks is distributed, and the patterns along the chain, [n, num_densities + 2^width].

    The chain is cut into blocks; hat functions of the density, equally spaced over [0, 1] and with sum one, are
    averaged over them: a histogram of local densities without edges, which tells a chain of one density from one of
    two that coexist. The frequencies of the patterns of `width` neighbouring sites follow.

    Args:
        batch: as `tasep.sample` or `tasep.pack` return them.
        num_blocks: 1 to the number of sites.
        num_densities: number of hat functions, >= 2.
        width: of the patterns, 1 to 16 sites and no more than the chain has.
        backend: "cpu" or "reference".

    Raises:
        TypeError, ValueError: for what is no TasepBatch, or numbers out of range.

    Example:
        An empty chain: the first hat function and the pattern of zeros are one.

        >>> from hessfast import tasep
        >>> tasep_profile(tasep.pack(np.zeros((1, 6))), 2, 3, 1)[0].tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0]
    """
    if not isinstance(batch, TasepBatch):
        raise TypeError(f"batch must be a TasepBatch, got {type(batch).__name__}. Make one with tasep.pack.")
    num_blocks = _checks.integer("num_blocks", num_blocks, 1, batch.num_sites)
    num_densities = _checks.integer("num_densities", num_densities, 2)
    width = _checks.integer("width", width, 1, min(16, batch.num_sites))
    op = kernel("pattern_counts", backend=backend)
    edges = np.arange(num_blocks) * batch.num_sites // num_blocks
    lengths = np.diff(np.append(edges, batch.num_sites))
    grid = np.linspace(0, 1, num_densities)
    hats = BSpline(np.concatenate([[0], grid, [1]]), np.eye(num_densities), 1)
    features = np.empty((len(batch), num_densities + (1 << width)))
    for start in range(0, len(batch), _CHUNK):
        part = slice(start, start + _CHUNK)
        occupied = _arrays.to_numpy(batch[part].occupations())
        densities = np.add.reduceat(occupied, edges, axis=1, dtype=np.int64) / lengths
        features[part, :num_densities] = hats(densities).mean(axis=1)
        counts = op(occupied[:, None, :], 1, width, False)
        features[part, num_densities:] = counts / (batch.num_sites - width + 1)
    return features
