"""posterior_accumulate: numba and Triton against NumPy in float64, to 1e-5 of every node."""

import numpy as np
import pytest

from hessfast.kernels.posterior_accumulate import cpu, reference

from ..threads import threads
from . import interpreter

KERNELS = {"laplace": (True, 10.0, 2e-5), "gaussian": (False, 3.0, 0.0)}


def problem(num_samples, num_features, shape=(6, 5), num_queries=None, seed=0):
    """Features near a surface, as an encoder's are, some of them repeated or nearly so; multilinear weights."""
    rng = np.random.default_rng(seed)
    dim = len(shape)
    parameters = rng.uniform(0, 1, (num_samples, dim))
    features = np.sin(parameters @ rng.normal(size=(dim, num_features))) + 3
    features += 0.01 * rng.normal(size=features.shape)
    features[1::7] = features[::7][: len(features[1::7])]
    features[2::7] = features[::7][: len(features[2::7])] * (1 + 1e-5)
    place = parameters * (np.array(shape) - 1)
    lowest = np.minimum(place.astype(np.int64), np.array(shape) - 2)
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    corners = np.array(list(np.ndindex(*(2,) * dim)))
    fraction = (place - lowest)[:, None]
    weights = np.where(corners, fraction, 1 - fraction).prod(axis=2)
    samples = features.astype(np.float32)
    queries = None if num_queries is None else samples[rng.integers(0, num_samples, num_queries)] + np.float32(0.003)
    cells = lowest @ strides
    return queries, samples, cells, weights.astype(np.float32), corners @ strides, int(np.prod(shape))


def assert_close(got, expected):
    assert got.dtype == np.float32 and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("num_queries", [None, 1, 300])
def test_numba_equals_reference(kernel, num_queries):
    case = problem(700, 24, num_queries=num_queries)
    assert_close(
        cpu.posterior_accumulate(*case, *KERNELS[kernel]), reference.posterior_accumulate(*case, *KERNELS[kernel])
    )


@pytest.mark.parametrize("num_samples", [1, 2, 255, 256, 257, 4096, 4097])
def test_blocks_and_panels(num_samples):
    """Sizes about those of a block and of a panel of blocks, both ways of pairing samples with themselves."""
    case = problem(num_samples, 3)
    symmetric = cpu.posterior_accumulate(*case, *KERNELS["laplace"])
    crossed = cpu.posterior_accumulate(case[1], *case[1:], *KERNELS["laplace"])
    np.testing.assert_allclose(symmetric, crossed, rtol=1e-5)
    few = slice(0, 50)
    expected = reference.posterior_accumulate(case[1][few], *case[1:], *KERNELS["laplace"])
    assert_close(symmetric[few], expected)


@pytest.mark.parametrize("shape", [(9,), (4, 3, 5)])
def test_other_dimensions(shape):
    case = problem(300, 8, shape)
    assert_close(
        cpu.posterior_accumulate(*case, *KERNELS["gaussian"]),
        reference.posterior_accumulate(*case, *KERNELS["gaussian"]),
    )


def test_no_queries():
    case = problem(40, 8, num_queries=0)
    assert cpu.posterior_accumulate(*case, *KERNELS["laplace"]).shape == (0, 30)


def test_weight_of_far_samples_underflows_to_nothing_worse():
    queries, samples, *rest = problem(30, 4)
    got = cpu.posterior_accumulate(queries, samples * 100, *rest, True, 10.0, 0.0)
    assert np.isfinite(got).all() and (got >= 0).all()


def test_threads_do_not_change_the_sums():
    case = problem(600, 16)
    results = []
    for num in (1, 2):
        with threads(num):
            results.append(cpu.posterior_accumulate(*case, *KERNELS["laplace"]))
    np.testing.assert_array_equal(*results)


def interpret():
    """What the test below runs in another process, where TRITON_INTERPRET is set before Triton is imported."""
    import torch

    from hessfast.kernels.posterior_accumulate import gpu

    gpu.PANEL_BYTES = 8 * 20 * 70  # several panels
    for kernel in KERNELS.values():
        for num_queries in (None, 70):
            case = problem(60, 8, num_queries=num_queries)
            tensors = [torch.as_tensor(x) if isinstance(x, np.ndarray) else x for x in case]
            got = gpu.posterior_accumulate(*tensors, *kernel).numpy()
            assert_close(got, reference.posterior_accumulate(*case, *kernel))


def test_triton_in_the_interpreter():
    result = interpreter.run(__name__)
    assert result.returncode == 0, result.stderr


@pytest.mark.gpu
def test_gpu_equals_reference():
    import torch

    from hessfast.kernels.posterior_accumulate import gpu

    for num_queries in (None, 300):
        case = problem(700, 24, num_queries=num_queries)
        tensors = [torch.as_tensor(x).cuda() if isinstance(x, np.ndarray) else x for x in case]
        got = gpu.posterior_accumulate(*tensors, *KERNELS["laplace"]).cpu().numpy()
        assert_close(got, reference.posterior_accumulate(*case, *KERNELS["laplace"]))
