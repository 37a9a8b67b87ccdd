"""The hot loop of the heat bath: draw random words and fold them into the five masks of the random map.

Mask j is [u < A_j] for the number u whose bit k is the complement of word k. Least significant word first, word r makes
    f_j <- f_j | r  where bit k of A_j is 1,    f_j <- f_j & r  where it is 0,    decided <- decided | r.
What word k does is the same for every site of a lattice, so that each of the 64 cases is a function of its own, nine
vectors in and nine out, that ends by jumping to the case of the next word: threaded code. The processor predicts these
jumps, because they repeat every B words, and all that is left is eight operations for a word of sfc64 and six to fold
it, in registers. (To choose by data costs two thirds more: loads whose addresses were just loaded, or masked logic.)

The functions are LLVM IR, because numba has no vector registers, no tail calls and no calling convention that passes
nine vectors.
"""

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vectors import BYTES, I8, I64, LANES, VECTOR, address_of, advance, constant, load, pointer, store

DECIDES = 1 << 5
STORE = 1 << 6  # the case after the last word
_u64 = np.uint64

_IS_X86 = llvmlite.binding.get_default_triple().startswith(("x86_64", "amd64"))
_CONVENTION = "x86_regcallcc" if _IS_X86 else ""
_NUM_VECTORS = 16  # nine are used; on x86 a register that is no argument would have to be preserved
_SCALARS = ["step", "program", "streams", "row", "masks", "escaped", "left"]  # addresses, bytes and a number of vectors
_CASE = ir.FunctionType(ir.VoidType(), [I64] * len(_SCALARS) + [VECTOR] * _NUM_VECTORS)
_STEP_BYTES = 2 * BYTES  # of `program`: LANES counters, the address of a case, room


def _jump(builder, scalars, vectors, tail):
    """Call the case of `step`; as a tail call it reuses the caller's frame."""
    address = pointer(builder, advance(builder, scalars[0], BYTES), _CASE.as_pointer())
    padding = [ir.Constant(VECTOR, ir.Undefined)] * (_NUM_VECTORS - len(vectors))
    builder.call(builder.load(address), [*scalars, *vectors, *padding], cconv=_CONVENTION, tail=tail)


def _begin(builder, scalars, tail=""):
    """Load one vector of streams and enter the program."""
    _, program, streams, row, *_ = scalars
    state = []
    for _ in range(3):
        state.append(load(builder, streams))
        streams = advance(builder, streams, row)
    _jump(builder, [program, *scalars[1:]], [*state, *[constant(0)] * 6], tail)


def _emit_word(builder, case, scalars, vectors):
    a, b, c, *masks, decided = vectors
    counter = load(builder, scalars[0])
    word = builder.add(builder.add(a, counter), b)
    rotated = builder.or_(builder.shl(c, constant(24)), builder.lshr(c, constant(40)))
    folded = [builder.or_(f, word) if case >> j & 1 else builder.and_(f, word) for j, f in enumerate(masks)]
    following = [
        builder.xor(b, builder.lshr(b, constant(11))),
        builder.add(c, builder.shl(c, constant(3))),
        builder.add(rotated, word),
        *folded,
        builder.or_(decided, word) if case & DECIDES else decided,
    ]
    _jump(builder, [advance(builder, scalars[0], _STEP_BYTES), *scalars[1:]], following, "musttail")


def _emit_store(builder, scalars, vectors):
    step, program, streams, row, masks, escaped, left = scalars
    vectors = [*vectors[:-1], builder.not_(vectors[-1])]
    for start, rows in ((streams, vectors[:3]), (masks, vectors[3:])):
        for vector in rows:
            store(builder, vector, start)
            start = advance(builder, start, row)
    any_escape = builder.icmp_signed("!=", vectors[-1], constant(0))
    byte = builder.zext(builder.bitcast(any_escape, ir.IntType(LANES)), I8) if LANES < 8 else any_escape
    byte = builder.bitcast(byte, I8)
    builder.store(byte, pointer(builder, escaped, I8))
    left = advance(builder, left, -1)
    with builder.if_then(builder.icmp_signed("==", left, ir.Constant(I64, 0))):
        builder.ret_void()
    streams, masks = (advance(builder, x, BYTES) for x in (streams, masks))
    _begin(builder, [step, program, streams, row, masks, advance(builder, escaped, 1), left], "musttail")


def _cases(module):
    """The functions of all cases, emitted once into `module`, as a table."""
    name = "hessfast_fold_cases"
    if name not in module.globals:
        cases = []
        for case in range(STORE + 1):
            function = ir.Function(module, _CASE, f"hessfast_fold_{case}")
            function.linkage, function.calling_convention = "internal", _CONVENTION
            builder = ir.IRBuilder(function.append_basic_block())
            scalars, vectors = function.args[: len(_SCALARS)], function.args[len(_SCALARS) :][:9]
            if case == STORE:
                _emit_store(builder, scalars, vectors)
            else:
                _emit_word(builder, case, scalars, vectors)
            builder.ret_void()
            cases.append(function)
        table = ir.GlobalVariable(module, ir.ArrayType(_CASE.as_pointer(), len(cases)), name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(table.value_type, cases)  # pyright: ignore[reportAttributeAccessIssue]
    return module.globals[name]


@intrinsic
def _address(typing_context, case):  # pyright: ignore[reportRedeclaration]
    def codegen(context, builder, signature, arguments):
        table = _cases(builder.module)
        entry = builder.gep(table, [ir.Constant(I64, 0), arguments[0]])
        return builder.ptrtoint(builder.load(entry), I64)

    return types.int64(types.int64), codegen


@intrinsic
def _run(typing_context, program, streams, row, masks, escaped, num_vectors):
    def codegen(context, builder, signature, arguments):
        _begin(builder, [arguments[0], *arguments])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


@numba.njit(cache=True)
def assemble(codes, num_bits, log2_escapes, program):
    """Write the program of the five codes A_j: uint64 [num_bits + 1 or more, 2 LANES]."""
    for k in range(num_bits):
        case = DECIDES if k >= log2_escapes else 0
        for j in range(5):
            case |= np.int64(codes[j] >> _u64(k) & _u64(1)) << j
        program[k, LANES] = _address(case)  # pyright: ignore[reportCallIssue]
    program[num_bits, LANES] = _address(STORE)  # pyright: ignore[reportCallIssue]


@numba.njit(cache=True, inline="always")
def draw_masks(streams, counter, program, num_bits, masks, escaped):
    """Advance all streams by `num_bits` words; masks[:5] become f_0 .. f_4 and masks[5] the escaped sites.

    Byte v of `escaped` has bit i set where word LANES v + i has an escaped site.
    """
    for k in range(num_bits):
        for lane in range(LANES):
            program[k, lane] = _u64(counter + k)
    row = streams.shape[1]
    _run(  # pyright: ignore[reportCallIssue]
        address_of(program),  # pyright: ignore[reportCallIssue]
        address_of(streams),  # pyright: ignore[reportCallIssue]
        8 * row,
        address_of(masks),  # pyright: ignore[reportCallIssue]
        address_of(escaped),  # pyright: ignore[reportCallIssue]
        row // LANES,
    )


def _draw_masks_numpy(streams, counter, program, num_bits, masks, escaped):
    """`draw_masks` without LLVM, for NUMBA_DISABLE_JIT=1."""
    masks[:] = 0
    for k in range(num_bits):
        a, b, c = streams.copy()
        word = a + b + _u64(counter + k)
        streams[:] = b ^ (b >> _u64(11)), c + (c << _u64(3)), ((c << _u64(24)) | (c >> _u64(40))) + word
        case = int(program[k, LANES])
        for j in range(5):
            masks[j] = masks[j] | word if case >> j & 1 else masks[j] & word
        if case & DECIDES:
            masks[5] |= word
    masks[5] = ~masks[5]
    for v, words in enumerate(masks[5].reshape(-1, LANES)):
        escaped.view(np.uint8)[v] = sum((word != 0) << i for i, word in enumerate(words))


if numba.config.DISABLE_JIT:  # pyright: ignore
    draw_masks = _draw_masks_numpy  # pyright: ignore[reportAssignmentType]

    def _address(case):
        return case
