"""posterior_moments on a GPU: all products by cuBLAS in float64, the softmax of a panel in one pass of Triton between.

float64 keeps exponents and covariances exact enough in one pass over the data, and data-centre GPUs multiply it in
tensor cores no slower than float32 outside them. Queries go in chunks and data in panels, so that beside inputs and
outputs there are 8 D CHUNK (2 + 2 k) bytes of sums and 16 CHUNK PANEL of panels: 4 GB for D = 12,288 and one probe.

The products are what should limit it: 4 (1 + k) D operations a pair at 60 TFLOP/s of an H100, and 32 + 40 k bytes of
panels at 3 TB/s: with one probe 7.9 pairs/ns for D = 768 and 2.3 for D = 3,072.
"""

import torch
import triton
import triton.language as tl

CHUNK = 8192  # queries at a time
PANEL = 4096  # data at a time: a program keeps their exponents for a query in its registers
OPTIONS = {"num_warps": 8, "enable_fp_fusion": True}


def posterior_moments(queries, data, tau, probes, left_out):
    centre = data.mean(dim=0, dtype=torch.float64)
    mean, covariance = torch.empty_like(queries), torch.empty_like(probes)
    log_normaliser = torch.empty(len(queries), dtype=torch.float64, device=queries.device)
    for first in range(0, len(queries), CHUNK):
        part = slice(first, first + CHUNK)
        y, v = queries[part] - centre, probes[part].double().transpose(0, 1).contiguous()
        m, logarithm, products = _chunk(y, data, centre, tau[part].double(), v, left_out[part].contiguous())
        mean[part] = m + centre
        log_normaliser[part] = logarithm
        covariance[part] = products.transpose(0, 1)
    return mean, log_normaliser, covariance


def _chunk(y, data, centre, tau, v, left_out):
    """D* less the centre, the log normaliser and Cov v [k, queries, D], in float64."""
    greatest, total = torch.full_like(tau, -torch.inf), torch.zeros_like(tau)
    scale, rate = torch.empty_like(tau), 1 / tau
    mean, products = torch.zeros_like(y), torch.zeros_like(v)
    for first in range(0, len(data), PANEL):
        x = data[first : first + PANEL] - centre
        weights = y @ x.T
        _weigh[(len(y),)](
            weights, (x**2).sum(dim=1) / 2, rate, left_out, greatest, total, scale, first, len(x),
            BLOCK=triton.next_power_of_2(len(x)), **OPTIONS,  # pyright: ignore[reportCallIssue, reportArgumentType]
        )  # fmt: skip
        mean.mul_(scale[:, None]).addmm_(weights, x)
        for probe, product in zip(v, products, strict=True):
            product.mul_(scale[:, None]).addmm_((probe @ x.T).mul_(weights), x)
    mean /= total[:, None]
    for probe, product in zip(v, products, strict=True):
        product /= total[:, None]
        product -= mean * (mean * probe).sum(dim=1, keepdim=True)
    return mean, greatest + total.log() - (y**2).sum(dim=1) / 2 * rate, products


@triton.jit
def _weigh(products, halves, rate, left_out, greatest, total, scale, first, num, BLOCK: tl.constexpr):
    """Inner products of a query to weights relative to its greatest so far; how much that shrinks its old sums."""
    i = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    inside = j < num
    place = products + i * num + j
    product = tl.load(place, mask=inside, other=0.0)
    exponent = (product - tl.load(halves + j, mask=inside, other=0.0)) * tl.load(rate + i)
    exponent = tl.where(inside & (first + j != tl.load(left_out + i)), exponent, -float("inf"))
    before = tl.load(greatest + i)
    now = tl.maximum(before, tl.max(exponent))
    origin = tl.where(now == -float("inf"), 0.0, now)  # so far there is only the datum left out
    weights = tl.exp((exponent - origin).to(tl.float32)).to(tl.float64)
    shrink = tl.exp(before - origin)
    tl.store(place, weights, mask=inside)
    tl.store(total + i, tl.load(total + i) * shrink + tl.sum(weights))
    tl.store(greatest + i, now)
    tl.store(scale + i, shrink)
