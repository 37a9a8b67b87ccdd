"""The hot loop of the heat bath: draw random words and fold them into the five masks of the random map.

Mask j is [u < A_j] for the number u whose bit k is the complement of word k. Least significant bit first,
    f_j <- f_j | word   if A_j has bit k,      f_j <- f_j & word   if not,
which is f_j <- (f_j & x) | y with (x, y) = (ones, word) or (word, zero): two loads from the buffer [zero, word, ones] at
an offset that is the same for the whole lattice. No branch, and no arithmetic on broadcast thresholds.
The loop is LLVM IR, because numba has no vector registers: what LLVM's vectoriser makes of plain loops keeps the masks
in memory and is four times slower.
"""

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FEATURES = llvmlite.binding.get_host_cpu_features()
LANES = 8 if _FEATURES.get("avx512f") else 4  # words a vector: the widest register of the machine
_u64 = np.uint64


def _emit(builder, streams, row, counter, folds, num_bits, masks):
    """Draw `num_bits` words from LANES streams and fold them; arguments are addresses and 64-bit integers."""
    i32, i64 = ir.IntType(32), ir.IntType(64)
    vector = ir.VectorType(i64, LANES)

    def constant(x):
        return ir.Constant(vector, [x] * LANES)

    def pointer(base, byte_offset):
        return builder.inttoptr(builder.add(base, byte_offset), vector.as_pointer())

    def at(base, index):
        return pointer(base, builder.mul(ir.Constant(i64, 8 * index), row))

    def load(address):
        return builder.load(address, align=8)

    width = ir.Constant(i64, 8 * LANES)
    with builder.goto_entry_block():
        buffer = builder.alloca(ir.ArrayType(vector, 3))
    zero = builder.ptrtoint(buffer, i64)
    word_address = builder.add(zero, width)
    builder.store(constant(0), pointer(zero, ir.Constant(i64, 0)))
    builder.store(constant(-1), pointer(word_address, width))

    state = [load(at(streams, i)) for i in range(3)]
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, counter, ir.Constant(i32, 0))
    state.append(builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES)))

    entry, loop, done = builder.block, builder.append_basic_block("bit"), builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(i64)
    k.add_incoming(ir.Constant(i64, 0), entry)
    now = [builder.phi(vector) for _ in range(10)]  # a, b, c, counter; f_0 .. f_4, or of the words
    for phi, value in zip(now, [*state, *[constant(0)] * 6], strict=True):
        phi.add_incoming(value, entry)

    a, b, c, count = now[:4]
    word = builder.add(builder.add(a, count), b)
    rotated = builder.or_(builder.shl(c, constant(24)), builder.lshr(c, constant(40)))
    then = [
        builder.xor(b, builder.lshr(b, constant(11))),
        builder.add(c, builder.shl(c, constant(3))),
        builder.add(rotated, word),
        builder.add(count, constant(1)),
    ]
    builder.store(word, pointer(word_address, ir.Constant(i64, 0)))
    for j, mask in enumerate(now[4:]):
        address = builder.add(folds, builder.mul(k, ir.Constant(i64, 48)))
        offset = builder.load(builder.inttoptr(builder.add(address, ir.Constant(i64, 8 * j)), i64.as_pointer()))
        y = builder.load(pointer(zero, offset))
        if j < 5:
            mask = builder.and_(mask, builder.load(pointer(word_address, offset)))
        then.append(builder.or_(mask, y))

    next_k = builder.add(k, ir.Constant(i64, 1))
    for phi, value in zip([k, *now], [next_k, *then], strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", next_k, num_bits), loop, done)
    builder.position_at_end(done)
    for i in range(3):
        builder.store(then[i], at(streams, i), align=8)
    for j in range(5):
        builder.store(then[4 + j], at(masks, j), align=8)
    builder.store(builder.not_(then[9]), at(masks, 5), align=8)


@intrinsic
def _fold(typing_context, streams, row, counter, folds, num_bits, masks):
    signature = types.void(*[types.intp] * 6)

    def codegen(context, builder, signature, arguments):
        _emit(builder, *arguments)
        return context.get_dummy_value()

    return signature, codegen


@numba.njit(cache=True)
def draw_masks(streams, counter, folds, num_bits, masks):
    """Advance all streams by `num_bits` words; masks[:5] become f_0 .. f_4 and masks[5] the escaped sites.

    `folds` int64 [bits, 6] holds 8 LANES where A_j has bit k, else 0; its last column does so where k counts for escapes.
    """
    row = streams.shape[1]
    for s in range(0, row, LANES):
        _fold(streams.ctypes.data + 8 * s, row, counter, folds.ctypes.data, num_bits, masks.ctypes.data + 8 * s)


def _draw_masks_numpy(streams, counter, folds, num_bits, masks):
    """`draw_masks` without LLVM, for NUMBA_DISABLE_JIT=1."""
    masks[:] = 0
    for k in range(num_bits):
        a, b, c = streams.copy()
        word = a + b + _u64(counter + k)
        streams[:] = b ^ (b >> _u64(11)), c + (c << _u64(3)), ((c << _u64(24)) | (c >> _u64(40))) + word
        for j in range(5):
            masks[j] = masks[j] | word if folds[k, j] else masks[j] & word
        if folds[k, 5]:
            masks[5] |= word
    masks[5] = ~masks[5]


if numba.config.DISABLE_JIT:
    draw_masks = _draw_masks_numpy
