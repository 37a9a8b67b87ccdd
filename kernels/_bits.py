"""Bits of one word, for numba: single instructions of the processor."""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def _count_ones(typing_context, word):
    def codegen(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def _count_trailing_zeros(typing_context, word):
    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))  # 1: undefined for 0

    return types.uint64(types.uint64), codegen


@numba.njit("int64(uint64)", cache=True, inline="always")
def popcount(word):  # pyright: ignore[reportRedeclaration]
    """Number of ones of a word."""
    return np.int64(_count_ones(word))  # pyright: ignore[reportCallIssue]


@numba.njit("int64(uint64)", cache=True, inline="always")
def lowest_bit(word):  # pyright: ignore[reportRedeclaration]
    """Place of the lowest one of a word other than 0."""
    return np.int64(_count_trailing_zeros(word))  # pyright: ignore[reportCallIssue]


if numba.config.DISABLE_JIT:  # pyright: ignore

    def popcount(word):
        return int(word).bit_count()

    def lowest_bit(word):
        return (int(word) & -int(word)).bit_length() - 1
