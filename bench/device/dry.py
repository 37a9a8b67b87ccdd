"""What can be said of the GPU kernels without a GPU: registers, spills, warps of a multiprocessor, and inner loops.

The kernels are compiled for an A100 (sm_80) and an H100 or H200 (sm_90) by the tests that bound their registers.
"""

from collections import Counter

from tests.kernels import test_compile_cuda as cuda
from tests.kernels import test_compile_triton as in_triton

from . import machine_code

WARPS_OF_BLOCK = 4  # of every CUDA C++ kernel; of a Triton kernel, its option
MOST_WARPS, REGISTERS = 64, 65_536  # of a multiprocessor
COLUMNS = (*machine_code.UNITS, "control")


def warps(registers: int, of_block: int) -> int:
    """Warps that the registers of a multiprocessor hold, allotted to warps in 256s and to blocks whole.

    >>> warps(128, 4), warps(116, 4), warps(32, 8)
    (16, 16, 64)
    """
    blocks = REGISTERS // (of_block * -(-registers * 32 // 256) * 256)
    return min(MOST_WARPS, blocks * of_block)


def registers() -> str:
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


def inner_loops(least: int = 32) -> str:
    """Instructions by unit of every innermost loop of at least so many, with how often the same one stands there."""
    binaries = [(cuda.binary(op), "") for op in cuda.OPS]
    binaries += [(in_triton.binary(*each, cc), each[0]) for each in in_triton.KERNELS for cc in in_triton.CAPABILITIES]
    found = Counter()
    for binary, op in binaries:
        for kernel, target, units in machine_code.loops(machine_code.cuobjdump(binary, "-sass")):
            if units.total() >= least:
                found[op + kernel, target, *(units[name] for name in COLUMNS)] += 1
    lines = [f"{'innermost loops':45} {'target':6} {'alike':>6}" + "".join(f"{name:>9}" for name in COLUMNS)]
    for (kernel, target, *units), times in found.items():
        lines.append(f"{kernel:45} {target:6} {times:6}" + "".join(f"{number:9}" for number in units))
    return "\n".join(lines)
