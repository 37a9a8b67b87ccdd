"""``hessfast reproduce``: the paper's Table 1 from samples."""

from pathlib import Path
from typing import Annotated

import typer

from ._guard import guard

app = typer.Typer(
    no_args_is_help=True,
    short_help="Learn log Z from samples; errors beside the published ones.",
    help="Learn log Z and its derivatives from samples, by every method, beside the truth and the published errors.",
)
PresetName = Annotated[str, typer.Option(help="quick (20,000 samples, minutes) or paper (540,000 or 150,000).")]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; gone on with if there. reproduce/MODEL-PRESET.")]
Num = Annotated[int | None, typer.Option("--num", "-n", help="Samples, if not the preset's.")]
Rows = Annotated[list[str] | None, typer.Option("--row", help="Only this row; repeat it for more.", show_default="all")]
Seed = Annotated[int, typer.Option(help="Of samples and networks.")]


@app.command()
@guard
def ising(
    preset: PresetName = "quick",
    out: Out = None,
    num: Num = None,
    size: Annotated[int, typer.Option(help="Side of the lattice; the truth is that of 128.")] = 128,
    seed: Seed = 0,
    row: Rows = None,
):
    """F = -T log Z / N of the Ising model and its derivatives in T and H, T in [1, 5], H in [-2, 2]."""
    _run("ising", preset, out, num=num, size=size, seed=seed, rows=row)


@app.command()
@guard
def tasep(preset: PresetName = "quick", out: Out = None, num: Num = None, seed: Seed = 0, row: Rows = None):
    """The current J of the open TASEP on 16,384 sites and its derivatives in the two rates."""
    _run("tasep", preset, out, num=num, seed=seed, rows=row)


def _run(model: str, preset: str, out: Path | None, **options) -> None:
    from hessfast import reproduce

    folder = out or Path("reproduce") / f"{model}-{preset}"
    try:
        report = reproduce.run(model, preset, folder, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted; what is done stays in {folder}. Go on with the same command") from None
    typer.echo(reproduce.table(report))
    names = ("report.json", "table.txt", "log_partition", "figures")
    typer.echo(f"In {folder}: {', '.join(name for name in names if (folder / name).exists())}.")
