"""Geodesics over the phase diagram: lengths of every kind of curve under what row `ours` learned, and under the truth.

Natural parameters throughout, lengths per site. A potential learned from samples is not convex everywhere, and no
table resolves a first-order line of the lattice, which is 1 / num_sites wide. Both potentials, learned and exact, are
therefore made convex in the same way, and as smooth as a table of their nodes can hold: see `convex`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import convolve2d

from hessfast import ising, tasep
from hessfast._steps import Steps
from hessfast.derivatives import fisher_metric
from hessfast.geodesic import KINDS, Curves, connecting_geodesic, distance_map, equidistant
from hessfast.log_partition import LogPartition
from hessfast.potentials import Table

NUM_POINTS = 90  # of a curve, as in the paper
SITES = 1024  # of the system whose log Z a convex potential is
FLOOR = 1e-3  # of the metric: lengths grow by its root times the way in theta, where there is no other metric
NODES = 161  # of a table along each axis, before its margins go
_SPLINE = np.array([1, 26, 66, 26, 1]) / 120  # the quintic B-spline at the nodes
_PASSES = 2  # with one, ridges oblique to the axes leave pockets where the metric is indefinite
_CHUNK = 256  # nodes at a time
_TARGETS = 50  # of the map of distance, joined to its source by geodesics
_SEED = 0x6E0D  # beside the run's


@dataclass(frozen=True)
class Diagram:
    """A phase diagram in natural parameters theta.

    Attributes:
        box: lowest and highest theta of the tables.
        boundaries: rays of theta, (origin, direction), on which phases meet.
        drawn: pairs of the model's own parameters, `[k, 2, 2]`, for the figure; distances are from the first point.
        parameters: theta `[..., 2]` to the model's own.
        log_z: exact, per site, of own parameters `[n, 2]` for a number of sites.
    """

    box: tuple[tuple[float, float], tuple[float, float]]
    boundaries: tuple[tuple[tuple[float, float], tuple[float, float]], ...]
    drawn: tuple[tuple[tuple[float, float], tuple[float, float]], ...]
    parameters: Callable[[np.ndarray], np.ndarray]
    log_z: Callable[[np.ndarray, int], np.ndarray]


def _ising_parameters(theta: np.ndarray) -> np.ndarray:
    temperature = np.clip(1 / theta[..., 0], 1, 5)  # rounding aside
    return np.stack([temperature, np.clip(theta[..., 1] * temperature, -2, 2)], axis=-1)


DIAGRAMS = {
    "ising": Diagram(  # 1/T and H/T: the widest fields that are in the samples' box at all temperatures
        box=((0.2, -0.4), (1.0, 0.4)),
        boundaries=(((1 / ising.TEMPERATURE_CRITICAL, 0.0), (1.0, 0.0)),),
        drawn=(((1.5, 0.4), (1.5, -0.4)), ((1.8, 0.5), (3.0, -0.8)), ((1.3, -0.35), (4.0, 0.2)), ((2.5, 0.9), (4, -1))),
        parameters=_ising_parameters,
        log_z=lambda p, _: ising.LogPartitionTable.load()(*p.T),
    ),
    "tasep": Diagram(  # logits of the rates
        box=((-np.log(19), -np.log(19)), (np.log(19), np.log(19))),  # rates from .05 to .95
        boundaries=(((0.0, 0.0), (-1.0, -1.0)), ((0.0, 0.0), (0.0, 1.0)), ((0.0, 0.0), (1.0, 0.0))),
        drawn=(((0.2, 0.7), (0.7, 0.2)), ((0.15, 0.3), (0.3, 0.1)), ((0.2, 0.8), (0.8, 0.7)), ((0.8, 0.3), (0.6, 0.9))),
        parameters=lambda theta: 1 / (1 + np.exp(-theta)),
        log_z=lambda p, num_sites: -np.log(tasep.current(*p.T, num_sites=num_sites)) / 2,
    ),
}  # fmt: skip


def exact_log_z(diagram: Diagram, axes: list[np.ndarray], num_sites: int) -> np.ndarray:
    """`[m, n]`, per site, at the nodes of theta."""
    theta = nodes_of(axes)
    return diagram.log_z(diagram.parameters(theta.reshape(-1, 2)), num_sites).reshape(theta.shape[:-1])


def nodes_of(axes: list[np.ndarray]) -> np.ndarray:
    """`[m, n, 2]`."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def convex(axes: list[np.ndarray], values: np.ndarray, sites: int = SITES, floor: float = FLOOR) -> Table:
    """A table of a convex potential close to values of phi `[m, n]` at nodes.

    log sum_k exp(sites (<eta_k, theta> - phi*(eta_k))) / sites, with phi* the convex conjugate over the nodes and eta_k
    the slopes at every other node along each axis: the log Z of a system of so many sites, convex whatever phi is. It
    is averaged by B-splines as wide as the cells, and floor |theta|^2 / 2 is added. Between nodes it is convex but for
    pockets beside ridges oblique to the axes. Four nodes are lost at every edge.
    """
    theta, phi = torch.as_tensor(nodes_of(axes).reshape(-1, 2)), torch.as_tensor(values).flatten()
    slopes = np.stack([np.gradient(values, axis, axis=k, edge_order=2) for k, axis in enumerate(axes)], axis=-1)
    eta = torch.as_tensor(slopes[::2, ::2].reshape(-1, 2))
    conjugate = torch.cat([(some @ theta.T - phi).amax(dim=1) for some in eta.split(_CHUNK)])
    sums = [torch.logsumexp(sites * (some @ eta.T - conjugate), dim=1) for some in theta.split(_CHUNK)]
    smooth = (torch.cat(sums) / sites + floor / 2 * (theta**2).sum(dim=1)).numpy().reshape(values.shape)
    for _ in range(_PASSES):
        smooth = convolve2d(smooth, np.outer(_SPLINE, _SPLINE), mode="valid")
        axes = [axis[2:-2] for axis in axes]
    return Table.from_values([axis[0] for axis in axes], [axis[-1] for axis in axes], smooth)


def crosses(start: np.ndarray, end: np.ndarray, boundaries: Any) -> np.ndarray:
    """Whether the straight segments from start to end, `[n, 2]` of theta, meet one of the rays."""
    met = np.zeros(len(start), bool)
    for origin, direction in np.array(boundaries):
        ways = np.stack([end - start, np.broadcast_to(-direction, start.shape)], axis=-1)
        ways[np.linalg.det(ways) == 0] = np.nan  # parallel
        along, out = np.linalg.solve(ways, (origin - start)[..., None])[..., 0].T
        met |= (along > 0) & (along < 1) & (out > 0)
    return met


def random_pairs(box: Any, num: int, seed: int) -> np.ndarray:
    """`[2, num, 2]`, uniform over the middle .8 of the box along each axis, as in the paper."""
    low, high = np.array(box)
    return low + np.random.default_rng([seed, _SEED]).uniform(0.1, 0.9, (2, num, 2)) * (high - low)


def measure(table: Table, start: np.ndarray, end: np.ndarray, crossing: np.ndarray) -> tuple[dict[str, Any], Any]:
    """What is reported of a potential, and its lengths of kind "levi-civita" `[n]`."""
    curves, kinds = {}, {}
    for kind in KINDS:
        begin = time.perf_counter()
        curves[kind] = connecting_geodesic(table, start, end, kind, num_points=NUM_POINTS)
        kinds[kind] = {"seconds": time.perf_counter() - begin}
        for name, group in (("crossing", crossing), ("others", ~crossing)):
            kinds[kind][name] = _summary(curves[kind], group)
    geodesic, straight = (curves[kind].energy for kind in ("levi-civita", "exponential"))
    report = {"kinds": kinds, "above_straight": int((geodesic > straight * (1 + 1e-9)).sum())}
    return report, curves["levi-civita"].length


def against_map(table: Table, source: np.ndarray, ends: np.ndarray, shape: tuple[int, int] = (257, 257)):
    """Distances from the node nearest to `source`, `[*shape]`, and how far they exceed the geodesics to others' nodes.

    Both are lengths of curves, never below the distance: excess is an error of the map, lack one of the geodesic.
    """
    axes = [np.linspace(a, b, n) for a, b, n in zip(table.lower, table.upper, shape, strict=True)]
    distances = distance_map(table, source, shape)
    here, *there = np.stack(
        [np.abs(axis - x[:, None]).argmin(axis=1) for axis, x in zip(axes, np.vstack([source, ends]).T, strict=True)],
        axis=1,
    )
    nodes, to = nodes_of(axes), tuple(np.array([x for x in there if (x != here).any()]).T)
    curves = connecting_geodesic(table, nodes[tuple(here)], nodes[to], num_points=NUM_POINTS)
    excess = (distances[to] / curves.length - 1)[curves.converged]
    return distances, {"targets": len(excess), "excess": _quantiles(excess, (0, 0.25, 0.5, 0.75, 1))}


def keep(model, folder: Path, pairs: int, seed: int) -> dict[str, Any]:
    """The report of a run whose `log_partition` is in the folder; made once, with `geodesics.npz` for the figure."""
    steps = Steps(folder)
    kept = steps.read("geodesics")
    if isinstance(kept, dict) and kept.get("pairs") == pairs and steps.read_arrays("geodesics"):
        return kept
    report, arrays = compare(model, LogPartition.load(folder / "log_partition"), pairs, seed)
    steps.write_arrays("geodesics.npz", arrays)
    steps.keep("geodesics", report)
    return report


def compare(model, learned: LogPartition, pairs: int, seed: int) -> tuple[dict[str, Any], Any]:
    """Curves between random pairs under the learned and the exact potential: a report, and arrays for the figure."""
    diagram = DIAGRAMS[model.name]
    axes = [np.linspace(a, b, NODES) for a, b in zip(*diagram.box, strict=True)]
    theta = nodes_of(axes)
    eigenvalues = np.linalg.eigvalsh(fisher_metric(learned.potential_, theta[::4, ::4]))[..., 0]
    start, end = random_pairs(diagram.box, pairs, seed)
    crossing = crosses(start, end, diagram.boundaries)
    values = {
        "ours": lambda: np.asarray(learned.log_z(theta)),
        "exact": lambda: exact_log_z(diagram, axes, model.num_sites),
    }
    potentials, lengths, tables = {}, {}, {}
    for name, log_z in values.items():
        begin = time.perf_counter()
        tables[name] = convex(axes, log_z())
        seconds = {"table_seconds": time.perf_counter() - begin}
        measured, lengths[name] = measure(tables[name], start, end, crossing)
        potentials[name] = seconds | measured
    deviation = np.abs(lengths["ours"] / lengths["exact"] - 1)
    ours, drawn = tables["ours"], model.natural(np.array(diagram.drawn))
    targets = random_pairs(diagram.box, _TARGETS, seed)[1]
    distances, excess = against_map(ours, drawn[0, 0], targets)
    report = {
        "pairs": pairs, "num_points": NUM_POINTS, "sites": SITES, "floor": FLOOR,
        "box": [ours.lower.tolist(), ours.upper.tolist()], "indefinite": float((eigenvalues <= 0).mean()),
        "potentials": potentials, "distance_map": excess,
        "deviation": {"crossing": _quantiles(deviation[crossing]), "others": _quantiles(deviation[~crossing])},
    }  # fmt: skip
    return report, {"distances": distances} | _drawing(diagram, ours, drawn, distances.shape)


def _drawing(diagram: Diagram, table: Table, pairs: np.ndarray, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """Curves `[kinds, k, points, 2]`, ten equidistant points on each (NaN on those of no length), nodes of the map."""
    curves = [connecting_geodesic(table, pairs[:, 0], pairs[:, 1], kind, num_points=NUM_POINTS) for kind in KINDS]
    points, known = np.stack([x.points for x in curves]), ~np.isnan(np.stack([x.length for x in curves]))
    marks = np.full((*known.shape, 10, 2), np.nan)
    marks[known] = equidistant(table, points[known], 10)
    nodes = nodes_of([np.linspace(a, b, n) for a, b, n in zip(table.lower, table.upper, shape, strict=True)])
    own = diagram.parameters
    return {"curves": own(points), "marks": own(marks), "nodes": own(nodes)}


def _summary(curves: Curves, group: np.ndarray) -> dict[str, Any]:
    """Of some of the pairs; lengths and energies of those that have a length, converged or not."""
    known = group & ~np.isnan(curves.length)
    return {
        "pairs": int(group.sum()),
        "converged": float(curves.converged[group].mean()) if group.any() else None,
        "without_length": int((group & ~known).sum()),
        "length": _quantiles(curves.length[known]),
        "energy": _quantiles(curves.energy[known]),
    }


def _quantiles(values: np.ndarray, levels: tuple[float, ...] = (0.25, 0.5, 0.75)) -> list[float] | None:
    """Lower quartile, median, upper quartile; None of nothing."""
    known = values[~np.isnan(values)]
    return np.quantile(known, levels).tolist() if known.size else None
