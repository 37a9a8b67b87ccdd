"""What can be said of the GPU kernels without a GPU: registers, spills, and how many warps a multiprocessor can hold.

The kernels are compiled for an A100 (sm_80) and an H100 or H200 (sm_90) by the tests that bound their registers.
"""

from tests.kernels import test_compile_cuda as cuda
from tests.kernels import test_compile_triton as in_triton

WARPS_OF_BLOCK = 4  # of every CUDA C++ kernel; of a Triton kernel, its option
MOST_WARPS, REGISTERS = 64, 65_536  # of a multiprocessor


def warps(registers: int, of_block: int) -> int:
    """Warps that the registers of a multiprocessor hold, allotted to warps in 256s and to blocks whole.

    >>> warps(128, 4), warps(116, 4), warps(32, 8)
    (16, 16, 64)
    """
    blocks = REGISTERS // (of_block * -(-registers * 32 // 256) * 256)
    return min(MOST_WARPS, blocks * of_block)


def table() -> str:
    lines = [f"{'kernel':45} {'target':7} {'registers':>9} {'spills':>7} {'warps':>6}"]
    for op in cuda.OPS:
        for (cc, name), (registers, _, spills) in sorted(cuda.usage(op).items()):
            lines.append(f"{name:45} sm_{cc:4} {registers:9} {spills:7} {warps(registers, WARPS_OF_BLOCK):6}")
    for op, name in in_triton.KERNELS:
        for capability in in_triton.CAPABILITIES:
            usage, num_warps = in_triton.usage(op, name, capability)
            held = warps(usage["REG"], num_warps)
            lines.append(f"{op + name:45} sm_{capability:<4} {usage['REG']:9} {usage['LOCAL']:7} {held:6}")
    return "\n".join(lines)
