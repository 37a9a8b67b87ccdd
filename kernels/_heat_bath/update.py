"""Applying a random map to packed lattices: neighbours by shifts, their count by bit logic, the choice by masks.

Here the planes of one or more lattices are the rows of an array uint64 [4 lattices, words], as `new_planes` makes it:
the word rows of the sites, padded to whole vectors, between two periodic rows.
"""

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from . import vectors
from .vectors import BYTES, LANES, address_of

_u64 = np.uint64


@numba.njit(cache=True)
def whole_vectors(num_words):
    """The least multiple of LANES that is not below `num_words`."""
    return (num_words + LANES - 1) // LANES * LANES


@numba.njit(cache=True)
def new_planes(num_lattices, size):
    row = (size + 127) // 128
    return np.empty((4 * num_lattices, row + whole_vectors(size // 2 * row) + row), np.uint64)


@numba.njit(cache=True)
def load(words, planes):
    """Copy a packed lattice [4, rows, words] into the first four planes."""
    row = words.shape[2]
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                planes[plane, row + m * row + w] = words[plane, m, w]
        _wrap(planes, plane, row, words.shape[1] * row)


@numba.njit(cache=True)
def store(planes, words):
    """Copy the first four planes back into a packed lattice."""
    row = words.shape[2]
    for plane in range(4):
        for m in range(words.shape[1]):
            for w in range(row):
                words[plane, m, w] = planes[plane, row + m * row + w]


@numba.njit(cache=True, inline="always")
def _wrap(planes, plane, row, num_words):
    for w in range(row):
        planes[plane, w] = planes[plane, num_words + w]
        planes[plane, row + num_words + w] = planes[plane, row + w]


@numba.njit(cache=True, inline="always")
def shift_left(planes, plane, start, stop, row, bits, out):
    """Word rows rotated towards higher bits by one column: bit k comes from bit k - 1, bit 0 from the last."""
    first, num_words = row + start, stop - start
    top = _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = planes[plane, first + m]
            out[m] = (x << _u64(1)) | (x >> top)
    else:
        for m in range(num_words):
            out[m] = (planes[plane, first + m] << _u64(1)) | (planes[plane, first + m - 1] >> _u64(63))
        for m in range(0, num_words, row):  # before the first word of a row comes its last one
            out[m] = (planes[plane, first + m] << _u64(1)) | (planes[plane, first + m + row - 1] >> top)


@numba.njit(cache=True, inline="always")
def shift_right(planes, plane, start, stop, row, bits, out):
    """Word rows rotated towards lower bits by one column: bit k comes from bit k + 1, the last from bit 0."""
    first, num_words = row + start, stop - start
    top = _u64((bits - 1) & 63)
    if row == 1:
        for m in range(num_words):
            x = planes[plane, first + m]
            out[m] = (x >> _u64(1)) | (x << top)
    else:
        for m in range(num_words):
            out[m] = (planes[plane, first + m] >> _u64(1)) | (planes[plane, first + m + 1] << _u64(63))
        for m in range(row - 1, num_words, row):  # after the last word of a row comes its first one
            out[m] = (planes[plane, first + m] >> _u64(1)) | ((planes[plane, first + m - row + 1] & _u64(1)) << top)


@numba.njit(cache=True, inline="always")
def apply(masks, planes, lattice, plane, start, stop, row, bits, num_words, shifted):
    """Apply the random map of words start .. stop of one plane to a lattice; whole rows from a whole vector on.

    Sites of one colour read only the other, so this is in place.

    The other neighbour in the row stands one column to the left for planes Be and Wo and to the right for Bo and We;
    the rows above and below are m - 1 and m of the opposite row plane for even rows, m and m + 1 for odd rows.
    """
    odd, colour = plane & 1, plane >> 1
    own, same = 4 * lattice + plane, 4 * lattice + 2 * (1 - colour) + odd
    if odd == colour:
        shift_left(planes, same, start, stop, row, bits, shifted)
    else:
        shift_right(planes, same, start, stop, row, bits, shifted)
    _update(masks, planes, own, same, shifted, odd * row, row, start, stop)
    if bits & 63:
        last = ~_u64(0) >> _u64(64 * row - bits)
        for w in range(2 * row - 1 + start, row + stop, row):
            planes[own, w] &= last
    if stop == num_words:
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
def _update(masks, planes, own, same, shifted, above, row, start, stop):
    """Set words of plane `own` from plane `same` and the one beside that, whose rows above begin at `above`."""
    pitch, length = 8 * masks.shape[1], 8 * planes.shape[1]
    masks_at, shifted_at, planes_at = address_of(masks), address_of(shifted), address_of(planes)  # pyright: ignore[reportCallIssue]
    own_at = planes_at + own * length + 8 * (row + start)
    same_at = planes_at + same * length + 8 * (row + start)
    above_at = planes_at + (same ^ 1) * length + 8 * (above + start)
    for w in range(0, 8 * (stop - start), BYTES):
        _choose_at(  # pyright: ignore[reportCallIssue]
            masks_at + w, pitch, same_at + w, shifted_at + w, above_at + w, above_at + 8 * row + w, own_at + w
        )


def _update_numpy(masks, planes, own, same, shifted, above, row, start, stop):
    """`_update` without LLVM, for NUMBA_DISABLE_JIT=1."""
    num_words, rows, beside = stop - start, slice(row + start, row + stop), planes[same ^ 1, above + start :]
    neighbours = planes[same, rows], shifted[:num_words], beside[:num_words], beside[row:][:num_words]
    planes[own, rows] = _choose(masks[:, :num_words], *neighbours)


if numba.config.DISABLE_JIT:  # pyright: ignore
    _update = _update_numpy  # pyright: ignore[reportAssignmentType]
