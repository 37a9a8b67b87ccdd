"""Fitting a potential's weights: Adam on random rows from far off, then L-BFGS on all, short of their noise."""

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hessfast._training import cosine, descend, finite

_FEW = 1000  # rows, of which the metric may follow the noise
_PARTS = 5  # of them, each held out once
_STRIDE = 5  # steps between looks at the rows held out

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


def polish(potential: nn.Module, loss_of: Loss, num_rows: int, num_steps: int, most_rows: int, seed: int) -> int:
    """L-BFGS on all rows, `most_rows` at a time: `num_steps` of many rows, of few as many as help rows held out.

    Returns:
        the number of steps; 0 where they do not help, and the weights are as they were.
    """
    start = copy.deepcopy(potential.state_dict())
    if num_steps and num_rows <= _FEW:
        num_steps = _helpful_steps(potential, loss_of, num_rows, num_steps, most_rows, seed)
    if not num_steps:
        return 0
    rows, weights = torch.arange(num_rows), list(potential.parameters())
    before = _mean(loss_of, rows, most_rows)
    _lbfgs(potential, num_steps).step(lambda: _mean(loss_of, rows, most_rows, weights))
    if not _mean(loss_of, rows, most_rows) <= before:
        potential.load_state_dict(start)
        return 0
    return num_steps


def _helpful_steps(
    potential: nn.Module, loss_of: Loss, num_rows: int, num_steps: int, most_rows: int, seed: int
) -> int:
    """How many steps lower the loss of rows held out, one part after another."""
    if num_rows < 2:
        return 0
    start = copy.deepcopy(potential.state_dict())
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed % 2**63))
    looks = [*range(0, num_steps, _STRIDE), num_steps]
    curves = []
    for held_out in order.chunk(_PARTS):
        others = order[~torch.isin(order, held_out)]
        curves.append(_held_out_curve(potential, loss_of, others, held_out, looks, most_rows))
        potential.load_state_dict(start)
    return looks[first_good(np.array(curves))]


def _held_out_curve(
    potential: nn.Module, loss_of: Loss, rows: Tensor, held_out: Tensor, looks: list[int], most_rows: int
) -> list[float]:
    """Losses of `held_out` after so many steps on `rows`."""
    weights = list(potential.parameters())
    optimiser = _lbfgs(potential, _STRIDE)
    curve = [_mean(loss_of, held_out, most_rows)]
    for steps in np.diff(looks):
        optimiser.param_groups[0]["max_iter"] = int(steps)
        optimiser.step(lambda: _mean(loss_of, rows, most_rows, weights))
        curve.append(_mean(loss_of, held_out, most_rows))
    return curve


def first_good(curves: np.ndarray) -> int:
    """Where the mean of curves is first within a standard error of its lowest: noise helps by chance, and later on."""
    mean = np.nan_to_num(curves.mean(axis=0), nan=np.inf)
    excess = curves - curves[:, mean.argmin(), None]
    error = excess.std(axis=0, ddof=1) / len(curves) ** 0.5
    return int((mean <= mean.min() + error).argmax())


def _lbfgs(potential: nn.Module, num_steps: int) -> torch.optim.LBFGS:
    return torch.optim.LBFGS(
        potential.parameters(), max_iter=num_steps, max_eval=2 * num_steps, tolerance_grad=0, tolerance_change=0,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip


def _mean(loss_of: Loss, rows: Tensor, most_rows: int, weights: Sequence[Tensor] = ()) -> float:
    """The loss of `rows`, `most_rows` at a time, and its gradient to `weights`."""
    for each in weights:
        each.grad = None
    total = 0.0
    for part in rows.split(most_rows):
        loss = loss_of(part) * (len(part) / len(rows))
        if weights:
            loss.backward()
        total += float(loss.detach())
    return total
