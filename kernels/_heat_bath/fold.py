"""The hot loop of the heat bath: draw random words and fold them into the five masks of the random map.

Mask j is [u < A_j] for the number u whose bit k is the complement of word k. Two words are one digit d in 0 .. 3 of u,
least significant first, and with the chain c_0 <= ... <= c_4 of the masks [d < 0] .. [d < 4],
    f_j <- (f_j & c_(a + 1)) | c_a,      a the same digit of A_j.
The chain lies in memory, so that choosing by a is an offset, the same for the whole lattice: no branch, no arithmetic
on broadcast thresholds, and five times two operations for two bits of five comparisons.
The loop is LLVM IR, because numba has no vector registers: LLVM's vectoriser would keep the masks in memory.
"""

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _has_avx512() -> bool:
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # a processor that LLVM cannot query
        return False


LANES = 8 if _has_avx512() else 4  # words a vector: the widest register of the machine
WIDTH = 8 * LANES  # bytes a vector
DIGITS = 4
_u64 = np.uint64


def _emit(builder, streams, row, counter, folds, num_digits, masks):
    """Draw two words a digit from LANES streams and fold them; arguments are addresses and 64-bit integers."""
    i32, i64 = ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(i64, LANES)

    def integer(x):
        return ir.Constant(i64, x)

    def constant(x):
        return ir.Constant(vector, [x] * LANES)

    def pointer(base, byte_offset):
        return builder.inttoptr(builder.add(base, byte_offset), vector.as_pointer())

    def at(base, index):
        return pointer(base, builder.mul(integer(8 * index), row))

    with builder.goto_entry_block():
        buffer = builder.alloca(ir.ArrayType(vector, DIGITS + 1))
    chain = builder.ptrtoint(buffer, i64)

    def put(slot, value):
        builder.store(value, pointer(chain, integer(WIDTH * slot)))

    put(0, constant(0))
    put(DIGITS, constant(-1))
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, counter, ir.Constant(i32, 0))
    state = [builder.load(at(streams, i), align=8) for i in range(3)]
    state.append(builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)))

    entry, loop, done = builder.block, builder.append_basic_block("digit"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    now = [builder.phi(i64), builder.phi(i64), *(builder.phi(vector) for _ in range(10))]
    for phi, value in zip(now, [integer(0), folds, *state, *[constant(0)] * 6], strict=True):
        phi.add_incoming(value, entry)
    digit, fold, *state = now[:6]

    def next_word():
        a, b, c, count = state
        word = builder.add(builder.add(a, count), b)
        rotated = builder.or_(builder.shl(c, constant(24)), builder.lshr(c, constant(40)))
        state[:] = [
            builder.xor(b, builder.lshr(b, constant(11))),
            builder.add(c, builder.shl(c, constant(3))),
            builder.add(rotated, word),
            builder.add(count, constant(1)),
        ]
        return word

    low, high = next_word(), next_word()
    put(1, builder.and_(low, high))
    put(2, high)
    put(3, builder.or_(low, high))
    folded = []
    for j, mask in enumerate(now[6:]):
        offset = builder.load(builder.inttoptr(builder.add(fold, integer(8 * j)), i64.as_pointer()))
        if j < 5:
            mask = builder.and_(mask, builder.load(pointer(builder.add(chain, integer(WIDTH)), offset)))
        folded.append(builder.or_(mask, builder.load(pointer(chain, offset))))

    following = [builder.add(digit, integer(1)), builder.add(fold, integer(48)), *state, *folded]
    for phi, value in zip(now, following, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following[0], num_digits), loop, done)
    builder.position_at_end(done)
    for i in range(3):
        builder.store(state[i], at(streams, i), align=8)
    for j in range(5):
        builder.store(folded[j], at(masks, j), align=8)
    builder.store(builder.not_(folded[5]), at(masks, 5), align=8)


@intrinsic
def _fold(typing_context, streams, row, counter, folds, num_bits, masks):
    signature = types.void(*[types.intp] * 6)

    def codegen(context, builder, signature, arguments):
        _emit(builder, *arguments)
        return context.get_dummy_value()

    return signature, codegen


@numba.njit(cache=True, inline="always")
def draw_masks(streams, counter, folds, num_bits, masks):
    """Advance all streams by `num_bits` words; masks[:5] become f_0 .. f_4 and masks[5] the escaped sites.

    `folds` int64 [digits, 6] are the digits of A_j times WIDTH; the last column is 3 WIDTH where the digit counts for
    escapes, else 0.
    """
    row = streams.shape[1]
    for s in range(0, row, LANES):
        offset = 8 * s
        _fold(streams.ctypes.data + offset, row, counter, folds.ctypes.data, num_bits // 2, masks.ctypes.data + offset)  # pyright: ignore[reportCallIssue]


def _draw_masks_numpy(streams, counter, folds, num_bits, masks):
    """`draw_masks` without LLVM, for NUMBA_DISABLE_JIT=1."""

    def next_word(k):
        a, b, c = streams.copy()
        word = a + b + _u64(counter + k)
        streams[:] = b ^ (b >> _u64(11)), c + (c << _u64(3)), ((c << _u64(24)) | (c >> _u64(40))) + word
        return word

    masks[:] = 0
    for k in range(0, num_bits, 2):
        low, high = next_word(k), next_word(k + 1)
        chain = [low & _u64(0), low & high, high, low | high, low | ~low]
        digits = folds[k // 2] // WIDTH
        for j in range(5):
            masks[j] = masks[j] & chain[digits[j] + 1] | chain[digits[j]]
        masks[5] |= chain[digits[5]]
    masks[5] = ~masks[5]


if numba.config.DISABLE_JIT:  # pyright: ignore
    draw_masks = _draw_masks_numpy  # pyright: ignore[reportAssignmentType]
