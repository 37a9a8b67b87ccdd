"""LayerNorm whose third derivatives are right."""

import torch
from torch.overrides import TorchFunctionMode


class PlainLayerNorm(TorchFunctionMode):
    """LayerNorm by elementary operations: torch's own is wrong, without a word, from the third derivative on.

    It keeps mean and standard deviation for its second derivative as if they were constants (seen in torch 2.14).
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.nn.functional.layer_norm, torch.layer_norm, torch.ops.aten.layer_norm):
            return _layer_norm(*args, **(kwargs or {}))
        if func in (torch.native_layer_norm, torch.ops.aten.native_layer_norm):
            raise NotImplementedError("potential must call torch.nn.functional.layer_norm for its third derivative.")
        return func(*args, **(kwargs or {}))


def _layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5, cudnn_enable=True):  # the names of torch
    axes = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dim=axes, keepdim=True)
    result = centred / (centred.square().mean(dim=axes, keepdim=True) + eps).sqrt()
    result = result if weight is None else result * weight
    return result if bias is None else result + bias
