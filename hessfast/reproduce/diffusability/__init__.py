"""The figures of "Understanding Latent Diffusability via Fisher Geometry" (arXiv 2604.02751), exact and trained.

    report = reproduce.diffusability.run("quick", out="results")       # hessfast reproduce diffusability

And what the paper does not ask: do its diagnostics predict, over a family of encoders, how good samples get?
"""

from ._run import PARTS, PRESETS, run
from .table import table

__all__ = ["PARTS", "PRESETS", "run", "table"]
