"""Figures 2 and 3a to c: normal data in the plane and what simple encoders make of them.

Every one has exact curves, and a denoiser trained on samples alone, as the paper's points are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessfast import _random
from hessfast.diffusability import (
    ExactCurves,
    FisherCurve,
    TransformedNormal,
    WrappedNormal,
    fir_deviation,
    fisher_curve,
    gaussian_curves,
    mmse_rate_deviation,
    train_denoiser,
)  # fmt: skip
from hessfast.diffusability.networks import MLP

from .records import write

TAU = tuple(np.geomspace(0.01, 10, 7))  # of figure 2
LEVELS = (0.01, 0.1, 1.0)  # tau of figure 3
PADDED = 512  # D of figure 3b
_DRAWN, _MEASURED = 200_000, 4096  # samples to train on, and to measure with
_TAU_RANGE = (1e-3, 30.0)


@dataclass(frozen=True)
class Toy:
    """A distribution: what draws it from y ~ N(0, I_2), `[n, 2]`, and its exact curves at a tau."""

    dim: int
    encode: Callable[[Tensor], Tensor]
    exact: Callable[[float], ExactCurves]


ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda y: y,
    "LeakyReLU, slope .5": lambda y: torch.where(y > 0, y, 0.5 * y),
    "LeakyReLU, slope .1": lambda y: torch.where(y > 0, y, 0.1 * y),
    "tanh": torch.tanh,
    "softplus": torch.nn.functional.softplus,
}


def pointwise(name: str) -> Toy:
    """Figure 2: an activation of each coordinate."""
    function = ACTIVATIONS[name]
    return Toy(2, function, TransformedNormal(function, 2).exact)


def stretched(delta: float) -> Toy:
    """Figure 3a: z = diag(sqrt(1 + delta), sqrt(1 - delta)) y."""
    variances = torch.tensor([1 + delta, 1 - delta], dtype=torch.float64)
    return Toy(2, lambda y: y * variances.to(y).sqrt(), lambda tau: gaussian_curves(variances.numpy(), tau))


def padded(dim: int) -> Toy:
    """Figure 3b: y and dim - 2 zeros."""
    variances = np.array([1.0, 1.0] + [0.0] * (dim - 2))
    return Toy(dim, lambda y: torch.nn.functional.pad(y, (0, dim - 2)), lambda tau: gaussian_curves(variances, tau))


def bent(epsilon: float) -> Toy:
    """Figure 3c: the plane on a cylinder of radius 1 / epsilon: (sin(e y_1) / e, y_2, (1 - cos(e y_1)) / e)."""
    if epsilon == 0:
        return padded(3)

    def encode(y: Tensor) -> Tensor:
        angle = epsilon * y[:, 0]
        return torch.stack([angle.sin() / epsilon, y[:, 1], (1 - angle.cos()) / epsilon], dim=1)

    around = WrappedNormal(1 / epsilon, epsilon)

    def exact(tau: float) -> ExactCurves:
        return ExactCurves(*(a + b for a, b in zip(gaussian_curves([1.0], tau), around.exact(tau), strict=True)))

    return Toy(3, encode, exact)


FIGURES: dict[str, Callable[[Any], Toy]] = {"2": pointwise, "3a": stretched, "3b": padded, "3c": bent}
DATA = {"3a": 0.0, "3b": PADDED, "3c": 0.0}  # the encoder that is none
SWEEPS: dict[str, tuple] = {  # of the exact lines
    "3a": tuple(np.linspace(0, 0.6, 25)),
    "3b": tuple(range(2, PADDED + 1, 10)),
    "3c": (0.0, *np.linspace(0.3, 2.0, 18)),
}


def trained_record(path: Path, figure: str, setting: Any, num_steps: int, seed: int) -> None:
    """Curves of one toy by a denoiser that has seen its samples alone, measured on others."""
    toy, levels = FIGURES[figure](setting), TAU if figure == "2" else LEVELS
    generator = torch.Generator().manual_seed(seed)
    drawn, fresh = (toy.encode(torch.randn(n, 2, generator=generator)) for n in (_DRAWN, _MEASURED))
    with _random.seeded(seed):
        network = MLP(toy.dim, skip=True) if toy.dim > 3 else None
    denoiser = train_denoiser(drawn, network, tau_range=_TAU_RANGE, num_steps=num_steps, seed=seed)
    curve = fisher_curve(denoiser, fresh, levels, seed=seed)
    exact = {name: values.tolist() for name, values in exact_curve(toy, levels).items()}
    write(path, {"figure": figure, "setting": setting, "curve": curve.to_dict(), "exact": exact})


def exact_curve(toy: Toy, levels: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Exact curves by the names of ExactCurves, `[len(levels)]` each."""
    points = [toy.exact(tau) for tau in levels]
    return {name: np.array([getattr(point, name) for point in points]) for name in ExactCurves._fields}


def exact_record(path: Path, figure: str) -> None:
    """The lines of a figure, from closed forms and quadrature."""
    if figure == "2":
        levels = tuple(np.geomspace(0.01, 10, 19))
        lines = {name: exact_curve(pointwise(name), levels) for name in ACTIVATIONS}
        kept = {name: {key: values.tolist() for key, values in line.items()} for name, line in lines.items()}
        write(path, {"figure": figure, "tau": levels, "lines": kept})
        return
    data = exact_curve(FIGURES[figure](DATA[figure]), LEVELS)
    ratios: dict[str, list] = {"fir": [], "mmse_rate": []}
    for setting in SWEEPS[figure]:
        latent = exact_curve(FIGURES[figure](setting), LEVELS)
        ratios["fir"].append((latent["fisher_information_rate"] / data["fisher_information_rate"] - 1).tolist())
        ratios["mmse_rate"].append((latent["mmse_rate"] / data["mmse_rate"] - 1).tolist())
    write(path, {"figure": figure, "tau": LEVELS, "settings": SWEEPS[figure], "signed": ratios})


def trained_points(records: list[dict[str, Any]], data: dict[str, Any]) -> list[dict[str, Any]]:
    """Signed deviations of trained denoisers with standard errors, `[len(LEVELS)]` each, by setting."""
    reference, points = FisherCurve.from_dict(data["curve"]), []
    for record in records:
        latent = FisherCurve.from_dict(record["curve"])
        fir = fir_deviation(reference, latent, signed=True)
        mmse_rate = mmse_rate_deviation(reference, latent, signed=True)
        points.append({
            "setting": record["setting"],
            "fir": fir.mean.tolist(), "fir_sem": fir.sem.tolist(),
            "mmse_rate": mmse_rate.mean.tolist(), "mmse_rate_sem": mmse_rate.sem.tolist(),
        })  # fmt: skip
    return points


def errors(record: dict[str, Any]) -> dict[str, float]:
    """Largest relative error of a trained denoiser's curves over tau, by the names of ExactCurves."""
    curve: FisherCurve = FisherCurve.from_dict(record["curve"])
    return {
        name: float(np.abs(getattr(curve, name).mean / np.array(record["exact"][name]) - 1).max())
        for name in ExactCurves._fields
    }


def closed_form_gaps(lines: dict[str, Any]) -> dict[str, float]:
    """Largest difference of the lines of figures 3a and 3b from the closed forms."""
    gaps = {}
    for figure, closed in (("3a", closed_form_3a), ("3b", closed_form_3b)):
        if (line := lines.get(figure)) is None:
            continue
        found = np.abs(line["signed"]["fir"])
        right = [[closed(setting, tau) for tau in line["tau"]] for setting in line["settings"]]
        gaps[figure] = float(np.abs(found - right).max())
    return gaps


def closed_form_3a(delta: float, tau: float) -> float:
    """D_R = u^2 (3 - u^2) / (1 - u^2)^2, u = delta / (1 + tau)."""
    u = delta / (1 + tau)
    return u**2 * (3 - u**2) / (1 - u**2) ** 2


def closed_form_3b(dim: int, tau: float) -> float:
    """(D - d) / ((D - 2) + 2 tau^2 / (1 + tau)^2), D = PADDED."""
    return (PADDED - dim) / (PADDED - 2 + 2 * (tau / (1 + tau)) ** 2)


def reference_3a(delta: float) -> float:
    """The paper's line, an upper bound up to delta = .339."""
    return 1.25 * delta


def reference_3b(dim: int) -> float:
    """The paper's line."""
    return (PADDED - dim) / (PADDED - 2)
