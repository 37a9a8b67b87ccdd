"""Runs CUDA C++ kernels on the host: g++ compiles the `.cu` file with the lanes of a warp as a loop (lanes.cuh).

A block has one thread here, so a missing barrier or a race of threads cannot be seen: `pytest -m gpu` is for those.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from hessfast.kernels._cuda import KERNELS, path


@functools.cache
def _library(op: str) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile CUDA C++ for the host")
    target = Path(tempfile.mkdtemp()) / f"{op}.so"
    flags = ["-x", "c++", "-std=c++17", "-O2", "-Wall", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, f"-I{KERNELS}", str(path(op)), "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


def run(op: str, name: str, *arguments) -> None:
    """Call kernel `name` of `op`: NumPy arrays are passed as pointers, integers as 64-bit integers."""
    values = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            assert argument.flags.c_contiguous
            values.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            values.append(ctypes.c_uint64(int(argument) & (2**64 - 1)))
    getattr(_library(op), name)(*values)
