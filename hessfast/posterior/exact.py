"""The posterior of a model whose likelihood is known: the ceiling that every learned one is measured against."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hessfast import _checks, ising, tasep

from .grid import Grid
from .result import Posterior, bundled, normalise


class ExactPosterior:
    """p(t | x) ~ p(x | t), normalised over the nodes of a grid.

    Args:
        log_likelihood: maps samples and points `[..., dim]` to log p(x | t), `[n, ...]`, up to a constant a sample.

    Example:
        >>> coin = ExactPosterior(lambda heads, p: np.log(np.where(heads[:, None], p[:, 0], 1 - p[:, 0])))
        >>> mass = np.exp(coin.log_posterior(np.array([1]), Grid((0.25,), (0.75,), (3,))).log_mass)
        >>> mass.round(6).tolist()
        [[0.166667, 0.333333, 0.5]]
    """

    def __init__(self, log_likelihood: Callable[[Any, np.ndarray], np.ndarray]):
        self.log_likelihood = log_likelihood

    @classmethod
    def ising(cls, log_partition: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None) -> "ExactPosterior":
        """For samples `ising.IsingBatch` and parameters (T, H): exp(-E/T + H M/T) / Z.

        Args:
            log_partition: log Z per spin at temperatures and fields; None: the table that comes with the package, for
                size 128, T in [1, 5] and H in [-2, 2].
        """

        def log_likelihood(samples: Any, points: np.ndarray) -> np.ndarray:
            temperature, field = points[..., 0], points[..., 1]
            log_z = (log_partition or ising.LogPartitionTable.load())(temperature, field) * samples.size**2
            energy, magnetization = (np.asarray(x, np.float64) for x in (samples.energy(), samples.magnetization()))
            shape = (-1, *(1,) * temperature.ndim)
            return -energy.reshape(shape) / temperature + magnetization.reshape(shape) * (field / temperature) - log_z

        return cls(log_likelihood)

    @classmethod
    def tasep(cls) -> "ExactPosterior":
        """For samples `tasep.TasepChain` and parameters (alpha, beta)."""

        def log_likelihood(samples: Any, points: np.ndarray) -> np.ndarray:
            return np.asarray(tasep.log_likelihood_grid(samples, points[:, 0, 0], points[0, :, 1]))

        return cls(log_likelihood)

    def fit(self, samples: Any, parameters: Any) -> "ExactPosterior":
        """Nothing to learn; here so that the exact posterior can stand wherever a learned one does."""
        return self

    def log_posterior(self, samples: Any, grid: Grid, *, bundle: int = 1) -> Posterior:
        """The posterior of every sample, or of every `bundle` consecutive samples of one parameter."""
        bundle = _checks.integer("bundle", bundle, 1)
        log_weight = bundled(self.log_likelihood(samples, grid.points), bundle)
        return Posterior(normalise(log_weight.reshape(len(log_weight), -1)).reshape(-1, *grid.shape), grid)
