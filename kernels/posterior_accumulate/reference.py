"""posterior_accumulate in NumPy and float64, one query at a time, from differences."""

import numpy as np


def posterior_accumulate(queries, samples, cells, weights, offsets, num_nodes, laplace, scale, softening):
    queries = samples if queries is None else queries
    grid = np.zeros((len(queries), num_nodes))
    nodes = cells[:, None] + offsets
    for i, query in enumerate(queries.astype(np.float64)):
        squared = ((query - samples) ** 2).sum(axis=1) + softening
        kernel = np.exp(-scale * (np.sqrt(squared) if laplace else squared))
        np.add.at(grid[i], nodes, kernel[:, None] * weights)
    return grid
