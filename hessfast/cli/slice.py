"""``hessfast slice``: a slice of latent space, its images, its geometry, and a report."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ._guard import guard

app = typer.Typer(
    no_args_is_help=True,
    short_help="Slices of a diffusion model's latent space: images, phases, metric, geodesics, report.",
    help="A slice of the latent space of an image generator: its images, its phases and the Fisher metric that shows "
    "them, geodesics with the images along them, zooms into boundaries, and a report. `demo` does it all with the "
    "shipped model of digits. Folders: OUT/slice, geometry, maps, curves, zoom-*, figures; OUT/report.html.",
)
Out = Annotated[Path, typer.Argument(help="Folder of the slice.", show_default=False)]
DEMO = {"points": 64, "steps": 16, "pairs": 100, "maps": 20, "window": 9}


@app.command()
@guard
def generate(
    out: Out,
    model: Annotated[str, typer.Option(help="digits (shipped), or a folder of a diffusers model.")] = "digits",
    features: Annotated[
        str, typer.Option(help="digits, or ARCHITECTURE:FILE of a CLIP, as ViT-B-32:clip.bin.")
    ] = "digits",
    points: Annotated[int, typer.Option(help="Along each axis of the slice.")] = 64,
    lower: Annotated[float, typer.Option(help="Lowest coordinate of both axes.")] = 0.0,
    upper: Annotated[float, typer.Option(help="Highest coordinate; anchors are at 0 and 1.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Of the loop from noise to image.")] = 50,
    scheduler: Annotated[str, typer.Option(help="ddim, released, or a scheduler of diffusers.")] = "ddim",
    guidance: Annotated[float, typer.Option(help="Of the prompt.")] = 1.0,
    prompt: Annotated[str, typer.Option(help="For models of text.")] = "",
    negative: Annotated[str, typer.Option(help="Negative prompt.")] = "",
    eta: Annotated[float, typer.Option(help="Noise in the loop.")] = 0.0,
    dtype: Annotated[str, typer.Option(help="Of the networks.")] = "float32",
    micro_batch: Annotated[int, typer.Option(help="Points that go through the networks together.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the three anchors and of noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
):
    """Make every image of a slice between three random anchors; under torchrun, with other processes."""
    options = {"model": model, "features": features, "device": device}
    settings = {
        "num_steps": steps, "scheduler": scheduler, "guidance": guidance, "prompt": prompt, "negative_prompt": negative,
        "eta": eta, "dtype": dtype, "micro_batch": micro_batch,
    }  # fmt: skip
    _resumable(out, lambda: _Slice.begun(out, options, points, (lower, upper), seed, settings).generate())
    typer.echo(f"In {out}: slice. Next: hessfast slice fit {out}")


@app.command()
@guard
def fit(
    out: Out,
    nodes: Annotated[
        int | None, typer.Option(help="Of posteriors, along each axis.", show_default="half the points, 32 at most")
    ] = None,
    steps: Annotated[int, typer.Option(help="Of each fit of log Z.")] = 1500,
    seed: Annotated[int, typer.Option(help="Of halves and networks.")] = 0,
):
    """Features, posteriors by three kernels, log Z, the Fisher metric and its ridges."""
    found = _resumable(out, lambda: _Slice(out).fit(nodes, steps, seed))
    chosen = found.held_out
    typer.echo(f"Held out: kernel {chosen['kernel']}, scale {chosen['scale']:g}, {chosen['nats']:.2f} nats.")
    typer.echo(f"In {out}: geometry. Next: hessfast slice zoom {out}, hessfast slice report {out}")


@app.command()
@guard
def zoom(
    out: Out,
    dtype: Annotated[str | None, typer.Option(help="float32, float64, ...", show_default="the slice's")] = None,
    window: Annotated[int, typer.Option(help="Points along each axis of a window.")] = 9,
    levels: Annotated[int, typer.Option(help="At most so many.")] = 64,
):
    """Narrow a window around the sharpest boundary, to where differences are rounding."""
    found = _resumable(out, lambda: _Slice(out).zoom(dtype, window, levels))
    typer.echo(f"{len(found.levels)} levels. {found.reason}")


@app.command()
@guard
def report(
    out: Out,
    pairs: Annotated[int, typer.Option(help="Of points, joined by every kind of path; 0: no paths.")] = 100,
    maps: Annotated[int, typer.Option(help="Nodes along each axis of Lipschitz and noise maps; 0: no maps.")] = 24,
    seed: Annotated[int, typer.Option(help="Of the pairs.")] = 0,
):
    """Paths with the images along them, maps, and report.html of all that is in the folder; after `fit`."""
    typer.echo(_resumable(out, lambda: _Slice(out).report(pairs, maps, seed)))


@app.command()
@guard
def demo(
    out: Annotated[Path, typer.Argument(help="Folder of the slice.")] = Path("slice-demo"),
    points: Annotated[int, typer.Option(help="Along each axis of the slice.")] = DEMO["points"],
    steps: Annotated[int, typer.Option(help="Of the loop from noise to image.")] = DEMO["steps"],
    pairs: Annotated[int, typer.Option(help="Of points, joined by every kind of path.")] = DEMO["pairs"],
    maps: Annotated[int, typer.Option(help="Nodes along each axis of Lipschitz and noise maps.")] = DEMO["maps"],
    fit_steps: Annotated[int, typer.Option(help="Of each fit of log Z.")] = 1500,
    levels: Annotated[int, typer.Option(help="Of the zoom, at most.")] = 64,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
):
    """All of it with the shipped model of digits, in minutes on two cores."""
    options = {"model": "digits", "features": "digits", "device": "cpu"}

    def everything() -> str:
        made = _Slice.begun(out, options, points, (0.0, 1.0), seed, {"num_steps": steps})
        made.generate()
        made.fit(None, fit_steps, seed)
        made.zoom(None, DEMO["window"], levels)
        return made.report(pairs, maps, seed)

    typer.echo(_resumable(out, everything))


class _Slice:
    """A folder and what is in it, each part by the part before."""

    def __init__(self, folder: Path):
        import json

        from hessfast.slices import SlicePlan

        self.folder = folder
        if not (folder / "command.json").exists():
            raise FileNotFoundError(f"{folder} holds no slice. Make one with: hessfast slice generate {folder}")
        self.options = json.loads((folder / "command.json").read_text())
        self.plan = SlicePlan.load(folder / "plan.safetensors")
        self.features, self.classify, self.perceptual = _features(self.options["features"])
        self.generator = _model(self.options["model"], self.options["device"])

    @classmethod
    def begun(cls, folder: Path, options: dict[str, Any], points: int, box, seed: int, settings: dict[str, Any]):
        """A new folder's, or an old one's of the same command."""
        from hessfast._steps import Steps
        from hessfast.posterior import Grid
        from hessfast.slices import SlicePlan, random_anchors

        generator = _model(options["model"], options["device"])
        anchors = random_anchors(_latent_shape(generator), seed=seed)
        grid = Grid((box[0],) * 2, (box[1],) * 2, (points,) * 2)
        plan = SlicePlan(anchors, grid, seed=seed, **settings)
        Steps(folder).claim({**options, "plan": plan.to_dict()}, "command.json")
        plan.save(folder / "plan.safetensors")
        return cls(folder)

    def generate(self):
        from hessfast import slices

        _say(f"{self.plan.num:,} images of {self.options['model']}, {self.plan.num_steps} steps each")
        return slices.generate(
            self.plan, self.generator, self.folder / "slice", self.features,
            keep=("latents", "features", "images"), progress=True,
        )  # fmt: skip

    @property
    def store(self):
        from hessfast import shards

        return shards.open(self.folder / "slice")

    def fit(self, nodes: int | None, steps: int, seed: int):
        from hessfast.slices.fit import fit

        return fit(
            self.folder / "slice", self.folder / "geometry", classify=self.classify, num_nodes=nodes, num_steps=steps,
            seed=seed, progress=_say,
        )  # fmt: skip

    def zoom(self, dtype: str | None, window: int, levels: int):
        import numpy as np

        from hessfast.slices import steepest, zoom

        dtype = dtype or self.plan.dtype
        first = steepest(self.plan.points, np.asarray(self.store["features"][:]), window)
        _say(f"zoom in {dtype}")
        return zoom(
            self.plan.at(first, dtype=dtype), self.generator, self.folder / f"zoom-{dtype}", self.features, num=window,
            max_levels=levels, keep=["images"], progress=True,
        )  # fmt: skip

    def report(self, pairs: int, maps: int, seed: int) -> str:
        import json

        import numpy as np

        from hessfast.slices.curves import compare
        from hessfast.slices.report import measure_maps, verdict, write_report

        settings = self.folder / "geometry" / "settings.json"
        if not settings.exists():
            raise FileNotFoundError(f"{self.folder} holds no fit. Make one with: hessfast slice fit {self.folder}")
        made = json.loads(settings.read_text())
        geometry = self.fit(made["num_nodes"], made["num_steps"], made["seed"])
        store, compared, mapped = self.store, None, None
        seen = np.asarray(store["features"][:])
        classes = self.classify(seen)
        if pairs:
            _say(f"images along paths between {pairs} pairs")
            compared = compare(
                self.plan, self.generator, self.features, geometry, self.folder / "slice", self.folder / "curves",
                classes=classes, perceptual=self.perceptual, num_pairs=pairs, seed=seed, progress=True,
            )  # fmt: skip
        if maps:
            _say(f"Lipschitz constants and noise floor at {maps} x {maps} nodes")
            mapped = measure_maps(self.plan, self.generator, self.features, self.folder / "maps", maps)
        _say("report")
        zoomed: dict[str, str | Path] = {
            path.parent.name.removeprefix("zoom-"): path.parent for path in sorted(self.folder.glob("zoom-*/zoom.json"))
        }
        path = write_report(
            self.folder, self.plan, store, geometry, maps=mapped, compared=compared,
            curves=self.folder / "curves" if pairs else None, zoomed=zoomed, classes=classes,
            provenance={"command": self.options | {"plan": self.plan.hash}, "generator": self.generator.identity},
        )  # fmt: skip
        return (f"{verdict(compared)}\n" if compared else "") + f"Report: {path}"


def _model(name: str, device: str) -> Any:
    from hessfast.slices import digit_generator, from_pretrained

    return digit_generator(device) if name == "digits" else from_pretrained(name, device=device)


def _latent_shape(generator: Any) -> tuple[int, ...]:
    """Of a U-Net, as it was trained."""
    unet = next(iter(getattr(generator, "_unet", {}).values()), None)
    if unet is None:
        raise ValueError("model must have a U-Net of diffusers on the command line. Use hessfast.slices in Python.")
    side = unet.config.sample_size
    rows, columns = side if isinstance(side, (tuple, list)) else (side, side)
    return unet.config.in_channels, rows, columns


def _features(name: str) -> tuple[Any, Callable[[Any], Any], Callable[[Any], Any] | None]:
    """Features, classes by them, perceptual features if there are any."""
    import torch

    from hessfast.slices import clip, digit_classifier
    from hessfast.slices.perceptual import digit_perception

    if name == "digits":
        classifier = digit_classifier()
        return "digits", lambda seen: classifier.logits(torch.tensor(seen)).argmax(dim=1).numpy(), digit_perception()
    if ":" not in name:
        raise ValueError(f"features must be digits or ARCHITECTURE:FILE, got {name!r}.")
    return clip(*name.split(":", 1)), _clusters, None


def _clusters(features: Any) -> Any:
    """Classes where there is no classifier: six clusters of the features themselves."""
    from scipy.cluster.vq import kmeans2

    options: dict[str, Any] = {"minit": "++", "seed": 0}  # the seed's name has changed between versions of SciPy
    return kmeans2(features.astype(float), min(6, len(features)), **options)[1]


def _resumable(folder: Path, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Interrupted; what is done stays in {folder}. Go on with the same command") from None


def _say(sentence: str) -> None:
    typer.echo(f"{sentence} ...", err=True)
