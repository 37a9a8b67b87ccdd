"""Shortest paths over the nodes of a grid in two dimensions: which nodes are joined, and the graph for scipy."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_array

Part = tuple[slice, slice]


def edges(shape: tuple[int, int], reach: int = 4) -> Iterator[tuple[tuple[int, int], Part, Part]]:
    """Steps in different directions, 48 to a node with reach 4, each with the parts of the grid it leads from and to.

    One of each pair of opposite steps.
    """
    steps = [(a, b) for a in range(reach + 1) for b in range(-reach, reach + 1) if np.gcd(a, b) == 1]
    for step in [(a, b) for a, b in steps if a > 0 or b > 0]:
        here, there = (
            tuple(slice(max(-sign * k, 0), n - max(sign * k, 0)) for k, n in zip(step, shape, strict=True))
            for sign in (1, -1)
        )
        yield step, here, there  # pyright: ignore[reportReturnType]


def graph(shape: tuple[int, int], lengths: Sequence[np.ndarray]) -> csr_array:
    """Undirected, of the lengths of `edges` in their order, each of its part's shape; NaN where there is no edge.

    An edge of length 0 would be none.
    """
    ids = np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)  # dijkstra of older SciPy takes no other
    rows, columns, weights = [], [], []
    for (_, here, there), length in zip(edges(shape), lengths, strict=True):
        joined = ~np.isnan(length)
        rows.append(ids[here][joined])
        columns.append(ids[there][joined])
        weights.append(length[joined])
    return csr_array((np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (ids.size, ids.size))
