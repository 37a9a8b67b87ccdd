"""Exact samples of the Ising model, each with its own temperature and field, and its heat-bath dynamics."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hessfast import _arrays, _batches, _checks
from hessfast._dispatch import kernel, present
from hessfast._reprs import counts, span

from . import _layout, _methods, _thresholds
from ._methods import CERTIFICATE_DTYPE

METHODS = ("auto", "cftp", "fk-cftp", "mcmc")


@dataclass(frozen=True, eq=False)
class IsingBatch:
    """Packed lattices with their provenance.

    Attributes:
        words: uint64 [n, 4, size/2, ceil(size/128)], 1 = up. The planes are the black sites (row + column even) of even
            and of odd rows, then the white sites of even and of odd rows; word row m is lattice row i = 2m or 2m + 1;
            bit k is column 2k + (i & 1) if black, 2k + 1 - (i & 1) if white. For size 128: 2 KB a lattice.
        temperature: float64 [n], in units of J / k_B.
        field: float64 [n], in units of J.
        certificate: str [n]; "cftp" and "fk-cftp" are exact samples of exp(-E/T) / Z, "mcmc" samples are not.
        size: side of the lattice.
        seed: of the last draw or sweep.
        first_id: lattice i is number first_id + i of that seed; None if they were picked out of order or with gaps.

    An integer, slice, index array or mask picks lattices, always as a batch; to go over it is to take one at a time.

    Example:
        >>> batch = sample([3.0, 1.0, 2.0], 0.0, 8)
        >>> cold = batch[batch.temperature < 2.3]
        >>> len(cold), cold.temperature.tolist(), [len(one) for one in batch]
        (2, [1.0, 2.0], [1, 1, 1])
    """

    words: Any
    temperature: np.ndarray
    field: np.ndarray
    certificate: np.ndarray
    size: int
    seed: int | None = None
    first_id: int | None = 0

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        at = span("temperature", self.temperature) + span("field", self.field)
        return f"IsingBatch({len(self)} lattices of {self.size} x {self.size}{counts(self.certificate)}{at})"

    def spins(self) -> Any:
        """int8 [n, size, size] in {-1, +1}, on the device of `words`."""
        return _layout.unpack(self.words, self.size)

    def __getitem__(self, index: Any) -> "IsingBatch":
        """The lattices that an index or mask picks, numbered as they were if they are in a row."""
        return replace(self, **_batches.part_of(self, index, "words", "temperature", "field", "certificate"))

    def bond_energy(self) -> Any:
        """int64 [n]: -sum_<ij> s_i s_j, exact; the energy E is bond_energy - field * magnetization.

        Over the whole lattice, where `ising.mean_bond_energy` is per spin.
        """
        return self._observables()[0]

    def magnetization(self) -> Any:
        """int64 [n]: sum_i s_i, exact; over the whole lattice, where `ising.mean_magnetization` is per spin."""
        return self._observables()[1]

    def _observables(self):
        op = kernel("ising_observables", _arrays.device_of(self.words))
        return [_arrays.like(each, self.words) for each in op(_arrays.native(self.words), self.size)]


def sample(
    temperature: Any,
    field: Any,
    size: int = 128,
    seed: int = 0,
    *,
    method: str = "auto",
    device: str = "cpu",
    backend: str | None = None,
    first_id: int = 0,
    num: int | None = None,
) -> IsingBatch:
    """Independent samples of p(s) = exp(-E(s)/T) / Z on a periodic square lattice, one for each (T, H).

    Sample i is a function of (seed, first_id + i, T, H, size, method) alone: not of the number of threads, of the other
    samples of the batch, or of the device.

    Methods:
        cftp: monotone coupling from the past of heat-bath chains; exact; fast at high temperature or in a field, and
            hopeless (never wrong, never ending) at low temperature without one.
        fk-cftp: coupling from the past of Fortuin-Kasteleyn bonds; exact and efficient everywhere, but slower than cftp
            where that is fast; 0.3 to 300 ms a 128 x 128 lattice. It has no GPU kernel: for a GPU the host draws these
            lattices, the same as ever, and hands them over.
        auto: cftp where it is the faster, else fk-cftp, decided by (T, H) alone: every sample is exact.
        mcmc: heat bath from all spins along the field, burn-in of 32 + 20 tau(T, H) sweeps with tau estimated, then
            the whole lattice is flipped with its exact probability. Not exact, and labelled so.

    Args:
        temperature: T > 0, in units of J / k_B; a number or one-dimensional.
        field: H in units of J, finite; broadcasts against `temperature`.
        size: side of the lattice, even, >= 2; multiples of 128 are fastest.
        seed: integer in [0, 2^64). Samples of the same number are not independent of each other at other (T, H): use
            another seed, or first_id.
        method: "auto", "cftp", "fk-cftp" or "mcmc".
        device: "cpu" or "cuda", where the words will be.
        backend: "cpu", "gpu" or "reference" (slow, site by site); by default the device's.
        first_id: number of the first sample.
        num: of samples, to which (T, H) are broadcast; None: as many as there are (T, H).

    Returns:
        An `IsingBatch`; its words are a torch tensor if a parameter is one or the device is "cuda", else a NumPy array.

    Raises:
        ValueError: for a parameter that is NaN, infinite or out of range, mismatched shapes, an unknown method, or cftp
            where it would hardly end.
        BackendUnavailableError: if there is no such device.

    References:
        J. Propp, D. Wilson, Random Struct. Algorithms 9, 223 (1996).

    Example:
        At T = 1, H = 2 the four neighbours of a spin are up and 2 (4 + H) / T = 12, so about 1 in 10^5 is down.

        >>> batch = sample(1.0, 2.0, size=64, seed=1, num=4)
        >>> bool((batch.magnetization() > 0.999 * 64 * 64).all()), batch.certificate[0].item()
        (True, 'cftp')
    """
    on = _arrays.home(device, temperature, field)
    lattices = None if num is None else (_checks.integer("num", num, 0),)
    temperature, field = _parameters(temperature, field, lattices)
    size = _checks.even("size", size)
    seed = _checks.seed(seed)
    _checks.choice("method", method, METHODS)
    sample_ids = _checks.sample_ids(first_id, len(temperature))
    certificate = _methods.certificates(temperature, field, method)
    _methods.refuse_endless(temperature, field, size, certificate)
    # Every kernel is resolved, or refused, before anything is drawn.
    plans = [(np.flatnonzero(certificate == name), _DRAWS[name](device, backend)) for name in np.unique(certificate)]
    shape = len(temperature), 4, size // 2, -(-size // 128)
    words = _arrays.empty(shape, "uint64", on)
    for chosen, draw in plans:
        # Long runs first: threads and warps that finish early then find work until the end.
        chosen = chosen[np.argsort(_methods.work(temperature[chosen], field[chosen]), kind="stable")[::-1]]
        _arrays.put(words, chosen, draw(temperature[chosen], field[chosen], size, np.uint64(seed), sample_ids[chosen]))
    return IsingBatch(words, temperature, field, certificate, size, seed, int(first_id))


def sweep(
    batch: IsingBatch, temperature: Any, field: Any, num_sweeps: Any, seed: int, *, backend: str | None = None
) -> IsingBatch:
    """Heat-bath dynamics from a given state: sweeps over the black, then the white sites; a new batch comes back.

    A spin becomes up with probability 1 / (1 + exp(-2 (n_up - n_down + H) / T)), exact to 2^-64, whatever it was.
    Lattice i draws from (seed, batch.first_id + i); use another seed for every run of the same lattices. The
    certificate becomes "mcmc", whatever it was: only the caller knows whether (T, H) are those of the start.

    Args:
        batch: the start, left as it is.
        temperature: T > 0; a number or one for each lattice.
        field: H, finite; likewise.
        num_sweeps: >= 0; likewise. One sweep updates every site once.
        seed: integer in [0, 2^64).
        backend: "cpu", "gpu" or "reference"; by default that of the batch's device.

    Raises:
        ValueError: for a parameter that is NaN, infinite or out of range, shapes that do not fit the batch, or a batch
            whose first_id is None.
        TypeError: for what is no IsingBatch, or a num_sweeps that is no integer.

    Example:
        At an enormous field one sweep aligns everything.

        >>> start = pack(-np.ones((1, 8, 8)))
        >>> int(sweep(start, 1.0, 100.0, 1, seed=0).magnetization()[0])
        64
    """
    if not isinstance(batch, IsingBatch):
        raise TypeError(f"batch must be an IsingBatch, got {type(batch).__name__}. Make one with ising.pack.")
    shape = (len(batch),)
    temperature, field = _parameters(temperature, field, shape)
    num_sweeps = _checks.integer_array("num_sweeps", num_sweeps, shape, minimum=0)
    seed = _checks.seed(seed)
    device = _arrays.device_of(batch.words)
    words = _arrays.copy(batch.words)
    sample_ids = _checks.sample_ids(_batches.first_id_of(batch), len(batch))
    op = kernel("ising_sweep", device, backend)
    op(
        _arrays.native(words),
        _thresholds.heat_bath(temperature, field),
        num_sweeps,
        sample_ids,
        np.uint64(seed),
        batch.size,
    )
    certificate = np.full(len(batch), "mcmc", CERTIFICATE_DTYPE)
    return replace(batch, words=words, temperature=temperature, field=field, certificate=certificate, seed=seed)


def pack(spins: Any, *, first_id: int = 0) -> IsingBatch:
    """A batch from spins -1 and +1, [n, size, size] or [size, size]; temperature and field are NaN, the certificate "".

    Args:
        first_id: number of the first lattice; `sweep` draws for lattice i from (seed, first_id + i).

    Raises:
        ValueError: for other values than -1 and +1, sides that are odd or unequal.

    Example:
        >>> spins = np.random.default_rng(0).choice([-1, 1], (3, 6, 6))
        >>> bool((pack(spins).spins() == spins).all())
        True
    """
    array = _checks.whole("spins", spins)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1] != array.shape[2]:
        raise ValueError(f"spins must have shape [n, size, size] or [size, size], got {tuple(array.shape)}.")
    size = _checks.even("size of spins", array.shape[1])
    if not np.isin(array, (-1, 1)).all():
        raise ValueError(f"spins must be -1 or +1, got {array[~np.isin(array, (-1, 1))].flat[0]}.")
    nan = np.full(len(array), np.nan)
    certificate = np.full(len(array), "", CERTIFICATE_DTYPE)
    first_id = _checks.integer("first_id", first_id, 0, 2**63)
    return IsingBatch(_arrays.like(_layout.pack(array), spins), nan, nan, certificate, size, first_id=first_id)


def _parameters(temperature: Any, field: Any, shape: tuple[int, ...] | None = None) -> list[np.ndarray]:
    """T > 0 and H as float64 [n], `shape` or their common shape."""
    temperature, field = _checks.float_array("temperature", temperature), _checks.float_array("field", field)
    if (temperature <= 0).any():
        raise ValueError(f"temperature must be > 0, got {temperature[temperature <= 0].flat[0]}.")
    for name, value, zero in (("temperature", temperature, ""), ("field", np.abs(field), "0 or ")):
        beyond = (value > 1e100) | ((value < 1e-100) & (value != 0))
        if beyond.any():
            raise ValueError(f"{name} must be {zero}between 1e-100 and 1e100 in size, got {value[beyond].flat[0]}.")
    if shape is None:
        temperature, field = _checks.broadcast(temperature=temperature, field=field)
    else:
        temperature = _checks.broadcast_to("temperature", temperature, shape)
        field = _checks.broadcast_to("field", field, shape)
    if temperature.ndim > 1:
        raise ValueError(f"temperature and field must be numbers or one-dimensional, got shape {temperature.shape}.")
    return [np.atleast_1d(temperature), np.atleast_1d(field)]


def _cftp(device, backend):
    op = kernel("ising_cftp", device, backend)
    where = {} if str(device) == "cpu" else {"device": device}

    def draw(temperature, field, size, seed, sample_ids):
        rungs = _methods.first_rungs(temperature, field, size)
        return op(_thresholds.heat_bath(temperature, field), rungs, sample_ids, seed, size, **where)[0]

    return draw


def _fk_cftp(device, backend):
    op = kernel("ising_fk_cftp", "cpu" if backend is None else device, backend)
    present(device)

    def draw(temperature, field, size, seed, sample_ids):
        return op(_thresholds.bonds(temperature, field), np.sign(field).astype(np.int8), sample_ids, seed, size)[0]

    return draw


def _mcmc(device, backend):
    op = kernel("ising_sweep", device, backend)
    observe = kernel("ising_observables", device, backend)

    def draw(temperature, field, size, seed, sample_ids):
        run_seed, flip_seed = _methods.mcmc_seeds(seed)
        all_up = _layout.pack(np.ones((1, size, size)))
        words = np.where(field[:, None, None, None] < 0, np.zeros_like(all_up), all_up)
        words = words if str(device) == "cpu" else _arrays.tensor(words, device)
        num_sweeps = _methods.burn_in(temperature, field, size)
        op(words, _thresholds.heat_bath(temperature, field), num_sweeps, sample_ids, run_seed, size)
        magnetization = _arrays.to_numpy(observe(words, size)[1])
        turned = np.flatnonzero(_methods.flips(temperature, field, magnetization, sample_ids, flip_seed))
        _arrays.put(words, turned, _arrays.to_numpy(words)[turned] ^ all_up)
        return words

    return draw


_DRAWS = {"cftp": _cftp, "fk-cftp": _fk_cftp, "mcmc": _mcmc}
