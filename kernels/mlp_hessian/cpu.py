"""mlp_hessian on CPUs: products of blocks of points by BLAS, all else of a layer in one pass of numba behind each.

A block has 1 + d rows for each point, z and its tangents, so that a layer is one product. Forward, `_activate` makes a
and its tangents of them in one pass; z is kept. Backward, `_contract` reads it once more: it adds the layer's share of
H and turns df/da into df/dz. Threads share out the blocks and BLAS has one thread in each.
"""

import numba
import numpy as np
import torch
from scipy import special

from .._blas import one_thread
from .._exp import exp
from .._threads import numbers, share
from . import ACTIVATIONS, Layer

ROWS = 512  # of a block, at most: enough for BLAS, few enough for the second-level cache
_f32 = np.float32
_NEAR = _f32(0.06)  # z^2 below which the series of tanh is exact to float32's last place


def _polynomial(function, low, high, degree):
    """Coefficients, highest first, in a variable that is -1 at low and 1 at high: interpolation at Chebyshev nodes."""
    series = np.polynomial.Chebyshev.interpolate(function, degree, [low, high])
    return tuple(_f32(c) for c in np.polynomial.chebyshev.cheb2poly(series.coef)[::-1])


_FAR = 4.3  # erfc(_FAR) = 1e-9
_MIDDLE = (1 + 1 / (1 + _FAR / 2)) / 2
_LOG1P = _polynomial(lambda e: np.log1p(e) / np.maximum(e, 1e-30), 0, 1, 10)  # log(1 + e) / e
_ERFCX = _polynomial(
    lambda t: special.erfcx(2 / t - 2), 1 / (1 + _FAR / 2), 1, 13
)  # exp(x^2) erfc(x), t = 1 / (1 + x / 2)
_RELU, _SOFTPLUS, _SILU, _TANH, _GELU = range(len(ACTIVATIONS))


def mlp_hessian(points, hidden, last, activation):
    hidden, last, x = [Layer(*layer) for layer in hidden], Layer(*last), points.numpy()
    num, dim = x.shape
    widths = np.array([len(layer.bias) for layer in hidden])
    weights, skips, biases, gains, shifts = (
        _flat([get(layer) for layer in (*hidden, last)])
        for get in (
            lambda layer: layer.weight,
            lambda layer: np.zeros((len(layer.bias), dim)) if layer.skip is None else layer.skip,
            lambda layer: layer.bias,
            lambda layer: np.ones(len(layer.bias)) if layer.norm is None else layer.norm[0],
            lambda layer: np.zeros(len(layer.bias)) if layer.norm is None else layer.norm[1],
        )
    )
    eps = np.array([_f32(-1 if layer.norm is None else layer.norm[2]) for layer in hidden])
    value, gradient, hessian = (np.empty((num, *(dim,) * order), _f32) for order in range(3))
    block = max(ROWS // (1 + dim), 1)
    network = widths, weights, skips, biases, gains, shifts, eps, ACTIVATIONS.index(activation)
    with one_thread():
        share(_blocks, -(-num // block), np.ascontiguousarray(x), network, block, value, gradient, hessian)
    return tuple(torch.from_numpy(result) for result in (value, gradient, hessian))


def _flat(arrays):
    tensors = (torch.as_tensor(a, dtype=torch.float32).detach() for a in arrays if a is not None)
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).numpy()


@numba.njit(cache=True, nogil=True)
def _blocks(tickets, x, network, block, value, gradient, hessian):
    widths = network[0]
    rows, widest = (1 + x.shape[1]) * block, widths.max()
    z, a = np.empty(rows * widths.sum(), _f32), np.empty(rows * widest, _f32)
    g, scratch = np.empty(block * widest, _f32), np.empty((5 + 2 * x.shape[1], widest), _f32)
    for b in numbers(tickets):
        some = slice(b * block, min((b + 1) * block, len(x)))
        _block(x[some], network, z, a, g, scratch, value[some], gradient[some], hessian[some])


@numba.njit(cache=True)
def _block(x, network, z, a, g, scratch, value, gradient, hessian):
    widths, weights, skips, biases, gains, shifts, eps, activation = network
    num, dim = x.shape
    rows = (1 + dim) * num
    before = first_w = first_u = first_z = 0
    for layer in range(len(widths)):
        width = widths[layer]
        bias = first_u // dim
        zs = z[first_z : first_z + rows * width].reshape(rows, width)
        if layer > 0:
            weight = weights[first_w : first_w + width * before].reshape(width, before)
            np.dot(a[: rows * before].reshape(rows, before), weight.T, zs)
            first_w += width * before
        else:
            zs[:] = 0
        _add_affine(zs, x, skips[first_u : first_u + width * dim].reshape(width, dim), biases[bias : bias + width])
        activated = a[: rows * width].reshape(rows, width)
        _activate(
            zs, gains[bias : bias + width], shifts[bias : bias + width], eps[layer], activation, scratch, activated
        )
        first_u, first_z, before = first_u + width * dim, first_z + rows * width, width
    w, u = weights[first_w : first_w + before], skips[first_u : first_u + dim]
    activated, gs = a[: rows * before].reshape(rows, before), g[: num * before].reshape(num, before)
    for p in range(num):
        value[p] = _inner(activated[p], w) + _inner(x[p], u) + biases[first_u // dim]
        for i in range(dim):
            gradient[p, i] = _inner(activated[(1 + i) * num + p], w) + u[i]
        gs[p] = w
    hessian[:] = 0
    for layer in range(len(widths) - 1, -1, -1):
        width = widths[layer]
        first_u, first_z = first_u - width * dim, first_z - rows * width
        bias = first_u // dim
        zs, gs = z[first_z : first_z + rows * width].reshape(rows, width), g[: num * width].reshape(num, width)
        _contract(
            zs, gains[bias : bias + width], shifts[bias : bias + width], eps[layer], activation, scratch, gs, hessian
        )
        if layer > 0:
            before = widths[layer - 1]
            first_w -= width * before
            weight = weights[first_w : first_w + width * before].reshape(width, before)
            back = a[: num * before].reshape(num, before)
            np.dot(gs, weight, back)
            for k in range(num * before):  # an assignment of slices would take 3 s to compile
                g[k] = a[k]


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _inner(a, b):
    total = _f32(0)
    for k in range(a.size):
        total += a[k] * b[k]
    return total


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _add_affine(z, x, skip, bias):
    num, dim = x.shape
    tangents = np.ascontiguousarray(skip.T)
    for p in range(num):
        row = z[p]
        for k in range(bias.size):
            row[k] += bias[k]
        for i in range(dim):
            along, tangent = z[(1 + i) * num + p], tangents[i]
            for k in range(bias.size):
                row[k] += x[p, i] * tangent[k]
                along[k] += tangent[k]


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _activate(z, gain, shift, eps, activation, scratch, a):
    """act and act' tangent."""
    dim = (scratch.shape[0] - 5) // 2
    num, width = len(z) // (1 + dim), z.shape[1]
    y, c, first, second = scratch[0, :width], scratch[1, :width], scratch[2, :width], scratch[3, :width]
    slopes = np.empty(dim, _f32)
    for p in range(num):
        if eps < 0:
            _derivatives(z[p], activation, a[p], first, second)
            for i in range(dim):
                along, out = z[(1 + i) * num + p], a[(1 + i) * num + p]
                for k in range(width):
                    out[k] = first[k] * along[k]
            continue
        s = _normalise(z, p, num, eps, c, scratch[5 + dim :, :width], slopes)
        for k in range(width):
            y[k] = c[k] * s * gain[k] + shift[k]
        _derivatives(y, activation, a[p], first, second)
        for i in range(dim):
            along, out, turn = scratch[5 + dim + i, :width], a[(1 + i) * num + p], s * s * slopes[i]
            for k in range(width):
                out[k] = first[k] * gain[k] * s * (along[k] - turn * c[k])


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _normalise(z, p, num, eps, c, centred, slopes):
    """c, its tangents c_i', <c c_i'>; s."""
    width = c.size
    _centre(z[p], c)
    s = _f32(1) / np.sqrt(_inner(c, c) / _f32(width) + eps)
    for i in range(slopes.size):
        _centre(z[(1 + i) * num + p], centred[i])
        slopes[i] = _inner(c, centred[i]) / _f32(width)
    return s


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _centre(row, out):
    total = _f32(0)
    for k in range(row.size):
        total += row[k]
    mean = total / _f32(row.size)
    for k in range(row.size):
        out[k] = row[k] - mean


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _contract(z, gain, shift, eps, activation, scratch, g, hessian):
    """H += the layer's share, g = df/da to df/dz."""
    num, width = g.shape
    dim = hessian.shape[1]
    y, c, first, second = scratch[0, :width], scratch[1, :width], scratch[2, :width], scratch[3, :width]
    value = scratch[4, :width]
    tangents, centred = scratch[5 : 5 + dim, :width], scratch[5 + dim :, :width]
    slopes, pulls = np.empty(dim, _f32), np.empty(dim, _f32)
    for p in range(num):
        row = g[p]
        if eps < 0:
            _derivatives(z[p], activation, value, first, second)
            for k in range(width):
                second[k] *= row[k]
                row[k] *= first[k]
            for i in range(dim):
                for j in range(i + 1):
                    hessian[p, i, j] += _triple(second, z[(1 + i) * num + p], z[(1 + j) * num + p])
                    hessian[p, j, i] = hessian[p, i, j]
            continue
        s = _normalise(z, p, num, eps, c, centred, slopes)
        for k in range(width):
            y[k] = c[k] * s * gain[k] + shift[k]
        _derivatives(y, activation, value, first, second)
        for i in range(dim):
            turn = s * s * slopes[i]
            for k in range(width):
                tangents[i, k] = gain[k] * s * (centred[i, k] - turn * c[k])
        for k in range(width):
            second[k] *= row[k]
            row[k] *= first[k] * gain[k]
        pull = _inner(row, c)
        for i in range(dim):
            pulls[i] = _inner(row, centred[i])
        for i in range(dim):
            for j in range(i + 1):
                both = s * s * slopes[i] * slopes[j] * _f32(3) - _inner(centred[i], centred[j]) / _f32(width)
                norm = pull * both - pulls[i] * slopes[j] - pulls[j] * slopes[i]
                hessian[p, i, j] += _triple(second, tangents[i], tangents[j]) + s * s * s * norm
                hessian[p, j, i] = hessian[p, i, j]
        total = _f32(0)
        for k in range(width):
            total += row[k]
        mean, turn = total / _f32(width), s * s * pull / _f32(width)
        for k in range(width):
            row[k] = s * (row[k] - mean - turn * c[k])


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _triple(a, b, c):
    total = _f32(0)
    for k in range(a.size):
        total += a[k] * b[k] * c[k]
    return total


@numba.njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _derivatives(z, activation, value, first, second):
    """act, act' and act'' of a row."""
    one, two, half = _f32(1), _f32(2), _f32(0.5)
    if activation == _RELU:
        for k in range(z.size):
            value[k] = max(z[k], _f32(0))
            first[k] = _f32(z[k] > _f32(0))
            second[k] = _f32(0)
    elif activation == _SOFTPLUS:
        for k in range(z.size):
            e = exp(-abs(z[k]))
            low = e / (one + e)
            value[k] = max(z[k], _f32(0)) + _log1p(e)
            first[k] = low if z[k] < _f32(0) else one - low
            second[k] = low * (one - low)
    elif activation == _SILU:
        for k in range(z.size):
            e = exp(-abs(z[k]))
            low = e / (one + e)
            s, slope = low if z[k] < _f32(0) else one - low, low * (one - low)
            value[k] = z[k] * s
            first[k] = s + z[k] * slope
            second[k] = slope * (two + z[k] * (one - two * s))
    elif activation == _TANH:
        for k in range(z.size):
            e, u = exp(-two * abs(z[k])), z[k] * z[k]
            far = (one - e) / (one + e)
            far = far if z[k] > _f32(0) else -far
            near = z[k] * (one + u * (_f32(-1 / 3) + u * (_f32(2 / 15) + u * (_f32(-17 / 315) + u * _f32(62 / 2835)))))
            value[k] = near if u < _NEAR else far
            first[k] = one - value[k] * value[k]
            second[k] = -two * value[k] * first[k]
    else:
        for k in range(z.size):
            e = exp(-half * z[k] * z[k])
            tail = half * e * _erfcx(_f32(0.7071067812) * abs(z[k]))
            below, density = tail if z[k] < _f32(0) else one - tail, _f32(0.3989422804) * e
            value[k] = z[k] * below
            first[k] = below + z[k] * density
            second[k] = density * (two - z[k] * z[k])


@numba.njit(cache=True, inline="always", error_model="numpy")
def _log1p(e):
    u, p = _f32(2) * e - _f32(1), _f32(0)
    for c in _LOG1P:
        p = p * u + c
    return p * e


@numba.njit(cache=True, inline="always", error_model="numpy")
def _erfcx(x):
    """exp(x^2) erfc(x) for 0 <= x <= _FAR, and its value there beyond."""
    t = _f32(1) / (_f32(1) + _f32(0.5) * min(x, _f32(_FAR)))
    u, p = (t - _f32(_MIDDLE)) * _f32(1 / (1 - _MIDDLE)), _f32(0)
    for c in _ERFCX:
        p = p * u + c
    return p
