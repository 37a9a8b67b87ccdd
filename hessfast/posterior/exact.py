"""The posterior of a model whose likelihood is known: the ceiling that every learned one is measured against."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hessfast import _arrays, _checks, ising, tasep

from .grid import Grid, checked_grid
from .result import Posterior, bundled, normalise


class ExactPosterior:
    """p(t | x) ~ p(x | t), normalised over the nodes of a grid.

    Args:
        log_likelihood: maps samples and points `[*grid.shape, dim]` to log p(x | t), `[n, *grid.shape]`, up to a
            constant a sample; -inf where x cannot come from t.

    Example:
        >>> coin = ExactPosterior(lambda heads, p: np.log(np.where(heads[:, None], p[:, 0], 1 - p[:, 0])))
        >>> mass = np.exp(coin.log_posterior(np.array([1]), Grid((0.25,), (0.75,), (3,))).log_mass)
        >>> mass.round(6).tolist()
        [[0.166667, 0.333333, 0.5]]

        Normal variables of unknown mean and deviation, which are two axes of the points; samples get two behind theirs.

        >>> def log_likelihood(x, points):  # [n] and [20, 10, 2] give [n, 20, 10]
        ...     mean, deviation = points[..., 0], points[..., 1]
        ...     return -(((x[:, None, None] - mean) / deviation) ** 2) / 2 - np.log(deviation)
        >>> x = np.array([1.0, 3.0])  # of mean 2 and deviation 1
        >>> normal = ExactPosterior(log_likelihood)
        >>> posterior = normal.log_posterior(x, Grid.cells((0.0, 0.0), (4.0, 2.0), (20, 10)), bundle=2)
        >>> posterior.log_mass.shape, posterior.mean()[0, 0].round(6).item()
        ((1, 20, 10), 2.0)
    """

    def __init__(self, log_likelihood: Callable[[Any, np.ndarray], np.ndarray]):
        self.log_likelihood = log_likelihood

    @classmethod
    def ising(cls, log_partition: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> "ExactPosterior":
        """For samples `ising.IsingBatch` and parameters (T, H): exp(-E/T + H M/T) / Z.

        Args:
            log_partition: log Z per spin at temperatures and fields; None: the table that comes with the package, for
                samples of size 128, T in [1, 5] and H in [-2, 2].
        """

        def log_likelihood(samples: Any, points: np.ndarray) -> np.ndarray:
            temperature, field = _two(points)
            if not isinstance(samples, ising.IsingBatch):
                kind = type(samples).__name__
                raise TypeError(f"samples must be an IsingBatch, got {kind}. Pass spins -1 and +1 through ising.pack.")
            table = ising.LogPartitionTable.load() if log_partition is None else log_partition
            if log_partition is None and samples.size != table.size:
                raise ValueError(
                    f"samples must have size {table.size} for the table of log Z, got {samples.size}. "
                    "Pass log_partition=."
                )
            log_z = table(temperature, field) * samples.size**2
            energy, magnetization = (
                _arrays.to_numpy(x).astype(np.float64) for x in (samples.bond_energy(), samples.magnetization())
            )
            shape = (-1, *(1,) * temperature.ndim)
            return -energy.reshape(shape) / temperature + magnetization.reshape(shape) * (field / temperature) - log_z

        return cls(log_likelihood)

    @classmethod
    def tasep(cls) -> "ExactPosterior":
        """For samples `tasep.TasepBatch`, or an array of 0 and 1, and parameters (alpha, beta)."""

        def log_likelihood(samples: Any, points: np.ndarray) -> np.ndarray:
            alpha, beta = _two(points)
            if isinstance(samples, ising.IsingBatch):
                raise TypeError("samples must be a TasepBatch or an array of 0 and 1, got IsingBatch.")
            return tasep.log_likelihood_grid(samples, alpha[:, 0], beta[0])

        return cls(log_likelihood)

    def fit(self, samples: Any, parameters: Any) -> "ExactPosterior":
        """Nothing to learn; here so that the exact posterior can stand wherever a learned one does."""
        return self

    def log_posterior(self, samples: Any, grid: Grid, *, bundle: int = 1) -> Posterior:
        """The posterior of every sample, or of every `bundle` consecutive samples of one parameter.

        Raises:
            ValueError: for a likelihood of another shape than `[n, *grid.shape]`, NaN, or no node that a sample can be
                from.
        """
        grid, bundle = checked_grid(grid), _checks.integer("bundle", bundle, 1)
        try:
            log_weight = np.array(_arrays.to_numpy(self.log_likelihood(samples, grid.points)), np.float64)
        except ValueError as error:
            if "could not be broadcast" not in str(error):
                raise
            raise ValueError(
                f"log_likelihood must map n samples and points {[*grid.shape, grid.dim]} to (n, *{grid.shape}), "
                f"got: {error}. Give samples an axis for each of the grid."
            ) from error
        if log_weight.shape[1:] != grid.shape:
            raise ValueError(f"log_likelihood must have shape (n, *{grid.shape}), got {log_weight.shape}.")
        log_weight = bundled(log_weight, bundle).reshape(-1, grid.num_nodes)
        highest = log_weight.max(axis=1)
        if not np.isfinite(highest).all():
            worst = int(np.flatnonzero(~np.isfinite(highest))[0])
            raise ValueError(
                "log_likelihood must be numbers, or -inf at some but not all of the nodes, "
                f"got {highest[worst]} for the highest in row {worst}."
            )
        return Posterior(normalise(log_weight).reshape(-1, *grid.shape), grid)


def _two(points: np.ndarray) -> np.ndarray:
    """The two coordinates of the points of a grid, one array each."""
    if points.shape[-1] != 2:
        raise ValueError(f"grid must have two axes, one a parameter, got {points.shape[-1]}.")
    return np.moveaxis(points, -1, 0)
