"""Fisher curves of samples that come in batches, by update and compute as torchmetrics has them."""

from typing import Any

import numpy as np
import torch

from hessfast import _checks, _distributed, _random

from . import _samples
from ._conditions import Conditional
from ._consistency import Doubt, doubts, with_errors
from ._sweep import BLOCK, WIDTH, Probing, estimates, refuse_mixing, roundings, summed, sweep
from .curves import FisherCurve, levels_of
from .denoisers import Denoiser, checked
from .empirical import EmpiricalDenoiser


class FisherCurveMetric:
    """`fisher_curve` of a stream of samples, such as the batches of a validation loop; none of them is kept.

    Under torch.distributed each rank updates with its own batches, and all of them compute. The noise of a batch is a
    function of the seed, the rank and how many batches the rank has seen. What a curve's `warnings` say of the best
    linear denoiser they do not say here: it would have to see the samples twice.

    Args:
        denoiser, tau, num_probes, seed, batch_size, asymmetry: see `fisher_curve`.

    Example:
        X ~ N(0, 1) has FI = 1 / (1 + tau) whatever the sample, for D(y) = y / (1 + tau).

        >>> from hessfast.diffusability import from_denoiser
        >>> metric = FisherCurveMetric(from_denoiser(lambda y, tau: y / (1 + tau)), [1.0, 3.0])
        >>> for batch in torch.randn(4, 25, 1):
        ...     metric.update(batch)
        >>> curve = metric.compute()
        >>> curve.fisher_information.mean.round(6).tolist(), curve.fisher_information.num_samples.tolist()
        ([0.5, 0.25], [100, 100])
    """

    def __init__(
        self,
        denoiser: Denoiser,
        tau: Any,
        num_probes: int = 1,
        seed: int = 0,
        *,
        batch_size: int = 256,
        asymmetry: bool = False,
    ):
        self._denoiser, self._levels = checked(denoiser), levels_of(tau)
        if isinstance(denoiser.predict, Conditional):
            denoiser.predict.for_rows(1, torch.arange(0))  # refuses one for each of samples that are to come
        num_probes, seed = _checks.integer("num_probes", num_probes, 1), _checks.seed(seed)
        self._how = Probing(num_probes, seed, _checks.integer("batch_size", batch_size, 1), bool(asymmetry))
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._sums, self._shape, self._num_batches = np.zeros((len(self._levels), WIDTH)), None, 0

    def update(self, samples: Any) -> None:
        """Take a batch `[n, ...]` in, n >= 1.

        Raises:
            ValueError: for samples that are not finite, or of another shape than the last; for a denoiser whose answers
                depend on the other samples.
        """
        x = self._denoiser.brought(_samples.samples("samples", samples, least=1))
        if self._shape not in (None, x.shape[1:]):
            raise ValueError(
                f"samples must have the shape of the last, {tuple(self._shape)}, got {tuple(x.shape[1:])}."
            )
        self._denoiser.for_rows(x, torch.arange(0))  # refuses samples that it cannot take
        if self._shape is None and not isinstance(self._denoiser, EmpiricalDenoiser):
            refuse_mixing(self._denoiser, x, float(self._levels[0]), self._how.batch_size)
        path = *_random.STREAMED, _distributed.ranks()[0], self._num_batches
        how = self._how._replace(seed=int(_random.derive(self._how.seed, *path)[0]))
        sums = np.zeros((-(-len(x) // BLOCK), *self._sums.shape))
        every = np.ones(len(self._levels), bool)
        sweep(self._denoiser, x, self._levels, every, how, range(len(sums)), sums, shared=False)
        self._sums += sums.sum(axis=0)
        self._shape, self._num_batches = x.shape[1:], self._num_batches + 1

    def compute(self) -> FisherCurve:
        """The curve of all batches so far, of all ranks.

        Raises:
            ValueError: before there are two samples.
        """
        sums = summed(self._sums)
        if sums[0, 0] < 2 or self._shape is None:
            raise ValueError(f"update must have seen two samples or more, got {sums[0, 0]:.0f}.")
        dim = self._shape.numel()
        found, rounding = estimates(sums[None], self._levels, dim), roundings(sums[None])
        against = doubts(found, self._levels, None, self._denoiser.tau_range, rounding)
        if isinstance(self._denoiser, EmpiricalDenoiser):
            against += (Doubt("standard errors are those of the samples alone, without that of the denoiser's data"),)
        return FisherCurve.of(with_errors(found, rounding), self._levels, dim, against, self._how.asymmetry)
