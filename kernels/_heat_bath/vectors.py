"""What the LLVM IR of the heat bath is made of: vectors of words as wide as the machine's registers, and addresses."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.extending import intrinsic


def _lanes() -> int:
    """Words a register, of the processor that numba compiles for: its cache tells processors apart by this string."""
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")  # pyright: ignore[reportAttributeAccessIssue]
    return 8 if "+avx512f" in features else 4 if "+avx2" in features else 2


LANES = _lanes()  # words a vector
BYTES = 8 * LANES
I8, I64 = ir.IntType(8), ir.IntType(64)
VECTOR = ir.VectorType(I64, LANES)


def constant(word):
    return ir.Constant(VECTOR, [word] * LANES)


def splat(builder, word):
    """All words of a vector equal to one that is computed."""
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), word, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def pointer(builder, address, kind: ir.Type = VECTOR):
    return builder.inttoptr(address, kind.as_pointer())


def advance(builder, address, offset):
    return builder.add(address, ir.Constant(I64, offset))


def load(builder, address):
    return builder.load(pointer(builder, address), align=8)


def store(builder, vector, address):
    builder.store(vector, pointer(builder, address), align=8)


def looked_up(builder, table, x, y, z):
    """Entry 4 x + 2 y + z of eight bits, at every bit of three vectors: one instruction of AVX-512."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3 + [ir.IntType(32)])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.pternlog.q.512")
    return builder.call(function, [x, y, z, ir.Constant(ir.IntType(32), sum(bit << k for k, bit in enumerate(table)))])


def majority(builder, x, y, z):
    if LANES == 8:
        return looked_up(builder, (0, 0, 0, 1, 0, 1, 1, 1), x, y, z)
    return builder.xor(x, builder.and_(builder.xor(x, y), builder.xor(x, z)))


@intrinsic
def address_of(typing_context, array):
    """Address of the first element of a contiguous array.

    No reference is counted, and numba frees an array after its last use: it must be used again after the address.
    """
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypingError(f"address_of takes a C-contiguous array, got {array}")

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, I64)

    return types.int64(array), codegen
