"""Bits of one word, in plain Python and as LLVM's intrinsics in numba."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload


def popcount(word):
    """Number of ones of a word."""
    return int(word).bit_count()


def lowest_bit(word):
    """Place of the lowest one of a word other than 0."""
    return (int(word) & -int(word)).bit_length() - 1


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


@overload(popcount, inline="always")
def _popcount(word):
    return lambda word: np.int64(_count_ones(word))  # pyright: ignore[reportCallIssue]


@overload(lowest_bit, inline="always")
def _lowest_bit(word):
    return lambda word: np.int64(_count_trailing_zeros(word))  # pyright: ignore[reportCallIssue]
