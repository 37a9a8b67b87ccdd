"""Filling a store: make what is missing, seal it, lose nothing that is sealed."""

import contextlib
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from hessfast import _atomic
from hessfast._checks import integer
from hessfast._progress import hidden

from . import _files
from ._plan import Plan
from ._store import Store, open, read_plan

log = logging.getLogger("hessfast")
PATIENCE = 10.0  # seconds
Make = Callable[[int, int], Mapping[str, np.ndarray]]


def fill(
    folder: str | Path, plan: Plan, make: Make, *, rank: int = 0, world_size: int = 1, progress: bool = False
) -> Store:
    """Make every shard of `plan` that `folder` lacks, and open the complete store.

    Run it again after any interruption: sealed shards are kept, at most those in flight are lost. Any number of
    processes may fill one folder, started together or not, on one machine or on several that share it. Each claims
    one shard at a time through a lock that dies with its owner, begins with its own share (every `world_size`-th
    shard) and then takes what the others have not; it returns when all shards are sealed, whoever made them.

    On entry each process compares the checksums of its own share; a shard that differs is reported and made again.

    Args:
        folder: created if need be.
        plan: what to make. A folder that holds another plan is refused.
        make: ``make(start, stop)`` returns {name: array} for samples start .. stop-1; it must be a pure function.
        rank, world_size: this process and how many there are; they change the order of the work, never the bytes.
        progress: show a bar with rate and remaining time on stderr, if that is a terminal.

    Raises:
        ValueError: if the folder holds another plan (the fields are named), or `make` returned what was not planned.
        OSError: if the folder cannot be written; a full disk is said in a sentence, and what is sealed stays.

    Example:
        >>> import numpy as np, tempfile
        >>> plan = Plan("squares", num=10, shard_size=4, arrays={"square": ("int64", ())})
        >>> store = fill(tempfile.mkdtemp(), plan, lambda start, stop: {"square": np.arange(start, stop) ** 2})
        >>> int(np.asarray(store["square"]).sum())
        285
    """
    folder = Path(folder).absolute()  # `make` may change the working directory
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, got {type(plan).__name__}.")
    integer("world_size", world_size, 1)
    integer("rank", rank, 0, world_size - 1)
    _adopt(folder, plan)
    with _bar(folder, plan, progress) as show:
        for shard in _order(plan, rank, world_size):
            _make_shard(folder, plan, make, shard, thorough=shard % world_size == rank, wait=False)
            show()
        for shard in range(plan.num_shards):  # those that others had claimed: theirs, or ours if they died
            _make_shard(folder, plan, make, shard, thorough=False, wait=True)
            show()
    return open(folder)


@contextlib.contextmanager
def _writing(folder: Path, plan: Plan) -> Iterator[None]:
    """Says which disk is full; `make` may write elsewhere, and speaks for itself."""
    try:
        yield
    except OSError as error:
        if error.errno not in _atomic.DISK_FULL:
            raise
        sealed = sum(_files.is_sealed(folder, plan, shard) for shard in range(plan.num_shards))
        raise OSError(
            error.errno,
            f"The disk of {folder} is full: {sealed} of {plan.num_shards} shards are sealed and stay. "
            f"Free {_missing_bytes(plan, sealed):,} bytes and run the same command again to go on",
        ) from None


def _missing_bytes(plan: Plan, sealed: int) -> int:
    return plan.num_bytes * (plan.num_shards - sealed) // plan.num_shards


def _order(plan: Plan, rank: int, world_size: int) -> list[int]:
    """All shards: our own share first, then the next process's, and so on."""
    return sorted(range(plan.num_shards), key=lambda shard: ((shard - rank) % world_size, shard))


def _adopt(folder: Path, plan: Plan) -> None:
    """Write the plan into a new folder, or check that the folder holds this very plan."""
    check(folder, plan)
    path, temporary = _files.plan_path(folder), folder / "plan.tmp"
    with _atomic.writable(folder), _writing(folder, plan):
        folder.mkdir(parents=True, exist_ok=True)
        with _atomic.claim(temporary, wait=True) as file:  # also if there is a plan: say no before the work
            if file is not None and not _has_plan(folder):
                fields = {"hash": plan.hash, "plan": plan.to_dict(), "made_by": _versions()}
                _atomic.publish(file, temporary, path, [_files.dump(fields)])
    check(folder, plan)


def _has_plan(folder: Path) -> bool:
    try:
        return bool(read_plan(folder))
    except (FileNotFoundError, ValueError):
        return False


class OtherPlanError(ValueError):
    """A folder holds another plan than that which it is to be filled by."""


def check(folder: str | Path, plan: Plan) -> None:
    """Refuse a folder that holds another plan, with the fields that differ; one that holds none is welcome.

    Where the plan is lost or damaged, seals say whose the shards are.
    """
    try:
        differences = read_plan(folder).differences(plan)
    except (FileNotFoundError, ValueError) as error:
        sealed = _files.sealed_plans(Path(folder))
        if plan.hash in sealed:
            return
        if isinstance(error, ValueError):
            raise
        if sealed:
            raise OtherPlanError(
                f"{folder} holds shards of another plan, and no plan.json. Choose another folder, or delete it."
            ) from None
        return
    if differences:
        raise OtherPlanError(
            f"{folder} holds another plan: it differs in {', '.join(differences)}. "
            "Choose another folder, or the options it was begun with."
        )


def _versions() -> dict[str, str]:
    from hessfast import __version__

    # No time and no host: two runs on equal machines leave equal folders.
    return {"hessfast": __version__, "numpy": np.__version__, "python": platform.python_version()}


def _make_shard(folder: Path, plan: Plan, make: Make, shard: int, thorough: bool, wait: bool) -> None:
    """Make and seal the shard, unless it is sealed or (without `wait`) claimed by somebody else."""
    if _files.is_sealed(folder, plan, shard, thorough):
        return
    seal = _files.seal_path(folder, shard)
    temporary = seal.with_suffix(".tmp")
    # The claim is on the unfinished seal, so it ends in the very moment in which the shard becomes sealed.
    with contextlib.ExitStack() as claims:
        with _writing(folder, plan), _told_in_time(folder, shard) if wait else contextlib.nullcontext():
            file = claims.enter_context(_atomic.claim(temporary, wait))
        if file is None or _files.is_sealed(folder, plan, shard, thorough):
            return
        if seal.exists():
            log.warning("Shard %d of %s does not match its seal; it is made again.", shard, folder)
            seal.unlink()
        start, stop = plan.bounds(shard)
        content = _encode(plan, start, stop, make(start, stop))
        with _writing(folder, plan):
            _atomic.write(_files.shard_path(folder, shard), [content])
            _atomic.publish(file, temporary, seal, [_files.dump(_files.seal(plan, content))])


@contextlib.contextmanager
def _told_in_time(folder: Path, shard: int) -> Iterator[None]:
    """Says what is waited for, if it takes long."""
    sentence = "Waiting for another process that makes shard %d of %s."
    timer = threading.Timer(PATIENCE, log.warning, (sentence, shard, folder))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _encode(plan: Plan, start: int, stop: int, made: Mapping[str, np.ndarray]) -> bytes:
    """The file of a shard; refused unless it is exactly what the plan says."""
    import safetensors.numpy

    arrays = {name: np.ascontiguousarray(array) for name, array in made.items()}
    found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    wanted = {name: (dtype, (stop - start, *shape)) for name, (dtype, shape) in plan.arrays.items()}
    if found != wanted:
        raise ValueError(f"make({start}, {stop}) must return {wanted}, got {found}.")
    return safetensors.numpy.save(arrays)


@contextlib.contextmanager
def _bar(folder: Path, plan: Plan, progress: bool) -> Iterator[Callable[[], None]]:
    """A function that shows how much is sealed, by all processes together."""
    if hidden(progress):  # without tqdm, whose lock starts a process from Python 3.14 on
        yield lambda: None
        return
    from tqdm import tqdm

    def sealed() -> int:
        return min(_files.num_sealed(folder) * plan.shard_size, plan.num)

    shown = 0.0
    with tqdm(total=plan.num, initial=sealed(), desc=plan.name, unit=" samples", unit_scale=True) as bar:

        def show() -> None:
            nonlocal shown
            if time.monotonic() - shown > 0.5:  # counting costs a look at the folder
                shown = time.monotonic()
                bar.update(sealed() - bar.n)

        yield show
        bar.update(sealed() - bar.n)
