"""Autoencoders trained on digits: what their losses ask for, on digits that they have not seen."""

import math
import sys

import pytest
import torch

from hessfast.diffusability import Autoencoder, digits, encoder_penalties, gpe_cost, train_gpe, train_vae
from hessfast.diffusability import _train_autoencoder as training

TRAINERS = (train_gpe, train_vae)
SIZE = {"width": 8, "batch_size": 128, "learning_rate": 4e-3}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    return digits()


@pytest.fixture(scope="module")
def gpe(images):
    return train_gpe(images[0], 16, num_steps=400, **SIZE)


@pytest.fixture(scope="module")
def vae(images):
    return train_vae(images[0], 16, num_steps=400, **SIZE)


def noise(n=12, channels=1, side=8, seed=0):
    return torch.randn((n, channels, side, side), generator=torch.Generator().manual_seed(seed))


def cost(autoencoder, x):
    """The GPE's, over every pair of different images."""
    first, second = torch.triu_indices(len(x), len(x), 1)
    z = autoencoder.encode(x)
    return float(gpe_cost(x[first], x[second], z[first], z[second]).mean())


def test_digits(images):
    train, test = images
    assert train.shape == (1437, 1, 8, 8) and test.shape == (360, 1, 8, 8)
    assert train.dtype == torch.float32 and train.min() == -1 and train.max() == 1
    whole = torch.cat([train, test]).flatten(1)
    assert len(whole.unique(dim=0)) == 1797  # none twice, none lost
    assert (train.mean(dim=0) - test.mean(dim=0)).abs().max() < 0.15


def test_digits_say_what_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        digits()


def test_gpe_lowers_its_cost_tenfold(gpe, images):
    """Untrained it is as in `train_gpe` before the first step: latents as far apart as images."""
    untrained = train_gpe(images[0], 16, num_steps=1, **SIZE | {"learning_rate": 1e-12})
    before, after = cost(untrained, images[1]), cost(gpe, images[1])
    print(f"\nGPE's cost on held-out pairs: {before:.4f} untrained, {after:.4f} trained")
    assert after < before / 10


@pytest.mark.parametrize(("dimension", "sigmas"), [(4, 4), (8, 1)])  # over seeds 6 to 12 and 2 to 10
def test_gpe_distorts_less_than_a_vae(gpe, vae, images, dimension, sigmas):
    """Along the tangents of held-out digits, but for a common scale: what their raw latents differ in anyway."""
    penalties = [encoder_penalties(one.encode, images[1], dimension) for one in (gpe, vae)]
    for name in ("anisotropy", "tangential_distortion", "secant_distortion", "nonlinearity"):
        values = ("{:.4f} +- {:.4f}".format(*getattr(p, name)[:2]) for p in penalties)
        print(f"\n{name} of GPE and VAE along {dimension}: " + ", ".join(values), end="")
    one, other = (p.anisotropy for p in penalties)
    assert one.mean + sigmas * math.hypot(one.sem, other.sem) < other.mean
    assert cost(gpe, images[1]) < cost(vae, images[1]) / 3


@pytest.mark.parametrize("name", ["gpe", "vae"])
def test_reconstruction(name, images, request):
    """Of held-out digits, against the mean image; and normalised latents lead to the same images."""
    train, test = images
    autoencoder = request.getfixturevalue(name)
    error = float((autoencoder.decode(autoencoder.encode(test)) - test).square().mean())
    of_the_mean = float((test - train.mean(dim=0)).square().mean())
    print(f"\n{name}: mean square error {error:.4f}, of the mean image {of_the_mean:.4f}")
    assert error < of_the_mean / 5
    again = autoencoder.images(autoencoder.latents(test))
    torch.testing.assert_close(again, autoencoder.decode(autoencoder.encode(test)), atol=1e-4, rtol=1e-4)
    z = autoencoder.latents(train)
    assert z.mean(dim=0).abs().max() < 1e-4 and float((z**2).mean()) == pytest.approx(1, rel=1e-4)


def test_the_bound_pulls_towards_the_prior(images):
    """A beta beyond what pixels can pay for leaves no information: means are the prior's, images the mean one."""
    vae = train_vae(images[0], 4, beta=100.0, num_steps=100, width=8, batch_size=64)
    assert vae.encode(images[1]).square().mean() < 0.02
    error = (vae.decode(vae.encode(images[1])) - images[1]).square().mean()
    assert float(error) == pytest.approx(float((images[1] - images[0].mean(dim=0)).square().mean()), rel=0.05)


def test_the_bound_is_its_formula(monkeypatch):
    """Of images 0, means m, variances e^l and a decoder that gives z back: d (m^2 + e^l) + beta KL, a pixel."""
    m, log, beta, module = 0.5, -1.0, 0.3, sys.modules["hessfast.diffusability.vae"]

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(64, 64)

        def features(self, x):
            return x.flatten(1)

    def bound(networks, x, phases, *_):
        for part, value in ((networks["encoder"].head, m), (networks["log_variance"], log)):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.constant_(part.bias, value)
        losses.append(phases[0][1](x, torch.Generator().manual_seed(0)).item())

    losses, decoder = [], torch.nn.Unflatten(1, (1, 8, 8))
    monkeypatch.setattr(module, "prepare", lambda images, plan, device: (images, Plain(), decoder, plan))
    monkeypatch.setattr(module, "minimise", bound)
    monkeypatch.setattr(module, "normalisation_of", lambda *_: None)
    train_vae(torch.zeros(4000, 1, 8, 8), 64, beta=beta)
    expected = m**2 + math.exp(log) + beta * (m**2 + math.exp(log) - 1 - log) / 2
    assert losses == [pytest.approx(expected, rel=0.01)]


def test_the_images_of_a_batch_are_different():
    plan = {"seed": 0, "batch_size": 6}
    assert all(len(set(training._batch(7, plan, step)[0].tolist())) == 6 for step in range(20))
    assert len(training._batch(4, plan, 0)[0]) == 4


def test_batches_are_of_the_seed_and_the_step():
    draws = [
        training._batch(50, {"seed": seed, "batch_size": 50}, step) for seed, step in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    rows, noise = [rows.tolist() for rows, _ in draws], [float(torch.randn(1, generator=g)) for _, g in draws]
    for each in (rows, noise):
        assert each[0] == each[3] and each[0] not in (each[1], each[2])


def test_networks_are_of_the_seed_in_units_of_the_images():
    """Of images c + 3 and c - 3 the spread is 3."""
    centre = torch.linspace(-1, 1, 64).reshape(1, 8, 8)
    x = torch.stack([centre + 3, centre - 3])
    first, again, other = (training._networks(x, {"latent_dim": 2, "width": 4, "seed": seed}) for seed in (0, 0, 1))
    for k in range(2):
        torch.testing.assert_close(first[k].centre, centre)
        assert float(first[k].spread) == pytest.approx(3)
        one, same, another = (torch.cat([w.flatten() for w in n[k].parameters()]) for n in (first, again, other))
        assert torch.equal(one, same) and not torch.equal(one, another)


@pytest.mark.parametrize(("train", "phases"), [(train_gpe, 2), (train_vae, 1)])
def test_the_rate_falls_from_its_greatest_to_zero_in_each_phase(train, phases, monkeypatch):
    rates = []
    monkeypatch.setattr(training, "descend", lambda optimiser, loss, rate: rates.append(rate))
    train(noise(), 2, width=4, num_steps=4, learning_rate=0.1)
    half = math.sqrt(0.5)
    assert rates == pytest.approx([0.1, 0.05 * (1 + half), 0.05, 0.05 * (1 - half)] * phases)


def test_the_decoder_of_the_gpe_takes_latents_of_mean_square_one():
    x = noise(30) + 2
    gpe = train_gpe(x, 3, width=4, num_steps=3)
    taken = gpe.decoder.scale * (gpe.encode(x) - gpe.decoder.shift)
    assert taken.mean(dim=0).abs().max() < 1e-4
    assert float(taken.square().mean()) == pytest.approx(1, rel=1e-4)


def test_the_gpe_of_a_plane_is_an_isometry():
    """Images a u + b v, u and v orthonormal, are a plane: two numbers keep every distance."""
    axes = torch.linalg.qr(noise(2, seed=1).flatten(1).T).Q.T.reshape(2, 1, 8, 8)
    place = torch.rand((1200, 2), generator=torch.Generator().manual_seed(2)) * 6
    x = torch.einsum("nk,kcij->ncij", place, axes)
    gpe = train_gpe(x[:1000], 2, width=8, num_steps=400, batch_size=64)
    secants = (torch.pdist(gpe.encode(x[1000:])) / torch.pdist(x[1000:].flatten(1))).log()
    assert cost(gpe, x[1000:]) < 1e-3
    assert secants.square().mean().sqrt() < 0.03


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize("shape", [(1, 8), (2, 9), (3, 28)])
def test_shapes_and_files(train, shape, tmp_path):
    x = noise(12, *shape)
    made = train(x, 5, width=4, num_steps=2, seed=2**64 - 1)
    z = made.encode(x)
    assert made.shape == x.shape[1:] and made.latent_dim == 5 and z.shape == (12, 5)
    assert made.decode(z).shape == x.shape and made.decode(z[:0]).shape == (0, *x.shape[1:])
    torch.testing.assert_close(made.encode(x[3:4]), z[3:4], atol=1e-5, rtol=1e-4)  # each image for itself
    made.save(tmp_path / "new" / "autoencoder.safetensors")
    read = Autoencoder.load(tmp_path / "new" / "autoencoder.safetensors")
    for name, given in (("encode", x), ("latents", x), ("decode", z), ("images", z)):
        assert torch.equal(getattr(read, name)(given), getattr(made, name)(given)), name
    assert read.provenance == made.provenance and read.provenance["method"] in train.__name__
    assert read.normalisation.scale == made.normalisation.scale
    assert made.encode(x.double().requires_grad_()).requires_grad and not made.decode(z).requires_grad


@pytest.mark.parametrize("train", TRAINERS)
def test_training_is_a_function_of_the_seed(train):
    x = noise()
    state = torch.random.get_rng_state()
    first, again, other = (train(x.numpy() if k else x, 3, width=4, num_steps=3, seed=k // 2) for k in range(3))
    assert torch.equal(first.encode(x), again.encode(x)) and not torch.equal(first.encode(x), other.encode(x))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize("stop", [2, 6, 10, 14])
def test_interrupted_training_is_like_any_other(train, stop, tmp_path, monkeypatch):
    """Before the first file, within the encoder's steps, where the decoder's begin, and within those."""
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY", 4)
    x, file = noise(20), tmp_path / "training"
    options = {"latent_dim": 3, "width": 4, "num_steps": 10 if train is train_gpe else 20, "batch_size": 8}
    whole = train(x, **options)
    draw = training._batch

    def interrupted(n, plan, step):
        if step == stop:
            raise KeyboardInterrupt
        return draw(n, plan, step)

    monkeypatch.setattr(training, "_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(x, checkpoint=file, **options)
    monkeypatch.setattr(training, "_batch", draw)
    for _ in range(2):  # the second time nothing is left to do
        resumed = train(x, checkpoint=file, **options)
        assert torch.equal(resumed.latents(x), whole.latents(x))
        assert torch.equal(resumed.decode(resumed.encode(x)), whole.decode(whole.encode(x)))
    for change in ({"num_steps": 21}, {"seed": 1}, {"latent_dim": 2}, {"images": noise(20, seed=1)}):
        with pytest.raises(ValueError, match="checkpoint must be of the same training"):
            train(**{"images": x, "checkpoint": file} | options | change)


def test_one_method_does_not_go_on_with_the_other(tmp_path):
    x, options = noise(), {"width": 4, "num_steps": 2, "checkpoint": tmp_path / "training"}
    train_gpe(x, 3, **options)
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        train_vae(x, 3, **options)


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": noise(side=7)}, "images must have shape .* side >= 8"),
        ({"images": torch.ones(4, 1, 8, 8)}, "images must differ"),
        ({"latent_dim": 0}, "latent_dim must be >= 1"),
        ({"latent_dim": 65}, "latent_dim must be >= 1 and <= 64"),
        ({"num_steps": 0}, "num_steps must be"),
        ({"batch_size": 1}, "batch_size must be >= 2"),
        ({"width": 0}, "width must be"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_refusals(train, change, message):
    with pytest.raises(ValueError, match=message):
        train(**{"images": noise(), "latent_dim": 2, "num_steps": 1, "width": 4} | change)


def test_other_refusals(tmp_path):
    with pytest.raises(ValueError, match="beta must be >= 0"):
        train_vae(noise(), 2, beta=-1.0)
    made = train_gpe(noise(), 2, width=4, num_steps=1)
    with pytest.raises(ValueError, match=r"x must be a floating point tensor of shape \[n, 1, 8, 8\], got"):
        made.encode(noise(side=9))
    with pytest.raises(ValueError, match=r"z must be a floating point tensor of shape \[n, 2\], got"):
        made.decode(torch.ones(4, 3))
    with pytest.raises(FileNotFoundError, match=r"path must be a file written by Autoencoder\.save"):
        Autoencoder.load(tmp_path / "none")
    (tmp_path / "other").write_bytes(b"not safetensors")
    train_gpe(noise(), 2, width=4, num_steps=1, checkpoint=tmp_path / "training")
    for name in ("other", "training"):
        with pytest.raises(ValueError, match="damaged or of another kind"):
            Autoencoder.load(tmp_path / name)


@pytest.mark.parametrize("train", TRAINERS)
@pytest.mark.parametrize("num_steps", [1, 30])
def test_a_training_that_explodes_says_so_in_a_sentence(train, num_steps, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY", 10)
    with pytest.raises(ArithmeticError, match=r"must be finite, got .* Lower learning_rate"):
        train(noise(), 2, width=4, num_steps=num_steps, learning_rate=1e30, checkpoint=tmp_path / "training")
    assert num_steps == 1 or not (tmp_path / "training").exists()
