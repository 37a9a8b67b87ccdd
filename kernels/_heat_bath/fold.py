"""The hot loop of the heat bath: draw random words and fold them into the five masks of the random map.

Mask j is [u < A_j] for the number u whose bit k is the complement of word k. Least significant word first, word r makes
    f_j <- f_j | r  where bit k of A_j is 1,    f_j <- f_j & r  where it is 0,    decided <- decided | r.
What word k does is the same for every site of a lattice, so that each of the 64 cases is a function of its own, nine
vectors in and nine out, that ends by jumping to the case of the next word: threaded code. The processor predicts these
jumps, because they repeat every B words, and all that is left is eight operations for a word of sfc64 and six to fold
it, in registers. (To choose by data costs two thirds more: loads whose addresses were just loaded, or masked logic.)

A lattice has a program, one step a word and one to store: LANES copies of the counter of sfc64, which is the same for
all streams, so that it can be added from memory; then the address of a case.

The functions are LLVM IR, because numba has no vector registers, no tail calls and no calling convention that passes
nine vectors.
"""

from typing import Any, NamedTuple

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vectors import BYTES, I8, I64, LANES, VECTOR, address_of, advance, constant, load, pointer, store

DECIDES = 1 << 5
STORE = 1 << 6  # the case after the last word
STEP_WORDS = 2 * LANES  # of a program: the counters, the address, room
MOST_STEPS = 64 + 1
_u64 = np.uint64

_NUM_VECTORS = 9  # a, b, c of sfc64, f_0 .. f_4, decided
_ARCHITECTURE = llvmlite.binding.get_process_triple().partition("-")[0]
if _ARCHITECTURE in ("x86_64", "amd64"):
    # regcall passes sixteen vectors in registers, and preserves those registers that carry no argument
    _CONVENTION, _NUM_ARGUMENTS = "x86_regcallcc", 16
elif _ARCHITECTURE in ("aarch64", "arm64"):
    _CONVENTION, _NUM_ARGUMENTS = "", _NUM_VECTORS
else:  # LLVM would end the process: it cannot promise tail calls
    raise ImportError(f'The heat bath on CPUs needs x86-64 or ARM64, got {_ARCHITECTURE}. Use backend="reference".')


class _Frame(NamedTuple):
    """The scalar arguments of a case."""

    step: Any  # address in the program
    program: Any  # address of its first step
    streams: Any  # address of the vector of streams a; those of b and c are `pitch` further
    pitch: Any  # bytes
    masks: Any  # address of the vector of f_0; the others are `pitch` further
    escaped: Any  # address of the vector's flags
    left: Any  # number of vectors


_CASE = ir.FunctionType(ir.VoidType(), [I64] * len(_Frame._fields) + [VECTOR] * _NUM_ARGUMENTS)


def _jump(builder, frame, vectors, tail):
    """Call the case of `frame.step`; as a tail call it reuses the caller's stack."""
    case = builder.load(pointer(builder, advance(builder, frame.step, BYTES), _CASE.as_pointer()))
    padding = [ir.Constant(VECTOR, ir.Undefined)] * (_NUM_ARGUMENTS - _NUM_VECTORS)
    builder.call(case, [*frame, *vectors, *padding], cconv=_CONVENTION, tail=tail)


def _begin(builder, frame, tail=""):
    """Load one vector of streams and enter the program."""
    state, streams = [], frame.streams
    for _ in range(3):
        state.append(load(builder, streams))
        streams = advance(builder, streams, frame.pitch)
    _jump(builder, frame._replace(step=frame.program), [*state, *[constant(0)] * 6], tail)


def _emit_word(builder, case, frame, vectors):
    a, b, c, *masks, decided = vectors
    word = builder.add(builder.add(a, load(builder, frame.step)), b)
    rotated = builder.or_(builder.shl(c, constant(24)), builder.lshr(c, constant(40)))
    folded = [builder.or_(f, word) if case >> j & 1 else builder.and_(f, word) for j, f in enumerate(masks)]
    following = [
        builder.xor(b, builder.lshr(b, constant(11))),
        builder.add(c, builder.shl(c, constant(3))),
        builder.add(rotated, word),
        *folded,
        builder.or_(decided, word) if case & DECIDES else decided,
    ]
    _jump(builder, frame._replace(step=advance(builder, frame.step, 8 * STEP_WORDS)), following, "musttail")


def _emit_store(builder, frame, vectors):
    *state_and_masks, decided = vectors
    escapes = builder.not_(decided)
    for start, rows in ((frame.streams, state_and_masks[:3]), (frame.masks, [*state_and_masks[3:], escapes])):
        for vector in rows:
            store(builder, vector, start)
            start = advance(builder, start, frame.pitch)
    flags = builder.bitcast(builder.icmp_signed("!=", escapes, constant(0)), ir.IntType(LANES))
    builder.store(builder.zext(flags, I8) if LANES < 8 else flags, pointer(builder, frame.escaped, I8))
    left = builder.sub(frame.left, ir.Constant(I64, 1))
    with builder.if_then(builder.icmp_signed("==", left, ir.Constant(I64, 0))):
        builder.ret_void()
    following = frame._replace(
        streams=advance(builder, frame.streams, BYTES),
        masks=advance(builder, frame.masks, BYTES),
        escaped=advance(builder, frame.escaped, 1),
        left=left,
    )
    _begin(builder, following, "musttail")


def _cases(module):
    """The functions of all cases, emitted once into `module`, as a table."""
    name = "hessfast_fold_cases"
    if name not in module.globals:
        cases = []
        for case in range(STORE + 1):
            function = ir.Function(module, _CASE, f"hessfast_fold_{case}")
            function.linkage, function.calling_convention = "internal", _CONVENTION
            builder = ir.IRBuilder(function.append_basic_block())
            scalars = len(_Frame._fields)
            frame, vectors = _Frame(*function.args[:scalars]), function.args[scalars:][:_NUM_VECTORS]
            if case == STORE:
                _emit_store(builder, frame, vectors)
            else:
                _emit_word(builder, case, frame, vectors)
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
def _run(typing_context, program, streams, pitch, masks, escaped, num_vectors):
    def codegen(context, builder, signature, arguments):
        _begin(builder, _Frame(arguments[0], *arguments))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), codegen


@numba.njit(cache=True)  # numba's own inliner would drop the last write, which it takes for dead
def assemble(codes, num_bits, log2_escapes, program):
    """Write the cases of the five codes A_j into `program`, uint64 [MOST_STEPS, STEP_WORDS]."""
    for k in range(num_bits):
        case = DECIDES if k >= log2_escapes else 0
        for j in range(5):
            case |= np.int64(codes[j] >> _u64(k) & _u64(1)) << j
        program[k, LANES] = _address(case)  # pyright: ignore[reportCallIssue]
    program[num_bits, LANES] = _address(STORE)  # pyright: ignore[reportCallIssue]


@numba.njit(cache=True, inline="always")
def draw_masks(streams, start, stop, counter, program, num_bits, masks, escaped):
    """Advance streams start .. stop by `num_bits` words, and those up to a whole vector; `start` is at one.

    Their words become masks[:5], f_0 .. f_4 from the first column on, and masks[5], the escaped sites. Byte v of
    `escaped` has bit i set where word LANES v + i has an escaped site.
    """
    for k in range(num_bits):
        for lane in range(LANES):
            program[k, lane] = _u64(counter + k)
    num_vectors = (stop - start + LANES - 1) // LANES
    _run(  # pyright: ignore[reportCallIssue]
        address_of(program),  # pyright: ignore[reportCallIssue]
        address_of(streams) + 8 * start,  # pyright: ignore[reportCallIssue]
        8 * streams.shape[1],
        address_of(masks),  # pyright: ignore[reportCallIssue]
        address_of(escaped),  # pyright: ignore[reportCallIssue]
        num_vectors,
    )


def _draw_masks_numpy(streams, start, stop, counter, program, num_bits, masks, escaped):
    """`draw_masks` without LLVM, for NUMBA_DISABLE_JIT=1."""
    num_words = (stop - start + LANES - 1) // LANES * LANES
    streams, masks = streams[:, start : start + num_words], masks[:, :num_words]
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
