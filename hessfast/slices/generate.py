"""Generate a slice into a sharded store: resumable, shared by any number of processes, the same bytes for all."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hessfast import _arrays, _atomic, _checks, _distributed, shards
from hessfast._autograd import without_autocast
from hessfast._steps import Steps

from .features import Features, feature_map
from .generators import Generator, known
from .plan import FILE, SlicePlan

KEPT = ("latents", "features", "images")
# Raise it when equal plans begin to give other bytes: folders begun before are then refused, never mixed.
REVISION = 3
_WIDEST = 10  # size beyond which numbers meant to be in [-1, 1] are of another scale
_STORED = {"float16": np.float16, "bfloat16": np.float16, "float32": np.float32, "float64": np.float64}


def generate(
    plan: SlicePlan,
    generator: Generator,
    out: str | Path,
    features: Any = None,
    *,
    keep: Sequence[str] = ("latents", "features"),
    shard_size: int | None = None,
    progress: bool = False,
) -> shards.Store:
    """Make every image of a slice that the folder `out` lacks, and open the complete store.

    Arrays: ``parameters`` float64 `[dim]`; ``latents`` in the plan's dtype (float16 for bfloat16); ``features`` in
    float32, or float64 for such a plan; ``images`` uint8, 0 for -1 and 255 for 1. `SlicePlan.load(out)` gives the plan
    back.

    Run it again after a kill, a full disk or Ctrl-C: what is sealed stays. Under torchrun, and in processes started by
    hand, each makes the shards that no other has begun; none waits for another before the end. A shard is a fixed
    range of point ids, and a micro-batch `plan.micro_batch` consecutive ids, the last padded with its last point:
    whoever makes it, the bytes are the same on processors of one kind. On a CPU several micro-batches are computed at a
    time, one thread each, so that the number of threads cannot be seen either.

    Args:
        plan: what to make. A folder that holds another plan is refused.
        generator: by which; its weights are part of the store's plan.
        out: folder, created if need be.
        features: see `feature_map`; None: no features.
        keep: some of "latents", "features" and "images".
        shard_size: points a shard, a multiple of the micro-batch; None: about 256.
        progress: show a bar on stderr, if that is a terminal; of rank 0 only.

    Raises:
        ValueError: for plans, generators and features that do not fit together, or a folder with another plan.
        ArithmeticError: for latents or features that are not finite; what is sealed stays.
        OSError: if the folder cannot be written, or its disk is full.

    Example:
        >>> import tempfile
        >>> from hessfast.slices import from_callable
        >>> plan = SlicePlan([[[[1.0, 2.0]]], [[[3.0, 2.0]]]], [[0.0], [0.5]], normalise=False)
        >>> store = generate(plan, from_callable(lambda z: 2 * z, "doubled"), tempfile.mkdtemp(), keep=["latents"])
        >>> store["latents"][:].ravel().tolist()
        [2.0, 4.0, 4.0, 4.0]
    """
    job, make = shard_job(plan, generator, features, keep=keep, shard_size=shard_size, begun=out)
    folder, (rank, world_size) = Path(out), _distributed.workers()
    shards.check(folder, job)
    _write_plan(folder, plan)
    return shards.fill(folder, job, make, rank=rank, world_size=world_size, progress=progress and rank == 0)


def shard_job(
    plan: SlicePlan,
    generator: Generator,
    features: Any = None,
    *,
    keep: Sequence[str] = ("latents", "features"),
    shard_size: int | None = None,
    begun: str | Path | None = None,
) -> tuple[shards.Plan, Callable[[int, int], dict[str, np.ndarray]]]:
    """The sharded job that a slice is, and the function ``make(start, stop)`` that fills a shard of it.

    The networks are tried for what they make, unless the folder `begun` holds this job and says so.

    Example:
        >>> from .generators import from_callable
        >>> plan = SlicePlan([[0.0, 0.0], [1.0, 4.0]], [[0.0], [0.25], [1.0]], normalise=False)
        >>> job, make = shard_job(plan, from_callable(lambda z: 2 * z, "doubled"), keep=["latents"])
        >>> job.num, make(1, 3)["latents"].ravel().tolist()
        (3, [0.5, 2.0, 2.0, 8.0])
    """
    if not isinstance(plan, SlicePlan):
        raise TypeError(f"plan must be a SlicePlan, got {type(plan).__name__}. Pass the plan before the generator.")
    named = [_checks.choice("keep", name, KEPT) for name in keep]
    described = None if features is None else feature_map(features)
    kept = [name for name in KEPT if name in named and (name != "features" or described is not None)]
    if named and not kept:
        raise ValueError("features must be given to keep nothing else, got None.")
    if not kept:
        raise ValueError(f"keep must name one of {', '.join(KEPT)} or more, got none.")
    size = plan.micro_batch
    shard_size = size * max(1, 256 // size) if shard_size is None else _checks.integer("shard_size", shard_size, 1)
    if shard_size % size:
        raise ValueError(f"shard_size must be a multiple of the micro-batch, {size}, got {shard_size}.")
    compute = Compute(plan, generator, described, kept)
    parameters = {"slice": plan.to_dict(), "generator": generator.identity, "revision": REVISION}
    parameters |= {"features": None if described is None else described.identity}

    def make(start: int, stop: int) -> dict[str, np.ndarray]:
        return {"parameters": plan.parameters[start:stop]} | compute(np.arange(start, stop))

    if begun is not None:
        with contextlib.suppress(FileNotFoundError, ValueError):  # without a plan, or with a damaged one
            theirs = shards.read_plan(begun)
            job = shards.Plan("slice", plan.num, shard_size, theirs.arrays, parameters)
            if job.hash == theirs.hash and set(job.arrays) == {"parameters", *kept}:
                return job, make
    arrays: dict[str, tuple[str, tuple[int, ...]]] = {"parameters": ("float64", (plan.dim,))} | compute.arrays()
    missing = [name for name in kept if name not in arrays]
    if missing:
        raise ValueError(f"keep must not name {missing[0]} for this generator, got {kept}. It makes no such arrays.")
    return shards.Plan("slice", plan.num, shard_size, arrays, parameters), make


class Compute:
    """What is kept of latents, features and images of points, made in fixed micro-batches, a thread each on a CPU."""

    def __init__(self, plan: SlicePlan, generator: Generator, features: Features | None, kept: Sequence[str]):
        self.plan, self.prepared, self.kept = plan, known(generator).prepare(plan), kept
        self.features = None if features is None else features.prepare(plan.dtype, self.prepared.device)
        self._pending = self.prepared.warm_up

    def arrays(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """dtype and shape of what a point gives, tried on latents of zeros, or on the first points."""
        shape, size = self.prepared.latent_shape, self.plan.micro_batch
        with computing(self.prepared.device), torch.no_grad():
            self._warm_up()
            if shape is None:
                first = np.minimum(np.arange(size), self.plan.num - 1)
                latents = self.prepared.latents(self.plan.z(self.plan.parameters[first]), first.tolist())
            else:
                latents = torch.zeros((size, *shape), device=self.prepared.device)
            made = self._outputs(latents, self.prepared.decode(latents))
            stored = {name: self._stored(name, values) for name, values in made.items()}
        return {name: (str(array.dtype), array.shape[1:]) for name, array in stored.items()}

    def __call__(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """The arrays of points of those ids, in micro-batches as they come."""
        size, device = self.plan.micro_batch, self.prepared.device
        batches = [ids[start : start + size] for start in range(0, len(ids), size)]
        with computing(device) as workers:
            self._warm_up()
            if workers == 1 or len(batches) == 1:
                made = list(map(self._batch, batches))
            else:
                with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                    made = list(pool.map(self._batch, batches))
        return {name: np.concatenate([each[name] for each in made]) for name in made[0]}

    def _warm_up(self) -> None:
        """Once, and before threads begin."""
        if self._pending is not None:
            with torch.no_grad():  # as it is called later: compilers take the two apart
                self._pending()
            self._pending = None

    def _batch(self, ids: np.ndarray) -> dict[str, np.ndarray]:
        """One micro-batch, padded with its last point to the full size."""
        num, size = len(ids), self.plan.micro_batch
        padded = ids[np.minimum(np.arange(size), num - 1)]
        with torch.no_grad():
            latents = self.prepared.latents(self.plan.z(self.plan.parameters[padded]), padded.tolist())
            made = self._outputs(latents, self.prepared.decode(latents))
        stored = {}
        for name, values in made.items():
            if name == "images":  # as integers all of them would be finite
                _check_finite(name, _arrays.to_numpy(torch.isfinite(values[:num]).flatten(1).all(dim=1)), ids)
            stored[name] = array = self._stored(name, values)[:num]
            if name != "images":
                _check_finite(name, np.all(np.isfinite(array).reshape(num, -1), axis=1), ids)
        return stored

    def _outputs(self, latents: Tensor, images: Tensor) -> dict[str, Tensor]:
        made = {"latents": latents}
        if self.features is not None:
            made["features"] = found = self.features(images)
            if not torch.is_tensor(found):
                raise TypeError(f"features must return a tensor, got {type(found).__name__}. Use torch.from_numpy.")
            if found.ndim != 2 or len(found) != len(images):
                raise ValueError(f"features must give [{len(images)}, dim] for images, got {tuple(found.shape)}.")
        if images.ndim == 4:
            made["images"] = images
        return {name: values for name, values in made.items() if name in self.kept}

    def _stored(self, name: str, values: Tensor) -> np.ndarray:
        """As a store holds them."""
        if name == "images":
            _check_images(values)
            return _arrays.to_numpy(((values.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
        if name == "latents":
            with np.errstate(over="ignore"):  # bfloat16 reaches farther than what it is stored as
                return _arrays.to_numpy(values).astype(_STORED[self.plan.dtype])
        return _arrays.to_numpy(values).astype(np.float64 if self.plan.dtype == "float64" else np.float32)


@contextlib.contextmanager
def computing(device: torch.device) -> Iterator[int]:
    """Arithmetic that does not depend on its surroundings; how many micro-batches to compute at a time."""
    if device.type == "cuda":
        # Neither TF32 in what is called float32 nor kernels chosen by a race.
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
            with without_autocast(), flags:
                yield 1
        finally:
            torch.set_float32_matmul_precision(precision)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with without_autocast():
            yield threads
    finally:
        torch.set_num_threads(threads)


def _write_plan(folder: Path, plan: SlicePlan) -> None:
    """The slice beside its store; of several processes the first writes it."""
    with _atomic.writable(folder):
        Steps(folder).share(FILE, plan.to_bytes())


def _check_finite(name: str, finite: np.ndarray, ids: np.ndarray) -> None:
    """`finite`: of each point, bool `[n]`."""
    if not finite.all():
        raise ArithmeticError(
            f"{name} must be finite, got NaN or infinity at point {int(ids[finite.argmin()])}. "
            "Look at its z, or choose a dtype of more range, such as float32."
        )


def _check_images(images: Tensor) -> None:
    """What is stored as pixels must be images, in [-1, 1] or about."""
    if images.shape[1] not in (1, 3, 4):
        raise ValueError(f"images must have 1, 3 or 4 channels, their second axis, got shape {tuple(images.shape)}.")
    floating = images.is_floating_point()
    if not floating or images.abs().max() > _WIDEST:
        found = f"{float(images.abs().max()):.4g} in size" if floating else str(images.dtype)
        raise ValueError(f"images must be floating point in [-1, 1], got {found}. Map 0 to 255 by x / 127.5 - 1.")
