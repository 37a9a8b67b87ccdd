"""The one resumable, sharded store behind every long job.

A job is a `Plan` (what to make) and a function ``make(start, stop)`` (how to make samples start..stop-1, a pure
function of its arguments). `fill` makes what is missing, `open` reads it back without loading it.

    DIR/plan.json             the plan, its hash, and the versions that made it
    DIR/00000.safetensors     the arrays of samples 0 .. shard_size-1
    DIR/00000.done            its seal: plan hash, size in bytes and SHA-256 (``sha256sum`` gives the same number)
    DIR/00000.tmp             the unfinished seal of a shard in flight: the lock of whoever makes it

A shard is a fixed range of sample ids, so neither the number of processes nor the order of their work can be
seen in the bytes. A shard counts only when sealed; everything else is made again. Examples stand in `fill` and `open`.
"""

from ._arrays import ShardedArray
from ._files import num_sealed
from ._fill import OtherPlanError, check, fill
from ._plan import Plan
from ._store import Store, open, read_plan

__all__ = ["OtherPlanError", "Plan", "ShardedArray", "Store", "check", "fill", "num_sealed", "open", "read_plan"]
