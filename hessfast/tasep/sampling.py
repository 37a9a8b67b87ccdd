"""Configurations of the open TASEP: exact stationary samples, and the dynamics in continuous time from any start."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hessfast import _arrays, _batches, _checks
from hessfast._dispatch import kernel
from hessfast._reprs import counts, span

from ._rates import checked_rates


@dataclass(frozen=True, eq=False)
class TasepBatch:
    """n configurations of a chain of `num_sites` sites, one bit per site, and where they come from.

    Attributes:
        words: uint64 [n, ceil(num_sites / 64)]; site j (0 at the entry) is bit j % 64 of word j // 64, the padding
            bits are zero. A NumPy array or a torch tensor.
        num_sites: M.
        certificate: str [n]: "exact" (independent of any dynamics, drawn from the stationary law), "evolved" or
            "packed".
        entry_rate: float64 [n], the rates the configurations were last drawn or evolved with; None if packed.
        exit_rate: float64 [n], likewise.
        exponents: int64 [n, 2], only if exact: the powers (e, f) of a = (1 - entry_rate) / entry_rate and
            b = (1 - exit_rate) / exit_rate that were drawn on the way. They are the sufficient statistics of the
            two-line ensemble whose partition function is Z_M: E[(e, f)] is the gradient of log Z_M in (log a, log b).
        seed: of the last draw or evolution.
        first_id: configuration i is number first_id + i of that seed; None if they were picked out of order or with
            gaps.

    An integer, slice, index array or mask picks configurations, always as a batch; to go over it is to take one at a
    time.

    Example:
        >>> batch = sample([0.2, 0.5, 0.3], 0.6, 10)
        >>> batch[batch.entry_rate > 0.25].entry_rate.tolist()
        [0.5, 0.3]
    """

    words: Any
    num_sites: int
    certificate: np.ndarray
    entry_rate: np.ndarray | None = None
    exit_rate: np.ndarray | None = None
    exponents: Any = None
    seed: int | None = None
    first_id: int | None = 0

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        at = span("entry_rate", self.entry_rate) + span("exit_rate", self.exit_rate)
        return f"TasepBatch({len(self)} chains of {self.num_sites} sites{counts(self.certificate)}{at})"

    def __getitem__(self, index: Any) -> "TasepBatch":
        """The configurations that an index or mask picks, numbered as they were if they are in a row."""
        arrays = "words", "certificate", "entry_rate", "exit_rate", "exponents"
        return replace(self, **_batches.part_of(self, index, *arrays))

    def occupations(self) -> Any:
        """uint8 [n, num_sites]: 1 where a particle stands."""
        octets = self._octets()
        if _arrays.is_tensor(octets):
            import torch

            bits = (octets[..., None] >> torch.arange(8, dtype=torch.uint8, device=octets.device)) & 1
            return bits.reshape(len(bits), 8 * octets.shape[1])[:, : self.num_sites]
        return np.unpackbits(octets, axis=1, count=self.num_sites, bitorder="little")

    def num_particles(self) -> Any:
        """int64 [n]: the number of particles of each configuration."""
        octets = self._octets()
        options = {} if _arrays.is_tensor(octets) else {"dtype": np.int64}  # a tensor's sum is int64 by itself
        return sum(((octets >> bit) & 1).sum(-1, **options) for bit in range(8))

    def _octets(self) -> Any:
        """uint8 [n, 8 ceil(num_sites / 64)]: the words, byte by byte from the lowest."""
        if _arrays.is_tensor(self.words):
            import torch

            return self.words.view(torch.uint8)
        return np.ascontiguousarray(self.words, "<u8").view(np.uint8)


def sample(
    entry_rate: Any,
    exit_rate: Any,
    num_sites: int = 16384,
    seed: int = 0,
    *,
    device: str = "cpu",
    backend: str | None = None,
    first_id: int = 0,
    num: int | None = None,
) -> TasepBatch:
    """Independent configurations from the exact stationary law, each with its own rates, in O(num_sites) each.

    Nothing is simulated and nothing has to relax: the stationary law is that of the first line of a random pair of
    lattice paths weighted by a^e b^f, and such a pair is drawn directly (`hessfast.kernels.tasep_sample` has the five
    steps). Exact but for the rounding of float64 in the draw of (e, f), about 1e-14 in total variation.

    Args:
        entry_rate: alpha in (0, 1], the rate of entering an empty first site; jumps in the bulk have rate 1. A number
            or one axis of n; broadcasts with `exit_rate`.
        exit_rate: beta in (0, 1], the rate of leaving an occupied last site.
        num_sites: M, from 1 to 2^30.
        seed: sample i is a pure function of (seed, first_id + i, its rates, num_sites), whatever the number of
            threads, the size of the batch or the device. Samples of the same number are not independent of each other
            at other rates: use another seed, or first_id.
        device: "cpu", or "cuda", which returns torch tensors there.
        backend: "reference", "cpu" or "gpu"; by default the one of the device.
        first_id: number of the first sample, for drawing one data set in parts.
        num: of samples, to which the rates are broadcast; None: as many as there are rates.

    Raises:
        ValueError: for a rate outside (0, 1], rates that do not broadcast to one axis, or num_sites out of range.
        BackendUnavailableError: if the backend cannot run here.

    References:
        Bryc, Zatitskii, arXiv:2403.03275 (2024), section 2: the two-line representation.
        Derrida, Evans, Hakim, Pasquier, J. Phys. A 26, 1493 (1993): the stationary law as a matrix product.

    Example:
        On the line alpha + beta = 1 the sites are independent, each occupied with probability alpha:

        >>> chain = sample(0.25, 0.75, num_sites=1_000_000)
        >>> abs(int(chain.num_particles()[0]) - 250_000) < 5 * 433
        True
    """
    alpha, beta, num_sites = checked_rates(entry_rate, exit_rate, num_sites)
    if num is not None:
        shape = (_checks.integer("num", num, 0),)
        alpha, beta = (_checks.broadcast_to(*each, shape) for each in (("entry_rate", alpha), ("exit_rate", beta)))
    alpha, beta = _one_axis(alpha, beta)
    seed = _checks.seed(seed)
    first_id = _checks.integer("first_id", first_id, 0, 2**64 - 1 - len(alpha))
    run = kernel("tasep_sample", device, backend)
    on = _arrays.home(device, entry_rate, exit_rate)
    words = _arrays.empty((len(alpha), -(-num_sites // 64)), "uint64", on)
    exponents = _arrays.empty((len(alpha), 2), "int64", on)
    run(_arrays.native(words), _arrays.native(exponents), alpha, beta, num_sites, seed, first_id)
    return TasepBatch(words, num_sites, np.full(len(alpha), "exact"), alpha, beta, exponents, seed, first_id)


def evolve(
    batch: TasepBatch,
    entry_rate: Any,
    exit_rate: Any,
    duration: float,
    seed: int,
    *,
    backend: str | None = None,
) -> TasepBatch:
    """The configurations after `duration` of the random-sequential dynamics, with the exact law of continuous time.

    Every bond attempts a jump at rate 1, which succeeds if there is a particle on its left and none on its right; the
    entry and the exit let pass with probability `entry_rate` and `exit_rate`. The number of attempts is Poisson, so
    there is no time step and no discretisation error. The cost is (num_sites + 1) duration attempts a configuration.

    Args:
        batch: the configurations to start from, of `sample`, `pack` or `evolve`; left as they are.
        entry_rate: alpha in (0, 1]; a number, or one per configuration.
        exit_rate: beta in (0, 1], likewise.
        duration: time >= 0 in units of 1 / (bulk rate).
        seed: configuration i draws from (seed, batch.first_id + i). Use another seed for every run of the same
            configurations: with the same one the same bonds attempt jumps again.
        backend: "reference", "cpu" or "gpu"; by default the one of the device on which the words are.

    Raises:
        ValueError: for a rate outside (0, 1], rates that do not fit the batch, or a duration that is negative,
            infinite or of more than 2^62 expected attempts, or a batch whose first_id is None.
        TypeError: if `batch` is not a TasepBatch; `pack` makes one of an array.

    Example:
        A single site forgets its start at rate alpha + beta and is then occupied with probability
        alpha / (alpha + beta):

        >>> start = pack(np.zeros((40_000, 1), int))
        >>> later = evolve(start, 0.9, 0.6, duration=30, seed=0)
        >>> abs(float(later.num_particles().mean()) - 0.6) < 5 * 0.00245
        True
    """
    if not isinstance(batch, TasepBatch):
        raise TypeError(f"batch must be a TasepBatch, got {type(batch).__name__}. Make one with tasep.pack.")
    alpha, beta, _ = checked_rates(entry_rate, exit_rate, batch.num_sites)
    alpha, beta = _one_axis(alpha, beta)
    if len(alpha) not in (1, len(batch)):
        raise ValueError(
            f"entry_rate and exit_rate must be numbers or have one entry for each of {len(batch)} configurations, "
            f"got {len(alpha)}."
        )
    alpha, beta = (np.array(np.broadcast_to(rate, len(batch))) for rate in (alpha, beta))
    time = _checks.number("duration", duration, low=0)
    if time * (batch.num_sites + 1) > 2.0**62:
        raise ValueError(
            f"duration must be <= 2^62 / (num_sites + 1), for attempts are counted in 64 bits, got {time:g}."
        )
    seed = _checks.seed(seed)
    run = kernel("tasep_evolve", _arrays.device_of(batch.words), backend)
    words = _arrays.copy(batch.words)
    first_id = _batches.first_id_of(batch)
    run(_arrays.native(words), alpha, beta, batch.num_sites, time, seed, first_id)
    return TasepBatch(words, batch.num_sites, np.full(len(batch), "evolved"), alpha, beta, None, seed, first_id)


def pack(occupations: Any, *, first_id: int = 0) -> TasepBatch:
    """Configurations given site by site, [n, num_sites] or [num_sites] of 0 and 1, as a TasepBatch.

    Raises:
        ValueError: for values other than 0 and 1, or an array of the wrong shape.

    Example:
        >>> pack([1, 1, 0, 1]).words
        array([[11]], dtype=uint64)
    """
    sites = _checks.whole("occupations", occupations)
    if sites.ndim == 1:
        sites = sites[None]
    if sites.ndim != 2 or sites.shape[1] == 0:
        raise ValueError(f"occupations must have shape [n, num_sites] or [num_sites], got {sites.shape}.")
    if not ((sites == 0) | (sites == 1)).all():
        raise ValueError(f"occupations must be 0 or 1, got {sites[(sites != 0) & (sites != 1)][0]!r:.80}.")
    n, num_sites = sites.shape
    octets = np.zeros((n, 8 * -(-num_sites // 64)), np.uint8)
    bits = np.packbits(sites.astype(np.uint8), axis=1, bitorder="little")
    octets[:, : bits.shape[1]] = bits
    words = _arrays.like(octets.view("<u8").astype(np.uint64, copy=False), occupations)
    first_id = _checks.integer("first_id", first_id, 0, 2**64 - 1 - n)
    return TasepBatch(words, num_sites, np.full(n, "packed"), first_id=first_id)


def _one_axis(alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if alpha.ndim > 1:
        raise ValueError(f"entry_rate and exit_rate must be numbers or have one axis, got shape {alpha.shape}.")
    return np.array(alpha, ndmin=1), np.array(beta, ndmin=1)  # copies: a kernel is compiled for writable arrays only
