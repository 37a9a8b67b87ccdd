"""What the device can do at most: bytes, matrix products, integer operations. Measured, not read off a data sheet."""

from collections.abc import Iterator
from functools import partial

from hessfast.kernels._cuda import current_stream

from .measure import Row, rate

# Eight independent chains a thread; every operation takes what the last one of its chain gave.
CHAINS = r"""
extern "C" __global__ void chains(unsigned* out, unsigned a, unsigned b) {
    unsigned x[8];
    for (int i = 0; i < 8; ++i) x[i] = threadIdx.x * 8 + i;
    for (int round = 0; round < 1024; ++round) {
        #pragma unroll
        for (int i = 0; i < 64; ++i) asm volatile("OP" : "+r"(x[i & 7]) : "r"(a), "r"(b));
    }
    unsigned sum = 0;
    for (int i = 0; i < 8; ++i) sum ^= x[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"""
OPERATIONS = {"lop3": "lop3.b32 %0, %0, %1, %2, 0xe8;", "mad.lo": "mad.lo.u32 %0, %0, %1, %2;"}
OPERATIONS["lop3 and mad.lo"] = OPERATIONS["lop3"] + OPERATIONS["mad.lo"]


def ceilings() -> Iterator[Row]:
    import torch

    n = 2**29
    source, target = torch.rand(n, device="cuda"), torch.empty(n, device="cuda")
    yield rate("ceiling: copy", partial(target.copy_, source), 8 * n / 1e9, "GB/s")
    for dtype, size in ((torch.float64, 4096), (torch.float32, 8192), (torch.bfloat16, 8192)):
        a, b = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
        name = f"ceiling: product, {dtype}".replace("torch.", "")
        yield rate(name, partial(torch.matmul, a, b), 2 * size**3 / 1e12, "TFLOP/s", seconds=0.5)
    import cupy

    blocks = 16 * torch.cuda.get_device_properties(0).multi_processor_count
    out = cupy.empty(blocks * 256, cupy.uint32)
    for name, operation in OPERATIONS.items():
        kernel = cupy.RawKernel(CHAINS.replace("OP", operation), "chains")
        with current_stream():
            call = partial(kernel, (blocks,), (256,), (out, cupy.uint32(7), cupy.uint32(9)))
            operations = blocks * 256 * 1024 * 64 * operation.count(";")
            yield rate(f"ceiling: {name}", call, operations / 1e9, "Gop/s", seconds=0.5)
