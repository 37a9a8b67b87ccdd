"""CUDA C++ kernels: `compile` loads a `.cu` file with CuPy's NVRTC, `lanes.cuh` lets the same code run on a host.

A `.cu` file lies beside the `gpu.py` that launches it and includes headers by their path below kernels/. Tests compile
the same files with g++, where the lanes of a warp are a loop, and with nvcc for sm_80 and sm_90.
"""

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

KERNELS = Path(__file__).resolve().parent.parent


def path(op: str) -> Path:
    return KERNELS / op / f"{op}.cu"


@functools.cache
def compile(op: str):
    """The CuPy module of kernels/<op>/<op>.cu, compiled on the first call in a process (CuPy caches it on disk)."""
    import cupy

    # CuPy's disk cache looks at the source and the options, not at headers: name their content among the options.
    headers = b"".join(each.read_bytes() for each in sorted(KERNELS.glob("**/*.cuh")))
    options = ("-std=c++17", f"-I{KERNELS}", f"-DHEADERS=0x{hashlib.sha256(headers).hexdigest()[:15]}")
    return cupy.RawModule(code=path(op).read_text(), options=options)


def launch(op: str, name: str, blocks: int, threads: int, *arguments) -> None:
    """Run kernel `name` of `op` on torch's current stream; arguments are CUDA tensors and Python integers."""
    import cupy
    import torch

    values = [cupy.uint64(a % 2**64) if isinstance(a, int) else a for a in arguments]
    pointers = [a if isinstance(a, cupy.generic) else cupy.uint64(a.data_ptr()) for a in values]
    tensor = next(a for a in values if isinstance(a, torch.Tensor))
    assert all(a.is_contiguous() for a in values if isinstance(a, torch.Tensor))
    with torch.cuda.device(tensor.device), current_stream():
        compile(op).get_function(name)((blocks,), (threads,), tuple(pointers))


class _CudaStream(NamedTuple):
    """A stream of another library, by the protocol that CuPy asks for."""

    handle: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.handle


def current_stream():
    """Torch's, as CuPy's: since CuPy 14 by the protocol, before by its address."""
    import cupy
    import torch

    handle = torch.cuda.current_stream().cuda_stream
    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(_CudaStream(handle))
    return cupy.cuda.ExternalStream(handle)
