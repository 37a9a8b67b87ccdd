"""Compiled kernels for the information geometry of generative models.

    hessfast.ising          exact samples of the Ising model in a field, its dynamics and its log partition function
    hessfast.tasep          exact samples of the open TASEP, its dynamics and its log partition function
    hessfast.posterior      p(parameters | samples): exact, of a learned exponential family, by features, by U2-Net
    hessfast.log_partition  log Z learned from posteriors, and the Fisher metric, its Hessian
    hessfast.potentials     convex networks and closed forms; tables; the paper's checkpoint
    hessfast.derivatives    value, gradient, Hessian, Hessian-vector products of any potential, fast
    hessfast.geodesic       geodesics under a Hessian metric: lengths, exponential and logarithmic map
    hessfast.diffusability  FI, FIR and MMSE over noise from denoisers; deviations and penalties of encoders
    hessfast.slices         latent slices of diffusion models: images, features, how reliably, and their geometry
    hessfast.reproduce      the papers' tables and figures
    hessfast.shards         the resumable, sharded store behind every long job
    hessfast.datasets       the two data sets, drawn through that store

Every module is imported on first use; nothing heavy is loaded by ``import hessfast`` itself.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "datasets",
    "derivatives",
    "diffusability",
    "fisher_metric",
    "geodesic",
    "ising",
    "log_partition",
    "posterior",
    "potentials",
    "reproduce",
    "shards",
    "slices",
    "tasep",
]


if TYPE_CHECKING:
    from . import (
        datasets,
        derivatives,
        diffusability,
        geodesic,
        ising,
        log_partition,
        posterior,
        potentials,
        reproduce,
        shards,
        slices,
        tasep,
    )
    from .derivatives import fisher_metric
else:  # for a type checker any name would do

    def __getattr__(name: str):
        if name == "fisher_metric":
            return importlib.import_module("hessfast.derivatives").fisher_metric
        if name in __all__:
            return importlib.import_module(f"hessfast.{name}")
        raise AttributeError(f"module 'hessfast' has no attribute {name!r}")


def __dir__():
    return [*globals(), *__all__]
