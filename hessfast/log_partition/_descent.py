"""Fitting a potential's weights: Adam on random rows from far off, then L-BFGS on all of them, which converges."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from hessfast._training import cosine, descend, finite

Loss = Callable[[Tensor], Tensor]  # mean over the rows of these numbers


def adam(
    potential: nn.Module, loss_of: Loss, num_rows: int, num_steps: int, batch_size: int, rate: float, seed: int
) -> np.ndarray:
    """The loss of every step, a batch of random rows each; the rate decays to zero as a cosine."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    optimiser = torch.optim.Adam(potential.parameters(), rate)
    losses = np.empty(num_steps)
    for step in range(num_steps):
        loss = loss_of(torch.randint(num_rows, (batch_size,), generator=generator))
        losses[step] = descend(optimiser, loss, rate * cosine(step / num_steps))
    finite(loss_of(torch.arange(min(num_rows, batch_size))), rate)  # the last step may have gone too far
    return losses


def polish(potential: nn.Module, loss_of: Loss, num_rows: int, num_steps: int, most_rows: int) -> None:
    """L-BFGS of so many steps at most on all rows, `most_rows` at a time; the weights stay if it does not help."""
    if not num_steps:
        return
    parts = torch.arange(num_rows).split(most_rows)
    optimiser = torch.optim.LBFGS(
        potential.parameters(), max_iter=num_steps, max_eval=2 * num_steps, tolerance_grad=0, tolerance_change=0,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        optimiser.zero_grad()
        total = torch.zeros(())
        for rows in parts:
            part = loss_of(rows) * (len(rows) / num_rows)
            part.backward()
            total += part.detach()
        return total

    before = [weights.detach().clone() for weights in potential.parameters()]
    start = float(loss())
    optimiser.step(loss)
    if not float(loss()) <= start:
        with torch.no_grad():
            for weights, old in zip(potential.parameters(), before, strict=True):
                weights.copy_(old)
