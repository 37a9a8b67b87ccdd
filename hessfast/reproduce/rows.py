"""The rows of Table 1: each learns log Z from the same samples in its own way.

Every row is a function of a `Study` and returns a `Learned`. Log Z is known up to an affine function of the natural
parameters only: `errors` takes the three coefficients that bring a row closest to the truth, for every row alike. The
paper's rows have no absolute scale (bumps of a chosen width, components of unit variance) and get the best one, too.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from hessfast._steps import Steps, npy_header
from hessfast.log_partition import LogPartition, affine_fit
from hessfast.posterior import ExponentialFamilyPosterior, Grid, Posterior, U2NetPosterior

from .models import gather
from .presets import NETWORKS, Preset

_HELD_OUT = 0x4E1D  # added to the seed of what is held out


@dataclass(frozen=True, eq=False)
class Learned:
    """log Z per site and its gradient at the natural parameters of the grid's nodes, and what else a row knows."""

    log_z: np.ndarray
    means: np.ndarray
    num_samples: int
    metric: np.ndarray | None = None  # Hessian of log_z there
    free_scale: bool = False  # whether log Z is known up to a factor only
    gap: np.ndarray | None = None  # nats by which the posterior misses the exact one, one a held-out sample or bundle
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Study:
    """The samples of a run, and what several rows share."""

    model: Any
    preset: Preset
    parameters: np.ndarray
    store: Any
    seed: int
    folder: Path
    device: str
    progress: bool

    @functools.cached_property
    def features(self) -> np.ndarray:
        return self._of_all("features", self.model.features)

    @functools.cached_property
    def images(self) -> np.ndarray:
        return self._of_all("images", self.model.images)

    @functools.cached_property
    def known(self) -> np.ndarray:
        """The sufficient statistics, for the ceiling alone."""
        return self._of_all("known", self.model.known_statistics)

    def _of_all(self, name: str, function: Callable[[Any], np.ndarray]) -> np.ndarray:
        """`function` of all samples, kept in the folder; a memory map."""
        source = self.store.plan.hash
        path = Steps(self.folder).stream(f"{name}.npy", lambda: self._chunks(function), source)
        return np.load(path, mmap_mode="r")

    def _chunks(self, function: Callable[[Any], np.ndarray]) -> Iterator[bytes]:
        """The bytes of a .npy file; floating point numbers as float32."""
        for k, part in enumerate(gather(function, self.store)):
            part = part if part.dtype.kind in "iu" else part.astype(np.float32)
            if k == 0:
                yield npy_header(part.dtype, (self.store.plan.num, *part.shape[1:]))
            yield part.tobytes()

    @functools.cached_property
    def theta(self) -> np.ndarray:
        """Natural parameters of the nodes at which errors are measured."""
        return self.model.natural(self.model.grid.points.reshape(-1, 2))

    @functools.cached_property
    def _held_out(self) -> dict[tuple[Grid, int], tuple[Any, Posterior]]:
        return {}

    def held_out(self, grid: Grid, bundle: int) -> tuple[Any, Posterior]:
        """Samples at random nodes of a grid, `bundle` at each, and their exact posterior; kept once made."""
        if (grid, bundle) in self._held_out:
            return self._held_out[grid, bundle]
        rng = np.random.default_rng([self.seed, _HELD_OUT])
        nodes = grid.points.reshape(-1, 2)[rng.integers(grid.num_nodes, size=self.preset.held_out)]
        samples = self.model.sample(np.repeat(nodes, bundle, axis=0), (self.seed + _HELD_OUT) % 2**64)
        self._held_out[grid, bundle] = samples, self.model.exact().log_posterior(samples, grid, bundle=bundle)
        return self._held_out[grid, bundle]

    @functools.cached_property
    def network(self) -> U2NetPosterior:
        """The paper's posterior, trained; killed, it goes on from its checkpoint."""
        preset, how, model = self.preset, NETWORKS[self.preset.network], self.model
        network = U2NetPosterior(
            box=model.box, size=preset.network,
            bump_width=model.published_bump_width if how.published else model.bump_width,
            num_steps=preset.network_steps, batch_size=preset.batch_size, learning_rate=how.learning_rate,
            checkpoint=self.folder / "u2net.safetensors", device=self.device, seed=self.seed, progress=self.progress,
        )  # fmt: skip
        return network.fit(self.images, self.parameters)

    @functools.cached_property
    def bundles(self) -> tuple[np.ndarray, Posterior]:
        """Mean parameters of bundles of neighbours, and the network's posterior of each."""
        from scipy.spatial import KDTree

        rng = np.random.default_rng([self.seed, 1])
        rows = rng.permutation(len(self.parameters))[: min(4000, len(self.parameters))]
        low, high = np.array(self.model.box)
        near = KDTree((self.parameters - low) / (high - low)).query(
            (self.parameters[rows] - low) / (high - low), self.network.bundle
        )[1]
        posterior = self.network.log_posterior(self.images[near.ravel()], self.network.grid_)
        return self.parameters[near].mean(axis=1), posterior

    def potential(self, *, batch_size: int = 1024, **options: Any) -> LogPartition:
        """An untrained log Z of the paper's rows, with this run's steps and seed; Adam alone, as published."""
        kind = "layernorm" if NETWORKS[self.preset.network].published else "softplus"
        options |= {"num_steps": self.preset.potential_steps, "num_polish": 0, "seed": self.seed}
        return LogPartition(kind, batch_size=batch_size, **options)


def ours(study: Study) -> Learned:
    """Statistics and log Z learned from local features: `ExponentialFamilyPosterior`."""
    posterior = ExponentialFamilyPosterior(
        study.model.num_sites,
        to_natural=study.model.natural,
        num_splits=study.preset.splits,
        seed=study.seed,
    ).fit(study.features, study.parameters)
    truth = study.model.means + affine_fit(posterior.log_z(study.theta) - study.model.log_z, study.theta)[1]
    error = np.abs(posterior.mean(study.theta) - truth) / posterior.standard_error("mean", study.theta)
    samples, exact = study.held_out(study.model.grid, 1)
    gap = divergence(exact, posterior.log_posterior(study.model.features(samples), study.model.grid))
    LogPartition.from_posterior(posterior).save(study.folder / "log_partition")
    notes = {
        "metric positive definite at": posterior.convexity_,
        "within two standard errors": float((error < 2).mean()),
    }
    return Learned(*_at_nodes(study, posterior), gap=gap, notes=notes)


def exact(study: Study) -> Learned:
    """The ceiling: the same fit of log Z to the known sufficient statistics of the same samples."""
    posterior = ExponentialFamilyPosterior(
        study.model.num_sites, to_natural=study.model.natural, sufficient=True, seed=study.seed
    )
    posterior.fit(study.known, study.parameters)
    samples, truth = study.held_out(study.model.grid, 1)
    gap = divergence(truth, posterior.log_posterior(study.model.known_statistics(samples), study.model.grid))
    return Learned(*_at_nodes(study, posterior), gap=gap)


def paper_method(study: Study) -> Learned:
    """The paper's two steps: posterior by U2-Net, log Z by Jensen-Shannon divergence.

    log Z is a softplus network, unless all is as published: the paper's, LayerNorm and ReLU of width 512, takes ten
    times as long a step, and comes less far in as many.
    """
    parameters, posterior = study.bundles
    network = study.network
    fitted = study.potential(
        batch_size=64, scale=network.bundle * study.model.num_sites, power=1, to_natural=study.model.natural
    ).fit(posterior, parameters)
    fitted.save(study.folder / "paper_method")
    samples, truth = study.held_out(network.grid_, network.bundle)
    gap = divergence(truth, network.log_posterior(study.model.images(samples), network.grid_))
    return _of(study, fitted, gap, {"network": study.preset.network, "network steps": study.preset.network_steps})


def mean_as_stat(study: Study) -> Learned:
    """The mean of the U2-Net's posterior, in natural parameters, is taken for the statistic: grad log Z = E[mean|t]."""
    parameters, posterior = study.bundles
    nodes = study.model.natural(posterior.grid.points.reshape(-1, 2))
    statistics = _expected(posterior, nodes)
    fitted = study.potential().fit_mean(study.model.natural(parameters), statistics)
    samples, truth = study.held_out(posterior.grid, study.network.bundle)
    own = _expected(study.network.log_posterior(study.model.images(samples), posterior.grid), nodes)
    return _of(study, fitted, _statistics_gap(study, fitted, parameters, statistics, own, truth))


def pca_vae(study: Study) -> Learned:
    """Two principal components of an autoencoder's code, of unit variance, signed and ordered like the parameters they
    go with, are taken for the statistics: grad log Z = E[components|t].
    """
    from .pca_vae import pca_vae_statistics

    components = pca_vae_statistics(study.images, study.preset.vae_steps, seed=study.seed)
    statistics = components(study.images)
    theta = study.model.natural(study.parameters)
    alike = np.corrcoef(statistics.T, theta.T)[:2, 2:]
    straight = np.abs(np.diag(alike)).sum() >= np.abs(alike[[0, 1], [1, 0]]).sum()
    order = [0, 1] if straight else [1, 0]
    signs = np.sign([alike[order[a], a] for a in range(2)])
    statistics = statistics[:, order] * signs
    fitted = study.potential().fit_mean(theta, statistics)
    samples, truth = study.held_out(study.model.grid, 1)
    own = components(study.model.images(samples))[:, order] * signs
    gap = _statistics_gap(study, fitted, study.parameters, statistics, own, truth)
    return _of(study, fitted, gap, {"network steps": study.preset.vae_steps})


def affine(study: Study) -> Learned:
    """log Z affine in the natural parameters: nothing learned."""
    return Learned(np.zeros(len(study.theta)), np.zeros_like(study.theta), 0)


def quadratic(study: Study) -> Learned:
    """The quadratic log Z closest to the truth: what a constant metric would give at best."""
    x, y = (study.theta - study.theta.mean(axis=0)).T
    o = np.zeros_like(x)
    shapes = np.stack([x * x, x * y, y * y]), np.stack([[2 * x, o], [y, x], [o, 2 * y]])
    design = np.column_stack([np.ones_like(x), x, y, *shapes[0]])
    c = np.linalg.lstsq(design, study.model.log_z, rcond=None)[0][3:]
    return Learned(c @ shapes[0], np.einsum("k,kan->na", c, shapes[1]), 0)


def guess(study: Study, name: str) -> Learned:
    """A formula without samples: the field alone, or free spins."""
    log_z, means = study.model.guesses()[name]
    return Learned(log_z, means, 0)


BY_NETWORK = (paper_method.__name__, mean_as_stat.__name__)  # rows that need the U2-Net


def rows_of(model) -> dict[str, Any]:
    """The rows of a model by name, in the order of the table."""
    rows = {f.__name__: f for f in (ours, exact, paper_method, mean_as_stat, pca_vae, affine, quadratic)}
    return rows | {name: functools.partial(guess, name=name) for name in model.guesses()}


def aligned_values(model, log_z: np.ndarray, means: np.ndarray, free_scale: bool = False) -> np.ndarray:
    """`model.values`, after the affine function (and the factor) that brings log Z closest to the truth."""
    theta = model.natural(model.grid.points.reshape(-1, 2))
    scale = _best_scale(model, log_z) if free_scale else 1.0
    constant, slope = affine_fit(model.log_z - scale * log_z, theta)
    return model.values(scale * log_z + constant + theta @ slope, scale * means + slope)


def _best_scale(model, log_z: np.ndarray) -> float:
    theta = model.natural(model.grid.points.reshape(-1, 2))
    design = np.column_stack([log_z, theta, np.ones(len(theta))])
    return float(np.linalg.lstsq(design, model.log_z, rcond=None)[0][0])


def metric_errors(model, learned: Learned) -> dict[str, Any] | None:
    """Quartiles over the nodes of |learned - true metric| / |true metric|, and the share that is positive definite."""
    if learned.metric is None:
        return None
    metric = learned.metric * (_best_scale(model, learned.log_z) if learned.free_scale else 1)
    off = np.linalg.norm(metric - model.metric, axis=(1, 2)) / np.linalg.norm(model.metric, axis=(1, 2))
    positive = np.linalg.eigvalsh(metric)[:, 0] > 0
    return {"deviation": np.quantile(off, (0.25, 0.5, 0.75)).tolist(), "positive_definite": float(positive.mean())}


def errors(model, log_z: np.ndarray, means: np.ndarray, free_scale: bool = False) -> dict[str, Any]:
    """Root mean square errors over the grid, raw and over the standard deviation of the truth, after alignment."""
    learned, truth = aligned_values(model, log_z, means, free_scale), model.values(model.log_z, model.means)
    raw = np.sqrt(((learned - truth) ** 2).mean(axis=1))
    names = ("F", "dF_dp1", "dF_dp2")
    normalised = raw / truth.std(axis=1)
    return dict(zip(names, raw.tolist(), strict=True)) | {
        "normalised": dict(zip(names, normalised.tolist(), strict=True))
    }


def divergence(exact: Posterior, learned: Posterior) -> np.ndarray:
    """Kullback-Leibler divergence of each learned posterior from the exact one, in nats."""
    p, q = (x.log_mass.reshape(len(x), -1).astype(np.float64) for x in (exact, learned))
    return (np.exp(p) * (np.maximum(p, -1e4) - np.maximum(q, -1e4))).sum(axis=1)


def _of(study: Study, fitted: LogPartition, gap, notes: dict | None = None) -> Learned:
    return Learned(*_at_nodes(study, fitted), free_scale=True, gap=gap, notes=notes or {})


def _at_nodes(study: Study, fitted: Any) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """log Z, its gradient, the number of samples, and its Hessian."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fisher_metric is not positive definite")  # the report says where
        log_z, means, metric = (np.asarray(f(study.theta)) for f in (fitted.log_z, fitted.mean, fitted.fisher_metric))
    return log_z, means, len(study.parameters), metric


def _expected(posterior: Posterior, values: np.ndarray) -> np.ndarray:
    return np.exp(posterior.log_mass.reshape(len(posterior), -1)) @ values


def _statistics_gap(study: Study, fitted: LogPartition, parameters, statistics, own, truth: Posterior) -> np.ndarray:
    """The divergence of exp(scale (<s, t> - phi(t))), with the scale most likely for 500 samples of the fit."""
    nodes = study.model.natural(truth.grid.points.reshape(-1, 2))
    phi = np.asarray(fitted.log_z(nodes))
    some = slice(0, 500)
    where = truth.grid.nearest(parameters[some])

    def log_posterior(statistics: np.ndarray, scale: float) -> np.ndarray:
        weight = scale * (statistics @ nodes.T - phi)
        return weight - logsumexp(weight, axis=1, keepdims=True)

    def loss(log_scale: float) -> float:
        return -log_posterior(statistics[some], np.exp(log_scale))[np.arange(len(where)), where].mean()

    scale = float(np.exp(minimize_scalar(loss, bounds=(-5, 15), method="bounded").x))  # pyright: ignore[reportAttributeAccessIssue]
    return divergence(truth, Posterior(log_posterior(own, scale).reshape(-1, *truth.grid.shape), truth.grid))
