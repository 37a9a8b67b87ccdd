"""posterior_moments on CPUs: products by BLAS, between them a numba pass for the softmax of a panel.

The product of exponents is in float64; the one of weights and data in float32, or in float64 where probes want its
difference from their products. A thread owns a block of queries, BLAS has one thread in each. Blocks are whole, of
zeros if need be, so that BLAS sums a query alike in whatever company, and panels of data come in one order.

The products limit it: as float64 runs at half the rate of float32, 1.5 times the two in float32 without probes and
4 (1 + k) / 2 times with k. For D = 768 that is 24 + 12 ns a pair and core with AVX-512; BLAS takes 38 at these blocks
(40 at half of them), the softmax 3.
"""

import numba
import numpy as np

from .._blas import one_thread
from .._exp import exp
from .._threads import numbers, share

BLOCK = 512  # queries that a thread takes
CHUNK = 32  # blocks whose sums are kept at a time
PANEL = 4096  # data that meet a block at a time: with fewer BLAS is slower
_LANES = 64
_f32 = np.float32


def posterior_moments(queries, data, tau, probes, left_out):
    centre = data.mean(axis=0, dtype=np.float64)
    mean, covariance = np.empty(queries.shape, np.float32), np.empty(probes.shape, np.float32)
    log_normaliser = np.empty(len(queries))
    with one_thread():
        for first in range(0, len(queries), BLOCK * CHUNK):
            part = slice(first, first + BLOCK * CHUNK)
            y, v = queries[part] - centre, probes[part].transpose(1, 0, 2)
            m, log_normaliser[part], products = _chunk(y, data, centre, tau[part], v, left_out[part])
            mean[part] = m + centre
            covariance[part] = products.transpose(1, 0, 2)
    return mean, log_normaliser, covariance


def _chunk(y, data, centre, tau, v, left_out):
    """D* less the centre, the log normaliser and Cov v [k, queries, D], in float64."""
    num, (k, _, width) = len(y), v.shape
    whole = -(-num // BLOCK) * BLOCK
    queries, probes, moments = np.zeros((whole, width)), np.zeros((k, whole, width)), np.zeros((1 + k, whole, width))
    queries[:num], probes[:, :num] = y, v
    greatest, total, rate = np.full(num, -np.inf), np.zeros(num), 1 / tau
    for first in range(0, len(data), PANEL):
        x = data[first : first + PANEL] - centre
        halves = np.einsum("ij,ij->i", x, x) / 2
        weighed = x if k else x.astype(np.float32)
        arguments = queries, probes, rate, left_out - first, x, weighed, halves, greatest, total, moments
        share(_panel, whole // BLOCK, *arguments)
    with np.errstate(divide="ignore", invalid="ignore"):  # a query of NaN has no weight
        mean, products = moments[0, :num] / total[:, None], moments[1:, :num] / total[:, None]
        logarithm = greatest + np.log(total) - np.einsum("ij,ij->i", y, y) / 2 * rate
    for product, probe in zip(products, v, strict=True):
        product -= mean * np.einsum("ij,ij->i", mean, probe)[:, None]
    return mean, logarithm, products


@numba.njit(cache=True, nogil=True)
def _panel(tickets, y, v, rate, left_out, x, weighed, halves, greatest, total, moments):
    """Add a panel of data to the sums of all blocks."""
    for b in numbers(tickets):
        first, last = b * BLOCK, (b + 1) * BLOCK
        products, scale = np.empty((BLOCK, len(x))), np.ones(BLOCK)
        weights, sums = np.zeros((BLOCK, len(x)), weighed.dtype), np.empty((BLOCK, x.shape[1]), weighed.dtype)
        np.dot(y[first:last], x.T, products)
        for i in range(min(BLOCK, len(rate) - first)):
            query = first + i
            if 0 <= left_out[query] < len(x):
                products[i, left_out[query]] = -np.inf
            now = max(greatest[query], _exponents(products[i], halves, rate[query]))
            origin = now if now > -np.inf else 0.0  # so far there is only the datum left out
            scale[i] = np.exp(greatest[query] - origin)
            greatest[query] = now
            total[query] = total[query] * scale[i] + _weigh(products[i], origin, weights[i])
        np.dot(weights, weighed, sums)
        _add(moments[0, first:last], scale, sums)
        for k in range(len(v)):
            tilted = np.empty((BLOCK, x.shape[1]))
            np.dot(v[k, first:last], x.T, products)
            for i in range(BLOCK):
                for j in range(len(x)):
                    products[i, j] *= weights[i, j]
            np.dot(products, x, tilted)
            _add(moments[1 + k, first:last], scale, tilted)


@numba.njit(cache=True, fastmath={"contract", "reassoc", "nnan", "nsz"})
def _exponents(row, halves, rate):
    """Inner products to exponents; the greatest, by lanes, as LLVM does not vectorise a maximum."""
    greatest = np.full(_LANES, -np.inf)
    for first in range(0, row.size, _LANES):
        piece, half = row[first : first + _LANES], halves[first : first + _LANES]
        for j in range(piece.size):
            piece[j] = (piece[j] - half[j]) * rate
            greatest[j] = max(greatest[j], piece[j])
    return greatest.max()


@numba.njit(cache=True, fastmath={"contract", "reassoc"})
def _weigh(row, origin, weights):
    """The weights of exponents, and their sum."""
    total = 0.0
    for j in range(row.size):
        weight = exp(_f32(row[j] - origin))
        weights[j] = weight
        total += weight
    return total


@numba.njit(cache=True)
def _add(moments, scale, sums):
    for i in range(len(moments)):
        for j in range(moments.shape[1]):
            moments[i, j] = moments[i, j] * scale[i] + sums[i, j]
