"""Every `.cu` file compiled by nvcc for an A100 (sm_80) and an H100 or H200 (sm_90): registers, spills, stacks."""

import concurrent.futures
import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from hessfast.kernels._cuda import KERNELS, path

ARCHITECTURES = ["80", "90"]
OPS = sorted(source.parent.name for source in KERNELS.glob("*/*.cu"))

# A multiprocessor has 65,536 registers and allots them to threads in eights: 120 and 128 leave room for 16 warps, 64
# for 32.
MOST_REGISTERS = {
    "ising_cftp_128": 128,
    "ising_cftp_any": 96,
    "ising_observables": 56,
    "ising_sweep_128": 120,
    "ising_sweep_any": 56,
    "tasep_configurations": 80,
    "tasep_evolve": 40,
    "tasep_exponents": 80,
}


@functools.cache
def _compilations() -> dict[str, concurrent.futures.Future[tuple[str, bytes]]]:
    """All compilations, begun at once; one nvcc serves both architectures. What ptxas reports, and the binary."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("nvcc, which would compile the CUDA C++ kernels, is not on PATH")
    code = [f"-gencode=arch=compute_{cc},code=sm_{cc}" for cc in ARCHITECTURES]
    command = [nvcc, "-std=c++17", *code, f"-I{KERNELS}", "-Xptxas=-v", "-fatbin"]
    pool = concurrent.futures.ThreadPoolExecutor(2)
    return {op: pool.submit(_compile, [*command, str(path(op))]) for op in OPS}


def _compile(command: list[str]) -> tuple[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernel.fatbin"
        result = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stderr, target.read_bytes()


def binary(op: str) -> bytes:
    return _compilations()[op].result()[1]


@functools.cache
def usage(op: str) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(architecture, kernel) -> registers a thread, bytes of its stack frame, bytes of spills: as ptxas reports."""
    entries = re.findall(
        r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
        _compilations()[op].result()[0],
        re.S,
    )
    return {
        (cc, name): (int(registers), int(stack), int(stores) + int(loads))
        for name, cc, stack, stores, loads, registers in entries
    }


@pytest.mark.parametrize("op", OPS)
def test_nothing_spills(op):
    used = usage(op)
    kernels = {name for _, name in used}
    assert kernels and set(used) == {(cc, name) for cc in ARCHITECTURES for name in kernels}
    for (_, name), (registers, stack, spills) in used.items():
        assert spills == 0, f"{name} spills {spills} bytes"
        assert stack == 0, f"{name} has a stack frame of {stack} bytes"
        most = MOST_REGISTERS.get(name, 0)
        assert registers <= most, f"{name} takes {registers} registers, at most {most} are recorded here"


@pytest.mark.parametrize("op", OPS)
def test_what_is_launched_exists(op):
    launched = set(re.findall(r'launch\(\s*"(\w+)",\s*"(\w+)"', (KERNELS / op / "gpu.py").read_text()))
    assert launched == {(op, name) for _, name in usage(op)}


def test_no_limit_outlives_its_kernel():
    assert {name for op in OPS for _, name in usage(op)} == set(MOST_REGISTERS)
