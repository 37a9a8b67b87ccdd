"""SplitMix64 keys for numba; sfc64 is written out in the kernels, where its state lives in vector registers."""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import GOLDEN

_GOLDEN = np.uint64(GOLDEN)


@numba.njit("uint64(uint64)", cache=True, inline="always")
def mix64(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit("uint64(uint64, uint64)", cache=True, inline="always")
def derive(key, index):
    """The child of `key` with number `index`: output `index` of SplitMix64 started at `key`."""
    return mix64(key + _GOLDEN * (index + np.uint64(1)))


@intrinsic
def _count_ones(typing_context, word):
    def codegen(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def _count_trailing_zeros(typing_context, word):
    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), codegen


@numba.njit("int64(uint64)", cache=True, inline="always")
def lowest_bit(word):  # pyright: ignore[reportRedeclaration]
    """Index of the lowest one of a word, which must not be 0."""
    return np.int64(_count_trailing_zeros(word))  # pyright: ignore[reportCallIssue]


@numba.njit("int64(uint64)", cache=True, inline="always")
def popcount(word):  # pyright: ignore[reportRedeclaration]
    """Number of ones of a word."""
    return np.int64(_count_ones(word))  # pyright: ignore[reportCallIssue]


if numba.config.DISABLE_JIT:  # pyright: ignore

    def popcount(word):
        return int(word).bit_count()

    def lowest_bit(word):
        word = int(word)
        return (word & -word).bit_length() - 1
