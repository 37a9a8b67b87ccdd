"""``hessfast reproduce``: the papers' tables and figures."""

from pathlib import Path
from typing import Annotated

import typer

from hessfast import _distributed

from ._guard import guard, resumable, tell_files

app = typer.Typer(
    no_args_is_help=True,
    short_help="The papers' tables and figures: log Z from samples, diffusability.",
    help="Learn log Z and its derivatives from samples, by every method, beside the truth and the published errors; "
    "and the figures of the paper on latent diffusability, exact and by trained networks.",
)
PresetName = Annotated[str, typer.Option(help="quick (20,000 samples, minutes) or paper (540,000 or 150,000).")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; gone on with if there. reproduce/MODEL-PRESET.")]
Num = Annotated[int | None, typer.Option("--num", "-n", help="Samples, if not the preset's.")]
Rows = Annotated[list[str] | None, typer.Option("--row", help="Only this row; repeat it for more.", show_default="all")]
Network = Annotated[
    str | None,
    typer.Option(
        help="The paper's network: tiny or small, on 32 x 32 pixels; full, all as published: 128 x 128 pixels, 44 "
        "million weights, 20,000 steps of 2,048 bundles, under torchrun on several GPUs. tiny if not given.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="cpu or cuda, where that network is trained.")]
Seed = Annotated[int, typer.Option(help="Seed of samples and networks.")]


@app.command()
@guard
def ising(
    preset: PresetName = "quick",
    out: Out = None,
    num: Num = None,
    size: Annotated[int, typer.Option(help="Side of the lattice; the truth is that of 128.")] = 128,
    seed: Seed = 0,
    row: Rows = None,
    network: Network = None,
    device: Device = "cpu",
):
    """F = -T log Z / N of the Ising model and its derivatives in T and H, T in [1, 5], H in [-2, 2]."""
    _run("ising", preset, out, num=num, network=network, device=device, size=size, seed=seed, rows=row)


@app.command()
@guard
def tasep(
    preset: PresetName = "quick",
    out: Out = None,
    num: Num = None,
    seed: Seed = 0,
    row: Rows = None,
    network: Network = None,
    device: Device = "cpu",
):
    """The current J of the open TASEP on 16,384 sites and its derivatives in the two rates."""
    _run("tasep", preset, out, num=num, network=network, device=device, seed=seed, rows=row)


@app.command()
@guard
def diffusability(
    preset: Annotated[str, typer.Option(help="quick (minutes on two cores) or full (hours).")] = "quick",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; gone on with if there. reproduce/diffusability-PRESET."),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="toys, digits or family; repeat it for more.", show_default="all"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of samples and networks.")] = 0,
):
    """Fisher information and its rate over noise, of toys and of digits, and what they predict over encoders.

    toys: figures 2 and 3a to c, exact lines and trained denoisers. digits: figures 3d, 4 and 5, on the digits of
    scikit-learn in place of faces. family: 16 encoders, and which diagnostics rank them as the quality of samples does.
    """
    from hessfast.reproduce import diffusability as reproduction

    folder = out or Path("reproduce") / f"diffusability-{preset}"
    with resumable(folder):
        report = reproduction.run(preset, folder, parts=reproduction.PARTS if part is None else part, seed=seed)
    typer.echo(reproduction.table(report))
    tell_files(folder, ("report.json", "table.txt", "figures", "digits/figures"))


def _run(model: str, preset: str, out: Path | None, *, network: str | None, device: str, **options) -> None:
    from hessfast import reproduce

    name = preset if network is None else f"{preset}-{network}"
    folder, device = out or Path("reproduce") / f"{model}-{name}", _distributed.local_device(device)
    with resumable(folder), _distributed.group(device):
        report = reproduce.run(model, preset, folder, network=network, device=device, **options)
    if report:  # of rank 0
        typer.echo(reproduce.table(report))
        tell_files(folder, ("report.json", "table.txt", "log_partition", "figures"))
