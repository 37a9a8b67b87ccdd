"""``hessfast sample``: make a data set."""

from typing import Annotated

import typer

from ._guard import guard
from ._job import Device, DryRun, Out, run

app = typer.Typer(
    no_args_is_help=True,
    short_help="Make a data set of exact samples.",
    help="Make a data set of exact samples: sharded, resumable, the same bytes from any number of processes.",
)
Range = tuple[float, float]
# Some releases of torchrun stop at --num, which could be their own --numa-binding or --numa_binding.
NUM = "; -n for torchrun, which may mistake --num for an option of its own."
Seed = Annotated[int, typer.Option(help="Parameters and samples are functions of it and of the sample's number.")]
ShardSize = Annotated[int, typer.Option(help="Samples per shard: what a kill may lose.")]


@app.command()
@guard
def ising(
    out: Out,
    num: Annotated[int, typer.Option("--num", "-n", help=f"Number of lattices{NUM}")] = 540_000,
    temperature: Annotated[Range, typer.Option(metavar="LOW HIGH", help="Range of T, > 0.")] = (1.0, 5.0),
    field: Annotated[Range, typer.Option(metavar="LOW HIGH", help="Range of H.")] = (-2.0, 2.0),
    size: Annotated[int, typer.Option(help="Side of the lattice, even.")] = 128,
    seed: Seed = 0,
    method: Annotated[str, typer.Option(help="auto (always exact), cftp, fk-cftp or mcmc (labelled).")] = "auto",
    shard_size: ShardSize = 8192,
    device: Device = "cpu",
    dry_run: DryRun = False,
):
    """Lattices of the Ising model on a torus, each with its own temperature and field.

    Energy -sum s_i s_j - H sum s_i; T and H are uniform on their ranges; method auto certifies every lattice exact.
    """
    from hessfast import datasets

    plan = datasets.ising_plan(
        num, temperature=temperature, field=field, size=size, seed=seed, method=method, shard_size=shard_size
    )
    run(plan, out, device, dry_run)


@app.command()
@guard
def tasep(
    out: Out,
    num: Annotated[int, typer.Option("--num", "-n", help=f"Number of configurations{NUM}")] = 150_000,
    entry_rate: Annotated[Range, typer.Option(metavar="LOW HIGH", help="Range of alpha; LOW excluded.")] = (0.0, 1.0),
    exit_rate: Annotated[Range, typer.Option(metavar="LOW HIGH", help="Range of beta; LOW excluded.")] = (0.0, 1.0),
    num_sites: Annotated[int, typer.Option(help="Sites of the chain.")] = 16_384,
    seed: Seed = 0,
    shard_size: ShardSize = 8192,
    device: Device = "cpu",
    dry_run: DryRun = False,
):
    """Stationary configurations of the open TASEP, each with its own entry and exit rate, bulk rate 1, all exact."""
    from hessfast import datasets

    plan = datasets.tasep_plan(
        num, entry_rate=entry_rate, exit_rate=exit_rate, num_sites=num_sites, seed=seed, shard_size=shard_size
    )
    run(plan, out, device, dry_run)
