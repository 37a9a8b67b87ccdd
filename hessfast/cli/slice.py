"""``hessfast slice``: a slice of latent space, its images, its geometry, and a report."""

from pathlib import Path
from typing import Annotated

import typer

from hessfast import _atomic, _distributed

from ._guard import guard, resumable, tell_files
from ._job import duration, size

app = typer.Typer(
    no_args_is_help=True,
    short_help="Slices of a diffusion model's latent space: images, phases, metric, geodesics, report.",
    help="A slice of the latent space of an image generator: its images, its phases and the Fisher metric that shows "
    "them, geodesics with the images along them, zooms into boundaries, and a report. `demo` does it all with the "
    "shipped model of digits. Folders: OUT/slice, geometry, maps, curves, zoom-*, figures; OUT/report.html.",
)
Out = Annotated[Path, typer.Argument(help="Folder of the slice.", show_default=False)]
SameDevice = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:N, as the slice was begun.", show_default="the slice's")
]
Points = Annotated[int, typer.Option(help="Points along each axis of the slice.")]
Steps = Annotated[int, typer.Option(help="Denoising steps from noise to image.")]
FitSteps = Annotated[int, typer.Option(min=1, help="Optimiser steps for each log Z.")]
Levels = Annotated[int, typer.Option(min=1, help="Most levels to zoom.")]
Pairs = Annotated[int, typer.Option(help="Pairs of points to join by paths; 0 for none.")]
Maps = Annotated[int, typer.Option(help="Nodes along each axis of Lipschitz and noise maps; 0 for none.")]
DEMO = {"points": 64, "steps": 16, "pairs": 100, "maps": 20, "window": 9}


PAPER = (
    "hessfast slice generate OUT --model DREAMSHAPER-8 --features ViT-B-32:clip.bin --points 245 --steps 50 "
    "--scheduler released --guidance 5 --prompt 'High quality picture, 4k, detailed' "
    "--negative 'blurry, ugly, stock photo'"
)


@app.command(epilog=f"The paper's slice, 60,025 images of Stable Diffusion 1.5: {PAPER}")
@guard
def generate(
    out: Out,
    model: Annotated[str, typer.Option(help="digits (shipped), or a folder of a diffusers model.")] = "digits",
    features: Annotated[
        str, typer.Option(help="digits, pixels, or ARCHITECTURE:FILE of a CLIP, as ViT-B-32:clip.bin.")
    ] = "digits",
    points: Points = 64,
    lower: Annotated[float, typer.Option(help="Lowest coordinate of both axes.")] = 0.0,
    upper: Annotated[float, typer.Option(help="Highest coordinate; anchors are at 0 and 1.")] = 1.0,
    steps: Steps = 50,
    scheduler: Annotated[str, typer.Option(help="ddim, released, or a scheduler of diffusers.")] = "ddim",
    guidance: Annotated[float, typer.Option(help="Weight of the prompt (classifier-free guidance); 1 is none.")] = 1.0,
    prompt: Annotated[str, typer.Option(help="Prompt, for models of text.")] = "",
    negative: Annotated[str, typer.Option(help="Negative prompt, for models of text.")] = "",
    eta: Annotated[float, typer.Option(help="Share of fresh noise in each step, from 0 to 1.")] = 0.0,
    dtype: Annotated[
        str, typer.Option(help="Number type of the networks: float16, bfloat16, float32, float64.")
    ] = "float32",
    micro_batch: Annotated[int, typer.Option(help="Points that go through the networks together.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of the three anchors and of noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N. Under torchrun cuda means one GPU each.")] = "cpu",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the networks: a minute or more at first, then faster images.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show images, bytes and time (from a short trial), and exit.")
    ] = False,
):
    """Make every image of a slice between three random anchors; under torchrun, with other processes."""
    from hessfast.slices import SliceProject

    arguments = {
        "model": model, "features": features, "points_per_axis": points, "lower": lower, "upper": upper, "seed": seed,
        "device": device, "compile": compile, "num_steps": steps, "scheduler": scheduler, "guidance": guidance,
        "prompt": prompt, "negative_prompt": negative, "eta": eta, "dtype": dtype, "micro_batch": micro_batch,
    }  # fmt: skip
    if dry_run:
        if _first():
            _tell(out, SliceProject.forecast(out, **arguments), steps, device)
        return
    with resumable(out):
        SliceProject.begin(out, say=_say, **arguments).generate()
    if _first():
        tell_files(out, ["slice"])
        typer.echo(f"Next: hessfast slice fit {out}")


@app.command()
@guard
def fit(
    out: Out,
    nodes: Annotated[
        int | None,
        typer.Option(help="Grid nodes along each axis for the posterior.", show_default="half the points, 32 at most"),
    ] = None,
    steps: FitSteps = 1500,
    seed: Annotated[int, typer.Option(help="Seed of the halves of the samples and of the networks.")] = 0,
):
    """Features, posteriors by three kernels, log Z, the Fisher metric and its ridges."""
    from hessfast.slices import SliceProject

    with resumable(out):
        chosen = SliceProject(out, say=_say).fit(nodes, steps, seed).held_out
    typer.echo(f"Held out: kernel {chosen['kernel']}, scale {chosen['scale']:g}, {chosen['nats']:.2f} nats.")
    tell_files(out, ["slice", "geometry"])
    typer.echo(f"Next: hessfast slice zoom {out}, hessfast slice report {out}")


@app.command()
@guard
def zoom(
    out: Out,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Number type of the networks: float16, bfloat16, float32, float64.", show_default="the slice's"
        ),
    ] = None,
    window: Annotated[int, typer.Option(help="Points along each axis of a window.")] = 9,
    levels: Levels = 64,
    device: SameDevice = None,
):
    """Narrow a window around the sharpest boundary, to where differences are rounding."""
    from hessfast.slices import SliceProject

    with resumable(out):
        found = SliceProject(out, device=device, say=_say).zoom(dtype, window, levels)
    if _first():
        typer.echo(f"{len(found.levels)} levels. {found.reason}")


@app.command()
@guard
def report(
    out: Out,
    pairs: Pairs = 100,
    maps: Maps = 24,
    seed: Annotated[int, typer.Option(help="Seed of the pairs.")] = 0,
    ends: Annotated[
        str, typer.Option(help="Ends of the paths: across a boundary, or random in [0.1, 0.9]^2 as in the paper.")
    ] = "across",
    device: SameDevice = None,
):
    """Paths with the images along them, maps, and report.html of all that is in the folder; after `fit`."""
    from hessfast.slices import SliceProject

    with resumable(out):
        _tell_report(*SliceProject(out, device=device, say=_say).report(pairs, maps, seed, ends))


@app.command()
@guard
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of the slice.")] = Path("slice-demo"),
    points: Points = DEMO["points"],
    steps: Steps = DEMO["steps"],
    pairs: Pairs = DEMO["pairs"],
    maps: Maps = DEMO["maps"],
    fit_steps: FitSteps = 1500,
    levels: Levels = 64,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
):
    """All of it with the shipped model of digits, in minutes on two cores."""
    from hessfast.slices import SliceProject
    from hessfast.slices.project import check_report

    check_report(pairs, maps)
    with resumable(out):
        project = SliceProject.begin(out, points_per_axis=points, seed=seed, say=_say, num_steps=steps)
        project.generate()
        project.fit(None, fit_steps, seed)
        project.zoom(None, DEMO["window"], levels)
        _tell_report(*project.report(pairs, maps, seed))


def _tell(out: Path, found, steps: int, device: str) -> None:
    """A forecast, in the words of ``hessfast sample --dry-run``."""
    processes = _distributed.started()[1]
    free = _atomic.free_bytes(out)
    typer.echo(
        f"slice: {found.job.num:,} images of {steps} steps in {found.job.num_shards:,} shards of "
        f"{found.job.shard_size:,}, {size(found.job.num_bytes)} in all\n"
        f"to make: {found.missing:,} images by {found.calls:,} calls of the U-Net, {size(found.num_bytes)} in {out}, "
        f"where {size(free)} are free\n"
        f"time: about {duration(found.seconds / processes)} by {processes} process(es) on {device} "
        f"({found.tried:,} took {found.trial:.2f} s)"
    )


def _tell_report(page: Path, verdict: str | None) -> None:
    typer.echo((f"{verdict}\n" if verdict else "") + f"Report: {page}")


def _say(sentence: str) -> None:
    if _first():
        typer.echo(f"{sentence} ...", err=True)


def _first() -> bool:
    """Of torchrun's processes one speaks for all."""
    return _distributed.started()[0] == 0
