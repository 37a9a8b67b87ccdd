"""integer_probabilities in numba: double-double numbers are pairs of floats, every operation exact or rounded once."""

from fractions import Fraction
from math import factorial

import numba
import numpy as np

from .._threads import numbers, share
from . import FAR

_PIECE = 1024  # numbers that a thread takes at a time
_HALVINGS = 9
_SERIES = np.array(
    [[float(x), float(x - Fraction(float(x)))] for x in (Fraction(1, factorial(n)) for n in range(9, 0, -1))]
)
_LN2 = (0.6931471805599453, 2.3190468138462996e-17, 5.707708438416212e-34)
_inline = numba.njit(inline="always", error_model="numpy")


@_inline
def _two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@_inline
def _halves(a):
    t = 134217729.0 * a  # 2^27 + 1
    high = t - (t - a)
    return high, a - high


@_inline
def _two_product(a, b):
    p = a * b
    a1, a2 = _halves(a)
    b1, b2 = _halves(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


@_inline
def _add(x, y):
    s, e = _two_sum(x[0], y[0])
    t, f = _two_sum(x[1], y[1])
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


@_inline
def _multiply(x, y):
    p, e = _two_product(x[0], y[0])
    return _two_sum(p, e + (x[0] * y[1] + x[1] * y[0]))


@_inline
def _divide(x, y):
    q = x[0] / y[0]
    rest = _add(x, _multiply((-q, 0.0), y))
    r = rest[0] / y[0]
    rest = _add(rest, _multiply((-r, 0.0), y))
    s, e = _two_sum(q, r)
    return _two_sum(s, e + rest[0] / y[0])


@numba.njit(cache=True, error_model="numpy")
def _exp_of_minus(x):
    """exp(-x) for 0 <= x <= FAR: -x = k ln 2 + r, the series of exp(r / 2^9) - 1, nine squarings of 1 + that."""
    k = np.rint(-x[0] / _LN2[0])
    r = (-x[0], -x[1])
    for part in _LN2:
        p, e = _two_product(-k, part)
        r = _add(r, (p, e))
    r = (r[0] * 2.0**-_HALVINGS, r[1] * 2.0**-_HALVINGS)
    grown = (0.0, 0.0)
    for n in range(len(_SERIES)):
        grown = _add(grown, (_SERIES[n, 0], _SERIES[n, 1]))
        grown = _multiply(grown, r)
    for _ in range(_HALVINGS):
        grown = _multiply(grown, _add((2.0, 0.0), grown))
    result = _add((1.0, 0.0), grown)
    scale = 2.0**k
    return result[0] * scale, result[1] * scale


@numba.njit(cache=True, error_model="numpy")
def _floor64(p):
    """min(floor(2^64 p), 2^64 - 1) for 0 <= p <= 1."""
    scaled, small = p[0] * 2.0**32, p[1] * 2.0**32
    high = np.floor(scaled)
    rest = _two_sum(scaled - high, small)
    if rest[0] < 0.0:
        high -= 1.0
        rest = _two_sum(scaled - high, small)
    if high >= 2.0**32:
        return ~np.uint64(0)
    low = np.floor(rest[0] * 2.0**32)
    if low == rest[0] * 2.0**32 and rest[1] < 0.0:
        low -= 1.0
    return (np.uint64(high) << np.uint64(32)) + np.uint64(max(low, 0.0))


@numba.njit(cache=True, error_model="numpy")
def _quotient(numerator, denominator):
    """|numerator| / denominator, at most FAR."""
    if numerator[0] < 0.0:
        numerator = (-numerator[0], -numerator[1])
    if numerator[0] / FAR > denominator:
        return FAR, 0.0
    return _divide(numerator, (denominator, 0.0))


def logistic64(high, low, denominator):
    result = np.empty(len(high), np.uint64)
    share(_logistic64, -(-len(high) // _PIECE), high, low, denominator, result)
    return result


def one_minus_exp64(numerator, denominator):
    whole, tanh = np.empty(len(numerator), np.uint64), np.empty(len(numerator), np.uint64)
    share(_one_minus_exp64, -(-len(numerator) // _PIECE), numerator, denominator, whole, tanh)
    return whole, tanh


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _logistic64(tickets, high, low, denominator, result):
    for piece in numbers(tickets):
        for i in range(piece * _PIECE, min((piece + 1) * _PIECE, len(high))):
            tail = _exp_of_minus(_quotient((high[i], low[i]), denominator[i]))
            top = tail if high[i] < 0.0 else (1.0, 0.0)
            result[i] = _floor64(_divide(top, _add((1.0, 0.0), tail)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _one_minus_exp64(tickets, numerator, denominator, whole, tanh):
    for piece in numbers(tickets):
        for i in range(piece * _PIECE, min((piece + 1) * _PIECE, len(numerator))):
            tail = _exp_of_minus(_quotient((numerator[i], 0.0), denominator[i]))
            p = _add((1.0, 0.0), (-tail[0], -tail[1]))
            whole[i] = _floor64(p)
            tanh[i] = _floor64(_divide(p, _add((1.0, 0.0), tail)))
