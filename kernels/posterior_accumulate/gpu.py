"""posterior_accumulate on a GPU: inner products by cuBLAS in float64, weighed and spread over the grid by Triton.

float64 keeps small distances exact enough without a second pass, and data-centre GPUs multiply it in tensor cores. The
grid is kept as [nodes, queries]: a program owns BLOCK queries and adds the samples one after another to whole lines of
it, without atomic operations, so that sums have one order.
"""

import torch
import triton
import triton.language as tl

BLOCK = 64  # queries of a program: two warps' worth, so that tens of thousands of queries fill a device
OPTIONS = {"num_warps": 2, "enable_fp_fusion": True}
PANEL_BYTES = 2**28  # of inner products at a time


def posterior_accumulate(queries, samples, cells, weights, offsets, num_nodes, laplace, scale, softening):
    order = torch.argsort(cells, stable=True)
    samples, cells, weights = samples[order].double(), cells[order], weights[order].contiguous()
    queries = samples if queries is None else queries.double()
    centre = samples.mean(dim=0)
    symmetric = queries is samples
    samples = samples - centre
    queries = samples if symmetric else queries - centre
    nodes = queries.new_zeros((num_nodes, len(queries)), dtype=torch.float32)
    norms_q, norms_s = (queries**2).sum(dim=1), (samples**2).sum(dim=1)
    panel = max(1, PANEL_BYTES // (8 * max(1, len(queries))))
    for first in range(0, len(samples), panel):
        part = slice(first, first + panel)
        products = samples[part] @ queries.T
        _spread[(triton.cdiv(len(queries), BLOCK),)](
            products, norms_s[part], norms_q, cells[part], weights[part], offsets, nodes,
            len(products), len(queries), float(scale), float(softening),
            LAPLACE=bool(laplace), CORNERS=len(offsets), BLOCK=BLOCK, **OPTIONS,  # pyright: ignore[reportCallIssue, reportArgumentType]
        )  # fmt: skip
    grid = torch.empty((len(queries), num_nodes), dtype=torch.float32, device=nodes.device)
    if symmetric:
        grid[order] = nodes.T
    else:
        grid.copy_(nodes.T)
    return grid


@triton.jit
def _spread(
    products, norms_s, norms_q, cells, weights, offsets, nodes, num_samples, num_queries, scale, softening,
    LAPLACE: tl.constexpr, CORNERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    query = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = query < num_queries
    norm = tl.load(norms_q + query, mask=inside, other=0.0)
    for j in range(num_samples):
        row = tl.cast(j, tl.int64) * num_queries
        product = tl.load(products + row + query, mask=inside, other=0.0)
        squared = tl.maximum(norm + tl.load(norms_s + j) - 2 * product, 0.0) + softening
        if LAPLACE:
            squared = tl.sqrt(squared)
        kernel = tl.exp((-scale * squared).to(tl.float32))
        cell = tl.load(cells + j)
        for k in tl.static_range(CORNERS):  # pyright: ignore[reportGeneralTypeIssues]
            place = nodes + (cell + tl.load(offsets + k)) * num_queries + query
            weight = tl.load(weights + j * CORNERS + k)
            tl.store(place, tl.load(place, mask=inside, other=0.0) + weight * kernel, mask=inside)
