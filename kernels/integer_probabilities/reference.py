"""integer_probabilities in decimal arithmetic of 120 digits."""

from decimal import ROUND_FLOOR, Context, Decimal, localcontext

import numpy as np

from . import FAR

_CONTEXT = Context(prec=120)


def logistic64(high, low, denominator):
    with localcontext(_CONTEXT):
        return _each(lambda h, lo, d: 1 / (1 + (-_clipped((h + lo) / d)).exp()), high, low, denominator)


def one_minus_exp64(numerator, denominator):
    with localcontext(_CONTEXT):
        p = _each(lambda n, d: 1 - (-_clipped(n / d)).exp(), numerator, denominator)
        tanh = _each(lambda n, d: 2 / (1 + (-_clipped(n / d)).exp()) - 1, numerator, denominator)
    return p, tanh


def _clipped(x: Decimal) -> Decimal:
    return min(max(x, Decimal(-FAR)), Decimal(FAR))


def _each(probability, *arrays):
    rows = zip(*(map(Decimal, np.asarray(a, float).tolist()) for a in arrays), strict=True)
    floors = (int((probability(*row) * 2**64).to_integral_value(ROUND_FLOOR)) for row in rows)
    return np.array([min(x, 2**64 - 1) for x in floors], np.uint64)
