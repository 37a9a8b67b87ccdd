"""Rows of posteriors: how wide they are, and how far from one another."""

import torch
from torch import Tensor

LOSSES = ("jensen-shannon", "mse")


def median_variance(log_weights: Tensor, nodes: Tensor) -> Tensor:
    """Median over rows and columns, where nodes reach from -1 to 1: one over the curvature that a potential needs."""
    low, high = nodes.amin(dim=0), nodes.amax(dim=0)
    nodes = (2 * nodes - low - high) / (high - low)
    weights = torch.softmax(log_weights, dim=1)
    columns = [(weights * (x - (weights @ x)[:, None]) ** 2).sum(dim=1) for x in nodes.T]
    return torch.stack(columns).median()


def divergence(loss: str, target: Tensor, log_model: Tensor) -> Tensor:
    model = log_model.exp()
    if loss == "mse":
        return ((target - model) ** 2).sum(dim=1).mean()
    middle = ((target + model) / 2).clamp_min(1e-38).log()
    entropy = torch.special.xlogy(target, target) + model * log_model
    return (entropy - (target + model) * middle).sum(dim=1).mean() / 2
