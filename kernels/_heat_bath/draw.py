"""The hot loop of the heat bath: count neighbours, draw random words, and compare them with thresholds bit by bit.

A site with n up neighbours becomes up where u < A_n, u being the number whose bit k is the complement of its bit of
random word k. Least significant word first, word r makes
    f <- majority(f, r, bit k of A_n),    decided <- decided | r.
Bit k of A_0 .. A_4 is the same for every site of a lattice, so that each of the 32 things it can be is a function of
its own, which makes the bit of A_n out of the digits of n and ends by jumping to the function of the next word:
threaded code. The processor predicts these jumps, because they repeat every B words, and what is left is eight
operations for a word of sfc64 and three to compare it (AVX-512; six without operations of three inputs), in registers.

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
)  # fmt: skip

DECIDES = 1 << 5
STORE = 1 << 6  # the case after the last word
BEGIN = STORE + 1  # the cases before the first word: of rows of one word and of several, to the left and to the right
_NUM_CASES = BEGIN + 4
MOST_LATTICES = 2
STRANDS = {1: 2 if LANES == 8 else 1, 2: 1}  # vectors of words at once, by the number of lattices: as registers allow
GROUP = LANES * max(STRANDS.values())  # words
STEP_WORDS = 2 * LANES  # of a program: the counters, the addresses, room
MOST_STEPS = 64 + 1
_u64 = np.uint64

# A job has what a plane is drawn with: addresses; bytes from streams a to b and to c, and from a word at one end of its
# row to that at the other; the last bit of a row. Then, for each lattice, its plane and those of the neighbours. Then
# where to begin, for one lattice and for two.
_PROGRAM, _STREAMS, _PITCH, _ESCAPES, _FLAGS, _EDGES, _ROUND, _TOP, _LATTICES = range(9)
_OWN, _SAME, _ABOVE, _BELOW = range(4)
_BEGIN = _LATTICES + 4 * MOST_LATTICES
JOB_WORDS = _BEGIN + MOST_LATTICES

_ARCHITECTURE = llvmlite.binding.get_process_triple().partition("-")[0]
if _ARCHITECTURE in ("x86_64", "amd64"):
    # regcall passes sixteen vectors in registers, and preserves those registers that carry no argument
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
    of_band: Any  # in the band, which is what escapes, flags and edges are of
    stop: Any  # bytes of the band

    def field(self, builder, number):
        return builder.load(pointer(builder, advance(builder, self.job, 8 * number), I64))

    def streams(self, builder, strand):
        """Addresses of a, b, c."""
        at = advance(builder, builder.add(self.field(builder, _STREAMS), self.word), BYTES * strand)
        pitch = self.field(builder, _PITCH)
        return at, builder.add(at, pitch), builder.add(builder.add(at, pitch), pitch)

    def lattice(self, builder, lattice, number, strand):
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
    edges = load(builder, advance(builder, builder.add(frame.field(builder, _EDGES), frame.of_band), BYTES * strand))
    carried = builder.xor(next_word, builder.and_(builder.xor(next_word, other_end), edges))
    return builder.or_(within, carried)


def _emit_begin(builder, case, frame, lattices):
    """Load vectors of streams, count the neighbours of their words, and enter the program."""
    vectors = []
    for strand in range(STRANDS[lattices]):
        vectors += [*(load(builder, address) for address in frame.streams(builder, strand)), constant(0)]
        for lattice in range(lattices):
            same, above, below = (frame.lattice(builder, lattice, k, strand) for k in (_SAME, _ABOVE, _BELOW))
            a, b, c = (load(builder, at) for at in (same, above, below))
            d = _beside(builder, case, frame, same, a, strand)
            odd, two = builder.xor(builder.xor(a, b), c), majority(builder, a, b, c)
            more = builder.and_(odd, d)
            vectors += [builder.xor(odd, d), builder.xor(two, more), builder.and_(two, more), constant(0)]
    _jump_to_step(builder, frame._replace(step=frame.field(builder, _PROGRAM)), lattices, vectors)


def _strands(lattices, vectors):
    """Of each vector of words: a, b, c, decided, then for each lattice the digits of n and f."""
    length = 4 + 4 * lattices
    return [vectors[k : k + length] for k in range(0, STRANDS[lattices] * length, length)]


def _bit(builder, case, ones, twos, fours):
    """The bit of A_n that the case says, where `ones`, `twos` and `fours` are the digits of n."""
    of = [case >> n & 1 for n in range(5)]
    if LANES == 8:
        return looked_up(builder, [of[n] if n < 5 else 0 for n in (0, 4, 2, 6, 1, 5, 3, 7)], ones, twos, fours)
    bit = constant(-of[0])  # a polynomial over two elements
    for odd, term in (
        (of[0] ^ of[1], ones),
        (of[0] ^ of[2], twos),
        (of[0] ^ of[1] ^ of[2] ^ of[3], builder.and_(ones, twos)),
        (of[0] ^ of[4], fours),
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
    escapes_at = builder.add(frame.field(builder, _ESCAPES), frame.of_band)
    flags_at = builder.add(frame.field(builder, _FLAGS), builder.udiv(frame.of_band, ir.Constant(I64, BYTES)))
    for strand, (a, b, c, decided, *counted) in enumerate(_strands(lattices, vectors)):
        for vector, address in zip((a, b, c), frame.streams(builder, strand), strict=True):
            store(builder, vector, address)
        for lattice, f in enumerate(counted[3::4]):
            store(builder, f, frame.lattice(builder, lattice, _OWN, strand))
        escapes = builder.not_(decided)
        store(builder, escapes, advance(builder, escapes_at, BYTES * strand))
        flags = builder.bitcast(builder.icmp_signed("!=", escapes, constant(0)), ir.IntType(LANES))
        flags = builder.zext(flags, I8) if LANES < 8 else flags
        builder.store(flags, pointer(builder, advance(builder, flags_at, strand), I8))
    done = BYTES * STRANDS[lattices]
    following = frame._replace(word=advance(builder, frame.word, done), of_band=advance(builder, frame.of_band, done))
    with builder.if_then(builder.icmp_signed(">=", following.of_band, frame.stop)):
        builder.ret_void()
    _jump_to_begin(builder, following, lattices)


def _cases(module):
    """The functions of all cases, of one lattice and of two, emitted once into `module`, as a table."""
    name = "hessfast_draw_cases"
    if name not in module.globals:
        cases = []
        for lattices in range(1, MOST_LATTICES + 1):
            for case in range(_NUM_CASES):
                function = ir.Function(module, _CASE, f"hessfast_draw_{lattices}_{case}")
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


@numba.njit(cache=True)  # numba's own inliner would drop the last write, which it takes for dead
def assemble(codes, num_bits, log2_escapes, row, program, jobs):
    """Write the cases of the five codes A_j into `program`, uint64 [MOST_STEPS, STEP_WORDS], the first into `jobs`."""
    for lattices in range(1, MOST_LATTICES + 1):
        for k in range(num_bits):
            case = DECIDES if k >= log2_escapes else 0
            for j in range(5):
                case |= np.int64(codes[j] >> _u64(k) & _u64(1)) << j
            program[k, LANES + lattices - 1] = _address(lattices, case)  # pyright: ignore[reportCallIssue]
        program[num_bits, LANES + lattices - 1] = _address(lattices, STORE)  # pyright: ignore[reportCallIssue]
        for plane in range(4):
            case = BEGIN + 2 * (row > 1) + right_beside(plane)
            jobs[plane, _BEGIN + lattices - 1] = _address(lattices, case)  # pyright: ignore[reportCallIssue]


@numba.njit(cache=True, inline="always")
def right_beside(plane):
    """Whether the other neighbour in the row is a column to the right, as for planes Bo and We, or to the left."""
    return (plane & 1) ^ (plane >> 1)


@numba.njit(cache=True)
def write_jobs(jobs, program, streams, escapes, flags, edges, planes, size):  # pyright: ignore
    """Fill `jobs`, int64 [4, JOB_WORDS], for each plane; the other arrays are those of `Bath`, and must not move."""
    row, pitch = (size + 127) // 128, 8 * planes.shape[1]
    for plane in range(4):
        odd, right, job = plane & 1, right_beside(plane), jobs[plane]
        job[_PROGRAM], job[_STREAMS] = address_of(program), address_of(streams)  # pyright: ignore[reportCallIssue]
        job[_PITCH] = 8 * streams.shape[1]
        job[_ESCAPES] = address_of(escapes) + 8 * odd * escapes.shape[1]  # pyright: ignore[reportCallIssue]
        job[_FLAGS] = address_of(flags) + 8 * odd * flags.shape[1]  # pyright: ignore[reportCallIssue]
        job[_EDGES] = address_of(edges) + 8 * right * edges.shape[1]  # pyright: ignore[reportCallIssue]
        job[_ROUND], job[_TOP] = 8 * (row - 1) * (1 - 2 * right), (size // 2 - 1) & 63
        same = 2 * (1 - (plane >> 1)) + odd
        for lattice in range(len(planes) // 4):
            first, k = address_of(planes) + 4 * lattice * pitch, _LATTICES + 4 * lattice  # pyright: ignore[reportCallIssue]
            job[k + _OWN] = first + plane * pitch + 8 * row
            job[k + _SAME] = first + same * pitch + 8 * row
            # Rows m - 1 and m of the opposite row plane for even rows, m and m + 1 for odd rows.
            job[k + _ABOVE] = first + (same ^ 1) * pitch + 8 * row * odd
            job[k + _BELOW] = job[k + _ABOVE] + 8 * row


@numba.njit(cache=True, inline="always")
def draw(bath, plane, start, stop, counter, num_bits, num_lattices):
    """Update words start .. stop of one plane of the first lattices, and those up to a whole group; `start` is at one.

    Advances their streams by `num_bits` words. Escaped sites, which `escapes` gets from the first word on, become down.
    Byte v of `flags` has bit i set where word LANES v + i has an escaped site.
    """
    program, jobs = bath.program, bath.jobs
    for k in range(num_bits):
        for lane in range(LANES):
            program[k, lane] = _u64(counter + k)
    job = address_of(jobs) + 8 * JOB_WORDS * plane  # pyright: ignore[reportCallIssue]
    _run(job, 8 * start, 8 * (stop - start), num_lattices)  # pyright: ignore[reportCallIssue]


def _draw_numpy(bath, plane, start, stop, counter, num_bits, num_lattices):
    """`draw` without LLVM, for NUMBA_DISABLE_JIT=1."""
    odd, same, row = plane & 1, 2 * (1 - (plane >> 1)) + (plane & 1), bath.row
    top = _u64((bath.size // 2 - 1) & 63)
    num = (stop - start + GROUP - 1) // GROUP * GROUP
    streams, first = bath.streams[:, start : start + num], row + start
    exactly = []  # sites with n up neighbours
    for lattice in range(num_lattices):
        other = bath.planes[4 * lattice + (same ^ 1), odd * row + start :]
        a, b, c = bath.planes[4 * lattice + same, first : first + num], other[:num], other[row : row + num]
        x = np.resize(bath.planes[4 * lattice + same, row + start : row + stop], (num // row + 1, row))
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
        for f, of in zip(spins, exactly, strict=True):
            bit = np.bitwise_or.reduce([of[n] * (case >> n & 1) for n in range(5)])
            f[:] = f & word | f & bit | word & bit
        if case & DECIDES:
            decided |= word
    bath.planes[plane : plane + 4 * num_lattices : 4, first : first + num] = spins
    bath.escapes[odd, :num] = ~decided
    for v, words in enumerate(bath.escapes[odd, :num].reshape(-1, LANES)):
        bath.flags[odd].view(np.uint8)[v] = sum((word != 0) << i for i, word in enumerate(words))


if numba.config.DISABLE_JIT:  # pyright: ignore
    draw = _draw_numpy  # pyright: ignore[reportAssignmentType]

    def _address(lattices, case):
        return case

    def write_jobs(*arguments):
        pass
