"""LayerNorm and InstanceNorm whose third derivatives are right."""

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class PlainNorms(TorchFunctionMode):
    """Norms by operations that torch differentiates as often as asked.

    From the third derivative on its own are wrong, without a word: LayerNorm keeps mean and standard deviation for the
    second as if they were constants (seen in 2.14), and so does InstanceNorm (2.11; later there is none). GroupNorm is
    right.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (functional.layer_norm, torch.layer_norm, torch.ops.aten.layer_norm):
            return _layer_norm(*args, **(kwargs or {}))
        if func is functional.instance_norm:
            return _instance_norm(*args, **(kwargs or {}))
        if func in (torch.native_layer_norm, torch.ops.aten.native_layer_norm):
            raise NotImplementedError("potential must call torch.nn.functional.layer_norm for its third derivative.")
        return func(*args, **(kwargs or {}))


def _instance_norm(
    input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):  # the names of torch
    if use_input_stats and running_mean is None:
        return functional.group_norm(input, input.shape[1], weight, bias, eps)
    return functional.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):  # the names of torch
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dim=axes, keepdim=True)
    result = centred / (centred.square().mean(dim=axes, keepdim=True) + eps).sqrt()
    result = result if weight is None else result * weight
    return result if bias is None else result + bias
