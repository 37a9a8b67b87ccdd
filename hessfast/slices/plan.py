"""What a slice is made of: anchors, points between them, and everything else that decides its images."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessfast import _arrays, _atomic, _checkpoint, _checks, _random
from hessfast.posterior import Grid

from .loops import configuration

DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, eq=False, repr=False)
class SlicePlan:
    """The points of a slice of latent space, and how each becomes an image; two plans of one `hash` are the same.

    n anchors span n - 1 dimensions, u = (alpha, beta) for three of them,

        z(u) = z_0 + sum_k u_k (z_k - z_0),

    divided by its own standard deviation (over its elements, of n - 1 degrees of freedom) if `normalise`: the slice is
    then curved. z is computed in float64 and rounded once, to `dtype`. A point's id is its row in `parameters`.

    Args:
        anchors: `[n, *latent]`, n >= 2; see `random_anchors`.
        points: a `hessfast.posterior.Grid` of n - 1 axes, last axis fastest, or a list of points `[m, n - 1]`.
        normalise: divide z by its standard deviation, as the paper does.
        scheduler: "ddim"; "released", the loop of the paper's script; the name of a scheduler of diffusers; or such a
            scheduler, of which class and configuration are kept.
        num_steps: of the loop.
        guidance: weight of the prompt against the negative one; 1: no guidance.
        eta: of the noise in the loop; in "ddim" 1 is ancestral sampling, "released" has its own meaning of eta.
        prompt, negative_prompt: for models of text.
        seed: of the noise, which is a function of it and the point's id.
        dtype: of the networks: "float16", "bfloat16", "float32" or "float64".
        micro_batch: points that go through the networks together. It changes their rounding, so it belongs to the plan.

    Raises:
        TypeError, ValueError: for values outside those ranges, anchors that coincide, or points of another dimension.

    References:
        Lobashev et al., "Hessian Geometry of Latent Space in Generative Models", ICML 2025, section 6.

    Example:
        >>> plan = SlicePlan([[3.0, 4.0], [5.0, 4.0], [3.0, 0.0]], [[0.0, 0.0], [0.5, 1.0]], normalise=False)
        >>> plan.z(plan.parameters).tolist()
        [[3.0, 4.0], [4.0, 0.0]]
    """

    anchors: Any
    points: Any
    normalise: bool = True
    scheduler: Any = "ddim"
    num_steps: int = 50
    guidance: float = 1.0
    eta: float = 0.0
    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 0
    dtype: str = "float32"
    micro_batch: int = 64

    def __post_init__(self):
        anchors = _checks.float_array("anchors", self.anchors)
        if anchors.ndim < 2 or len(anchors) < 2 or anchors[0].size < 2:
            raise ValueError(
                f"anchors must have shape [n, *latent], of two numbers or more, with n >= 2, got {anchors.shape}."
            )
        same = [k for k in range(1, len(anchors)) if (anchors[k] == anchors[0]).all()]
        if same:
            raise ValueError(f"anchors must differ from the first, got the same one as number {same[0]}.")
        stretch = np.linalg.svd((anchors[1:] - anchors[0]).reshape(len(anchors) - 1, -1), compute_uv=False)
        spanned = int((stretch > 1e-6 * stretch[0]).sum())  # anchors may have been rounded to float32
        possible = min(len(anchors) - 1, anchors[0].size)
        if spanned < possible:
            raise ValueError(f"anchors must span {possible} dimensions, got {len(anchors)} in {spanned}.")
        points = self.points
        if not isinstance(points, Grid):
            points = _checks.float_array("points", points)
            if points.ndim != 2 or not len(points):
                raise ValueError(f"points must be a Grid or have shape [m, {len(anchors) - 1}], got {points.shape}.")
            points = _frozen(points)
        dim = points.dim if isinstance(points, Grid) else points.shape[1]
        if dim != len(anchors) - 1:
            raise ValueError(f"points must have {len(anchors) - 1} coordinates for {len(anchors)} anchors, got {dim}.")
        checked = {
            "anchors": _frozen(anchors),
            "points": points,
            "normalise": bool(self.normalise),
            "scheduler": _scheduler(self.scheduler),
            "num_steps": _checks.integer("num_steps", self.num_steps, 1),
            "guidance": _checks.number("guidance", self.guidance, 0),
            "eta": _checks.number("eta", self.eta, 0, 1),
            "seed": _checks.seed(self.seed),
            "dtype": _checks.choice("dtype", str(self.dtype).removeprefix("torch."), DTYPES),
            "micro_batch": _checks.integer("micro_batch", self.micro_batch, 1),
        }
        for name in ("prompt", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a text, got {getattr(self, name)!r:.80}.")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Without the numbers of anchors and of a list of points."""
        shown = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        said = [f"{k}=<array {v.shape}>" if isinstance(v, np.ndarray) else f"{k}={v!r}" for k, v in shown.items()]
        return f"SlicePlan({', '.join(said)})"

    @functools.cached_property
    def parameters(self) -> np.ndarray:
        """Coordinates of the points, float64 `[num, dim]`."""
        return _frozen(self.points.points.reshape(-1, self.dim)) if isinstance(self.points, Grid) else self.points

    @property
    def dim(self) -> int:
        """Dimensions of the slice."""
        return len(self.anchors) - 1

    @property
    def num(self) -> int:
        """Number of points."""
        return len(self.parameters)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one z."""
        return self.anchors.shape[1:]

    def z(self, parameters: Any) -> Tensor:
        """z(u) of coordinates `[m, dim]`: float64 `[m, *latent]`, where they are; derivatives pass through."""
        given = parameters if _arrays.is_tensor(parameters) else _checks.float_array("parameters", parameters)
        u = torch.as_tensor(given).double()
        if u.ndim != 2 or u.shape[1] != self.dim:
            raise ValueError(f"parameters must have shape [m, {self.dim}], got {tuple(u.shape)}.")
        anchors = torch.tensor(self.anchors, device=u.device).flatten(1)
        # Anchor by anchor and row by row: sums of a matrix product or over an axis depend on how many rows there are.
        z = (1 - u.sum(dim=1, keepdim=True)) * anchors[0]
        for k in range(self.dim):
            z = z + u[:, k : k + 1] * anchors[k + 1]
        if self.normalise:
            z = torch.stack([row / row.std() for row in z])
        return z.reshape(-1, *self.latent_shape)

    def noise(self, ids: Any) -> Tensor | None:
        """Noise of the loop for points of those ids, float32 `[num_steps, m, *latent]` on the host; None for eta 0."""
        if self.eta == 0:
            return None
        shape = (self.num_steps, *self.latent_shape)
        return torch.stack([torch.randn(shape, generator=self.generator(i)) for i in ids], dim=1)

    def generator(self, point: int) -> torch.Generator:
        """The random numbers of a point, whoever draws them."""
        return _random.generator(self.seed, *_random.NOISE, int(point))

    def at(self, points: Any, **changes: Any) -> "SlicePlan":
        """The same slice at other points, with other settings if any are named."""
        return dataclasses.replace(self, points=points, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it; for the arrays of anchors and points their SHA-256."""
        rest = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("anchors", "points")}
        points = dataclasses.asdict(self.points) if isinstance(self.points, Grid) else _arrays.digest(self.points)
        return json.loads(json.dumps({"anchors": _arrays.digest(self.anchors), "points": points, **rest}))

    @property
    def hash(self) -> str:
        """32 hexadecimal digits that change with any field."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlicePlan) and self.hash == other.hash

    def __hash__(self) -> int:
        return int(self.hash, 16)

    def to_bytes(self) -> bytes:
        """The plan with its arrays, as a safetensors file."""
        import safetensors.numpy

        arrays = {"anchors": self.anchors} | ({} if isinstance(self.points, Grid) else {"points": self.points})
        fields = self.to_dict() | {"hash": self.hash}
        return safetensors.numpy.save(arrays, {"slice": json.dumps(fields, sort_keys=True)})

    def save(self, path: str | Path) -> None:
        """Write the plan into a file, whole or not at all."""
        _atomic.write(Path(path), [self.to_bytes()])

    @classmethod
    def load(cls, path: str | Path) -> "SlicePlan":
        """The plan of a file, or of a folder that `generate` filled.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if the file is damaged.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"path must be the file or folder of a slice, got {path}, where there is none.")
        path = Path(path) / FILE if Path(path).is_dir() else Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path.parent} holds no slice: it has no {path.name}.")
        try:
            metadata, tensors = _checkpoint.read(path)
            fields, arrays = json.loads(metadata["slice"]), {name: each.numpy() for name, each in tensors.items()}
            known = fields.pop("hash")
            wanted = {name: fields[name] for name in arrays}
            if {name: _arrays.digest(array) for name, array in arrays.items()} != wanted:
                raise ValueError
            points = arrays["points"] if "points" in arrays else Grid(**fields["points"])
            plan = cls(**{**fields, "anchors": arrays["anchors"], "points": points})
            if plan.hash != known:
                raise ValueError
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} is damaged; put back the original, or delete the folder.") from None
        return plan


FILE = "slice.safetensors"


def random_anchors(latent_shape: Any, num: int = 3, *, seed: int = 0) -> Tensor:
    """Independent standard Gaussian anchors, float32 `[num, *latent]`, a function of the seed.

    Example:
        >>> anchors = random_anchors((1, 8, 8), seed=1)
        >>> anchors.shape, torch.equal(anchors[:2], random_anchors((1, 8, 8), 2, seed=1))
        (torch.Size([3, 1, 8, 8]), True)
    """
    num, seed = _checks.integer("num", num, 2), _checks.seed(seed)
    if not np.iterable(latent_shape):
        raise TypeError(f"latent_shape must be a tuple of integers, got {latent_shape!r:.80}.")
    shape = tuple(_checks.integer("latent_shape", side, 1) for side in latent_shape)
    return torch.stack([torch.randn(shape, generator=_random.generator(seed, *_random.ANCHORS, k)) for k in range(num)])


def _scheduler(value: Any) -> str | dict[str, Any]:
    """A name, or class and configuration of a scheduler as JSON holds them."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, type):
        raise TypeError(f"scheduler must be a name or a scheduler of diffusers, got class {value.__name__}. Call it.")
    if hasattr(value, "step") and hasattr(value, "config"):
        return configuration(value)
    if isinstance(value, Mapping) and isinstance(value.get("_class_name"), str):
        return json.loads(json.dumps(dict(value)))
    raise TypeError(f"scheduler must be a name or a scheduler of diffusers, got {value!r:.80}.")


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array, np.float64, order="C")
    array.flags.writeable = False
    return array
