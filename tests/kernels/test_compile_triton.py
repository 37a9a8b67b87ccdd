"""Every Triton kernel compiled for an A100 (sm_80) and an H100 or H200 (sm_90), no GPU needed: registers and spills."""

import re
import subprocess
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="Triton, which comes with PyTorch on Linux, is not installed")

CAPABILITIES = (80, 90)
f32, f64, i64 = "*fp32", "*fp64", "*i64"
KERNELS = {  # kernel's folder, its function: types of the arguments, constants, most registers
    ("posterior_accumulate", "_spread"): (
        {
            "products": f64, "norms_s": f64, "norms_q": f64, "cells": i64, "weights": f32, "offsets": i64, "nodes": f32,
            "num_samples": "i32", "num_queries": "i32", "scale": "fp32", "softening": "fp32",
        },
        {"LAPLACE": True, "CORNERS": 4, "BLOCK": 64},
        64,
    ),
    ("mlp_hessian", "_activate"): (
        {"z": f32, "gain": f32, "shift": f32, "a": f32, "width": "i32", "eps": "fp32"},
        {"ACTIVATION": 4, "DIM": 2, "BLOCK": 512, "NORM": True},
        64,
    ),
    ("mlp_hessian", "_contract"): (
        {
            "z": f32, "gain": f32, "shift": f32, "g": f32, "back": f32, "hessian": f32,
            "width": "i32", "eps": "fp32",
        },
        {"ACTIVATION": 4, "DIM": 2, "BLOCK": 512, "NORM": True},
        96,
    ),
}  # fmt: skip


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("op", "name"), KERNELS)
def test_registers_and_spills(op, name, capability, tmp_path):
    import importlib

    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types, constants, most_registers = KERNELS[op, name]
    module = importlib.import_module(f"hessfast.kernels.{op}.gpu")
    function = getattr(module, name)
    types = types | dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        fn=function, signature=types, constexprs={(function.arg_names.index(k),): v for k, v in constants.items()}
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=module.OPTIONS)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    cuobjdump = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [str(cuobjdump), "--dump-resource-usage", str(cubin)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", report)}
    assert usage.pop("REG") <= most_registers, report
    assert usage == {"STACK": 0, "LOCAL": 0}, report  # spills would lie there
