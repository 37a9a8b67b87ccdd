"""diffusers' autoencoders from a folder: the same numbers, and what is refused before it misleads."""

import json
import math
import shutil
import socket
import sys

import pytest
import torch

from hessfast.diffusability import ImageEncoder, KLAutoencoder, _report_figures, assess, digits, encoder_penalties

diffusers = pytest.importorskip("diffusers")
WEIGHTS = "diffusion_pytorch_model.safetensors"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    train, held_out = digits()
    return train[:80], held_out[:40]


@pytest.fixture(scope="module")
def network(images):
    """Random weights, with the scale and shift that its latents of the digits ask for."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {"block_out_channels": (8, 16), "layers_per_block": 1, "latent_channels": 2, "norm_num_groups": 4}
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
        made = diffusers.AutoencoderKL(in_channels=1, out_channels=1, sample_size=8, **settings, **blocks).eval()
    with torch.no_grad():
        z = made.encode(images[0]).latent_dist.mean
    spread = float((z - z.mean(dim=0)).square().mean()) ** 0.5
    made.register_to_config(scaling_factor=1 / spread, shift_factor=float(z.mean()))
    return made


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "vae"
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_is_what_diffusers_has(network, saved, images, monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing is asked of the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    read, x = KLAutoencoder.from_pretrained(saved), images[1]
    assert isinstance(read, ImageEncoder) and read.shape == (1, 8, 8)
    scale, shift = network.config["scaling_factor"], network.config["shift_factor"]
    with torch.no_grad():
        z = network.encode(x).latent_dist.mode()
        torch.testing.assert_close(read.encode(x), z)
        torch.testing.assert_close(read.decode(z), network.decode(z).sample)
        torch.testing.assert_close(read.latents(x), (z - shift) * scale)  # as diffusers' pipelines do
        torch.testing.assert_close(read.images(read.latents(x)), network.decode(z).sample, atol=1e-4, rtol=1e-3)
    assert read.normalisation.scale == scale and read.provenance["method"] == "AutoencoderKL"
    assert KLAutoencoder.from_pretrained(saved, side=12).shape == (1, 12, 12)


def test_penalties_differentiate_it_twice(saved, images):
    """Against the eigenvalues of a Jacobian made whole."""
    read, x = KLAutoencoder.from_pretrained(saved), images[1]
    frames = torch.eye(64)[:, :2].expand(len(x), 64, 2)
    made = encoder_penalties(read.encode, x, 2, frames=frames)
    jacobians = (torch.func.jacrev(lambda y: read.encode(y[None]).flatten())(one).flatten(1)[:, :2] for one in x)
    values = torch.stack([torch.linalg.eigvalsh(J.T @ J) for J in jacobians])
    anisotropy = (values[:, 1] - values[:, 0]) / values.sum(dim=1)
    assert made.anisotropy.mean == pytest.approx(float(anisotropy.mean()), rel=1e-3)


def test_an_assessment_refuses_a_wrong_scale_and_warns_of_a_doubtful_one(saved, copy, images, tmp_path, monkeypatch):
    monkeypatch.setattr(_report_figures, "available", lambda: False)
    sizes = {"num_tau": 4, "mlp_steps": 5, "mlp_width": 8, "num_generated": 4, "num_samples": 10}
    scale = json.loads((saved / "config.json").read_text())["scaling_factor"]
    configure(copy, scaling_factor=scale * 10)
    wrong = KLAutoencoder.from_pretrained(copy)
    with pytest.raises(ValueError, match=r"'kl' must have normalised latents of root mean square near 1, got 10"):
        assess(*images, {"kl": wrong}, tmp_path / "wrong", **sizes)
    configure(copy, scaling_factor=scale * 2)
    report = assess(*images, {"kl": KLAutoencoder.from_pretrained(copy)}, tmp_path / "doubtful", **sizes)
    assert f"scale {scale:.4g} would make it 1" in report["spaces"]["kl"]["warnings"][0]["sentence"]
    assert report["spaces"]["kl"]["latent_shape"] == [2, 4, 4]
    right = KLAutoencoder.from_pretrained(saved)
    report = assess(*images, {"kl": right}, tmp_path / "right", **sizes)
    assert not any("normalised latents" in doubt["sentence"] for doubt in report["spaces"]["kl"]["warnings"])


def test_refusals_of_folders(saved, copy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder must be that of an autoencoder of diffusers, got .*none"):
        KLAutoencoder.from_pretrained(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"folder must hold config\.json, got .* Give its folder 'vae'\."):
        KLAutoencoder.from_pretrained(saved.parent)
    (copy / WEIGHTS).rename(copy / "diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"folder must hold .*safetensors, .* pickles are not read\."):
        KLAutoencoder.from_pretrained(copy)
    with pytest.raises(ValueError, match="side must be a multiple of 2 for this autoencoder, got 9"):
        KLAutoencoder.from_pretrained(saved, side=9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "UNet2DModel"}, "config.json must be that of an AutoencoderKL, got 'UNet2DModel'"),
        ({"scaling_factor": 0}, r"scaling_factor must be > 0, got 0\.0\. Correct .*config\.json"),
        ({"scaling_factor": math.nan}, "scaling_factor must be finite"),
        ({"latents_std": [1.0, 2.0]}, r"config\.json must scale latents by one number"),
        ({"latent_channels": 3}, "folder must hold the weights of its config.json"),
        ({"layers_per_block": 2}, "folder must hold all weights of its config.json, got none for"),
    ],
)
def test_refusals_of_configs(copy, change, message):
    configure(copy, **change)
    with pytest.raises(ValueError, match=message):
        KLAutoencoder.from_pretrained(copy)


def test_refusals_of_damage_and_shapes(saved, copy):
    whole = (copy / WEIGHTS).read_bytes()
    (copy / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"folder must hold the weights .* damaged or of another"):
        KLAutoencoder.from_pretrained(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json must be JSON, got .* damaged"):
        KLAutoencoder.from_pretrained(copy)
    with pytest.raises(ValueError, match=r"x must be a floating point tensor of shape \[n, 1, 8, 8\], got"):
        KLAutoencoder.from_pretrained(saved).encode(torch.ones(2, 3, 8, 8))


def test_what_it_needs(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match="pip install diffusers"):
        KLAutoencoder.from_pretrained(saved)
