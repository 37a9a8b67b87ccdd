"""``hessfast verify``: compare every shard with its seal."""

from pathlib import Path
from typing import Annotated

import typer


def verify(folder: Annotated[Path, typer.Argument(help="Folder of the data set.")]):
    """Compare every shard with its checksum.

    Reads everything once. The exit code is 1 if a shard is missing or damaged.
    """
    from hessfast import shards

    store = shards.open(folder, partial=True)
    broken = store.broken()
    if broken:
        listed = ", ".join(map(str, broken[:10])) + (", ..." if len(broken) > 10 else "")
        raise RuntimeError(
            f"{folder}: {len(broken)} of {store.plan.num_shards} shards are missing or damaged ({listed}). "
            f"Make them with: hessfast resume {folder}"
        )
    typer.echo(
        f"{folder}: all {store.plan.num_shards} shards are whole, {store.plan.num:,} samples of {store.plan.name}."
    )
