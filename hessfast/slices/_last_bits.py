"""What rounding decides: the same points with other last bits of z or in other batches, neighbours with the same z."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from hessfast import _random

from .generators import Generator, Prepared
from .plan import SlicePlan


class Perturbed(Generator):
    """A generator whose every element of z is moved by -1, 0 or 1 machine epsilons, by chance and the point's id."""

    def __init__(self, generator: Generator):
        self.generator, self.device = generator, generator.device
        self.identity = {"perturbed": generator.identity}

    def prepare(self, plan: SlicePlan) -> Prepared:
        prepared = self.generator.prepare(plan)
        epsilon = torch.finfo(getattr(torch, plan.dtype)).eps

        def latents(z: Tensor, ids: Sequence[int]) -> Tensor:
            generators = [_random.generator(plan.seed, *_random.LAST_BITS, point) for point in ids]
            steps = torch.stack([torch.randint(-1, 2, z.shape[1:], generator=each) for each in generators])
            return prepared.latents(z + epsilon * z * steps.to(z), ids)

        return dataclasses.replace(prepared, latents=latents)


def other_size(plan: SlicePlan) -> int:
    """A micro-batch that is not the plan's."""
    return max(1, plan.micro_batch // 2 - 1) if plan.micro_batch > 1 else 2


def unmoved(plan: SlicePlan) -> float:
    """Fraction of the elements of z that are the same in the plan's dtype for neighbours of its grid."""
    z = plan.z(plan.parameters).to(getattr(torch, plan.dtype)).reshape(*plan.points.shape, -1)
    pairs = [(z.narrow(k, 0, z.shape[k] - 1), z.narrow(k, 1, z.shape[k] - 1)) for k in range(plan.dim)]
    return float(torch.cat([(one == other).flatten() for one, other in pairs]).double().mean())
