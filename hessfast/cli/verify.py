"""``hessfast verify``: compare every shard with its seal."""

from pathlib import Path
from typing import Annotated

import typer


def verify(folder: Annotated[Path, typer.Argument(help="Folder of the data set.")]):
    """Compare every shard with its checksum.

    Reads everything once. The exit code is 1 if a shard is missing or damaged.
    """
    from hessfast import shards
    from hessfast.datasets._export import LABELS

    store = shards.open(folder, partial=True)
    broken = store.broken()
    if broken:
        resumed = store.plan.name in LABELS
        remedy = f": hessfast resume {folder}" if resumed else " the command that began it"
        listed = ", ".join(map(str, broken[:10])) + (", ..." if len(broken) > 10 else "")
        raise RuntimeError(
            f"{folder}: {len(broken)} of {store.plan.num_shards} shards are missing or damaged ({listed}). "
            f"Make them with{remedy}"
        )
    typer.echo(
        f"{folder}: all {store.plan.num_shards} shards are whole, {store.plan.num:,} samples of {store.plan.name}."
    )
