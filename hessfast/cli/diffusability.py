"""``hessfast diffusability``: whether the latent space of an encoder is fit for diffusion."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ._guard import resumable, tell_files

TRAINED = ("gpe", "vae")
_ENCODERS = {  # what is spent on them, by preset
    "quick": {"width": 16, "batch_size": 128, "num_steps": 800},
    "full": {"width": 32, "batch_size": 256, "num_steps": 5000},
}


def diffusability(
    data: Annotated[str, typer.Option(help="digits (of scikit-learn), or a folder of images.")] = "digits",
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            help="gpe or vae, trained here; a file of Autoencoder.save; a folder of an AutoencoderKL. Repeatable.",
            show_default="gpe and vae",
        ),
    ] = None,
    latent_dim: Annotated[int, typer.Option(help="Numbers in a latent of gpe and vae.")] = 16,
    side: Annotated[int | None, typer.Option(help="Crop and resize the folder's images to so many pixels.")] = None,
    preset: Annotated[str, typer.Option(help="quick (minutes for digits) or full.")] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; gone on with if there. diffusability/DATA-PRESET.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of training, noise and who is held out.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
):
    """Whether an encoder's latent space is fit for diffusion.

    Trains denoisers of the images and of the latents, and the encoders named gpe and vae; prints what each encoder does
    to distances and curvature (penalties), how far Fisher information rate and MMSE rate of its latents are from the
    data's (deviations), and how good generated images are. The folder keeps the report, the curves and figures.

    gpe is the geometry-preserving encoder, whose authors hold a patent application and license it for research.
    """
    from hessfast._checks import choice

    choice("preset", preset, tuple(_ENCODERS))
    folder = out or Path("diffusability") / f"{'digits' if data == 'digits' else Path(data).resolve().name}-{preset}"
    with resumable(folder):
        text = _assessed(data, encoder or list(TRAINED), latent_dim, side, preset, folder, seed, device)
    typer.echo(f"{text}\n")
    tell_files(folder, ("report.json", "table.txt", "curves.npz", "figures", "samples", "encoders", "denoisers"))


def _assessed(data, encoders, latent_dim, side, preset, folder, seed, device) -> str:
    from hessfast import _checks
    from hessfast._dispatch import present
    from hessfast._steps import Steps
    from hessfast.diffusability import assess, digits, read_images, table
    from hessfast.diffusability.image_encoder import check_encoder

    if data == "digits" and side is not None:
        raise ValueError(f"side must be left out for the digits, which are 8 pixels wide, got {side}.")
    train, held_out = digits() if data == "digits" else read_images(data, side, seed=seed)
    if min(len(train), len(held_out)) < 4:
        raise ValueError(f"data must hold 18 images or more, got {len(train) + len(held_out)}.")
    _checks.integer("latent_dim", latent_dim, 1, train[0].numel())
    _checks.seed(seed)
    if train.shape[-1] < 8 and set(encoders) & set(TRAINED):
        raise ValueError(
            f"side must be 8 or more for gpe and vae, got images of {train.shape[-1]} pixels. Pass --side 8."
        )
    present(device)
    names = [each if each in TRAINED else _name(Path(each).resolve()) for each in encoders]
    if len(set(names)) < len(names):
        raise ValueError(f"encoder must name each encoder once, got {', '.join(names)}. Rename a file.")
    given = {name: _read(spec, train.shape[-1], device) for name, spec in zip(names, encoders, strict=True)}
    train, held_out = train.to(device), held_out.to(device)
    for name, one in given.items():
        if one is not None:
            check_encoder(name, one, train.float())  # before others are trained
    given_as = [each if each in TRAINED else str(Path(each).resolve()) for each in encoders]
    data = data if data == "digits" else str(Path(data).resolve())
    settings = {"data": data, "side": side, "encoder": given_as, "latent_dim": latent_dim, "preset": preset}
    Steps(folder).claim(settings | {"seed": seed}, "command.json")
    made = {
        name: _trained(name, train, latent_dim, preset, folder, seed) if one is None else one
        for name, one in given.items()
    }
    return table(assess(train, held_out, made, folder, preset=preset, seed=seed, progress=True))


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _read(spec: str, side: int, device: str) -> Any:
    """An encoder that is there; None for one to be trained."""
    from hessfast.diffusability import Autoencoder, KLAutoencoder

    if spec in TRAINED:
        return None
    path = Path(spec)
    if not path.exists():
        raise FileNotFoundError(f"encoder must be {' or '.join(TRAINED)}, a file or a folder, got {spec!r}.")
    return KLAutoencoder.from_pretrained(path, side, device) if path.is_dir() else Autoencoder.load(path, device)


def _trained(name: str, train: Any, latent_dim: int, preset: str, folder: Path, seed: int) -> Any:
    from hessfast._progress import tell
    from hessfast.diffusability import train_gpe, train_vae

    trainer = {"gpe": train_gpe, "vae": train_vae}[name]
    checkpoint = folder / "encoders" / f"{name}.training"
    tell(f"{name}: encoder of {len(train):,} images")
    made = trainer(train, latent_dim, checkpoint=checkpoint, seed=seed, progress=True, **_ENCODERS[preset])
    made.save(folder / "encoders" / f"{name}.safetensors")
    return made
