"""What the LLVM IR of the heat bath is made of: vectors of words as wide as the machine's registers, and addresses."""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _has_avx512() -> bool:
    try:
        return bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # a processor that LLVM cannot query
        return False


LANES = 8 if _has_avx512() else 4  # words a vector
BYTES = 8 * LANES
I8, I64 = ir.IntType(8), ir.IntType(64)
VECTOR = ir.VectorType(I64, LANES)


def constant(word):
    return ir.Constant(VECTOR, [word] * LANES)


def pointer(builder, address, kind: ir.Type = VECTOR):
    return builder.inttoptr(address, kind.as_pointer())


def advance(builder, address, offset):
    return builder.add(address, offset if isinstance(offset, ir.Value) else ir.Constant(I64, offset))


def load(builder, address):
    return builder.load(pointer(builder, address), align=8)


def store(builder, vector, address):
    builder.store(vector, pointer(builder, address), align=8)


@intrinsic
def address_of(typing_context, array):
    """Address of the first element of a contiguous array; it counts no reference, so the array must stay bound."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, I64)

    return types.int64(array), codegen
