"""Steps of diffusers' schedulers in float64: some cast x to float32 in step(), whatever its dtype."""

import copy
import functools
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_CASTS = (torch.Tensor.to, torch.Tensor.float, torch.Tensor.type)


class _Kept(TorchFunctionMode):
    """Casts of float64 to fewer digits give back what they were given, and noise is that of float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn and kwargs.get("dtype") == torch.float64:  # from one generator each dtype draws its own
            return torch.randn(*args, **kwargs | {"dtype": torch.float32}).double()
        result = func(*args, **kwargs)
        if func in _CASTS and args[0].dtype == torch.float64 and result.is_floating_point():
            return args[0].to(result.device)
        return result


def stepping(scheduler: Any, dtype: torch.dtype) -> Any:
    """A copy of a scheduler, whose step() counts; in float64 one whose step() leaves no digits out.

    Rounded steps are not of the slice: neighbours nearer than float32 tells apart would have the same image, or jump.
    """
    copied = copy.deepcopy(scheduler)
    if dtype == torch.float64:
        step = copied.step

        @functools.wraps(step)  # pipelines ask for its arguments
        def kept(*arguments: Any, **named: Any) -> Any:
            with _Kept():
                return step(*arguments, **named)

        copied.step = kept
    return copied
