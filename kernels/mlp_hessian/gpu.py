"""mlp_hessian on a GPU: products in tensor cores, all else of a layer in one pass of Triton behind each.

Products split every float32 into two of ten bits and leave out the product of the small ones: three products in TF32,
whose sum was closer to float64 than float32's own on an H100 (1.5e-7 against 4e-7), at 80 against 50 TFLOP/s.
Elsewhere a program owns one point: a row of z and its d tangents, as wide as the layer. Forward it makes a and its
tangents; backward it reads z once more, adds the layer's share of H and turns df/da into df/dz.
"""

import contextlib

import torch
import triton
import triton.language as tl

from . import ACTIVATIONS, Layer

CHUNK_BYTES = 2**30  # of z of all layers at a time
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
ROWS, COLUMNS, INNER = 128, 64, 32  # of the tile of a product that a program makes, and of its steps
PRODUCT = {"num_warps": 8, "num_stages": 4, "enable_fp_fusion": True}


def mlp_hessian(points, hidden, last, activation):
    with torch.cuda.device(points.device) if points.is_cuda else contextlib.nullcontext():
        return _on_its_device(points, hidden, last, activation)


def _on_its_device(points, hidden, last, activation):
    hidden, last, dim = [Layer(*layer) for layer in hidden], Layer(*last), points.shape[1]
    chunk = max(1, CHUNK_BYTES // (4 * (1 + dim) * sum(len(layer.bias) for layer in hidden)))
    parts = [_chunk(x.contiguous(), hidden, last, ACTIVATIONS.index(activation)) for x in points.split(chunk)]
    return tuple(torch.cat(pieces) for pieces in zip(*parts, strict=True))


def _chunk(x, hidden, last, activation):
    num, dim = x.shape
    kept, a = [], None
    for layer in hidden:
        width = len(layer.bias)
        if a is None:
            z = x.new_zeros((1 + dim, num, width))
            z[0] = layer.bias
        else:
            z = _times(a, layer.weight.T, layer.bias)
        if layer.skip is not None:
            z[0] += _times(x[None], layer.skip.T)[0]
            z[1:] += layer.skip.T[:, None]
        gain, shift, eps = _norm(layer)
        a = torch.empty_like(z)
        sizes = {"DIM": dim, "BLOCK": triton.next_power_of_2(width), "NORM": layer.norm is not None}
        _activate[(num,)](z, gain, shift, a, width, eps, ACTIVATION=activation, **sizes, **OPTIONS)
        kept.append((z, gain, shift, eps, sizes))
    w = last.weight[0]
    outputs = a @ w  # pyright: ignore[reportOptionalOperand]
    value, gradient = outputs[0] + last.bias, outputs[1:].T
    if last.skip is not None:
        value, gradient = value + x @ last.skip[0], gradient + last.skip[0]
    hessian, g = x.new_zeros((num, dim, dim)), w.expand(num, -1).contiguous()
    for layer, (z, gain, shift, eps, sizes) in zip(reversed(hidden), reversed(kept), strict=True):
        back = torch.empty_like(g)
        _contract[(num,)](z, gain, shift, g, back, hessian, z.shape[2], eps, ACTIVATION=activation, **sizes, **OPTIONS)
        if layer.weight is not None:
            g = _times(back[None], layer.weight)[0]
    return value, gradient.contiguous(), hessian


def _times(x, matrix, bias=None):
    """x `[k, num, inner]` @ matrix `[inner, outer]`, and bias added to x[0] @ matrix."""
    k, num, inner = x.shape
    outer = matrix.shape[1]
    result = x.new_empty((k, num, outer))
    grid = (triton.cdiv(k * num, ROWS) * triton.cdiv(outer, COLUMNS),)
    _multiply[grid](
        x, matrix, bias, result, k * num, num, inner, outer, *matrix.stride(),
        ROWS=ROWS, COLUMNS=COLUMNS, INNER=INNER, **PRODUCT,  # pyright: ignore[reportCallIssue, reportArgumentType]
    )  # fmt: skip
    return result


@triton.jit
def _multiply(
    x, matrix, bias, result, num_rows, num_biased, inner, outer, step_inner, step_outer,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """A tile of x @ matrix, with any bias in the first `num_biased` rows. Tiles of the same rows follow one another."""
    tiles = tl.cdiv(outer, COLUMNS)
    row = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % tiles * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, INNER)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, inner, INNER):
        there = first + k
        left = tl.load(
            x + row[:, None] * inner + there[None, :],
            mask=(row < num_rows)[:, None] & (there < inner)[None, :], other=0.0,
        )  # fmt: skip
        right = tl.load(
            matrix + there[:, None] * step_inner + column[None, :] * step_outer,
            mask=(there < inner)[:, None] & (column < outer)[None, :], other=0.0,
        )  # fmt: skip
        total = tl.dot(left, right, total, input_precision="tf32x3")
    if bias is not None:
        shift = tl.load(bias + column, mask=column < outer, other=0.0)
        total += tl.where((row < num_biased)[:, None], shift[None, :], 0.0)
    place = result + row[:, None] * outer + column[None, :]
    tl.store(place, total, mask=(row < num_rows)[:, None] & (column < outer)[None, :])


def _norm(layer):
    """Gain, shift, eps; of a layer without, pointers that are not read."""
    return (layer.bias, layer.bias, 0.0) if layer.norm is None else layer.norm


@triton.jit
def _activate(
    z, gain, shift, a, width, eps,
    ACTIVATION: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    """act and act' tangent."""
    k = tl.arange(0, BLOCK)
    inside = k < width
    row = tl.program_id(0).to(tl.int64) * width + k
    layer = tl.num_programs(0).to(tl.int64) * width
    y = tl.load(z + row, mask=inside, other=0.0)
    s, c, scale = 1.0, y, y
    if NORM:
        y, c, s, scale = _normalised(y, gain + k, shift + k, inside, width, eps)
    value, first, _ = _derivatives(y, ACTIVATION)
    tl.store(a + row, value, mask=inside)
    for i in tl.static_range(DIM):  # pyright: ignore[reportGeneralTypeIssues]
        tangent = tl.load(z + (1 + i) * layer + row, mask=inside, other=0.0)
        if NORM:
            tangent = tl.where(inside, tangent - tl.sum(tangent) / width, 0.0)
            tangent = scale * (tangent - s * s * tl.sum(c * tangent) / width * c)  # pyright: ignore[reportOperatorIssue]
        tl.store(a + (1 + i) * layer + row, first * tangent, mask=inside)


@triton.jit
def _contract(
    z, gain, shift, g, back, hessian, width, eps,
    ACTIVATION: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, NORM: tl.constexpr,
):  # fmt: skip
    """H += the layer's share; df/dz from df/da. Tangents are read again for every pair: from cache."""
    k = tl.arange(0, BLOCK)
    inside = k < width
    point = tl.program_id(0).to(tl.int64)
    row = point * width + k
    layer = tl.num_programs(0).to(tl.int64) * width
    y = tl.load(z + row, mask=inside, other=0.0)
    pull = tl.load(g + row, mask=inside, other=0.0)
    s, c, scale = 1.0, y, y
    if NORM:
        y, c, s, scale = _normalised(y, gain + k, shift + k, inside, width, eps)
    _, first, second = _derivatives(y, ACTIVATION)
    bend, pull = pull * second, pull * first
    if NORM:
        pull *= tl.load(gain + k, mask=inside, other=0.0)
    pull_c = tl.sum(pull * c)
    for i in tl.static_range(DIM):  # pyright: ignore[reportGeneralTypeIssues]
        one = tl.load(z + (1 + i) * layer + row, mask=inside, other=0.0)
        slope_one, pull_one, turned_one = 0.0, 0.0, one
        if NORM:
            one = tl.where(inside, one - tl.sum(one) / width, 0.0)
            slope_one, pull_one = tl.sum(c * one) / width, tl.sum(pull * one)
            turned_one = scale * (one - s * s * slope_one * c)
        for j in tl.static_range(DIM):  # pyright: ignore[reportGeneralTypeIssues]
            if j <= i:
                other = tl.load(z + (1 + j) * layer + row, mask=inside, other=0.0)
                turned = other
                share = 0.0
                if NORM:
                    other = tl.where(inside, other - tl.sum(other) / width, 0.0)
                    slope = tl.sum(c * other) / width
                    turned = scale * (other - s * s * slope * c)
                    both = 3 * s * s * slope_one * slope - tl.sum(one * other) / width
                    share = s * s * s * (pull_c * both - pull_one * slope - tl.sum(pull * other) * slope_one)
                share += tl.sum(bend * turned_one * turned)  # pyright: ignore[reportOperatorIssue]
                place = hessian + point * DIM * DIM
                total = tl.load(place + i * DIM + j) + share
                tl.store(place + i * DIM + j, total)
                tl.store(place + j * DIM + i, total)
    if NORM:
        pull = s * (pull - tl.sum(pull) / width - s * s * pull_c / width * c)  # pyright: ignore[reportOperatorIssue]
    tl.store(back + row, pull, mask=inside)


@triton.jit
def _normalised(y, gain, shift, inside, width, eps):
    """norm(y), c, s, and s gain."""
    c = tl.where(inside, y - tl.sum(y) / width, 0.0)
    s = 1 / tl.sqrt(tl.sum(c * c) / width + eps)
    scale = s * tl.load(gain, mask=inside, other=0.0)
    return c * scale + tl.load(shift, mask=inside, other=0.0), c, s, scale


@triton.jit
def _derivatives(z, ACTIVATION: tl.constexpr):
    """act, act' and act''; the order is that of ACTIVATIONS."""
    if ACTIVATION == 0:  # relu
        value, first, second = tl.maximum(z, 0.0), tl.where(z > 0, 1.0, 0.0), tl.zeros_like(z)
    elif ACTIVATION == 1:  # softplus
        e = tl.exp(-tl.abs(z))
        low = e / (1 + e)
        # log(1 + e) through u = 1 + e: exact to rounding, where e is lost in u, too
        u = 1 + e
        value = tl.maximum(z, 0.0) + tl.where(u == 1, e, tl.log(u) * (e / tl.where(u == 1, 1.0, u - 1)))
        first, second = tl.where(z < 0, low, 1 - low), low * (1 - low)
    elif ACTIVATION == 2:  # silu
        e = tl.exp(-tl.abs(z))
        low = e / (1 + e)
        s, slope = tl.where(z < 0, low, 1 - low), low * (1 - low)
        value, first, second = z * s, s + z * slope, slope * (2 + z * (1 - 2 * s))
    elif ACTIVATION == 3:  # tanh
        e, u = tl.exp(-2 * tl.abs(z)), z * z
        far = (1 - e) / (1 + e)
        near = z * (1 + u * (-1 / 3 + u * (2 / 15 + u * (-17 / 315 + u * (62 / 2835)))))
        value = tl.where(u < 0.06, near, tl.where(z > 0, far, -far))
        first = 1 - value * value
        second = -2 * value * first
    else:  # gelu
        density = 0.3989422804014327 * tl.exp(-0.5 * z * z)
        below = 0.5 * (1 + tl.erf(0.7071067811865476 * z))
        value, first, second = z * below, below + z * density, density * (2 - z * z)
    return value, first, second
