"""posterior_accumulate on CPUs: tiles of inner products by BLAS, weighed and spread over the grid by numba.

Until the end the grid is kept as [blocks of queries, nodes, queries of a block]: a sample then adds to whole vectors of
queries. Samples come in the order of their cells, so that the nodes in use stay in cache. When the queries are the
samples, an inner product serves two pairs; the tile is spread once as it is and once transposed. Threads share out
the tiles and BLAS has one thread in each: two pools of threads would wait for each other by spinning.
"""

import numba
import numpy as np

from .._blas import one_thread
from .._exp import exp
from .._threads import numbers, share
from . import ROUNDING, TOLERANCE

BLOCK = 256  # queries of a block, and samples
PANEL = 16  # blocks of samples that meet a block of queries at a time
_LANES = 64  # queries that a thread takes of a block
_TILE = 16  # a line of cache
_f32 = np.float32
_SHARE, _NOTHING = _f32(ROUNDING / TOLERANCE), _f32(87.3)  # what `exp` takes for nothing


def posterior_accumulate(queries, samples, cells, weights, offsets, num_nodes, laplace, scale, softening):
    num = len(samples if queries is None else queries)
    mean = samples.mean(axis=0, dtype=np.float64).astype(np.float32)
    order = np.argsort(cells, kind="stable")
    samples, cells, weights = (_whole_blocks(x[order]) for x in (samples - mean, cells, weights))
    symmetric = queries is None
    queries = samples if symmetric else _whole_blocks(queries - mean)
    norms_q, norms_s = _squared_norms(queries), _squared_norms(samples)
    grid = np.zeros((len(queries) // BLOCK, num_nodes, BLOCK), np.float32)
    kernel, transposed = np.empty((PANEL, BLOCK, BLOCK), np.float32), np.empty((PANEL, BLOCK, BLOCK), np.float32)
    by_sample = transposed.reshape(-1, BLOCK)
    function = (laplace, _f32(scale), _f32(softening))
    with one_thread():
        for b in range(len(grid)):
            mine = slice(b * BLOCK, (b + 1) * BLOCK)
            for first in range(b if symmetric else 0, len(samples) // BLOCK, PANEL):
                panel = slice(first * BLOCK, (first + PANEL) * BLOCK)
                pairs = queries[mine], samples[panel], norms_q[mine], norms_s[panel]
                num_tiles = len(samples[panel]) // BLOCK
                share(_weigh, num_tiles, *pairs, *function, kernel, transposed)
                if symmetric:
                    others = grid[first : first + PANEL]
                    share(_spread_tiles, num_tiles, kernel, cells[mine], weights[mine], offsets, others, first == b)
                share(_spread, BLOCK // _LANES, by_sample, cells[panel], weights[panel], offsets, grid[b])
    rows = _by_query(grid)[:num]
    if symmetric:
        _permute(rows, order)
    return rows


def _whole_blocks(rows):
    """`rows` and as many of zeros as fill a block: samples without weight, queries nobody reads."""
    return np.concatenate([rows, np.zeros((-len(rows) % BLOCK, *rows.shape[1:]), rows.dtype)])


def _squared_norms(features):
    return np.einsum("ij,ij->i", features, features, dtype=np.float64).astype(np.float32)


@numba.njit(cache=True, nogil=True)
def _weigh(tickets, q, s, norms_q, norms_s, laplace, scale, softening, kernel, transposed):
    """The weights of all pairs, tiles [queries, samples] in `kernel` and [samples, queries] in `transposed`."""
    for t in numbers(tickets):
        mine = slice(t * BLOCK, (t + 1) * BLOCK)
        tile, samples, norms = kernel[t], s[mine], norms_s[mine]
        np.dot(q, samples.T, tile)
        for i in range(BLOCK):
            row = tile[i]
            if _square(row, norms, norms_q[i], laplace, scale):
                _square_again(row, norms, norms_q[i], laplace, scale, q[i], samples)
            _decay(row, laplace, -scale, softening)
        for i in range(0, BLOCK, _TILE):
            for j in range(BLOCK):
                for k in range(_TILE):
                    transposed[t, j, i + k] = tile[i + k, j]


@numba.njit(cache=True, inline="always")
def _is_doubtful(squared, norms, laplace, scale):
    """Whether the rounding of `norms` in a squared distance would change the exponent too much."""
    if laplace:  # d(scale r) = scale d(r^2) / 2 r
        limit = _f32(0.5) * _SHARE * scale * norms
        return squared < limit * limit
    return (_SHARE * scale * norms > _f32(1)) & (scale * squared < _NOTHING)


@numba.njit(cache=True, fastmath={"contract", "reassoc"})
def _square(row, norms, norm, laplace, scale):
    """Inner products to squared distances; the number of doubtful ones."""
    doubtful = 0
    for j in range(row.size):
        both = norm + norms[j]
        row[j] = both - _f32(2) * row[j]
        doubtful += _is_doubtful(row[j], both, laplace, scale)
    return doubtful


@numba.njit(cache=True, fastmath={"contract", "reassoc"})
def _square_again(row, norms, norm, laplace, scale, query, samples):
    for j in range(row.size):
        if _is_doubtful(row[j], norm + norms[j], laplace, scale):
            squared = _f32(0)
            for k in range(query.size):
                difference = query[k] - samples[j, k]
                squared += difference * difference
            row[j] = squared


@numba.njit(cache=True, fastmath={"contract"})
def _decay(row, laplace, rate, softening):
    for j in range(row.size):
        row[j] += softening
    if laplace:
        for j in range(row.size):
            row[j] = np.sqrt(row[j])
    for j in range(row.size):
        row[j] = exp(rate * row[j])


@numba.njit(cache=True, nogil=True)
def _spread(tickets, kernel, cells, weights, offsets, nodes):
    """nodes[cells[j] + offsets[k]] += weights[j, k] kernel[j], for kernel [samples, BLOCK] and nodes [nodes, BLOCK]."""
    for chunk in numbers(tickets):
        lanes = slice(chunk * _LANES, (chunk + 1) * _LANES)
        for j in range(len(cells)):
            _add(nodes, kernel[j, lanes], cells[j], weights[j], offsets, lanes)


@numba.njit(cache=True, nogil=True)
def _spread_tiles(tickets, kernel, cells, weights, offsets, blocks, skip_first):
    """The same for tiles [tiles, samples, BLOCK], each onto its block of [tiles, nodes, BLOCK]."""
    for t in numbers(tickets):
        if t > 0 or not skip_first:
            for j in range(BLOCK):
                _add(blocks[t], kernel[t, j], cells[j], weights[j], offsets, slice(0, BLOCK))


@numba.njit(cache=True, fastmath={"contract"})
def _add(nodes, kernel, cell, weights, offsets, lanes):
    for k in range(offsets.size):
        node, weight = nodes[cell + offsets[k], lanes], weights[k]
        for i in range(kernel.size):
            node[i] += weight * kernel[i]


def _by_query(grid):
    """[blocks, nodes, BLOCK] as [blocks BLOCK, nodes], in place."""
    num_blocks, num_nodes, _ = grid.shape
    for block in grid:
        block.reshape(BLOCK, num_nodes)[:] = block.copy().T
    return grid.reshape(num_blocks * BLOCK, num_nodes)


@numba.njit(cache=True)
def _permute(rows, order):
    """Move row i to order[i], in place, along the cycles."""
    done = np.zeros(len(rows), np.bool_)
    for start in range(len(rows)):
        if done[start]:
            continue
        moving, i = rows[start].copy(), start
        while not done[i]:
            done[i] = True
            i = order[i]
            displaced = rows[i].copy()
            rows[i] = moving
            moving = displaced
