"""What trainings share: steps that can be gone on with after a kill, down a loss that must stay finite."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from hessfast import _checkpoint
from hessfast._progress import hidden

_REMEDY = "Lower learning_rate, or bring the data to order one."


def steps(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    num_steps: int,
    plan: dict,
    checkpoint: str | Path | None,
    *,
    every: int,
    name: str | None = None,
    progress: bool = False,
    rank: int = 0,
) -> Iterator[int]:
    """Numbers of the steps still to be taken.

    After every so many of them, and the last, `module` is checked and, by rank 0, kept.

    Raises:
        ValueError: for a damaged checkpoint, or one of another plan.
        ArithmeticError: for weights that are not finite; the checkpoint before stays.
    """
    path = None if checkpoint is None else Path(checkpoint)
    done = 0 if path is None else _checkpoint.load(path, module, optimiser, plan)
    disable = hidden(progress and rank == 0)
    for step in tqdm(range(done, num_steps), name, num_steps, initial=done, disable=disable, leave=False):
        yield step
        if step + 1 == num_steps or (step + 1) % every == 0:
            if not all(bool(weight.isfinite().all()) for weight in module.parameters()):
                raise ArithmeticError(f"weights must be finite, got NaN or infinity at step {step}. {_REMEDY}")
            if path is not None and rank == 0:
                _checkpoint.save(path, module, optimiser, step + 1, plan)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> float:
    """A step down the gradient at a rate of learning; the loss, or an ArithmeticError if it is not finite."""
    value = finite(loss, rate)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return value


def finite(loss: Tensor, rate: float) -> float:
    """The loss as a number; an ArithmeticError if it is not finite."""
    value = loss.item()
    if not math.isfinite(value):
        raise ArithmeticError(f"loss must be finite, got {value} at a learning rate of {rate:.3g}. {_REMEDY}")
    return value


def cosine(share: float) -> float:
    """From 1 to 0 as the share of steps done goes from 0 to 1."""
    return (1 + math.cos(math.pi * share)) / 2
