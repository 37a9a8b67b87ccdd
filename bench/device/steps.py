"""The steps in order of importance, with the seconds that each may take."""

from . import ceilings, correctness, diffusion, potentials, samplers, slices
from .measure import Step

STEPS: dict[str, tuple[Step, int]] = {
    "ceilings": (ceilings.ceilings, 40),
    "tests": (correctness.tests, 150),
    "ising_sweep": (samplers.sweeps, 40),
    "ising_cftp": (samplers.perfect, 60),
    "tasep_sample": (samplers.chains, 40),
    "posterior_accumulate": (potentials.posteriors, 60),
    "posterior_moments": (potentials.moments, 40),
    "mlp_hessian": (potentials.hessians, 60),
    "geodesics": (potentials.geodesics, 60),
    "fisher_curve": (diffusion.sweep, 40),
    "slices": (slices.stable_diffusion, 240),
    "ising_observables": (samplers.observables, 20),
    "tasep_evolve": (samplers.dynamics, 40),
    "mlp_hessian by size": (potentials.hessians_by_size, 30),
    "peers of mlp_hessian": (potentials.hessians_by_torch, 60),
    "peers of ising_sweep": (samplers.sweep_by_torch, 60),
    "memcheck": (correctness.memcheck, 120),
    "racecheck": (correctness.racecheck, 120),
    "peer of mlp_hessian, compiled": (potentials.hessians_compiled, 90),
}
