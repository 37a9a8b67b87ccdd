"""Applying a random map to packed lattices: neighbours by shifts, their count by bit logic, the choice by masks.

Here the planes of one or more lattices are the rows of an array uint64 [4 lattices, words], as `new_planes` makes it:
rows of sites between two margins of whole vectors, that hold the periodic rows next to them.
"""

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from . import vectors
from .vectors import BYTES, LANES, address_of

_u64 = np.uint64


@numba.njit(cache=True)
def margin(row):
    """Words before the first row of a plane, for rows of `row` words."""
    return (row + LANES - 1) // LANES * LANES


@numba.njit(cache=True)
def new_planes(num_lattices, size):
    row = (size + 127) // 128
    padded = (size // 2 * row + LANES - 1) // LANES * LANES
    return np.empty((4 * num_lattices, 2 * margin(row) + padded), np.uint64)


@numba.njit(cache=True)
def load(words, planes):
    """Copy a packed lattice [4, rows, words] into the first four planes."""
    row = words.shape[2]
    first = margin(row)
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                planes[plane, first + m * row + w] = words[plane, m, w]
        _wrap(planes, plane, row, words.shape[1] * row)


@numba.njit(cache=True)
def store(planes, words):
    """Copy the first four planes back into a packed lattice."""
    row = words.shape[2]
    first = margin(row)
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                words[plane, m, w] = planes[plane, first + m * row + w]


@numba.njit(cache=True, inline="always")
def _wrap(planes, plane, row, num_words):
    first = margin(row)
    for w in range(row):
        planes[plane, first - row + w] = planes[plane, first + num_words - row + w]
        planes[plane, first + num_words + w] = planes[plane, first + w]


@numba.njit(cache=True, inline="always")
def shift_left(planes, plane, row, bits, num_words, out):
    """Every word row rotated towards higher bits by one column: bit k comes from bit k - 1, bit 0 from the last."""
    first, top = margin(row), _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = planes[plane, first + m]
            out[m] = (x << _u64(1)) | (x >> top)
    else:
        for m in range(0, num_words, row):
            carry = planes[plane, first + m + row - 1] >> top
            for w in range(row):
                x = planes[plane, first + m + w]
                out[m + w] = (x << _u64(1)) | carry
                carry = x >> _u64(63)


@numba.njit(cache=True, inline="always")
def shift_right(planes, plane, row, bits, num_words, out):
    """Every word row rotated towards lower bits by one column: bit k comes from bit k + 1, the last from bit 0."""
    first, top = margin(row), _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = planes[plane, first + m]
            out[m] = (x >> _u64(1)) | (x << top)
    else:
        for m in range(0, num_words, row):
            carry = (planes[plane, first + m] & _u64(1)) << top
            for w in range(row - 1, -1, -1):
                x = planes[plane, first + m + w]
                out[m + w] = (x >> _u64(1)) | carry
                carry = x << _u64(63)


@numba.njit(cache=True, inline="always")
def apply(masks, planes, lattice, plane, row, bits, num_words, shifted):
    """Apply the random map of one plane to a lattice; sites of one colour read only the other, so this is in place.

    The other neighbour in the row stands one column to the left for planes Be and Wo and to the right for Bo and We;
    the rows above and below are m - 1 and m of the opposite row plane for even rows, m and m + 1 for odd rows.
    """
    odd, colour = plane & 1, plane >> 1
    own, same = 4 * lattice + plane, 4 * lattice + 2 * (1 - colour) + odd
    if odd == colour:
        shift_left(planes, same, row, bits, num_words, shifted)
    else:
        shift_right(planes, same, row, bits, num_words, shifted)
    first = margin(row)
    _update(masks, planes, own, same, shifted, first + (odd - 1) * row, first + odd * row, first, num_words)
    if bits & 63:
        last = ~_u64(0) >> _u64(64 * row - bits)
        for w in range(first + row - 1, first + num_words, row):
            planes[own, w] &= last
    _wrap(planes, own, row, num_words)


def _choose(f, a, b, c, d):
    """The new spins of words whose neighbours are the words a, b, c, d."""
    p, q, x, y = a | b, c | d, a & b, c & d
    one, two, three, four = p | q, x | y | (p & q), (x & q) | (p & y), x & y  # at least so many neighbours up
    return f[0] ^ (one & (f[0] ^ f[1])) ^ (two & (f[1] ^ f[2])) ^ (three & (f[2] ^ f[3])) ^ (four & (f[3] ^ f[4]))


class _Vector:
    """A value of LLVM IR with the operators of `_choose`."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def __and__(self, other):
        return _Vector(self.builder, self.builder.and_(self.value, other.value))

    def __or__(self, other):
        return _Vector(self.builder, self.builder.or_(self.value, other.value))

    def __xor__(self, other):
        return _Vector(self.builder, self.builder.xor(self.value, other.value))


@intrinsic
def _choose_at(typing_context, masks, pitch, same, beside, above, below, own):
    """`_choose` for the LANES words at the addresses given. LLVM's vectoriser gives up on so many arrays."""

    def codegen(context, builder, signature, arguments):
        masks, pitch, *neighbours, own = arguments
        f = []
        for _ in range(5):
            f.append(_Vector(builder, vectors.load(builder, masks)))
            masks = vectors.advance(builder, masks, pitch)
        chosen = _choose(f, *(_Vector(builder, vectors.load(builder, x)) for x in neighbours))
        vectors.store(builder, chosen.value, own)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


@numba.njit(cache=True, inline="always")
def _update(masks, planes, own, same, shifted, above, below, first, num_words):
    """Set plane `own` from plane `same` and from the plane beside it, whose rows start at `above` and at `below`."""
    pitch, mask, beside = 8 * masks.shape[1], address_of(masks), address_of(shifted)  # pyright: ignore[reportCallIssue]
    start, length = address_of(planes), 8 * planes.shape[1]  # pyright: ignore[reportCallIssue]
    target, equal, across = start + own * length, start + same * length, start + (same ^ 1) * length
    for w in range(0, 8 * num_words, BYTES):
        _choose_at(  # pyright: ignore[reportCallIssue]
            mask + w, pitch, equal + 8 * first + w, beside + w, across + 8 * above + w, across + 8 * below + w,
            target + 8 * first + w,
        )  # fmt: skip


def _update_numpy(masks, planes, own, same, shifted, above, below, first, num_words):
    """`_update` without LLVM, for NUMBA_DISABLE_JIT=1."""
    rows = (planes[plane, start : start + num_words] for plane, start in ((same ^ 1, above), (same ^ 1, below)))
    equal = planes[same, first : first + num_words]
    planes[own, first : first + num_words] = _choose(masks[:, :num_words], equal, shifted[:num_words], *rows)


if numba.config.DISABLE_JIT:  # pyright: ignore
    _update = _update_numpy  # pyright: ignore[reportAssignmentType]
