"""Modules that map parameters `[..., dim]` to one number, log Z or candidates for it, to be differentiated twice."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = ("convex", "softplus", "layernorm")


class ConvexPotential(nn.Module):
    """Input-convex network (Amos, Xu and Kolter 2017) with softplus: its Hessian is positive semi-definite everywhere.

    z_1 = softplus(W_1 x), z_k+1 = softplus(U_k z_k + W_k x) with U_k >= 0, f = <u, z> + <w, x> with u >= 0.
    """

    def __init__(self, dim: int, width: int = 64, depth: int = 3):
        super().__init__()
        self.skips = nn.ModuleList(nn.Linear(dim, width) for _ in range(depth))
        # softplus(-4) = 0.018 = O(1 / width): the sum over a layer starts of order one
        self.mixing = nn.ParameterList(nn.Parameter(torch.randn(width, width) * 0.3 - 4) for _ in range(depth - 1))
        self.out = nn.Parameter(torch.randn(width) * 0.3 - 4)
        self.linear = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = functional.softplus(self.skips[0](x))
        for skip, mixing in zip(self.skips[1:], self.mixing, strict=True):
            z = functional.softplus(functional.linear(z, functional.softplus(mixing)) + skip(x))
        return z @ functional.softplus(self.out) + self.linear(x)[..., 0]


class _Perceptron(nn.Sequential):
    """dim -> width x depth -> 1, each hidden layer followed by what `activation` makes of its width."""

    def __init__(self, dim: int, width: int, depth: int, activation: Callable[[int], Iterable[nn.Module]]):
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([dim] + [width] * depth):
            layers += [nn.Linear(inputs, outputs), *activation(outputs)]
        super().__init__(*layers, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(x)[..., 0]


class SoftplusPotential(_Perceptron):
    """Plain multilayer perceptron with softplus; not convex by construction."""

    def __init__(self, dim: int, width: int = 64, depth: int = 3):
        super().__init__(dim, width, depth, lambda _: [nn.Softplus()])


class LayerNormPotential(_Perceptron):
    """The network of Lobashev et al. (2025): dim -> 512 x 4 -> 1, LayerNorm before every ReLU.

    For parity: its second derivatives come from LayerNorm alone, and those at the kinks of ReLU are lost to autograd.
    """

    def __init__(self, dim: int, width: int = 512, depth: int = 4):
        super().__init__(dim, width, depth, lambda outputs: [nn.LayerNorm(outputs), nn.ReLU()])


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


class SplinePotential(nn.Module):
    """Sums of products of one cubic B-spline for each coordinate.

    Args:
        knots: of each coordinate, ascending, the first and last four times.
        coefficients: `[len(knots[0]) - 4, len(knots[1]) - 4, ...]`.
    """

    coefficients: Tensor

    def __init__(self, knots: Sequence[Tensor], coefficients: Tensor):
        super().__init__()
        for axis, ascending in enumerate(knots):
            self.register_buffer(f"knots_{axis}", ascending)
        self.register_buffer("coefficients", coefficients)

    def forward(self, x: Tensor) -> Tensor:
        weights, places = torch.ones_like(x[..., :1]), torch.zeros_like(x[..., :1], dtype=torch.int64)
        for axis, size in enumerate(self.coefficients.shape):
            knots, position = self.get_buffer(f"knots_{axis}"), x[..., axis : axis + 1]
            interval = ((position >= knots).sum(dim=-1, keepdim=True) - 1).clamp(3, size - 1)
            columns = interval + torch.arange(-3, 1, device=x.device)
            splines = _cubic_splines(position, knots, interval)
            weights = (weights[..., :, None] * splines[..., None, :]).flatten(-2)
            places = (places[..., :, None] * size + columns[..., None, :]).flatten(-2)
        return (self.coefficients.flatten()[places] * weights).sum(dim=-1)


def _cubic_splines(x: Tensor, knots: Tensor, interval: Tensor) -> Tensor:
    """The four that are not zero at x `[..., 1]`, `[..., 4]`, by the recursion of Cox and de Boor."""
    splines = [torch.ones_like(x)]
    for degree in (1, 2, 3):
        higher = [torch.zeros_like(x) for _ in range(degree + 1)]
        for k, lower in enumerate(splines):
            left, right = knots[interval + 1 + k - degree], knots[interval + 1 + k]
            share = lower / (right - left)
            higher[k] = higher[k] + (right - x) * share
            higher[k + 1] = (x - left) * share
        splines = higher
    return torch.cat(splines, dim=-1)


class PolynomialPotential(nn.Module):
    """Sums of products of Legendre polynomials in (2 x - low - high) / (high - low).

    Args:
        low, high: `[dim]`.
        degrees: int, of the factors of each product, `[num_products, dim]`.
        coefficients: `[num_products]`.
    """

    low: Tensor
    high: Tensor
    degrees: Tensor
    coefficients: Tensor

    def __init__(self, low: Tensor, high: Tensor, degrees: Tensor, coefficients: Tensor):
        super().__init__()
        for name, tensor in (("low", low), ("high", high), ("degrees", degrees), ("coefficients", coefficients)):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        x = (2 * x - self.low - self.high) / (self.high - self.low)
        legendre = [torch.ones_like(x), x]
        for n in range(1, int(self.degrees.max())):
            legendre.append(((2 * n + 1) * x * legendre[-1] - n * legendre[-2]) / (n + 1))
        table = torch.stack(legendre, dim=-1)  # [..., dim, degrees]
        factors = [table[..., axis, degree] for axis, degree in enumerate(self.degrees.T)]
        return torch.stack(factors).prod(dim=0) @ self.coefficients


class KinkedPotential(nn.Module):
    """smooth(x) + |normal . x - offset| bent(x): a gradient that jumps across a hyperplane."""

    normal: Tensor
    offset: Tensor

    def __init__(self, smooth: nn.Module, bent: nn.Module, normal: Tensor, offset: Tensor):
        super().__init__()
        self.smooth, self.bent = smooth, bent
        self.register_buffer("normal", normal)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        return self.smooth(x) + (x @ self.normal - self.offset).abs() * self.bent(x)


CLOSED_FORMS = SplinePotential, PolynomialPotential, KinkedPotential


def restored(state: Mapping[str, Tensor]) -> nn.Module:
    """The one of CLOSED_FORMS whose `state_dict()` this is."""
    if "normal" in state:
        smooth, bent = (
            restored({name.removeprefix(part): x for name, x in state.items() if name.startswith(part)})
            for part in ("smooth.", "bent.")
        )
        return KinkedPotential(smooth, bent, state["normal"], state["offset"])
    if "knots_0" in state:
        knots = [state[f"knots_{axis}"] for axis in range(state["coefficients"].ndim)]
        return SplinePotential(knots, state["coefficients"])
    return PolynomialPotential(**state)


class Standardised(nn.Module):
    """height potential((x - centre) / width): a network sees and gives numbers of order one, whatever the units."""

    centre: Tensor
    width: Tensor
    height: Tensor

    def __init__(self, potential: nn.Module, centre: Sequence[float], width: Sequence[float]):
        super().__init__()
        self.potential = potential
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float32))
        self.register_buffer("width", torch.tensor(width, dtype=torch.float32))
        self.register_buffer("height", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.height * self.potential((x - self.centre) / self.width)


def build(kind: str, dim: int, width: int | None = None, depth: int | None = None) -> nn.Module:
    """A potential by its name in KINDS; sizes None: its own."""
    sizes = {name: value for name, value in (("width", width), ("depth", depth)) if value is not None}
    return dict(zip(KINDS, (ConvexPotential, SoftplusPotential, LayerNormPotential), strict=True))[kind](dim, **sizes)
