"""The hot loop of the heat bath: count neighbours, draw random words, and compare them with thresholds bit by bit.

A site with j up neighbours becomes up where u < A_j, u being the number whose bit k is the complement of its bit of
random word k. Least significant word first, word r makes
    f <- majority(f, r, bit k of A_j),
and decided <- decided | r from word log2 E on. Bit k of A_0 .. A_4 is the same for every site of a lattice. Each of
their 32 values has a function of its own, which selects a site's bit by its j and ends by jumping to the function of
the next word; another 32 also update `decided`: threaded code. The processor predicts these jumps, because they repeat
every B words, and what is left, in registers, is eight operations for a word of sfc64 and three to compare it (with
AVX-512; without, ten and five to ten).

A lattice has a program, one step a word and one to store: LANES copies of the counter of sfc64, which is the same for
all streams, so that it can be added from memory; then the addresses of its case for one lattice and for two.

The functions are LLVM IR, because numba has no vector registers, no tail calls and no calling convention that passes
sixteen vectors.
"""

from typing import Any, NamedTuple

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vectors import (
    BYTES,
    I8,
    I64,
    LANES,
    VECTOR,
    address_of,
    advance,
    constant,
    load,
    looked_up,
    majority,
    pointer,
    splat,
    store,
)

DECIDES = 1 << 5
STORE = 1 << 6  # the case after the last word
BEGIN = STORE + 1  # the case before the first word: + 2 if rows have several words, + 1 if neighbours are to the right
_NUM_CASES = BEGIN + 4
MOST_LATTICES = 2
STRANDS = {1: 2 if LANES == 8 else 1, 2: 1}  # vectors of words at once, by the number of lattices: as registers allow
GROUP = LANES * max(STRANDS.values())  # words
STEP_WORDS = 2 * LANES  # of a program: the counters, the addresses, room
MOST_STEPS = 64 + 1
_u64 = np.uint64

# Fields of a job, which has what a plane is drawn with.
(
    _PROGRAM,  # address
    _STREAMS,  # address
    _PITCH,  # bytes from a of a stream to b, and to c
    _ESCAPES,  # address
    _FLAGS,  # address
    _EDGES,  # address
    _ROUND,  # bytes from a word at one end of a row to that at the other
    _TOP,  # last used bit of a row's last word
    _LATTICES,  # addresses for each lattice: of the plane, of the neighbours' in the same rows, of those above, below
) = range(9)
_OWN, _SAME, _ABOVE, _BELOW = range(4)
_BEGIN = _LATTICES + 4 * MOST_LATTICES  # addresses of the case to begin with, for one lattice and for two
JOB_WORDS = _BEGIN + MOST_LATTICES

_ARCHITECTURE = llvmlite.binding.get_process_triple().partition("-")[0]
if _ARCHITECTURE in ("x86_64", "amd64"):
    # regcall passes sixteen vectors in registers, and preserves those that carry no argument: every case takes sixteen.
    _CONVENTION, _NUM_ARGUMENTS = "x86_regcallcc", 16
elif _ARCHITECTURE in ("aarch64", "arm64"):
    _CONVENTION, _NUM_ARGUMENTS = "", 4 + 4 * MOST_LATTICES
else:  # LLVM would end the process: it cannot promise tail calls
    raise ImportError(f'The heat bath on CPUs needs x86-64 or ARM64, got {_ARCHITECTURE}. Use backend="reference".')


class _Frame(NamedTuple):
    """The scalar arguments of a case."""

    step: Any  # address in the program
    job: Any  # address
    word: Any  # bytes before the words at hand, in the lattice
    in_band: Any  # bytes before them in the band, where escapes, flags and edges begin
    stop: Any  # bytes of the band

    def field(self, builder, number):
        return builder.load(pointer(builder, advance(builder, self.job, 8 * number), I64))

    def streams(self, builder, strand):
        """Addresses of a, b, c."""
        at = advance(builder, builder.add(self.field(builder, _STREAMS), self.word), BYTES * strand)
        pitch = self.field(builder, _PITCH)
        return at, builder.add(at, pitch), builder.add(builder.add(at, pitch), pitch)

    def plane(self, builder, lattice, number, strand):
        at = builder.add(self.field(builder, _LATTICES + 4 * lattice + number), self.word)
        return advance(builder, at, BYTES * strand)


_CASE = ir.FunctionType(ir.VoidType(), [I64] * len(_Frame._fields) + [VECTOR] * _NUM_ARGUMENTS)


def _jump(builder, address, frame, vectors, tail="musttail"):
    """Call the case whose address stands there; as a tail call it reuses the caller's stack."""
    case = builder.load(pointer(builder, address, _CASE.as_pointer()))
    padding = [ir.Constant(VECTOR, ir.Undefined)] * (_NUM_ARGUMENTS - len(vectors))
    builder.call(case, [*frame, *vectors, *padding], cconv=_CONVENTION, tail=tail)


def _jump_to_step(builder, frame, lattices, vectors):
    _jump(builder, advance(builder, frame.step, BYTES + 8 * (lattices - 1)), frame, vectors)


def _jump_to_begin(builder, frame, lattices, tail="musttail"):
    _jump(builder, advance(builder, frame.job, 8 * (_BEGIN + lattices - 1)), frame, [], tail)


def _beside(builder, case, frame, at, x, strand):
    """The neighbours in the row, to the left (bit k - 1, cyclically) or to the right, of words x that stand there."""
    longer, right = divmod(case - BEGIN, 2)
    up, down = (builder.lshr, builder.shl) if right else (builder.shl, builder.lshr)
    top, within = splat(builder, frame.field(builder, _TOP)), up(x, constant(1))
    if not longer:
        return builder.or_(within, down(x, top))
    next_word = down(load(builder, advance(builder, at, 8 if right else -8)), constant(63))
    other_end = down(load(builder, builder.add(at, frame.field(builder, _ROUND))), top)
    edges = load(builder, advance(builder, builder.add(frame.field(builder, _EDGES), frame.in_band), BYTES * strand))
    carried = builder.xor(next_word, builder.and_(builder.xor(next_word, other_end), edges))
    return builder.or_(within, carried)


def _emit_begin(builder, case, frame, lattices):
    """Load vectors of streams, count the neighbours of their words, and enter the program."""
    vectors = []
    for strand in range(STRANDS[lattices]):
        vectors += [*(load(builder, address) for address in frame.streams(builder, strand)), constant(0)]
        for lattice in range(lattices):
            same, above, below = (frame.plane(builder, lattice, k, strand) for k in (_SAME, _ABOVE, _BELOW))
            a, b, c = (load(builder, at) for at in (same, above, below))
            d = _beside(builder, case, frame, same, a, strand)
            odd, two = builder.xor(builder.xor(a, b), c), majority(builder, a, b, c)
            more = builder.and_(odd, d)
            vectors += [builder.xor(odd, d), builder.xor(two, more), builder.and_(two, more), constant(0)]
    _jump_to_step(builder, frame._replace(step=frame.field(builder, _PROGRAM)), lattices, vectors)


def _strands(lattices, vectors):
    """Of each vector of words: a, b, c, decided, then for each lattice the binary digits of j, and f."""
    length = 4 + 4 * lattices
    return [vectors[k : k + length] for k in range(0, STRANDS[lattices] * length, length)]


def _bit(builder, case, ones, twos, fours):
    """The bit of A_j that the case says, where `ones`, `twos` and `fours` are the binary digits of j."""
    bits = [case >> j & 1 for j in range(5)]
    if LANES == 8:
        return looked_up(builder, [*bits, 0, 0, 0], fours, twos, ones)
    bit = constant(-bits[0])  # their polynomial over GF(2)
    for odd, term in (
        (bits[0] ^ bits[1], ones),
        (bits[0] ^ bits[2], twos),
        (bits[0] ^ bits[1] ^ bits[2] ^ bits[3], builder.and_(ones, twos)),
        (bits[0] ^ bits[4], fours),
    ):
        bit = builder.xor(bit, term) if odd else bit
    return bit


def _emit_word(builder, case, frame, lattices, vectors):
    following = []
    for a, b, c, decided, *counted in _strands(lattices, vectors):
        word = builder.add(builder.add(a, load(builder, frame.step)), b)
        rotated = builder.or_(builder.shl(c, constant(24)), builder.lshr(c, constant(40)))
        following += [
            builder.xor(b, builder.lshr(b, constant(11))),
            builder.add(c, builder.shl(c, constant(3))),
            builder.add(rotated, word),
            builder.or_(decided, word) if case & DECIDES else decided,
        ]
        for k in range(0, 4 * lattices, 4):
            *count, f = counted[k : k + 4]
            following += [*count, majority(builder, f, word, _bit(builder, case, *count))]
    _jump_to_step(builder, frame._replace(step=advance(builder, frame.step, 8 * STEP_WORDS)), lattices, following)


def _emit_store(builder, frame, lattices, vectors):
    escapes_at = builder.add(frame.field(builder, _ESCAPES), frame.in_band)
    flags_at = builder.add(frame.field(builder, _FLAGS), builder.udiv(frame.in_band, ir.Constant(I64, BYTES)))
    for strand, (a, b, c, decided, *counted) in enumerate(_strands(lattices, vectors)):
        for vector, address in zip((a, b, c), frame.streams(builder, strand), strict=True):
            store(builder, vector, address)
        for lattice, f in enumerate(counted[3::4]):
            store(builder, f, frame.plane(builder, lattice, _OWN, strand))
        escapes = builder.not_(decided)
        store(builder, escapes, advance(builder, escapes_at, BYTES * strand))
        flags = builder.bitcast(builder.icmp_signed("!=", escapes, constant(0)), ir.IntType(LANES))
        flags = builder.zext(flags, I8) if LANES < 8 else flags
        builder.store(flags, pointer(builder, advance(builder, flags_at, strand), I8))
    done = BYTES * STRANDS[lattices]
    following = frame._replace(word=advance(builder, frame.word, done), in_band=advance(builder, frame.in_band, done))
    with builder.if_then(builder.icmp_signed(">=", following.in_band, frame.stop)):
        builder.ret_void()
    _jump_to_begin(builder, following, lattices)


def _cases(module):
    """The functions of all cases, of one lattice and of two, emitted once into `module`, as a table."""
    name = "hessfast_update_cases"
    if name not in module.globals:
        cases = []
        for lattices in range(1, MOST_LATTICES + 1):
            for case in range(_NUM_CASES):
                function = ir.Function(module, _CASE, f"hessfast_update_{lattices}_{case}")
                function.linkage, function.calling_convention = "internal", _CONVENTION
                builder = ir.IRBuilder(function.append_basic_block())
                scalars = len(_Frame._fields)
                frame, vectors = _Frame(*function.args[:scalars]), function.args[scalars:]
                if case >= BEGIN:
                    _emit_begin(builder, case, frame, lattices)
                elif case == STORE:
                    _emit_store(builder, frame, lattices, vectors)
                else:
                    _emit_word(builder, case, frame, lattices, vectors)
                builder.ret_void()
                cases.append(function)
        table = ir.GlobalVariable(module, ir.ArrayType(_CASE.as_pointer(), len(cases)), name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(table.value_type, cases)  # pyright: ignore[reportAttributeAccessIssue]
    return module.globals[name]


@intrinsic
def _address(typing_context, lattices, case):  # pyright: ignore[reportRedeclaration]
    def codegen(context, builder, signature, arguments):
        lattices, case = arguments
        place = builder.add(builder.mul(builder.sub(lattices, ir.Constant(I64, 1)), ir.Constant(I64, _NUM_CASES)), case)
        return builder.ptrtoint(builder.load(builder.gep(_cases(builder.module), [ir.Constant(I64, 0), place])), I64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def _run(typing_context, job, word, stop, lattices):
    def codegen(context, builder, signature, arguments):
        job, word, stop, lattices = arguments
        zero = ir.Constant(I64, 0)
        for number in range(1, MOST_LATTICES + 1):
            with builder.if_then(builder.icmp_signed("==", lattices, ir.Constant(I64, number))):
                _jump_to_begin(builder, _Frame(zero, job, word, zero, stop), number, tail="")
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@numba.njit(cache=True, inline="always")
def right_beside(plane):
    """Whether the other neighbour in the row is a column to the right, as for planes Bo and We, or to the left."""
    return (plane & 1) ^ (plane >> 1)


@numba.njit(cache=True)
def write_jobs(bath):  # pyright: ignore[reportRedeclaration]
    """Fill `bath.jobs` but for the cases to begin with."""
    streams, escapes, flags, edges, planes = bath.streams, bath.escapes, bath.flags, bath.edges, bath.planes
    row, pitch = bath.row, 8 * planes.shape[1]
    for plane in range(4):
        odd, right, job = plane & 1, right_beside(plane), bath.jobs[plane]
        job[_PROGRAM], job[_STREAMS] = address_of(bath.program), address_of(streams)  # pyright: ignore[reportCallIssue]
        job[_PITCH] = 8 * streams.shape[1]
        job[_ESCAPES] = address_of(escapes) + 8 * odd * escapes.shape[1]  # pyright: ignore[reportCallIssue]
        job[_FLAGS] = address_of(flags) + 8 * odd * flags.shape[1]  # pyright: ignore[reportCallIssue]
        job[_EDGES] = address_of(edges) + 8 * right * edges.shape[1]  # pyright: ignore[reportCallIssue]
        job[_ROUND], job[_TOP] = 8 * (row - 1) * (1 - 2 * right), (bath.size // 2 - 1) & 63
        for lattice in range(len(planes) // 4):
            first, k = address_of(planes) + 4 * lattice * pitch, _LATTICES + 4 * lattice  # pyright: ignore[reportCallIssue]
            job[k + _OWN] = first + plane * pitch + 8 * row
            job[k + _SAME] = first + (plane ^ 2) * pitch + 8 * row
            job[k + _ABOVE] = first + (plane ^ 3) * pitch + 8 * row * odd
            job[k + _BELOW] = job[k + _ABOVE] + 8 * row


@numba.njit(cache=True)  # numba's own inliner would drop the last write, which it takes for dead
def assemble(bath, codes, num_bits, log2_escapes):
    """Write the cases of the five codes A_j into `bath.program`, and those to begin with into `bath.jobs`."""
    for lattices in range(1, MOST_LATTICES + 1):
        for k in range(num_bits):
            case = DECIDES if k >= log2_escapes else 0
            for j in range(5):
                case |= np.int64(codes[j] >> _u64(k) & _u64(1)) << j
            bath.program[k, LANES + lattices - 1] = _address(lattices, case)  # pyright: ignore[reportCallIssue]
        bath.program[num_bits, LANES + lattices - 1] = _address(lattices, STORE)  # pyright: ignore[reportCallIssue]
        for plane in range(4):
            case = BEGIN + 2 * (bath.row > 1) + right_beside(plane)
            bath.jobs[plane, _BEGIN + lattices - 1] = _address(lattices, case)  # pyright: ignore[reportCallIssue]


@numba.njit(cache=True, inline="always")
def update(bath, plane, start, stop, counter, num_bits, num_lattices):
    """Update words start .. stop - 1 of a plane of the first lattices; advance their streams by `num_bits` words.

    `start` is a multiple of GROUP; words from `stop` to the next one are overwritten, too. Escaped sites become down,
    unused bits anything. `escapes` and `flags` count words from `start`: byte v of `flags` has bit i set where word
    LANES v + i has an escaped site.
    """
    program, jobs = bath.program, bath.jobs
    for k in range(num_bits):
        for lane in range(LANES):
            program[k, lane] = _u64(counter + k)
    job = address_of(jobs) + 8 * JOB_WORDS * plane  # pyright: ignore[reportCallIssue]
    _run(job, 8 * start, 8 * (stop - start), num_lattices)  # pyright: ignore[reportCallIssue]


def _update_numpy(bath, plane, start, stop, counter, num_bits, num_lattices):
    """`update` without LLVM, for NUMBA_DISABLE_JIT=1."""
    odd, row, top = plane & 1, bath.row, _u64((bath.size // 2 - 1) & 63)
    num = (stop - start + GROUP - 1) // GROUP * GROUP
    streams, first = bath.streams[:, start : start + num], row + start
    exactly = []  # sites with j up neighbours
    for planes in bath.planes.reshape(-1, 4, bath.planes.shape[1])[:num_lattices]:
        other = planes[plane ^ 3, odd * row + start :]
        a, b, c = planes[plane ^ 2, first : first + num], other[:num], other[row : row + num]
        x = np.resize(planes[plane ^ 2, row + start : row + stop], (num // row + 1, row))
        if right_beside(plane):
            d = x >> _u64(1) | np.concatenate([x[:, 1:] << _u64(63), x[:, :1] << top], axis=1)
        else:
            d = x << _u64(1) | np.concatenate([x[:, -1:] >> top, x[:, :-1] >> _u64(63)], axis=1)
        d = d.reshape(-1)[:num]
        ones, twos, fours = a ^ b ^ c ^ d, (a & b | a & c | b & c) ^ ((a ^ b ^ c) & d), a & b & c & d
        exactly.append((~(ones | twos | fours), ones & ~twos, twos & ~ones, ones & twos, fours))
    spins, decided = np.zeros((num_lattices, num), np.uint64), np.zeros(num, np.uint64)
    for k in range(num_bits):
        a, b, c = streams.copy()
        word = a + b + _u64(counter + k)
        streams[:] = b ^ (b >> _u64(11)), c + (c << _u64(3)), ((c << _u64(24)) | (c >> _u64(40))) + word
        case = int(bath.program[k, LANES])
        for f, sites in zip(spins, exactly, strict=True):
            bit = np.bitwise_or.reduce([sites[j] * (case >> j & 1) for j in range(5)])
            f[:] = f & word | f & bit | word & bit
        if case & DECIDES:
            decided |= word
    bath.planes[plane : 4 * num_lattices : 4, first : first + num] = spins
    bath.escapes[odd, :num] = ~decided
    for v, words in enumerate(bath.escapes[odd, :num].reshape(-1, LANES)):
        bath.flags[odd].view(np.uint8)[v] = sum((word != 0) << i for i, word in enumerate(words))


if numba.config.DISABLE_JIT:  # pyright: ignore
    update = _update_numpy  # pyright: ignore[reportAssignmentType]

    def _address(lattices, case):
        return case

    def write_jobs(bath):
        pass
