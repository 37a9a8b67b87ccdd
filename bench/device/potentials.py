"""Rates of posteriors, of Hessians of networks and of geodesics, and of what one writes without hessfast."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from hessfast._dispatch import kernel
from hessfast.derivatives import derivatives
from hessfast.posterior import Grid
from hessfast.potentials import LayerNormPotential, SoftplusPotential

from .measure import Row, rate


def posteriors() -> Iterator[Row]:
    """60,105 images of 768 features on 128 x 128, as in the paper; correct on some of them against float64."""
    import torch

    num, width, side = 60_105, 768, 128
    generator = torch.Generator("cuda").manual_seed(0)
    parameters = torch.rand((num, 2), device="cuda", generator=generator)
    hidden = torch.tanh(1.5 * parameters @ torch.randn((2, 64), device="cuda", generator=generator))
    features = hidden @ torch.randn((64, width), device="cuda", generator=generator) / 8
    features += 0.67 * torch.randn((num, width), device="cuda", generator=generator) / width**0.5
    features /= features.norm(dim=1, keepdim=True)
    cells, weights, offsets = Grid((0.0, 0.0), (1.0, 1.0), (side, side)).corners(parameters.cpu().double().numpy())
    tables = [torch.as_tensor(x, device="cuda") for x in (cells, weights.astype(np.float32), offsets)]
    call = partial(kernel("posterior_accumulate", "cuda"), None, features, *tables, side**2, True, 10.0, 2e-5)
    some = features[:64].double()
    affinity = torch.exp(-10.0 * (torch.cdist(some, features.double()) ** 2 + 2e-5).sqrt())
    expected = torch.zeros((64, side**2), dtype=torch.float64, device="cuda")
    for k, offset in enumerate(offsets):
        expected.index_add_(1, tables[0] + int(offset), affinity * tables[1][:, k].double())
    deviation = float(((call()[:64] - expected).norm(dim=1) / expected.norm(dim=1)).max())
    if not deviation < 1e-5:
        raise ArithmeticError(f"posterior_accumulate deviates from float64 by {deviation:.2g}.")
    more = {"deviation": deviation, "seconds": 3.0, "rounds": 5}
    yield rate("posterior_accumulate: 60105^2 x 768", call, num**2, "pairs/ns", num**2 / 1e9, **more)


def _perceptron(activation):
    from torch import nn

    layers = [layer for k in range(5) for layer in (nn.Linear(512 if k else 2, 512), activation())]
    return nn.Sequential(*layers, nn.Linear(512, 1))


def _networks():
    import torch
    from torch import nn

    torch.manual_seed(0)
    yield "softplus", SoftplusPotential(2, 512, 5).cuda()
    yield "paper's LayerNorm", LayerNormPotential(2).cuda()
    yield "gelu", _perceptron(nn.GELU).cuda()
    yield "silu", _perceptron(nn.SiLU).cuda()
    yield "tanh", _perceptron(nn.Tanh).cuda()


def hessians() -> Iterator[Row]:
    """2 -> 512 x 5 -> 1 at a million points, verified on 256 of them."""
    import torch

    num = 1_000_000
    x = torch.randn((num, 2), device="cuda")
    for name, network in _networks():
        derivatives(network, x[:4096], form="fused", verify=True)
        call = partial(derivatives, network, x, form="fused", chunk=num)
        yield rate(f"mlp_hessian: {name}, 1e6 points", call, num, "points/us", seconds=1.0, rounds=5)


def hessians_by_torch() -> Iterator[Row]:
    import torch

    x = torch.randn((65_536, 2), device="cuda")
    for name, network in list(_networks())[:2]:
        forms = {
            "double backward": (partial(derivatives, network, x, form="eager", chunk=16_384), len(x)),
            "vmap(hessian)": (partial(torch.func.vmap(torch.func.hessian(_scalar(network))), x[:8192]), 8192),
        }
        for form, (call, work) in forms.items():
            yield rate(f"peer: Hessian, {name}, {form}", call, work, "points/us", seconds=0.7)


def hessians_compiled() -> Iterator[Row]:
    """torch.compile takes the softplus network only."""
    import torch

    x = torch.randn((65_536, 2), device="cuda")
    network = next(_networks())[1]
    call = partial(derivatives, network, x, form="compiled", chunk=16_384)
    yield rate("peer: Hessian, softplus, torch.compile(vmap(hessian))", call, len(x), "points/us", seconds=0.7)


def _scalar(network):
    return lambda point: network(point[None]).reshape(())


def hessians_by_size() -> Iterator[Row]:
    import torch

    network = next(_networks())[1]
    for num in (1, 32, 1024, 32_768, 4_194_304):
        x = torch.randn((num, 2), device="cuda")
        call = partial(derivatives, network, x, form="fused", chunk=len(x))
        yield rate(f"mlp_hessian: softplus, {num} points", call, num, "points/us", seconds=0.3, rounds=5)


def geodesics() -> Iterator[Row]:
    """500 pairs of 90 points through a network on the device."""
    import torch

    from hessfast.geodesic import connecting_geodesic

    torch.manual_seed(0)
    network = SoftplusPotential(2, 512, 5).cuda()
    rng = np.random.default_rng(0)
    start, end = rng.uniform(-1, 1, (2, 500, 2))
    call = partial(connecting_geodesic, network, start, end)
    curves = call()
    more = {"converged": float(np.mean(curves.converged)), "seconds": 2.0, "rounds": 3}
    yield rate("geodesics: 500 x 90 points, network", call, 500, "curves/s", 500.0, **more)


def _noisy(num, width, device):
    """Queries, data on a curved surface of 8 dimensions, tau, probes, and every query's own datum to leave out.

    At tau from 1 % to 100 % of the variance of the data a few to all of the data count.
    """
    import torch

    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn((num, 8), device=device, generator=generator)
    data = torch.tanh(hidden @ torch.randn((8, width), device=device, generator=generator) / 4)
    data += 0.05 * torch.randn((num, width), device=device, generator=generator)
    tau = torch.logspace(-2, 0, num, dtype=torch.float64, device=device) * width * float(data.var())
    noise = torch.randn((num, width), device=device, generator=generator)
    queries = data + tau.sqrt().float()[:, None] * noise
    probes = 1.0 - 2 * torch.randint(0, 2, (num, 1, width), device=device, generator=generator)
    return queries, data, tau, probes, torch.arange(num, device=device)


def _moments_deviation(got, some, queries, data, tau, probes, left_out) -> float:
    """The worst relative error, at queries `some`, of D* from the mean of the data, log normaliser and covariance."""
    import torch

    data = data.double()
    centre, worst = data.mean(dim=0), 0.0
    for i in some:
        exponents = -((data - queries[i].double()) ** 2).sum(dim=1) / (2 * tau[i])
        exponents[left_out[i]] = -torch.inf
        weights = exponents.softmax(dim=0)
        mean = weights @ data
        apart = data - mean
        covariance = (apart @ probes[i, 0].double() * weights) @ apart
        pairs = [
            (got[0][i] - centre, mean - centre),
            (got[1][i, None], exponents.logsumexp(dim=0, keepdim=True)),
            (got[2][i, 0], covariance),
        ]
        worst = max(worst, *(float((a - b).norm() / b.norm()) for a, b in pairs))
    return worst


def moments() -> Iterator[Row]:
    """The denoiser of a data set at as many noisy queries, each without its own datum, and its covariance once."""
    for num, width, goal in ((20_000, 768, 7.0), (60_000, 3072, 2.0)):
        arguments = _noisy(num, width, "cuda")
        call = partial(kernel("posterior_moments", "cuda"), *arguments)
        deviation = _moments_deviation(call(), range(0, num, -(-num // 64)), *arguments)
        if not deviation < 1e-5:
            raise ArithmeticError(f"posterior_moments deviates from float64 by {deviation:.2g}.")
        name = f"posterior_moments: {num}^2 x {width}, one probe"
        yield rate(name, call, num**2, "pairs/ns", goal, deviation=deviation, seconds=5.0, rounds=5)
