"""The command line: ``hessfast --help``. One file per command; nothing heavy is imported before a command runs."""

import typer

from . import _guard, diffusability, export, reproduce, resume, sample, slice, verify, version

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
app.command("diffusability")(_guard.guard(diffusability.diffusability))
app.command("export")(_guard.guard(export.export))
app.add_typer(reproduce.app, name="reproduce")
app.command("resume")(_guard.guard(resume.resume))
app.add_typer(sample.app, name="sample")
app.add_typer(slice.app, name="slice")
app.command("verify")(_guard.guard(verify.verify))


@app.callback()
def hessfast(
    show_version: bool = typer.Option(
        False, "--version", callback=version.show, is_eager=True, help="Show versions and devices, and exit."
    ),
):
    """Exact samples for the information geometry of generative models, and log Z and the metric learned from samples.

    \b
    `reproduce` learns log Z from samples by every method of the ICML 2025 paper
    and ours, and prints the errors beside the published ones:
      hessfast reproduce ising --preset quick

    \b
    `diffusability` tells whether an encoder's latent space is fit for diffusion,
    from images and an encoder:
      hessfast diffusability --data digits --encoder gpe

    \b
    `slice` maps phases in the latent space of an image generator; the demo
    brings its own, of digits:
      hessfast slice demo

    `sample` makes a data set: Ising lattices, each with its own temperature and field, or stationary TASEP
    configurations, each with its own rates. Every sample is exact and depends on the seed and its number alone: how
    many processes or devices made it, and how often they were interrupted, cannot be seen in the bytes.

    \b
    Look before you leap (samples, bytes, time), then make the two data sets of
    the ICML 2025 paper:
      hessfast sample ising --num 540000 --out data/ising --dry-run
      hessfast sample ising --num 540000 --out data/ising
      hessfast sample tasep --num 150000 --out data/tasep

    \b
    Killed, full disk, Ctrl-C? What is sealed stays:
      hessfast resume data/ising

    \b
    Any number of processes fill one folder; the released training scripts read
    the export:
      torchrun --nproc-per-node=4 -m hessfast sample ising -n 540000 --out data/ising
      hessfast export data/ising --format npy --out released

    \b
    In Python:
      from hessfast import shards
      words = shards.open("data/ising")["words"]        # lazy, memory-mapped
    """


def main():
    app(prog_name="hessfast")
