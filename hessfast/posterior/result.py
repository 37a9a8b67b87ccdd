"""What every posterior answers with."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from hessfast import _checks

from .grid import Grid, checked_grid

_AT_ONCE = 2**20  # numbers
_TOLERANCE = 1e-3  # of the sum of a row: float32 keeps it to 1e-5


@dataclass(frozen=True, eq=False)
class Posterior:
    """One distribution over the nodes of a grid for each sample, or each bundle of samples.

    Attributes:
        log_mass: log of the probability of each node, floating point `[n, *grid.shape]`; of every row the exponentials
            add to 1. -inf where it underflows.
        grid: the nodes.

    Raises:
        ValueError: for another shape, or rows whose exponentials add to something else.

    Example:
        >>> uniform = Posterior(np.full((1, 2, 5), -np.log(10)), Grid((0.0, 0.0), (1.0, 4.0), (2, 5)))
        >>> uniform.mean().round(9).tolist()
        [[0.5, 2.0]]
        >>> bool(np.isclose(uniform.entropy()[0], np.log(10)))
        True
    """

    log_mass: np.ndarray
    grid: Grid

    def __post_init__(self):
        object.__setattr__(self, "log_mass", _checks.whole("log_mass", self.log_mass))
        if self.log_mass.shape[1:] != checked_grid(self.grid).shape:
            raise ValueError(f"log_mass must have shape (n, *{self.grid.shape}), got {self.log_mass.shape}.")
        at_once = max(_AT_ONCE // self.grid.num_nodes, 1)
        for start in range(0, len(self), at_once):
            with np.errstate(over="ignore"):
                total = np.exp(self._rows[start : start + at_once]).sum(axis=1)
            if (wrong := np.flatnonzero(~(np.abs(total - 1) <= _TOLERANCE))).size:
                raise ValueError(
                    f"log_mass must have exponentials that add to 1 in every row, got {total[wrong[0]]:g} "
                    f"in row {start + wrong[0]}."
                )

    def __len__(self) -> int:
        return len(self.log_mass)

    def __repr__(self) -> str:
        return f"Posterior({len(self)} distributions, {self.grid})"

    def mean(self) -> np.ndarray:
        """Mean parameters, float64 `[n, dim]`."""
        points = self.grid.points.reshape(-1, self.grid.dim)
        means = [np.exp(row.astype(np.float64)) @ points for row in self._rows]
        return np.reshape(means, (len(self), self.grid.dim))

    def entropy(self) -> np.ndarray:
        """-sum p log p in nats, float64 `[n]`."""
        return np.array([-_sum_of_p_log_p(row.astype(np.float64)) for row in self._rows], np.float64)

    def log_likelihood(self, parameters: Any) -> np.ndarray:
        """log probability of the node nearest to the true parameters `[n, dim]`, in nats, `[n]`.

        Minus its mean is the cross-entropy by which posteriors on one grid are compared; the exact one has the least.
        """
        nodes = self.grid.nearest(parameters)
        if len(nodes) != len(self):
            raise ValueError(f"parameters must be one row for each of the {len(self)} posteriors, got {len(nodes)}.")
        return self._rows[np.arange(len(self)), nodes].astype(np.float64)

    @property
    def _rows(self) -> np.ndarray:
        return self.log_mass.reshape(-1, self.grid.num_nodes)


def _sum_of_p_log_p(log_p: np.ndarray) -> float:
    log_p = log_p[log_p > -np.inf]
    return float(np.exp(log_p) @ log_p)


def normalise(log_weight: np.ndarray) -> np.ndarray:
    """Log weights `[n, nodes]` less the log of their sum, in place."""
    log_weight -= logsumexp(log_weight, axis=1, keepdims=True)
    return log_weight


def bundled(log_weight: np.ndarray, bundle: int) -> np.ndarray:
    """Sums of `bundle` consecutive rows: samples of one parameter are independent."""
    if len(log_weight) % bundle:
        raise ValueError(f"bundle must divide the number of samples, got {bundle} for {len(log_weight)}.")
    return log_weight if bundle == 1 else log_weight.reshape(-1, bundle, *log_weight.shape[1:]).sum(axis=1)
