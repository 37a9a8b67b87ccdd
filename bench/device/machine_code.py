"""Innermost loops of compiled kernels, as the machine code has them: how many instructions each unit gets.

A unit of a multiprocessor takes so many lanes a clock (sm_80 and sm_90: logic and integer sums 64, products 64 or 128,
shared memory 32), so the counts, divided by what a passage of the loop does, bound the rate before any GPU has run it.
"""

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

UNITS = {  # by the first letters of an instruction; the longest that fit decide
    "logic": "LOP SHF IADD VIADD ISETP SEL LEA PRMT MOV PLOP P2R R2P IABS IMNMX VIMNMX FSETP FSEL FMNMX SGXT VOTE",
    "product": "IMAD FFMA FMUL FADD FSWZADD HFMA HADD HMUL",
    "float64": "DFMA DADD DMUL DSETP",
    "tensor": "HMMA DMMA IMMA HGMMA WARPGROUP",
    "special": "MUFU I2F F2I F2F I2I FRND POPC FLO BREV",
    "memory": "LD ST RED ATOM SHFL MATCH UTMA",
    "uniform": "U R2UR S2UR REDUX",
}
_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
_JUMP = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?BRA[^;]*?0x([0-9a-f]+)")


class Loop(NamedTuple):
    """An innermost loop, and the number of its instructions by unit."""

    kernel: str
    target: str
    units: Counter


def unit(instruction: str) -> str:
    """
    >>> unit("LOP3.LUT"), unit("IMAD.WIDE.U32"), unit("USHF.R.U32.HI"), unit("BRA"), unit("MUFU.EX2"), unit("LDS.64")
    ('logic', 'product', 'uniform', 'control', 'special', 'memory')
    """
    fitting = (
        (len(stem), name) for name, stems in UNITS.items() for stem in stems.split() if instruction.startswith(stem)
    )
    return max(fitting, default=(0, "control"))[1]


def loops(code: str) -> list[Loop]:
    """Of what cuobjdump prints: backward jumps that enclose no other, in order of their place."""
    found = []
    for target, section in _sections(r"code for (sm_\d+)", code):
        for kernel, body in _sections(r"Function : (\w+)", section):
            names = {int(at, 16): name for at, name in _INSTRUCTION.findall(body)}
            jumps = [(int(to, 16), int(at, 16)) for at, to in _JUMP.findall(body)]
            backward = sorted((first, last) for first, last in jumps if first < last)
            for first, last in backward:
                if not any(first <= a and b <= last for a, b in backward if (a, b) != (first, last)):
                    units = Counter(unit(name) for at, name in names.items() if first <= at <= last)
                    found.append(Loop(kernel, target, units))
    return found


def _sections(head: str, text: str):
    """(what the head names, the text up to the next head)."""
    _, *parts = re.split(head, text)
    return zip(parts[::2], parts[1::2], strict=True)


def cuobjdump(binary: bytes, *options: str) -> str:
    """What the cuobjdump that comes with Triton prints of a cubin or a fatbin."""
    import triton

    program = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        Path(file.name).write_bytes(binary)
        return subprocess.run([program, *options, file.name], capture_output=True, text=True, check=True).stdout
