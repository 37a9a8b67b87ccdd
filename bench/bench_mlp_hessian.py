"""Hessians of networks 2 -> 512 x 5 -> 1 at 4,096 points: points a ms, and the same by reverse over reverse mode."""

import pytest
import torch
from torch import nn

from hessfast.derivatives import derivatives
from hessfast.potentials import LayerNormPotential, SoftplusPotential

POINTS = 4096


def network(name):
    torch.manual_seed(0)
    return {
        "softplus": lambda: SoftplusPotential(2, 512, 5),
        "paper": lambda: LayerNormPotential(2),
        "gelu": lambda: nn.Sequential(
            *(layer for k in range(5) for layer in (nn.Linear(512 if k else 2, 512), nn.GELU())), nn.Linear(512, 1)
        ),
    }[name]()


def double_backward(potential, x):
    """Value, gradient and Hessian as one writes them by hand."""
    x = x.requires_grad_()
    value = potential(x)
    gradient = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    rows = [torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    return value, gradient, torch.stack(rows, dim=1)


@pytest.mark.parametrize("name", ["softplus", "paper", "gelu"])
def test_fused(record_rate, name):
    potential, x = network(name), torch.randn(POINTS, 2)
    derivatives(potential, x[:300], form="fused", verify=True)
    goal = 25 if name == "softplus" else None
    record_rate(
        lambda: derivatives(potential, x, form="fused", chunk=POINTS), work=POINTS, unit="points/ms/core", goal=goal
    )


@pytest.mark.parametrize("name", ["softplus", "paper", "gelu"])
def test_double_backward(record_rate, name):
    potential, x = network(name), torch.randn(POINTS, 2)
    record_rate(lambda: double_backward(potential, x), work=POINTS, unit="points/ms/core")
