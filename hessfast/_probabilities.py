"""Probabilities as integers: floor(2^64 p) of logistic and exponential functions, the same on every machine.

Double-double arithmetic (Dekker 1971): a number is an unevaluated sum of two float64, good to about 1e-31. Only
additions, multiplications, divisions and rounding of IEEE 754 are used, never the machine's exp, so that the integers do
not depend on the platform.
"""

from fractions import Fraction
from math import factorial

import numpy as np

_SPLITTER = 134217729.0  # 2^27 + 1
_LN2 = (0.6931471805599453, 2.3190468138462996e-17, 5.707708438416212e-34)
_HALVINGS = 9
_INVERSE_FACTORIALS = [(float(x), float(x - Fraction(float(x)))) for x in (Fraction(1, factorial(n)) for n in range(1, 10))]

DoubleDouble = tuple[np.ndarray, np.ndarray]


def _two_sum(a, b) -> DoubleDouble:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _split(a):
    t = _SPLITTER * a
    high = t - (t - a)
    return high, a - high


def _two_product(a, b) -> DoubleDouble:
    p = a * b
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


def _add(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    s, e = _two_sum(x[0], y[0])
    t, f = _two_sum(x[1], y[1])
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


def _multiply(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    p, e = _two_product(x[0], y[0])
    return _two_sum(p, e + (x[0] * y[1] + x[1] * y[0]))


def _divide(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    q = x[0] / y[0]
    rest = _add(x, _multiply((-q, np.zeros_like(q)), y))
    r = rest[0] / y[0]
    rest = _add(rest, _multiply((-r, np.zeros_like(r)), y))
    s, e = _two_sum(q, r)
    return _two_sum(s, e + rest[0] / y[0])


def _exp_of_negative(x: DoubleDouble) -> DoubleDouble:
    """exp(x) for x <= 0: x = k ln 2 + r, Taylor's series of r / 2^9, nine squarings of exp - 1."""
    k = np.rint(x[0] / _LN2[0])
    r = x
    for part in _LN2:
        r = _add(r, tuple(-v for v in _two_product(k, np.full_like(k, part))))
    r = (r[0] * 2.0**-_HALVINGS, r[1] * 2.0**-_HALVINGS)
    one = (np.ones_like(k), np.zeros_like(k))
    series = (np.full_like(k, _INVERSE_FACTORIALS[-1][0]), np.full_like(k, _INVERSE_FACTORIALS[-1][1]))
    for coefficient in _INVERSE_FACTORIALS[-2::-1]:  # exp(r) - 1 = r (1 + r (1/2! + r (1/3! + ...)))
        series = _add(_multiply(r, series), coefficient)
    grown = _multiply(r, series)
    for _ in range(_HALVINGS):  # (1 + e)^2 - 1 = e (2 + e)
        grown = _multiply(grown, _add((2.0 * one[0], one[1]), grown))
    result = _add(one, grown)
    return np.ldexp(result[0], k.astype(np.int64)), np.ldexp(result[1], k.astype(np.int64))


def _floor64(p: DoubleDouble) -> np.ndarray:
    """min(floor(2^64 p), 2^64 - 1) for 0 <= p <= 1."""
    scaled = p[0] * 2.0**32, p[1] * 2.0**32
    high = np.floor(scaled[0])
    rest = _two_sum(scaled[0] - high, scaled[1])
    high = np.where(rest[0] < 0, high - 1, high)
    rest = _add((scaled[0] - high, np.zeros_like(high)), (scaled[1], np.zeros_like(high)))
    low = rest[0] * 2.0**32
    low_floor = np.floor(low)
    low_floor = np.where((low == low_floor) & (rest[1] < 0), low_floor - 1, low_floor)
    full = high >= 2.0**32
    words = (np.where(full, 0.0, high).astype(np.uint64) << np.uint64(32)) + np.maximum(low_floor, 0).astype(np.uint64)
    return np.where(full, ~np.uint64(0), words)


def _within_reach(numerator: DoubleDouble, denominator: np.ndarray) -> tuple[DoubleDouble, DoubleDouble]:
    """The fraction, where it exceeds 200 replaced by +-200: exp(-200) is far below 2^-64, and nothing overflows."""
    far = np.abs(numerator[0]) / 200.0 > denominator
    high = np.where(far, np.copysign(200.0, numerator[0]), numerator[0])
    low = np.where(far, 0.0, numerator[1])
    return (high, low), (np.where(far, 1.0, denominator), np.zeros_like(denominator))


def logistic64(numerator: DoubleDouble, denominator: np.ndarray) -> np.ndarray:
    """floor(2^64 / (1 + exp(-numerator / denominator))) as uint64, denominator > 0."""
    zero = np.zeros_like(denominator)
    x = _divide(*_within_reach(numerator, denominator))
    negative = x[0] < 0
    tail = _exp_of_negative((np.where(negative, x[0], -x[0]), np.where(negative, x[1], -x[1])))
    one = (np.ones_like(tail[0]), np.zeros_like(tail[0]))
    top = (np.where(negative, tail[0], 1.0), np.where(negative, tail[1], 0.0))
    return _floor64(_divide(top, _add(one, tail)))


def one_minus_exp64(numerator: np.ndarray, denominator: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """floor(2^64 p) and floor(2^64 p / (2 - p)) for p = 1 - exp(-numerator / denominator), both arguments >= 0."""
    zero = np.zeros_like(denominator)
    tail = _exp_of_negative(_divide(*_within_reach((-numerator, zero), denominator)))
    one = (np.ones_like(zero), zero)
    p = _add(one, (-tail[0], -tail[1]))
    return _floor64(p), _floor64(_divide(p, _add(one, tail)))


def heat_bath_thresholds(temperature: np.ndarray, field: np.ndarray) -> np.ndarray:
    """floor(2^64 / (1 + exp(-2 (2j - 4 + H) / T))) for j = 0 .. 4 up neighbours; uint64 [n, 5]."""
    neighbours = 4.0 * np.arange(5) - 8.0
    argument = _two_sum(*np.broadcast_arrays(neighbours, 2.0 * field[:, None]))
    return logistic64(argument, np.broadcast_to(temperature[:, None], argument[0].shape))
