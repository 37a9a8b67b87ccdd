"""The checkpoint of the paper's released scripts as a potential."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .networks import LayerNormPotential


def load_released(path: str | Path) -> LayerNormPotential:
    """phi of the paper's released scripts, from the checkpoint of their network: fc1 .. fc5, norm1 .. norm4.

    Their log partition function is minus what the network gives: here the last layer carries the sign, so that this is
    an ordinary perceptron, for which `hessfast.derivatives` has a kernel. No code in the file is run.

    Args:
        path: the network's `state_dict()`, by `torch.save`, or by safetensors in a file named *.safetensors; of any
            dim and width.

    Returns:
        phi of points `[*batch, dim]`, `[*batch]`, in float32 on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that holds anything but these tensors, other names, shapes that do not fit, NaN.

    References:
        Lobashev et al., "Hessian Geometry of Latent Space in Generative Models", ICML 2025, the script
        compute-equidistant-geodesics.py.

    Example:
        >>> import tempfile
        >>> ones = {name: torch.ones(shape) for name, shape in _released_shapes(dim=2, width=8).items()}
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     torch.save(ones, file.name)
        ...     phi = load_released(file.name)
        >>> phi(torch.rand(3, 2)).tolist()  # all units alike: LayerNorm leaves its shift, 1, and 8 x 1 + 1 come out
        [-9.0, -9.0, -9.0]
    """
    state = _tensors(Path(path))
    first = state.get("fc1.weight", torch.empty(512, 2))  # the sizes they released
    width, dim = first.shape if first.ndim == 2 else (512, 2)
    shapes = _released_shapes(dim, width)
    odd = [f"no {name}" for name in shapes if name not in state] + [name for name in state if name not in shapes]
    if odd:
        raise ValueError(
            f"path must hold fc1.weight, fc1.bias, norm1.weight .. fc5.bias alone, got {', '.join(odd):.100}. "
            "Save the state_dict() of the log partition network, and nothing else."
        )
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise ValueError(f"path must hold {name} of shape {shape}, got {tuple(state[name].shape)}.")
    potential = LayerNormPotential(dim, width)
    with torch.no_grad():
        for name, own in zip(shapes, potential.parameters(), strict=True):
            own.copy_(-state[name] if name.startswith("fc5") else state[name])
            if not own.isfinite().all():
                raise ValueError(f"path must hold weights finite in float32, got NaN or infinity in {name}.")
    return potential


def _released_shapes(dim: int, width: int) -> dict[str, tuple[int, ...]]:
    """Of the released network's tensors, in the order of the parameters of a LayerNormPotential."""
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(1, 5):
        shapes |= {f"fc{k}.weight": (width, dim if k == 1 else width), f"fc{k}.bias": (width,)}
        shapes |= {f"norm{k}.weight": (width,), f"norm{k}.bias": (width,)}
    return shapes | {"fc5.weight": (1, width), "fc5.bias": (1,)}


def _tensors(path: Path) -> dict[str, Tensor]:
    """By name, from a file that need not be trusted."""
    if not path.is_file():
        raise FileNotFoundError(f"path must be the checkpoint of the released network, got no file {str(path)!r}.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            state = load(path.read_bytes())
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # of as many classes as there are kinds of damage
        raise ValueError(
            f"path must hold tensors alone, got {str(path)!r}, damaged or with objects that may run code. Fetch it "
            "again, or, if you trust it, load it with torch.load and save the network's state_dict()."
        ) from error
    if not isinstance(state, Mapping):
        raise ValueError(f"path must hold a state_dict(), got {type(state).__name__}. Save that of the network.")
    return {str(name): x if isinstance(x, Tensor) else torch.empty(0) for name, x in state.items()}
