"""Paths across a slice, with the images along them: the paper's Table 2, with errors and a paired test.

Geodesics of four kinds under the learned log Z, against straight lines in the slice's coordinates (kind "exponential"
is that line) and against pullback paths, which are shortest in the pixels themselves. Every image is generated.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr, wilcoxon
from torch import Tensor

from hessfast import _arrays, _checks, _polylines, _random, shards
from hessfast._steps import Steps
from hessfast.geodesic import connecting_geodesic, equidistant
from hessfast.posterior import Grid
from hessfast.potentials import Table

from .features import feature_map
from .fit import Geometry
from .generate import generate
from .generators import Generator
from .plan import SlicePlan
from .pullback import pullback_paths

NUM_POINTS = 19  # generated of each curve; every second of them are the ten of the paper
MARGIN = 0.05  # of the box, without ends of curves
ENDS = ("across", "random")
MARGIN_RANDOM = 0.1  # as published: pairs in [0.1, 0.9]^2


class Connection(NamedTuple):
    """A way to join two points: a geodesic of a kind under a fitted log Z, or shortest in `pixels` or `features`."""

    meaning: str
    kind: str | None = None
    fit: str = "ours"
    shortest_in: str | None = None


OURS, LINEAR, SHORTEST = "levi-civita", "exponential", "pullback of features"
PATHS = {
    OURS: Connection("geodesic of the learned metric", "levi-civita"),
    LINEAR: Connection("straight in the coordinates: the linear path", "exponential"),
    "mixture": Connection("straight in the means of the learned family", "mixture"),
    "released": Connection("optimum of the released script's objective", "released"),
    "levi-civita, released kernel": Connection("geodesic, log Z by the published recipe", "levi-civita", "released"),
    "pullback of pixels": Connection("shortest in the images", shortest_in="pixels"),
    SHORTEST: Connection("shortest in the features: no metric can do better", shortest_in="features"),
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


def uniform_pairs(parameters: np.ndarray, num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ends of `num` curves, uniform in the box of the samples without a tenth at each side, as in the paper's Table 2.

    Example:
        >>> start, end = uniform_pairs(np.array([[0.0, 0.0], [1.0, 1.0]]), 500)
        >>> start.shape, bool(0.1 < end.min() < 0.11), bool(0.89 < end.max() < 0.9)
        ((500, 2), True, True)
    """
    low, high = parameters.min(axis=0), parameters.max(axis=0)
    words = _random.derive(seed, *_random.ENDS, np.arange(2 * num * parameters.shape[1]))
    share = MARGIN_RANDOM + (1 - 2 * MARGIN_RANDOM) * _random.uniform(words).reshape(2, num, -1)
    start, end = low + share * (high - low)
    return start, end


def compare(
    plan: SlicePlan,
    generator: Generator,
    out: str | Path,
    features: Any,
    geometry: Geometry,
    source: str | Path,
    *,
    classes: np.ndarray,
    perceptual: Callable[[Tensor], Tensor] | None = None,
    ends: str = "across",
    num_pairs: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Generate images along every kind of path between random pairs of points, and measure them.

    Lengths are sums of distances between consecutive images: of features, of pixels in [-1, 1], of `perceptual`
    features. Points of a path are equidistant in its own metric (at equal steps for the linear one), as in the paper,
    whose ten points are every second here. Curvature is how far features turn in all along ten points at equal
    distances in feature space, in radians: of the path, not of how fast it is walked. Unevenness, the sum of second
    differences of features at the ten points, is of both.

    Args:
        plan: of the slice, a 2-D grid.
        generator: that made it.
        out: folder where images and results are kept; gone on with if it was interrupted.
        features: see `feature_map`.
        geometry: learned of it, by `fit`.
        source: folder of the slice.
        classes: of the slice's points, `[n]`.
        perceptual: images `[n, channels, rows, columns]` in [-1, 1] to `[n, d]`; None: no perceptual length.
        ends: "across": samples of two classes, so that every path crosses a boundary; "random": uniform in the box
            without a tenth at each side, of which the paper takes 500.
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
    num_pairs, ends = _checks.integer("num_pairs", num_pairs, 2), _checks.choice("ends", ends, ENDS)
    steps = Steps(out)
    classes = np.asarray(classes)
    if classes.shape != (plan.num,) or classes.dtype.kind not in "iu":
        raise ValueError(f"classes must be {plan.num} integers, got {classes.dtype} of shape {classes.shape}.")
    classes = classes.astype(np.int64)
    identity = {
        "slice": shards.open(source).plan.hash,
        "classes": _arrays.digest(classes),
        "perceptual": perceptual is not None,
        "log_z": {name: _arrays.digest(values) for name, values in geometry.log_z.items()},
    }
    identity |= {"num_pairs": num_pairs, "seed": _checks.seed(seed), "ends": ends}
    steps.claim(identity, remedy="Delete it to make them anew.")
    if ends == "across":
        start, end = random_pairs(plan.parameters, classes, num_pairs, seed)
    else:
        start, end = uniform_pairs(plan.parameters, num_pairs, seed)
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
    by_path = {name: {key: values[k] for key, values in measured.items()} for k, name in enumerate(PATHS)}
    ours, linear, shortest = (by_path[name]["feature_length"] for name in (OURS, LINEAR, SHORTEST))
    return {
        "num_pairs": num_pairs,
        "ends": ends,
        "table": {name: {key: _mean(values) for key, values in found.items()} for name, found in by_path.items()},
        "tests": {
            name: {key: paired(by_path[OURS][key], values) for key, values in found.items()}
            for name, found in by_path.items()
            if name != OURS
        },
        "converged": {name: float(drawn[f"{name}.converged"].mean()) for name in PATHS},
        "why": {
            "chord": _mean(chord),
            "to_gain": float(1 - shortest.mean() / linear.mean()),
            "gained": float(1 - ours.mean() / linear.mean()),
            "rank_correlation": float(np.asarray(spearmanr(drawn["learned_length"], linear))[0]),
        },
    }


def pixels_of(store: shards.Store) -> np.ndarray:
    """Images of a store in [-1, 1]: of full precision if latents are images, else of eight bits."""
    coarse = np.asarray(store["images"][:]) / 127.5 - 1
    if "latents" in store and store["latents"].shape == coarse.shape:
        fine = np.clip(np.asarray(store["latents"][:], np.float64), -1, 1)
        if np.abs(fine - coarse).max() < 1.01 / 255:
            return fine
    return coarse


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
    """Mean and standard error of ours - other over pairs, how often it is negative, and Wilcoxon's two-sided p.

    The test is of symmetry about 0: for skewed differences it may reject where the mean is 0.
    """
    less = ours - other
    less[np.abs(less) < 1e-9 * np.abs(ours)] = 0  # rounding has a sign, too
    p = 1.0 if not less.any() else float(np.asarray(wilcoxon(less))[1])
    return {**_mean(less), "shorter": float((less < 0).mean()), "p": p}


def _paths(grid: Grid, source: Any, geometry: Geometry, start: np.ndarray, end: np.ndarray) -> dict[str, np.ndarray]:
    """`[pairs, NUM_POINTS, 2]` of every path."""
    store, box = shards.open(source), (grid.lower, grid.upper)
    made: dict[str, np.ndarray] = {}
    for name, path in PATHS.items():
        if path.kind is None:
            values = pixels_of(store) if path.shortest_in == "pixels" else np.asarray(store["features"][:])
            made[name] = _polylines.resampled(pullback_paths(grid, values, start, end), NUM_POINTS)
            made[f"{name}.converged"] = np.ones(len(start), bool)
            continue
        table = Table(geometry.log_partitions[path.fit].potential_, *box)
        curves = connecting_geodesic(table, start, end, path.kind)
        made[f"{name}.converged"] = curves.converged
        if name == LINEAR:
            made[name], made["learned_length"] = _polylines.resampled(curves.points, NUM_POINTS), curves.length
        else:
            made[name] = equidistant(table, curves.points, NUM_POINTS)
    return made


def _length(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(points, axis=-2), axis=-1).sum(axis=-1)


def _turning(points: np.ndarray, num: int) -> np.ndarray:
    """Sum of the angles between consecutive chords of `num` points at equal distances along each polyline."""
    flat, angles = points.reshape(-1, *points.shape[-2:]), []
    for polyline in flat:
        steps = np.linalg.norm(np.diff(polyline, axis=0), axis=1)
        chords = np.diff(_polylines.equidistant(polyline, steps, num), axis=0)
        lengths = np.linalg.norm(chords, axis=1)
        chords = chords[lengths > 0] / lengths[lengths > 0, None]  # a path that stands still does not turn
        angles.append(np.arccos(np.clip((chords[1:] * chords[:-1]).sum(axis=1), -1, 1)).sum())
    return np.reshape(angles, points.shape[:-2])


def _mean(values: np.ndarray) -> dict[str, float]:
    return {"mean": float(values.mean()), "sem": float(values.std(ddof=1) / np.sqrt(len(values)))}
