"""``hessfast export``: write a data set in another format."""

from pathlib import Path
from typing import Annotated

import typer

FORMATS = ("npy",)


def export(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.", show_default=False)],
    format: Annotated[str, typer.Option(help="npy: the arrays that the paper's training scripts load.")] = "npy",
    targets: Annotated[
        bool, typer.Option(help="Also the bumps that their network is trained towards (64 kB each).")
    ] = False,
):
    """Write a data set as the .npy files of the paper.

    NAME_states.npy, NAME_labels.npy and, with --targets, NAME_targets.npy.

    Ising: int8 spins [n, size, size] and float32 labels [n, 2] = (T, H). TASEP: int8 occupations, as [n, 128, 128] for
    16,384 sites, and labels (alpha, beta).
    """
    from hessfast import datasets, shards
    from hessfast._checks import choice

    choice("format", format, FORMATS)
    for path in datasets.export_npy(shards.open(folder, verify=True), out, targets=targets):
        typer.echo(f"{path}: {path.stat().st_size:,} bytes")
