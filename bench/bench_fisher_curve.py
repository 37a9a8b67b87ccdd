"""The sweep of Fisher curves, one probe at one tau: of a U-Net on 64 x 64 x 3, and of a perceptron where loops cost."""

import statistics
import time

import numpy as np
import pytest
import torch

from hessfast.diffusability import fisher_curve, from_edm_raw, gaussian_curves
from hessfast.diffusability.networks import MLP, UNet

LARGEST_OVERHEAD = 1.15  # over one forward pass and one product with the Jacobian
CASES = {"unet": 32, "perceptron": 2048}  # samples, many more than the four that are asked beside others first


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def problem(name):
    """Denoiser of random weights, and samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(3) if name == "unet" else MLP(16, 64)
        for weight in network.parameters():
            weight.requires_grad_(False).add_(0.02 * torch.randn_like(weight))
        return from_edm_raw(network.eval(), 0.5), torch.randn(
            (CASES[name], *((3, 64, 64) if name == "unet" else (16,)))
        )


def sweep(denoiser, x):
    return fisher_curve(denoiser, x, 1.0, batch_size=512)


def forward_and_product(denoiser, x):
    """What any form must do, of the whole batch: F and J^T v."""
    for part in x.split(512):
        y = part.clone().requires_grad_()
        torch.autograd.grad(denoiser.predict(y, 1.0), y, torch.ones_like(y))


def loop(denoiser, x):
    """What one writes first: a sample at a time, and its estimates."""
    information, rate = [], []
    for row in x.split(1):
        y = (row + torch.randn_like(row)).requires_grad_()
        v = torch.randint(0, 2, row.shape) * 2.0 - 1
        (pulled,) = torch.autograd.grad(denoiser.score(y, 1.0), y, v)
        information.append(-float((v * pulled).sum()))
        rate.append(float((pulled**2).sum()))
    return np.mean(information), np.mean(rate), np.std(information) / len(x) ** 0.5


def check():
    """A normal distribution in closed form; then loop and sweep within their errors."""
    normal, x = from_edm_raw(lambda y, noise: 0 * y, 1.0), torch.randn(300, 4)
    curve, exact = sweep(normal, x), gaussian_curves([1.0] * 4, 1.0)
    np.testing.assert_allclose(curve.fisher_information.mean, exact.fisher_information, rtol=1e-6)
    np.testing.assert_allclose(curve.fisher_information_rate.mean, exact.fisher_information_rate, rtol=1e-6)
    denoiser, x = problem("perceptron")
    curve, (information, _, sem) = sweep(denoiser, x), loop(denoiser, x)
    assert abs(curve.fisher_information.mean[0] - information) < 6 * np.hypot(curve.fisher_information.sem[0], sem)


@pytest.mark.parametrize("name", CASES)
def test_sweep(name, record_rate):
    check()
    case = problem(name)
    record_rate(lambda: sweep(*case), work=CASES[name], unit="us/sample/core")


@pytest.mark.parametrize("name", CASES)
def test_peer_forward_and_product(name, record_rate):
    check()
    case = problem(name)
    record_rate(lambda: forward_and_product(*case), work=CASES[name], unit="us/sample/core")


@pytest.mark.parametrize("name", CASES)
def test_peer_loop(name, record_rate):
    check()
    case = problem(name)
    record_rate(lambda: loop(*case), work=CASES[name], unit="us/sample/core")


def test_overhead_on_the_unet():
    """Medians of interleaved calls, CPU time of all threads."""
    case = problem("unet")
    calls = forward_and_product, sweep
    seconds = [[_seconds(call, case) for call in calls] for _ in range(6)][1:]
    bare, whole = (statistics.median(times) for times in zip(*seconds, strict=True))
    print(f"\nsweep over one forward pass and one product: {whole / bare:.3f} ({bare:.2f} s, {whole:.2f} s)")
    assert whole < LARGEST_OVERHEAD * bare


def _seconds(call, case):
    start = time.process_time()
    call(*case)
    return time.process_time() - start
