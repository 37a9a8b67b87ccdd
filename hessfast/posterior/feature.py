"""Posteriors from similarity in a feature space: a sample came from where samples like it came from."""

from collections.abc import Callable
from typing import Any

import numpy as np

from hessfast import _arrays, _checks, _dispatch

from .grid import Grid, checked_grid
from .result import Posterior

KERNELS = ("gaussian", "laplace")
_LARGEST = float(np.finfo(np.float32).max)


class NoNeighbourError(ValueError):
    """Some sample is so far from all others, at a kernel's scale, that none of them says anything of it."""


class FeaturePosterior:
    """p(t | x) ~ sum_j k(e(x), e(x_j)) delta(t - t_j), spread over a grid by multilinear weights.

    Two kernels have been published, and both are here by name:
        "gaussian"  k = exp(-scale |e - e'|^2), the formula of the paper, whose scale is N/2, N the dimension of the
                    images. Default 1/2.
        "laplace"   k = exp(-scale sqrt(|e - e'|^2 + 2e-5)), default scale 10, on features of length 1; what gathers on
                    a node is capped at 1 before the distribution is normalised. This is the authors' script.
    The prior is the distribution of the parameters of `fit`. A smoother: the posterior is as wide as the kernel and the
    spacing of the samples, so that a metric fitted to it by `LogPartition` has the kernel's size, not the family's; its
    shape is what can be believed. Cost: one inner product a pair of samples, never stored; see the kernel
    `posterior_accumulate`.

    Args:
        features: maps samples to features `[n, d]`; None if the samples are features.
        kernel: "gaussian" or "laplace".
        scale: of the kernel, > 0; None for the default.
        backend: of the kernel `posterior_accumulate`; None: the device of the features decides.

    References:
        Lobashev et al., "Hessian Geometry of Latent Space in Generative Models", ICML 2025, section 4 and the script
        compute_clip_based_posteriors.py.

    Example:
        >>> features = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> posterior = FeaturePosterior(kernel="gaussian", scale=np.log(3) / 2).fit(features, [[0.0], [1.0]])
        >>> mass = np.exp(posterior.log_posterior(features, Grid((0.0,), (1.0,), (2,))).log_mass)
        >>> mass.round(4).tolist()  # |e - e'|^2 = 2, so that the other sample weighs a third
        [[0.75, 0.25], [0.25, 0.75]]
    """

    def __init__(
        self,
        features: Callable[[Any], Any] | None = None,
        *,
        kernel: str = "laplace",
        scale: float | None = None,
        backend: str | None = None,
    ):
        self.features = features
        self.kernel = _checks.choice("kernel", kernel, KERNELS)
        self.scale = _checks.positive("scale", {"gaussian": 0.5, "laplace": 10.0}[kernel] if scale is None else scale)
        self.backend = backend

    def fit(self, samples: Any, parameters: Any) -> "FeaturePosterior":
        """Keep the features of samples `[n, ...]` and their parameters `[n, dim]`."""
        features, parameters = self._features(samples), _checks.float_array("parameters", parameters)
        if parameters.ndim != 2 or len(parameters) != len(features):
            raise ValueError(
                f"parameters must have shape [{len(features)}, dim], one row a sample, got {parameters.shape}."
            )
        if not len(features):
            raise ValueError("samples must not be empty.")
        self.features_, self.parameters_ = features, parameters
        return self

    def log_posterior(self, samples: Any, grid: Grid, *, bundle: int = 1) -> Posterior:
        """The posterior of every sample.

        Args:
            samples: `[n, ...]`; None: those of `fit`, which takes half the time.
            grid: its box holds the parameters of `fit`.
            bundle: 1. Similarity is of one sample to another, and knows no likelihood that could be multiplied.

        Raises:
            ValueError: if features have another length than in `fit`, a parameter of `fit` lies outside the grid, or
                for another bundle.
        """
        _checks.fitted(self, "features_")
        grid, _ = checked_grid(grid), _checks.integer("bundle", bundle, 1, 1)
        queries = None if samples is None else self._features(samples)
        if queries is not None and _arrays.is_tensor(queries) != _arrays.is_tensor(self.features_):
            queries = _arrays.like(_arrays.to_numpy(queries), self.features_)
        if queries is not None and queries.shape[1] != self.features_.shape[1]:
            raise ValueError(f"samples must have {self.features_.shape[1]} features as in fit, got {queries.shape[1]}.")
        laplace = self.kernel == "laplace"
        cells, weights, offsets = grid.corners(self.parameters_)
        tables: list[Any] = [cells, weights.astype(np.float32), offsets]
        if _arrays.is_tensor(self.features_):
            tables = [_arrays.tensor(table, self.features_.device) for table in tables]
        accumulate = _dispatch.kernel("posterior_accumulate", _arrays.device_of(self.features_), self.backend)
        mass = accumulate(
            queries, self.features_, *tables, grid.num_nodes, laplace, self.scale, 2e-5 if laplace else 0.0
        )
        return Posterior(self._log_distribution(_arrays.to_numpy(mass)).reshape(-1, *grid.shape), grid)

    def _log_distribution(self, mass: np.ndarray) -> np.ndarray:
        """Rows normalised, then their logarithms, in place: they are as large as everything else together."""
        if self.kernel == "laplace":
            np.minimum(mass, 1, out=mass)
        total = mass.sum(axis=1, keepdims=True, dtype=np.float64)
        if not (total > 0).all():  # nor NaN
            worst = int(np.flatnonzero(~(total > 0))[0])
            raise NoNeighbourError(
                f"scale must leave every sample a neighbour that weighs more than exp(-87), got {self.scale:g} "
                f"at sample {worst}. Use a smaller scale."
            )
        mass /= total
        with np.errstate(divide="ignore"):
            return np.log(mass, out=mass)

    def _features(self, samples: Any) -> Any:
        features = samples if self.features is None else self.features(samples)
        if not _arrays.is_tensor(features) or features.device.type == "cpu":
            with np.errstate(over="ignore"):
                features = np.ascontiguousarray(_checks.float_array("samples", features), np.float32)
        else:
            features = features.float().contiguous()
        if features.ndim != 2:
            raise ValueError(f"samples must be features of shape [n, d], got {tuple(features.shape)}.")
        with np.errstate(over="ignore"):
            squares = (features**2).sum(-1)
        largest = float(squares.max()) if len(features) else 0.0
        if not 4 * largest < _LARGEST:  # of |e - e'|^2; nor NaN
            raise ValueError(f"samples must have features whose squares fit in float32, got a sum of {largest:.3g}.")
        if self.kernel == "laplace" and len(features) and abs(squares**0.5 - 1).max() > 1e-3:
            raise ValueError('samples must be features of length 1 for kernel="laplace". Divide them by their norms.')
        return features
