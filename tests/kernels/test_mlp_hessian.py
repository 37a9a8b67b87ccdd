"""mlp_hessian: numba and Triton against automatic differentiation in float64, no worse than the latter in float32."""

import pytest
import torch

from hessfast.kernels.mlp_hessian import ACTIVATIONS, Layer, cpu, reference

from ..threads import threads
from . import interpreter

NETWORKS = {  # dim, widths, LayerNorm, skips
    "plain": (2, (32, 48, 16), False, False),
    "norm": (3, (33, 20), True, False),
    "skips": (2, (24, 24, 24), False, True),
    "both": (8, (40, 40), True, True),
    "least": (1, (1,), False, True),
}


def network(dim, widths, norm, skip):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    hidden, before = [], None
    for width in widths:
        weight = None if before is None else normal(width, before) / before**0.5
        first = normal(width, dim) if before is None or skip else None
        scaled = (1 + 0.1 * normal(width), 0.1 * normal(width), 1e-5) if norm else None
        hidden.append(Layer(weight, first, 0.1 * normal(width), scaled))
        before = width
    return hidden, Layer(normal(1, before) / before**0.5, normal(1, dim) if skip else None, normal(1))


def cast(layer, kind):
    """A layer with every tensor in another dtype or on another device."""
    weight, skip, bias = (None if x is None else x.to(kind) for x in layer[:3])
    return Layer(weight, skip, bias, layer.norm and (layer.norm[0].to(kind), layer.norm[1].to(kind), layer.norm[2]))


def points(num, dim):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(1))


def truth(x, hidden, last, activation):
    double = [cast(layer, torch.float64) for layer in (*hidden, last)]
    return reference.mlp_hessian(x.double(), double[:-1], double[-1], activation)


def assert_as_good_as_plain(got, x, hidden, last, activation):
    exact, plain = truth(x, hidden, last, activation), reference.mlp_hessian(x, hidden, last, activation)
    for order, (mine, theirs, right) in enumerate(zip(got, plain, exact, strict=True)):
        assert mine.dtype == torch.float32 and mine.shape == (len(x), *(x.shape[1],) * order)
        size = right.abs().max() + 1e-30
        slack = 8 * torch.finfo(torch.float32).eps * size
        assert (mine - right).abs().max() <= 2 * (theirs - right).abs().max() + slack
    torch.testing.assert_close(got[2], got[2].mT, rtol=0, atol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_numba_is_as_good_as_automatic_differentiation(name, activation):
    net = network(*NETWORKS[name])
    x = points(300, NETWORKS[name][0])
    assert_as_good_as_plain(cpu.mlp_hessian(x, *net, activation), x, *net, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_far_points_are_finite(activation):
    """Where exponentials over- and underflow: |z| up to 1e4."""
    net = network(*NETWORKS["plain"])
    x = 1e4 * points(50, 2)
    exact = truth(x, *net, activation)
    for got, right in zip(cpu.mlp_hessian(x, *net, activation), exact, strict=True):
        torch.testing.assert_close(got, right.float(), rtol=1e-4, atol=1e-4)


def test_tanh_keeps_its_digits_near_zero():
    """Value and Hessian are of the size of the points there: relative errors, where (1 - e^-2z) would cancel."""
    hidden, last = network(2, (16, 16), False, False)
    hidden = [layer._replace(bias=torch.zeros_like(layer.bias)) for layer in hidden]
    last = last._replace(bias=torch.zeros_like(last.bias))
    for size in (1e-6, 1e-2, 0.24, 0.26):
        x = size * points(50, 2)
        right = truth(x, hidden, last, "tanh")
        for mine, exact in zip(cpu.mlp_hessian(x, hidden, last, "tanh"), right, strict=True):
            assert (mine - exact).abs().max() < 1e-5 * exact.abs().max()


@pytest.mark.parametrize("num", [1, 169, 170, 171, 512])
def test_blocks_do_not_change_a_point(num):
    """Sizes about that of a block; each point as it comes out of a block of its own, to rounding."""
    net = network(*NETWORKS["plain"])
    assert [part.shape[0] for part in cpu.mlp_hessian(points(0, 2), *net, "silu")] == [0, 0, 0]
    x = points(num, 2)
    for all_at_once, one in zip(cpu.mlp_hessian(x, *net, "silu"), cpu.mlp_hessian(x[-1:], *net, "silu"), strict=True):
        torch.testing.assert_close(all_at_once[-1:], one, rtol=1e-5, atol=1e-6)


def test_threads_do_not_change_a_bit():
    net, x = network(*NETWORKS["norm"]), points(1000, 3)
    results = []
    for num in (1, 2):
        with threads(num):
            results.append(cpu.mlp_hessian(x, *net, "gelu"))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def interpret():
    """What the test below runs in another process, where TRITON_INTERPRET is set before Triton is imported."""
    from hessfast.kernels.mlp_hessian import gpu

    for name in NETWORKS:
        net, x = network(*NETWORKS[name]), points(5, NETWORKS[name][0])
        gpu.CHUNK_BYTES = 4 * 3 * (1 + x.shape[1]) * sum(NETWORKS[name][1])  # chunks of three
        for activation in ACTIVATIONS:
            assert_as_good_as_plain(gpu.mlp_hessian(x, *net, activation), x, *net, activation)


def test_triton_in_the_interpreter():
    result = interpreter.run(__name__)
    assert result.returncode == 0, result.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_gpu_is_as_good_as_automatic_differentiation(name, activation):
    from hessfast.kernels.mlp_hessian import gpu

    net, x = network(*NETWORKS[name]), points(300, NETWORKS[name][0])
    on_gpu = [cast(layer, "cuda") for layer in (*net[0], net[1])]
    got = gpu.mlp_hessian(x.cuda(), on_gpu[:-1], on_gpu[-1], activation)
    assert_as_good_as_plain([part.cpu() for part in got], x, *net, activation)
    alone = gpu.mlp_hessian(x[:1].cuda(), on_gpu[:-1], on_gpu[-1], activation)  # Triton takes a 1 for a constant
    for one, all_at_once in zip(alone, got, strict=True):
        torch.testing.assert_close(one, all_at_once[:1], rtol=1e-4, atol=1e-5)
