"""``hessfast resume``: go on with a data set that was interrupted, from the plan in its folder."""

from pathlib import Path
from typing import Annotated

import typer

from ._job import Device, DryRun, run


def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    device: Device = "cpu",
    dry_run: DryRun = False,
):
    """Go on with an interrupted or damaged data set.

    What is sealed and whole stays, the rest is made. The device may be another one: the bytes are the same.
    """
    from hessfast import shards

    run(shards.read_plan(folder), folder, device, dry_run)
