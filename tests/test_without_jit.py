"""The CPU kernels as plain Python, and compiled for a processor without wide vectors: always the reference's bits.

python -m tests.test_without_jit ising_sweep        compares one kernel with its reference, in this environment
"""

import concurrent.futures
import functools
import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PLAIN = {"NUMBA_DISABLE_JIT": "1"}
NARROW = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}  # on x86-64: 128 bits, as the ABI has it
PLAIN_RUNS = {  # kernel: size of its problem
    "block_tridiagonal": 4,
    "integer_probabilities": 40,
    "ising_cftp": 6,
    "ising_fk_cftp": 6,
    "ising_observables": 22,
    "ising_sweep": 130,  # some sites escape, rows of two words
    "mlp_hessian": 5,
    "pattern_counts": 6,
    "posterior_accumulate": 7,
    "posterior_moments": 7,
    "tasep_evolve": 5,
    "tasep_likelihood": 9,
    "tasep_sample": 70,
}
IN_FLOAT32 = ("mlp_hessian", "posterior_moments")  # between arguments and results
AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+avx,+bmi,+bmi2,+popcnt,+sse4.2"}
AVX2_RUNS = {"ising_cftp": 10, "ising_sweep": 130}
NARROW_RUNS = {"ising_cftp": 10, "ising_sweep": 130, "tasep_sample": 300}
SEED, IDS = np.uint64(2**64 - 3), np.array([5, 0, 2**63], np.uint64)
TEMPERATURE, FIELD = np.array([5.0, 2.6, 3.0]), np.array([0.0, -0.5, 1.5])


def _ising(op, size):
    from hessfast.ising import _thresholds

    words = np.zeros((3, 4, size // 2, -(-size // 128)), np.uint64)
    words[1:, :2] = 2 ** min(size // 2, 64) - 1  # the black sites are up
    words[2, 0, 0] >>= np.uint64(1)
    if op == "ising_observables":
        return [words, size]
    if op == "ising_sweep":
        return [words, _thresholds.heat_bath(TEMPERATURE, FIELD), np.array([3, 1, 2]), IDS, SEED, size]
    if op == "ising_cftp":
        return [_thresholds.heat_bath(TEMPERATURE, FIELD), np.array([0, 2, 1]), IDS, SEED, size]
    return [_thresholds.bonds(TEMPERATURE, FIELD), np.sign(FIELD).astype(np.int8), IDS, SEED, size]


def _tasep(op, num_sites):
    alpha, beta = np.array([0.3, 0.7, 1.0]), np.array([0.8, 0.2, 1.0])
    words = np.zeros((3, -(-num_sites // 64)), np.uint64)
    words[1, 0] = 0b1011
    if op == "tasep_sample":
        return [words, np.zeros((3, 2), np.int64), alpha, beta, num_sites, int(SEED), 7]
    if op == "tasep_evolve":
        return [words, alpha, beta, num_sites, 3.5, int(SEED), 7]
    fugacities = [np.stack([1 / rate - 1, np.full(3, 0.5)], axis=1) for rate in (alpha, beta)]
    return [*np.full((2, 3, 2, 2), np.nan), words, num_sites, *fugacities, 0.0]


def _network(width):
    """Points, two layers, one of them with LayerNorm, and a last one."""
    import torch

    def numbers(*shape):
        return torch.cos(torch.arange(1.0, 1 + np.prod(shape))).reshape(shape)

    norm = torch.linspace(0.5, 1.5, width), numbers(width), 1e-5
    hidden = [(None, numbers(width, 2), numbers(width), None), (numbers(width, width), None, numbers(width), norm)]
    return numbers(3, 2), hidden, (numbers(1, width), numbers(1, 2), numbers(1), None)


def calls(op: str, size: int):
    """The functions of a kernel with small problems."""
    if op == "integer_probabilities":
        numerator = np.linspace(0, 50, size)
        yield "logistic64", [numerator - 25, numerator * 1e-18, np.full(size, 1.7)]
        yield "one_minus_exp64", [numerator, np.full(size, 1.7)]
    elif op == "pattern_counts":
        cells = np.arange(2 * size * size, dtype=np.uint8).reshape(2, size, size) % 3 % 2
        yield op, [cells, 2, 3, True]
        yield op, [cells, 3, 1, False]
    elif op == "posterior_accumulate":
        features = np.linspace(-1, 2, 3 * size, dtype=np.float32).reshape(size, 3) ** 2
        cells, weights = np.arange(size) % 2, np.full((size, 2), 0.5, np.float32)
        yield op, [None, features, cells, weights, np.array([0, 1]), 3, True, 2.0, 0.0]
        yield op, [features[:2] + 1, features, cells, weights, np.array([0, 1]), 3, False, 2.0, 1e-3]
    elif op == "posterior_moments":
        data = np.linspace(-1, 2, 3 * size, dtype=np.float32).reshape(size, 3) ** 2
        queries, tau, left_out = data[1:4] + np.float32(0.25), np.array([0.2, 1.0, 30.0]), np.array([-1, 2, 0])
        probes = np.sign(np.cos(np.arange(1, 19, dtype=np.float32))).reshape(3, 2, 3)
        yield op, [queries, data, tau, probes, left_out]
        yield op, [queries, data, tau, probes[:, :0], left_out]
    elif op == "block_tridiagonal":
        diagonal = np.stack([4 * np.eye(2) + np.cos(k) for k in range(size)])
        yield op, [np.stack([diagonal, -diagonal]), np.ones((2, size - 1, 2, 2)), np.ones((2, size, 2))]
    elif op == "mlp_hessian":
        yield from ((op, [*_network(size), name]) for name in ("relu", "softplus", "silu", "tanh", "gelu"))
    else:
        yield op, (_ising if op.startswith("ising") else _tasep)(op, size)


def outcome(op: str, size: int, form: str) -> list[np.ndarray]:
    """What the kernel returns, and what it leaves in its arguments."""
    arrays = []
    for name, arguments in calls(op, size):
        returned = getattr(importlib.import_module(f"hessfast.kernels.{op}.{form}"), name)(*arguments)
        arrays += arguments + (list(returned) if isinstance(returned, tuple) else [returned])
    return [np.asarray(array) for array in arrays if hasattr(array, "dtype")]


def compare(op: str, size: int) -> None:
    for expected, got in zip(outcome(op, size, "reference"), outcome(op, size, "cpu"), strict=True):
        if got.dtype.kind == "f":
            tolerance = 1e-13 if got.dtype == np.float64 else 1e-5
            np.testing.assert_allclose(got, expected, rtol=tolerance, atol=1e-6 if op in IN_FLOAT32 else 1e-13)
        else:
            np.testing.assert_array_equal(got, expected)


@functools.cache
def _processes() -> dict[str, concurrent.futures.Future]:
    """One process for each comparison, two at a time, begun at once."""
    pool = concurrent.futures.ThreadPoolExecutor(2)
    return {op: pool.submit(_run, op, size, PLAIN) for op, size in PLAIN_RUNS.items()}


def _run(op: str, size: int, environment: dict[str, str]) -> subprocess.CompletedProcess:
    # In plain Python NumPy warns where 64-bit words overflow, as random numbers must.
    warnings = ["-W", "error::RuntimeWarning", "-W", "ignore:overflow:RuntimeWarning"]
    command = [sys.executable, *warnings, "-m", __name__, op, str(size)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize("op", PLAIN_RUNS)
def test_plain_python(op):
    run = _processes()[op].result()
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("op", AVX2_RUNS)
def test_vectors_of_256_bits(op):
    if platform.machine() != "x86_64":
        pytest.skip("AVX2 is of x86-64")
    run = _run(op, AVX2_RUNS[op], AVX2)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow  # compiling for another processor takes a while
@pytest.mark.parametrize("op", NARROW_RUNS)
def test_narrow_vectors(op):
    run = _run(op, NARROW_RUNS[op], NARROW)
    assert run.returncode == 0, run.stderr


def test_every_kernel_is_compared():
    assert set(PLAIN_RUNS) == {path.parent.name for path in (ROOT / "kernels").glob("[a-z]*/cpu.py")}


if __name__ == "__main__":
    compare(sys.argv[1], int(sys.argv[2]))
