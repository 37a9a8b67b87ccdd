"""From the features of a slice to its geometry: posteriors, log Z, the Fisher metric, and phases by its ridges.

The slice's coordinates u are taken for natural parameters, as in the paper; nothing in a diffusion model says that
they are. A generator is a function of u, so p(x | u) has no width of its own: what is fitted is the family whose
divergence is seen through a kernel on features, and everything hangs on the kernel's scale. Three fits:

    "paper", "released"   the published kernels at their published scales, matched as they are (power 1)
    "ours"                kernel and scale by held-out likelihood; no sample is its own neighbour; power 0.05
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates
from scipy.spatial import KDTree

from hessfast import _arrays, _checks, _random, shards
from hessfast._steps import Steps
from hessfast.log_partition import LogPartition, affine_fit
from hessfast.posterior import FeaturePosterior, Grid, Posterior
from hessfast.posterior.feature import KERNELS, NoNeighbourError

from . import _windows

FITS = ("ours", "released", "paper")
# Twice the scale from one to the next. The paper's 1/2 is for features without a norm, the script's 10 for length 1.
LADDERS = {"laplace": tuple(2.5 * 2.0**k for k in range(10)), "gaussian": tuple(0.5 * 2.0**k for k in range(14))}
PUBLISHED = {"released": ("laplace", 10.0), "paper": ("gaussian", 0.5)}
_CLOSE = 1.5  # cells: as far from a boundary as a ridge between nodes can be


@dataclass(frozen=True, eq=False)
class Geometry:
    """What was learned of a slice.

    Attributes:
        grid: nodes at which everything is known.
        log_partitions: of each fit, a `LogPartition` of the slice's coordinates.
        log_z: of each fit, at the nodes `[*grid.shape]`, affine part removed.
        metric: of each fit, `[*grid.shape, dim, dim]`.
        ridges: of each fit, the nodes on a ridge of the metric's trace, bool `[*grid.shape]`.
        held_out: of each kernel, scales, their held-out scores in nats over the prior, and which was taken.
        labels: class at each node, or None.
        agreement: of each fit, how its ridges lie to changes of label, or None without labels; see `agreement`.
    """

    grid: Grid
    log_partitions: dict[str, LogPartition]
    log_z: dict[str, np.ndarray]
    metric: dict[str, np.ndarray]
    ridges: dict[str, np.ndarray]
    held_out: dict[str, Any]
    labels: np.ndarray | None
    agreement: dict[str, Any] | None


def fit(
    source: str | Path | tuple[Any, Any],
    out: str | Path,
    *,
    classify: Callable[[np.ndarray], Any] | None = None,
    points_per_axis: int | None = None,
    num_steps: int = 1500,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Geometry:
    """Learn log Z and the Fisher metric of a slice, three ways, and find the ridges of the metric.

    The scale of "ours": the samples of each node are divided at random into two halves; each half's posterior comes
    from the other, and of both kernels and a ladder of scales, twice the last each, that of the highest mean log
    posterior at the true node is taken. Scales at which some sample has no neighbour at its own node do not count. The
    log Z of "ours" is fitted to those held-out posteriors, widened as `LogPartition` says; the published ones are
    fitted as published, each sample among its own neighbours.

    Every part is kept in `out` as soon as it is made: a killed fit goes on there.

    Args:
        source: folder of `generate` with features, or (features `[n, d]` of length 1, parameters `[n, dim]`).
        out: folder, created if need be.
        classify: features `[n, d]` to integer classes `[n]`, an independent check of the boundaries; classes at nodes
            are those of the nearest samples.
        points_per_axis: nodes of the grid, >= 8; None: half as many as samples along an axis, 32 at most. With more of
            them nodes remain without samples.
        num_steps: of each fit of log Z.
        seed: of the halves and of the networks.
        say: told what is begun, in a sentence.

    Raises:
        ValueError: for a slice without features, features of other lengths than 1, or another fit's folder.
        FileNotFoundError: if there is no slice.

    Example:
        Two phases, by a feature that turns quickly at u_1 = 0.5: the metric is largest there.

        >>> import tempfile
        >>> u = np.stack(np.meshgrid(*[np.linspace(0, 1, 24)] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
        >>> angle = np.pi / 2 / (1 + np.exp(-30 * (u[:, 0] - 0.5)))
        >>> features = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        >>> found = fit((features, u), tempfile.mkdtemp(), points_per_axis=12, num_steps=250)
        >>> bool(abs(found.grid.axes[0][found.metric["ours"][..., 0, 0].mean(axis=1).argmax()] - 0.5) < 0.1)
        True
    """
    features, parameters, identity = _read(source)
    if points_per_axis is None:  # four samples a cell in two dimensions
        # Roots are rounded: of 20^3 samples the third one is below 20.
        points_per_axis = int(np.clip(len(parameters) ** (1 / parameters.shape[1]) / 2 + 1e-9, 8, 32))
    points_per_axis = _checks.integer("points_per_axis", points_per_axis, 8)
    num_steps = _checks.integer("num_steps", num_steps, 1)
    grid = Grid(tuple(parameters.min(axis=0)), tuple(parameters.max(axis=0)), (points_per_axis,) * parameters.shape[1])
    steps, say = Steps(out), say or (lambda sentence: None)
    settings = {
        "slice": identity,
        "points_per_axis": points_per_axis,
        "num_steps": num_steps,
        "seed": _checks.seed(seed),
    }
    steps.claim(settings, remedy="Delete it to fit anew.")

    def held_out() -> dict[str, Any]:
        say("scales by held-out likelihood")
        return choose_scale(features, parameters, grid, seed)

    chosen = steps.record("held_out", held_out)
    fitted = {}
    for name in FITS:
        folder = Path(out) / "fits" / name
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):  # missing or damaged: made again
            fitted[name] = LogPartition.load(folder)
            continue
        say(f"log Z, {name}")
        if name == "ours":
            posterior = _crossed(features, parameters, grid, chosen["kernel"], chosen["scale"], seed)
            learned = LogPartition(num_steps=num_steps, num_polish=0, seed=seed)  # a pass takes as long as 100 steps
        else:
            kernel, scale = PUBLISHED[name]
            known = FeaturePosterior(kernel=kernel, scale=scale).fit(features, parameters)
            posterior = known.log_posterior(None, grid)
            learned = LogPartition(num_steps=num_steps, num_polish=0, seed=seed, power=1.0)
        learned.fit(posterior, parameters).save(folder)
        fitted[name] = LogPartition.load(folder)  # as it will be read: the same bytes for the first run and the next
    labels = None
    if classify is not None:
        classes = _checks.integer_array("classify", classify(features), (len(features),), 0)
        labels = classes[_nearest(parameters, grid)].reshape(grid.shape)
    metrics = {name: np.asarray(each.fisher_metric(grid.points)) for name, each in fitted.items()}
    ridges = {name: ridge(metric) for name, metric in metrics.items()}
    return Geometry(
        grid=grid,
        log_partitions=fitted,
        log_z={name: _levelled(np.asarray(each.log_z(grid.points)), grid) for name, each in fitted.items()},
        metric=metrics,
        ridges=ridges,
        held_out=chosen,
        labels=labels,
        agreement=None if labels is None else {name: agreement(each, labels) for name, each in ridges.items()},
    )


def choose_scale(features: np.ndarray, parameters: np.ndarray, grid: Grid, seed: int = 0) -> dict[str, Any]:
    """The kernel and the scale of the highest held-out score, and all scores; see `fit`."""
    tried: dict[str, Any] = {}
    for kernel in KERNELS:
        scores = [_score(features, parameters, grid, kernel, scale, seed) for scale in LADDERS[kernel]]
        tried[kernel] = {"scales": list(LADDERS[kernel]), "nats": scores}
    scored = [(s, name, k) for name, x in tried.items() for k, s in enumerate(x["nats"]) if s is not None]
    if not scored:
        raise ValueError(
            f"grid must have samples at every node, got {grid.shape} for {len(features)}. Use fewer nodes."
        )
    score, kernel, place = max(scored)
    counted = [k for _, name, k in scored if name == kernel]
    return {
        "tried": tried, "kernel": kernel, "scale": LADDERS[kernel][place], "nats": score,
        "at_the_end": place == counted[-1],
    }  # fmt: skip


def ridge(metric: np.ndarray, above: float = 2.0) -> np.ndarray:
    """Nodes where the trace of a metric `[*shape, dim, dim]` is largest along its principal direction.

    Of those only the ones whose trace is `above` times the median: elsewhere a ridge is a ripple. bool `[*shape]`.

    Example:
        >>> x = np.linspace(-1, 1, 21)
        >>> metric = np.zeros((21, 21, 2, 2))
        >>> metric[..., 0, 0] = np.exp(-40 * x[:, None] ** 2)
        >>> np.flatnonzero(ridge(metric).any(axis=1)).tolist()
        [10]
    """
    trace = np.trace(metric, axis1=-2, axis2=-1)
    across = np.moveaxis(np.linalg.eigh(metric)[1][..., -1], -1, 0)
    here = np.indices(trace.shape).astype(float)
    crest = np.ones(trace.shape, bool)
    for sign in (-1, 1):  # midway between two nodes a crest makes equals of them
        near, far = (map_coordinates(trace, here + k * sign * across, order=1, mode="nearest") for k in (1, 2))
        crest &= (trace > near) | ((trace == near) & (trace > far))
    inner = np.zeros(trace.shape, bool)
    inner[(slice(1, -1),) * trace.ndim] = True  # at an edge nobody knows what lies beyond
    return inner & crest & (trace > above * np.median(trace))


def agreement(ridges: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """How ridges lie to changes of label, both in cells of one grid.

    Returns:
        found: fraction of the nodes beside a change of label that have a ridge within 1.5 cells.
        real: fraction of the nodes on ridges that have a change of label within 1.5 cells.
        by_chance: fraction of all nodes that have one: what `real` would be for ridges anywhere.
    """
    changes = changing(labels)
    to_ridge, to_change = (_distance_to(marks) for marks in (ridges, changes))
    return {
        "found": float((to_ridge[changes] <= _CLOSE).mean()) if changes.any() else None,
        "real": float((to_change[ridges] <= _CLOSE).mean()) if ridges.any() else None,
        "by_chance": float((to_change <= _CLOSE).mean()),
    }


def _distance_to(marks: np.ndarray) -> np.ndarray:
    """Of every node to the nearest marked one, in cells."""
    return np.asarray(distance_transform_edt(~marks)) if marks.any() else np.full(marks.shape, np.inf)


def changing(labels: np.ndarray) -> np.ndarray:
    """Nodes with a neighbour along an axis of another label, on either side of the change."""
    return _windows.jumps(labels[..., None]) > 0


def _score(features, parameters, grid: Grid, kernel: str, scale: float, seed: int) -> float | None:
    """Mean held-out log posterior minus log prior at the true nodes; the prior is each node's share of the samples.

    None if not finite.
    """
    try:
        posterior = _crossed(features, parameters, grid, kernel, scale, seed)
    except NoNeighbourError:
        return None
    nodes = grid.nearest(parameters)
    score = (posterior.log_likelihood(parameters) - np.log(np.bincount(nodes)[nodes] / len(nodes))).mean()
    return float(score) if np.isfinite(score) else None


def _crossed(features, parameters, grid: Grid, kernel: str, scale: float, seed: int) -> Posterior:
    """The posterior of every sample from the half of the samples that it is not in.

    The samples of each node are dealt out in turn, so that both halves have some at every node that has two.
    """
    words = _random.derive(seed, *_random.HALVES, np.arange(len(features)))
    order = np.lexsort((words, grid.nearest(parameters)))
    halves = order[::2], order[1::2]
    log_mass = np.empty((len(features), *grid.shape), np.float32)
    for own, other in (halves, halves[::-1]):
        known = FeaturePosterior(kernel=kernel, scale=scale).fit(features[other], parameters[other])
        log_mass[own] = known.log_posterior(features[own], grid).log_mass
    return Posterior(log_mass, grid)


def _nearest(parameters: np.ndarray, grid: Grid) -> np.ndarray:
    return np.asarray(KDTree(parameters).query(grid.points.reshape(-1, grid.dim))[1])


def _levelled(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Without the affine function of u that no posterior determines."""
    theta = grid.points.reshape(-1, grid.dim)
    constant, slope = affine_fit(values.ravel(), theta)
    return values - constant - (theta @ slope).reshape(grid.shape)


def _read(source: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Features, parameters, and what stands for them."""
    if isinstance(source, str | Path):
        store = shards.open(source, verify=True)
        if "features" not in store:
            raise ValueError(f"source must hold features, got {source} without. Generate it with features.")
        return np.asarray(store["features"][:]), np.asarray(store["parameters"][:]), store.plan.hash
    features, parameters = (
        _checks.float_array(name, x) for name, x in zip(("features", "parameters"), source, strict=True)
    )
    if features.ndim != 2 or parameters.ndim != 2 or len(features) != len(parameters):
        raise ValueError(f"source must be [n, d] and [n, dim], got {features.shape} and {parameters.shape}.")
    return features, parameters, [_arrays.digest(features), _arrays.digest(parameters)]
