"""Every Triton kernel compiled for an A100 (sm_80) and an H100 or H200 (sm_90), no GPU needed: registers and spills."""

import functools
import importlib
import re

import pytest

from bench.device import machine_code

triton = pytest.importorskip("triton", reason="Triton, which comes with PyTorch on Linux, is not installed")

CAPABILITIES = (80, 90)
f32, f64, i64 = "*fp32", "*fp64", "*i64"
wide = "i32, a multiple of 16"  # as of any network that is worth a kernel
KERNELS = {  # kernel's folder, its function and which form of it: types of the arguments, constants, most registers
    ("posterior_accumulate", "_spread"): (
        {
            "products": f64, "norms_s": f64, "norms_q": f64, "cells": i64, "weights": f32, "offsets": i64, "nodes": f32,
            "num_samples": "i32", "num_queries": "i32", "scale": "fp32", "softening": "fp32",
        },
        {"LAPLACE": True, "CORNERS": 4, "BLOCK": 64},
        64,
    ),
    ("posterior_moments", "_weigh"): (
        {
            "products": f64, "halves": f64, "rate": f64, "left_out": i64, "greatest": f64, "total": f64, "scale": f64,
            "first": "i32", "num": "i32",
        },
        {"BLOCK": 4096},
        96,
    ),
    ("mlp_hessian", "_multiply forward"): (
        {
            "x": f32, "matrix": f32, "bias": f32, "result": f32, "num_rows": "i32", "num_biased": "i32",
            "inner": wide, "outer": wide, "step_outer": wide,
        },
        {"ROWS": 128, "COLUMNS": 64, "INNER": 32, "step_inner": 1},
        255,
    ),
    ("mlp_hessian", "_multiply skip"): (
        {
            "x": f32, "matrix": f32, "result": f32, "num_rows": "i32", "num_biased": "i32",
            "inner": "i32", "outer": wide, "step_outer": "i32",
        },
        {"ROWS": 128, "COLUMNS": 64, "INNER": 32, "step_inner": 1, "bias": None},
        255,
    ),
    ("mlp_hessian", "_multiply backward"): (
        {
            "x": f32, "matrix": f32, "result": f32, "num_rows": "i32", "num_biased": "i32",
            "inner": wide, "outer": wide, "step_inner": wide,
        },
        {"ROWS": 128, "COLUMNS": 64, "INNER": 32, "step_outer": 1, "bias": None},
        255,
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


@functools.cache
def binary(op: str, name: str, capability: int) -> bytes:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types, constants, _ = KERNELS[op, name]
    function = getattr(importlib.import_module(f"hessfast.kernels.{op}.gpu"), name.split()[0])
    types = types | dict.fromkeys(constants, "constexpr")
    place = {name: (function.arg_names.index(name),) for name in types}
    aligned = [name for name, kind in types.items() if kind.startswith("*") or kind == wide]
    source = ASTSource(
        fn=function,
        signature={name: "i32" if kind == wide else kind for name, kind in types.items()},
        constexprs={place[name]: value for name, value in constants.items()},
        attrs={place[name]: [["tt.divisibility", 16]] for name in aligned},
    )
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=_options(op, name)).asm["cubin"]


def _options(op: str, name: str) -> dict:
    module = importlib.import_module(f"hessfast.kernels.{op}.gpu")
    return module.PRODUCT if name.startswith("_multiply") else module.OPTIONS


def usage(op: str, name: str, capability: int) -> tuple[dict[str, int], int]:
    """Bytes and registers as cuobjdump reports them, and the warps of a program."""
    report = machine_code.cuobjdump(binary(op, name, capability), "--dump-resource-usage")
    found = {name: int(number) for name, number in re.findall(r"(REG|STACK|LOCAL):(\d+)", report)}
    return found, _options(op, name)["num_warps"]


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("op", "name"), KERNELS)
def test_registers_and_spills(op, name, capability):
    used, _ = usage(op, name, capability)
    assert used["REG"] <= KERNELS[op, name][2]
    assert used["LOCAL"] == 0 and used["STACK"] <= 8  # spills would lie there; 8 bytes are a division's
