"""Shortest paths in the images or features themselves: under the metric that they pull back to the slice."""

from typing import Any

import numpy as np
import torch
from scipy.ndimage import map_coordinates
from scipy.sparse.csgraph import dijkstra
from torch import Tensor
from torch.nn import functional

from hessfast import _checks, _grid_paths, _polylines
from hessfast.posterior import Grid


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
    shape, field = (grid.shape[0], grid.shape[1]), np.moveaxis(nodes.reshape(*grid.shape, -1), -1, 0)
    places, lengths = np.indices(shape), []
    for step, here, there in _grid_paths.edges(shape):
        pieces = max(map(abs, step))  # each about a cell long
        seen = [field[:, *here]]
        for piece in range(1, pieces):
            between = places[:, *here] + np.array(step)[:, None, None] * piece / pieces
            seen.append(np.stack([map_coordinates(each, between, order=1) for each in field]))
        seen.append(field[:, *there])
        lengths.append(np.linalg.norm(np.diff(seen, axis=0), axis=1).sum(axis=0) + 1e-12)
    sources, targets = grid.nearest(start), grid.nearest(end)
    graph = _grid_paths.graph(shape, lengths)
    distance, before = dijkstra(graph, directed=False, indices=sources, return_predecessors=True)
    flat, paths = grid.points.reshape(-1, 2), []
    for k, node in enumerate(targets):
        chain = [node]
        while chain[-1] != sources[k]:
            chain.append(before[k, chain[-1]])
        chain = chain[::-1]
        corners = np.concatenate([start[k : k + 1], flat[chain[1:-1]], end[k : k + 1]])
        lengths = np.diff([0.0, *distance[k, chain[1:-1]], distance[k, node]])
        paths.append(_polylines.equidistant(corners, lengths, num_points))
    return np.stack(paths)
