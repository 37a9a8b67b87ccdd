"""The two data sets of "Hessian Geometry of Latent Space in Generative Models" (ICML 2025), every sample exact.

    540,000 Ising lattices of 128 x 128, each with its own (T, H) uniform on [1, 5] x [-2, 2]
    150,000 stationary configurations of the open TASEP on 16,384 sites, (alpha, beta) uniform on (0, 1]^2

    plan = datasets.ising_plan(num=540_000, seed=0)
    store = shards.fill("ising", plan, datasets.maker(plan))       # hessfast sample ising --num 540000 --out ising
    datasets.batch(store, slice(0, 100)).spins()                    # any part of it
    datasets.export_npy(store, "released")                         # hessfast export ising --out released

The bytes depend on the plan alone; sample `id` on seed, ranges and `id` alone, so that the first thousand samples of a
large data set are the small data set.
"""

from ._batches import batch
from ._export import export_npy
from ._plans import CERTIFICATES, ising_plan, maker, tasep_plan

__all__ = ["CERTIFICATES", "batch", "export_npy", "ising_plan", "maker", "tasep_plan"]
