"""torch.compile for any number of shapes, and the sentence where it fails."""

from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """By torch.compile, once for each shape, so that no bit depends on shapes seen before."""
    from torch._dynamo import config  # a second of imports

    fast = torch.compile(function, dynamic=False, **options)
    # For one piece of code, whoever compiles it: after eight shapes torch would go on without compiling, or fail.
    unlimited = {"recompile_limit": 2**20, "accumulated_recompile_limit": 2**20}

    def run(*args: Any, **kwargs: Any) -> Any:
        with config.patch(unlimited):
            return fast(*args, **kwargs)

    return run


def refusal(needed: str, error: Exception) -> RuntimeError:
    """
    >>> refusal("compile must be False", ValueError("no compiler\\nin sight"))
    RuntimeError('compile must be False here: torch.compile failed, no compiler')
    """
    reason = str(error).strip().split("\n")[0]
    return RuntimeError(f"{needed} here: torch.compile failed, {reason:.200}")
