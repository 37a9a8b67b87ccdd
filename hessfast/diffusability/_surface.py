"""Data near a surface and their image under an encoder: lengths, angles and bends along the tangents."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hessfast import _random
from hessfast._autograd import plain_attention


@dataclass(frozen=True, eq=False)
class Surface:
    """Samples x `[n, D]`, orthonormal tangents U there `[n, D, m]`, and z = E(x) `[n, d]`; J = grad E.

    Attributes:
        encode: E of rows, differentiable by torch.
    """

    encode: Callable[[Tensor], Tensor]
    x: Tensor
    z: Tensor
    tangents: Tensor

    def distortions(self) -> tuple[Tensor, Tensor]:
        """|U^T J^T J U - I| and (hi - lo) / (hi + lo) of the eigenvalues of U^T J^T J U, `[n]`; without J = 0."""
        eigenvalues = torch.linalg.eigvalsh(self._image_tangents.mT @ self._image_tangents)
        low, high = eigenvalues[:, 0], eigenvalues[:, -1]
        return torch.maximum((high - 1).abs(), (low - 1).abs()), ((high - low) / (high + low))[high > 0]

    def second_differences(self, step: float, seed: int) -> tuple[Tensor, Tensor]:
        """Sizes of (E(x + h v) + E(x - h v) - 2 E(x)) / h^2 for a random unit tangent v: normal to J U, and along."""
        x, h = self.x, step
        generator = _random.generator(seed, *_random.ENCODER_TANGENTS)
        v = torch.randn(len(x), self.tangents.shape[2], generator=generator, dtype=torch.float64).to(x)
        v = (self.tangents @ (v / v.norm(dim=1, keepdim=True))[..., None])[..., 0]
        with torch.no_grad():
            second = (self.encode(x + h * v) + self.encode(x - h * v) - 2 * self.z) / h**2
        along = _projected(_basis(self._image_tangents), second)
        return (second - along).norm(dim=1), along.norm(dim=1)

    def to_neighbours(self, near: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Secant distortion and nonlinearity of each sample and that of number `near`.

        | |E(x') - E(x)| / |x' - x| - 1 |, without pairs of copies, and |E(x') - E(x) - J (x' - x)|^2 / Var z.
        """
        offset, moved, apart = self.x[near] - self.x, self.z[near] - self.z, distance > 0
        missed = (moved - self._pushed(offset)).pow(2).sum(dim=1)
        variance = float(((self.z - self.z.mean(dim=0)) ** 2).sum(dim=1).mean())
        rounded = (10 * torch.finfo(self.z.dtype).eps * float(self.z.abs().max())) ** 2
        return (moved.norm(dim=1) / distance - 1).abs()[apart], missed / (variance if variance > rounded else math.nan)

    @cached_property
    def _image_tangents(self) -> Tensor:
        """J U, `[n, d, m]`."""
        return torch.stack([self._pushed(u) for u in self.tangents.unbind(dim=2)], dim=2)

    def _pushed(self, v: Tensor) -> Tensor:
        """J v of each sample, by two backward passes: every layer has those, not every layer has a forward mode."""
        with plain_attention():
            y = self.x.clone().requires_grad_()
            z = self.encode(y)
            if not z.requires_grad:
                raise ValueError("encoder must be made of operations that torch can differentiate.")
            dual = torch.zeros_like(z, requires_grad=True)
            (pulled,) = torch.autograd.grad(z, y, dual, create_graph=True)
            (product,) = torch.autograd.grad(pulled, dual, v, allow_unused=True)
        return torch.zeros_like(z) if product is None else product.detach()


def principal_axes(x: Tensor, neighbours: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """The m first of each sample's neighbours about their mean, `[n, D, m]`, and the variance off their plane, `[n]`.

    The variance is per direction and degree of freedom.
    """
    around = x[neighbours]
    _, spread, axes = torch.linalg.svd(around - around.mean(dim=1, keepdim=True), full_matrices=False)
    freedom = x.shape[1] * (neighbours.shape[1] - 1 - m)
    off = spread[:, m:].double().square().sum(dim=1)
    return axes[:, :m].mT, off / freedom


def _basis(vectors: Tensor) -> Tensor:
    """An orthonormal basis of what each sample's `[n, d, m]` span, and zeros where they span less than m dimensions."""
    basis, size = torch.linalg.qr(vectors).Q.clone(), torch.linalg.svdvals(vectors)
    rounded = 10 * max(vectors.shape[1:]) * torch.finfo(vectors.dtype).eps
    fewer = size[:, -1] <= rounded * size[:, 0]
    if fewer.any():  # QR returns directions that are not in the span
        U, size, _ = torch.linalg.svd(vectors[fewer], full_matrices=False)
        basis[fewer] = U * (size > rounded * size[:, :1])[:, None]
    return basis


def _projected(basis: Tensor, v: Tensor) -> Tensor:
    """Orthogonally onto the span of each sample's orthonormal basis `[n, D, m]`."""
    return (basis @ (basis.mT @ v[..., None]))[..., 0]
