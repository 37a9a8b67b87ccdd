"""Curves across a slice, with the images along them: the paper's Table 2, with errors and a paired test.

Geodesics of four kinds under the learned log Z, against straight lines in the slice's coordinates (kind "exponential"
is that line) and against pullback paths, which are shortest in the pixels themselves. Every image is generated.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.stats import spearmanr, wilcoxon
from torch import Tensor
from torch.nn import functional

from hessfast import _checks, _random, shards
from hessfast._steps import Steps
from hessfast.geodesic import KINDS, Table, _directions, connecting_geodesic, equidistant
from hessfast.posterior import Grid

from .features import feature_map
from .fit import Geometry
from .generate import generate
from .generators import Generator
from .plan import SlicePlan

NUM_POINTS = 19  # generated of each curve; every second of them are the ten of the paper
MARGIN = 0.05  # of the box, without ends of curves
PATHS = {
    "levi-civita": "geodesic of the learned metric, ours",
    "exponential": "straight in the coordinates: the linear path",
    "mixture": "straight in the means of the learned family",
    "released": "optimum of the released script's objective",
    "levi-civita, released kernel": "geodesic, log Z by the published recipe",
    "pullback of pixels": "shortest in the images",
    "pullback of features": "shortest in the features: no metric can do better",
}
QUANTITIES = {
    "feature_length": f"feature length, {NUM_POINTS} points",
    "feature_length_10": "feature length, 10 points as published",
    "pixel_length": "pixel length",
    "perceptual_length": "perceptual length",
    "curvature": "curvature: turning of the features, radians",
    "unevenness": "second differences of features, 10 points",
}


def random_pairs(parameters: np.ndarray, classes: np.ndarray, num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ends of `num` curves that no path can join within one class: starts and ends `[num, dim]`.

    Uniform over the samples whose coordinates are 5 % inside of the box, pairs of one class left out.

    Args:
        parameters: coordinates of the samples, `[n, dim]`.
        classes: of the samples, `[n]`.
        num: pairs.
        seed: of the draw.

    Raises:
        ValueError: if all samples are of one class.
    """
    low, high = parameters.min(axis=0), parameters.max(axis=0)
    inside = ((parameters >= low + MARGIN * (high - low)) & (parameters <= high - MARGIN * (high - low))).all(axis=1)
    chosen = np.flatnonzero(inside)
    if len(np.unique(classes[chosen])) < 2:
        raise ValueError("classes must be two or more for curves to cross a boundary, got one. Widen the slice.")
    words = _random.derive(seed, *_random.ENDS, np.arange(400 * num))
    pairs = chosen[(_random.uniform(words) * len(chosen)).astype(int)].reshape(-1, 2)
    pairs = pairs[classes[pairs[:, 0]] != classes[pairs[:, 1]]]
    if len(pairs) < num:
        raise ValueError(f"classes must not be so rare: of 200 draws a pair only {len(pairs)} cross. Move the slice.")
    return parameters[pairs[:num, 0]], parameters[pairs[:num, 1]]


def pullback_paths(grid: Grid, values: Any, start: Any, end: Any, num_points: int = 37) -> np.ndarray:
    """Shortest paths under the metric that values pull back, g = J' J, `[pairs, num_points, 2]`.

    Values between nodes are interpolated linearly, and lengths are sums of their distances: quadrature of g would let
    long segments leap over boundaries. Shortest paths on the grid, each node joined to 48 others, are then polished:
    the energy of the polyline is minimised by L-BFGS. The best of these and of the straight line is taken.

    Args:
        grid: nodes, in two dimensions.
        values: of the nodes, `[num_nodes, ...]`: images, features.
        start, end: `[pairs, 2]`, in the box of the grid.
        num_points: of each path, at about equal distances of the metric.

    References:
        Shao, Kumar and Fletcher, "The Riemannian Geometry of Deep Generative Models", 2018.

    Example:
        >>> grid = Grid((0.0, 0.0), (1.0, 1.0), (17, 17))
        >>> plane = pullback_paths(grid, grid.points.reshape(-1, 2), [[0.0, 0.0]], [[1.0, 0.5]], 5)
        >>> plane[0, 2].round(2).tolist()
        [0.5, 0.25]
    """
    if grid.dim != 2:
        raise ValueError(f"grid must have two dimensions, got {grid.dim}.")
    nodes = _isometric(_checks.float_array("values", values).reshape(grid.num_nodes, -1))
    start, end = _checks.float_array("start", start), _checks.float_array("end", end)
    field = torch.tensor(nodes.reshape(*grid.shape, -1)).permute(2, 1, 0)[None]  # [1, d, second axis, first axis]
    low, high = torch.tensor(grid.lower), torch.tensor(grid.upper)

    def energy(points: Tensor) -> Tensor:
        seen = functional.grid_sample(field, (2 * (points - low) / (high - low) - 1)[None], align_corners=True)[0]
        return (points.shape[1] - 1) * (seen.diff(dim=2) ** 2).sum(dim=(0, 2))

    rough = torch.tensor(_on_grid(grid, nodes, start, end, num_points))
    ends = torch.tensor(np.stack([start, end], axis=1))
    inner = rough[:, 1:-1].clone().requires_grad_()
    optimiser = torch.optim.LBFGS([inner], max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def path() -> Tensor:
        return torch.cat([ends[:, :1], torch.minimum(torch.maximum(inner, low), high), ends[:, 1:]], dim=1)

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = energy(path()).sum()
        total.backward()
        return total

    optimiser.step(closure)  # pyright: ignore[reportArgumentType]
    line = ends[:, :1] + torch.linspace(0, 1, num_points, dtype=torch.float64)[:, None] * (ends[:, 1:] - ends[:, :1])
    with torch.no_grad():
        candidates = torch.stack([path(), rough, line])
        best = torch.stack([energy(each) for each in candidates]).argmin(dim=0)
        return candidates[best, torch.arange(len(best))].numpy()


def compare(
    plan: SlicePlan,
    generator: Generator,
    features: Any,
    geometry: Geometry,
    source: str | Path,
    out: str | Path,
    *,
    classes: np.ndarray,
    perceptual: Callable[[Tensor], Tensor] | None = None,
    num_pairs: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Generate images along every kind of path between random pairs across a boundary, and measure them.

    Lengths are sums of distances between consecutive images: of features, of pixels in [-1, 1], of `perceptual`
    features. Points of a path are equidistant in its own metric (at equal steps for the linear one), as in the paper,
    whose ten points are every second here. Curvature is how far features turn in all along ten points at equal
    distances in feature space, in radians: of the path, not of how fast it is walked. Unevenness, the sum of second
    differences of features at the ten points, is of both.

    Args:
        plan: of the slice, a 2-D grid.
        generator, features: that made it.
        geometry: learned of it, by `fit`.
        source: folder of the slice.
        out: folder where images and results are kept; gone on with if it was interrupted.
        classes: of the slice's points, `[n]`; ends of a path are of two classes.
        perceptual: images `[n, channels, rows, columns]` in [-1, 1] to `[n, d]`; None: no perceptual length.
        num_pairs: of points.
        seed: of the pairs.
        progress: show bars of generation.

    Returns:
        ``table`` {path: {quantity: {mean, sem}}}; ``tests`` {other path: {quantity: what `paired` says}} of
        Levi-Civita geodesics less the others; ``why``, how much there was to gain; ``converged`` {path: fraction}.
    """
    grid = plan.points
    if not isinstance(grid, Grid) or grid.dim != 2:
        raise ValueError("plan must have the points of a Grid of two dimensions for curves, got others.")
    num_pairs = _checks.integer("num_pairs", num_pairs, 2)
    steps = Steps(out)
    identity = {"slice": shards.open(source).plan.hash, "held_out": geometry.held_out}
    steps.claim({**identity, "num_pairs": num_pairs, "seed": _checks.seed(seed)})
    start, end = random_pairs(plan.parameters, classes, num_pairs, seed)
    drawn = steps.arrays("paths", lambda: _paths(grid, source, geometry, start, end))
    paths = np.stack([drawn[name] for name in PATHS])
    store = generate(
        plan.at(paths.reshape(-1, 2)), generator, Path(out) / "images", feature_map(features),
        keep=("latents", "features", "images"), progress=progress,
    )  # fmt: skip
    shape = paths.shape[:3]

    def measurements() -> dict[str, np.ndarray]:
        seen, pixels = np.asarray(store["features"][:], np.float64).reshape(*shape, -1), pixels_of(store)
        found = measure(seen, pixels.reshape(*shape, -1))
        if perceptual is not None:
            parts = torch.tensor(pixels, dtype=torch.float32).split(256)
            with torch.no_grad():
                deep = [perceptual(part).double().numpy() for part in parts]
            found["perceptual_length"] = _length(np.concatenate(deep).reshape(*shape, -1))
        return found | {"chord": np.linalg.norm(seen[0, :, -1] - seen[0, :, 0], axis=-1)}

    measured = steps.arrays("measured", measurements)
    chord = measured.pop("chord")
    names, straight = list(PATHS), list(PATHS).index("exponential")
    least = names.index("pullback of features")
    lengths = measured["feature_length"]
    return {
        "num_pairs": num_pairs,
        "table": {name: {key: _mean(x[k]) for key, x in measured.items()} for k, name in enumerate(names)},
        "tests": {
            name: {key: paired(x[0], x[k]) for key, x in measured.items()} for k, name in enumerate(names) if k > 0
        },
        "converged": {name: float(drawn[f"{name}.converged"].mean()) for name in PATHS},
        "why": {
            "chord": _mean(chord),
            "to_gain": float(1 - lengths[least].mean() / lengths[straight].mean()),
            "gained": float(1 - lengths[0].mean() / lengths[straight].mean()),
            "rank_correlation": float(np.asarray(spearmanr(drawn["learned_length"], lengths[straight]))[0]),
        },
    }


def pixels_of(store: shards.Store) -> np.ndarray:
    """Images of a store in [-1, 1]: of full precision if latents are images, else of eight bits."""
    images = np.asarray(store["images"][:])
    if "latents" in store and store["latents"].shape == images.shape:
        return np.clip(np.asarray(store["latents"][:], np.float64), -1, 1)
    return images / 127.5 - 1


def measure(features: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Lengths and curvature of polylines `[..., NUM_POINTS, d]`, `[...]` each.

    Example:
        >>> turn = np.linspace(0, np.pi / 2, NUM_POINTS)
        >>> arc = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        >>> found = measure(arc, arc)
        >>> [round(float(found[name]), 2) for name in ("feature_length", "curvature")]  # of nine chords, eight turns
        [1.57, 1.4]
    """
    ten = features[..., :: (NUM_POINTS - 1) // 9, :]
    return {
        "feature_length": _length(features), "feature_length_10": _length(ten), "pixel_length": _length(pixels),
        "curvature": _turning(features, 10), "unevenness": _length(np.diff(ten, axis=-2)),
    }  # fmt: skip


def paired(ours: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Mean and standard error of ours - other over pairs, how often it is negative, and Wilcoxon's two-sided p."""
    less = ours - other
    p = 1.0 if not less.any() else float(np.asarray(wilcoxon(ours, other))[1])
    return {**_mean(less), "shorter": float((less < 0).mean()), "p": p}


def _paths(grid: Grid, source: Any, geometry: Geometry, start: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
    """`[pairs, NUM_POINTS, 2]` of every path."""
    store, box = shards.open(source), (grid.lower, grid.upper)
    made: dict[str, np.ndarray] = {}
    for name in PATHS:
        if name.startswith("pullback"):
            values = pixels_of(store) if name.endswith("pixels") else np.asarray(store["features"][:])
            made[name], made[f"{name}.converged"] = pullback_paths(grid, values, start, end), np.ones(len(start), bool)
            made[name] = _resampled(made[name])
            continue
        kind, published = name.split(",")[0], name.endswith("kernel")
        table = Table(geometry.log_partitions["released" if published else "ours"].potential_, *box)
        curves = connecting_geodesic(table, start, end, kind if kind in KINDS else "levi-civita")
        made[f"{name}.converged"] = curves.converged
        if kind == "exponential":
            made[name], made["learned_length"] = _resampled(curves.points), curves.length
        else:
            made[name] = equidistant(table, curves.points, NUM_POINTS)
    return made


def _resampled(points: np.ndarray) -> np.ndarray:
    """NUM_POINTS at equal steps of the parameter of polylines `[pairs, n, dim]`."""
    place = np.linspace(0, points.shape[1] - 1, NUM_POINTS)
    low = np.minimum(place.astype(int), points.shape[1] - 2)
    share = (place - low)[:, None]
    return (1 - share) * points[:, low] + share * points[:, low + 1]


def _isometric(values: np.ndarray) -> np.ndarray:
    """Coordinates `[n, few]` with the distances of values `[n, d]`, to a thousandth of their spread."""
    centred = values - values.mean(axis=0)
    if values.shape[1] <= 64:
        return centred
    variance, vectors = np.linalg.eigh(centred @ centred.T if len(values) <= values.shape[1] else centred.T @ centred)
    kept = np.flatnonzero(np.cumsum(np.maximum(variance, 0)) > 1e-6 * variance.sum())
    if len(values) <= values.shape[1]:
        return vectors[:, kept] * np.sqrt(variance[kept])
    return centred @ vectors[:, kept]


def _on_grid(grid: Grid, nodes: np.ndarray, start: np.ndarray, end: np.ndarray, num_points: int) -> np.ndarray:
    """Shortest paths over the nodes nearest to the ends, at equal distances of the values."""
    shape, points, field = grid.shape, grid.points, np.moveaxis(nodes.reshape(*grid.shape, -1), -1, 0)
    ids = np.arange(grid.num_nodes).reshape(shape)
    rows, columns, weights = [], [], []
    for step in _directions(4):
        here = tuple(slice(max(-k, 0), n - max(k, 0)) for k, n in zip(step, shape, strict=True))
        there = tuple(slice(max(k, 0), n - max(-k, 0)) for k, n in zip(step, shape, strict=True))
        pieces = max(map(abs, step))  # each about a cell long
        place = np.stack([np.indices(shape)[k][here] for k in range(2)])
        seen = [field[:, *here]]
        for piece in range(1, pieces):
            between = place + np.array(step)[:, None, None] * piece / pieces
            seen.append(np.stack([map_coordinates(each, between, order=1) for each in field]))
        seen.append(field[:, *there])
        rows.append(ids[here].ravel())
        columns.append(ids[there].ravel())
        weights.append(np.linalg.norm(np.diff(seen, axis=0), axis=1).sum(axis=0).ravel() + 1e-12)
    graph = csr_array((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (ids.size, ids.size))
    sources, targets = grid.nearest(start), grid.nearest(end)
    distance, before = dijkstra(graph, directed=False, indices=sources, return_predecessors=True)
    flat, paths = points.reshape(-1, 2), []
    for k, node in enumerate(targets):
        chain = [node]
        while chain[-1] != sources[k]:
            chain.append(before[k, chain[-1]])
        chain = chain[::-1]
        corners = np.concatenate([start[k : k + 1], flat[chain[1:-1]], end[k : k + 1]])
        along = np.concatenate([[0.0], distance[k, chain[1:-1]], [distance[k, node]]])
        even = np.linspace(0, along[-1], num_points)
        paths.append(np.stack([np.interp(even, along, corners[:, a]) for a in range(2)], axis=1))
    return np.stack(paths)


def _length(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(points, axis=-2), axis=-1).sum(axis=-1)


def _turning(points: np.ndarray, num: int) -> np.ndarray:
    """Sum of the angles between consecutive chords of `num` points at equal distances along each polyline."""
    flat, angles = points.reshape(-1, *points.shape[-2:]), []
    for polyline in flat:
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(polyline, axis=0), axis=1))])
        even = np.linspace(0, along[-1], num)
        low = np.clip(np.searchsorted(along, even, side="right") - 1, 0, len(along) - 2)
        share = ((even - along[low]) / np.maximum(along[low + 1] - along[low], 1e-300))[:, None]
        chords = np.diff((1 - share) * polyline[low] + share * polyline[low + 1], axis=0)
        chords /= np.maximum(np.linalg.norm(chords, axis=1, keepdims=True), 1e-300)
        angles.append(np.arccos(np.clip((chords[1:] * chords[:-1]).sum(axis=1), -1, 1)).sum())
    return np.reshape(angles, points.shape[:-2])


def _mean(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "sem": float(values.std(ddof=1) / np.sqrt(len(values)))}
