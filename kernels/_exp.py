"""exp of float32 for numba's loops: what LLVM vectorises, unlike a call of the mathematical library."""

import numba
import numpy as np

_f32 = np.float32


@numba.njit(cache=True, inline="always")
def exp(x):
    """exp(x) for x <= 0 to two units in the last place, 0 below the smallest normal number; LLVM vectorises it."""
    normal = _f32(x > _f32(-87.3))
    x = max(x, _f32(-87.3))
    shifted = x * _f32(1.44269504) + _f32(12582912)  # 1.5 * 2^23: its last digit is the nearest integer
    n = shifted - _f32(12582912)
    r = x - n * _f32(0.693145752) - n * _f32(1.42860677e-6)
    p = _f32(1 / 720)
    for c in (1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0):
        p = p * r + _f32(c)
    return normal * p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
