"""Training of denoisers: the curves of what they have learnt, going on where it was, networks, refusals."""

import io
import sys

import numpy as np
import pytest
import torch

from hessfast.diffusability import TrainedDenoiser, fisher_curve, train_denoiser, train_vae, training
from hessfast.diffusability.networks import MLP, UNet, _Attention


def test_training():
    """N(0, I) shifted by 3: FI within 5 %, FIR within 10 % after some seconds, and again after an interruption."""
    x = 3 + torch.randn((4000, 2), generator=torch.Generator().manual_seed(0))
    trained = train_denoiser(x, num_steps=600, batch_size=512)
    tau = np.array([0.1, 1.0])
    curve = fisher_curve(
        trained, 3 + torch.randn((2000, 2), generator=torch.Generator().manual_seed(1)), tau, batch_size=2000
    )
    np.testing.assert_allclose(curve.fisher_information.mean, 2 / (1 + tau), rtol=0.05)
    np.testing.assert_allclose(curve.fisher_information_rate.mean, 2 / (1 + tau) ** 2, rtol=0.1)
    assert curve.warnings == () and trained.tau_range == pytest.approx((4e-4, 100.0))


def test_interrupted_training_is_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY", 4)
    x, file = torch.randn((50, 2), generator=torch.Generator().manual_seed(0)), tmp_path / "denoiser"
    y = torch.ones((1, 2))
    options = {"num_steps": 10, "batch_size": 16, "ema_decay": 0.9}
    whole = train_denoiser(x, **options)(y, 1.0)
    draw = training._batch

    def interrupted(x, plan, step):
        if step == 6:
            raise KeyboardInterrupt
        return draw(x, plan, step)

    monkeypatch.setattr(training, "_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_denoiser(x, checkpoint=file, **options)
    monkeypatch.setattr(training, "_batch", draw)
    assert torch.equal(train_denoiser(x, checkpoint=file, **options)(y, 1.0), whole)
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        train_denoiser(x, checkpoint=file, **options | {"num_steps": 11})


class Small(torch.nn.Module):
    def __init__(self, activation, dropout=0.0):
        super().__init__()
        self.first, self.last = torch.nn.Linear(2, 8), torch.nn.Linear(8, 1)
        self.activation, self.dropout = activation, torch.nn.Dropout(dropout)

    def forward(self, y, noise):
        return self.last(self.dropout(self.activation(self.first(torch.cat([y, noise[:, None]], dim=1)))))


def test_a_checkpoint_is_of_one_structure(tmp_path):
    x, options = torch.randn(50, 1), {"num_steps": 4, "batch_size": 8, "checkpoint": tmp_path / "kept"}
    train_denoiser(x, Small(torch.tanh), **options)
    train_denoiser(x, Small(torch.tanh), **options)
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        train_denoiser(x, Small(torch.cos), **options)


def test_dropout_is_a_function_of_seed_and_step():
    x, network, y = torch.linspace(-1, 1, 50)[:, None], Small(torch.tanh, 0.5), torch.ones(1, 1)
    answers = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        answers.append(float(train_denoiser(x, network, num_steps=4, batch_size=8)(y, 1.0)))
    assert answers[0] == answers[1]
    given = train_denoiser(x, network.eval(), num_steps=4, batch_size=8)  # it drops out whatever mode it comes in
    assert float(given(y, 1.0)) == answers[0]


def test_the_average_begins_with_a_tenth_of_what_there_was():
    x = torch.linspace(-1, 1, 50)[:, None]
    network = Small(torch.nn.BatchNorm1d(8))
    kept, last, averaged = (
        network, *(train_denoiser(x, network, num_steps=1, batch_size=8, ema_decay=e).network for e in (0.0, 0.999))
    )  # fmt: skip
    for was, new, mean in zip(*(one.parameters() for one in (kept, last, averaged)), strict=True):
        torch.testing.assert_close(mean, 0.1 * was + 0.9 * new)
    assert (averaged.activation.running_mean == last.activation.running_mean).all()
    assert (last.activation.running_mean != 0).any()


def test_the_data_are_as_wide_as_a_coordinate_in_the_mean():
    x = torch.tensor([[4.0, 10.0], [6.0, 24.0]])  # variances 1 and 49
    assert train_denoiser(x, num_steps=1, batch_size=2).sigma_data == pytest.approx(5)


def test_rates_rise_and_fall(monkeypatch):
    rates, descend = [], training.descend
    monkeypatch.setattr(training, "descend", lambda *given: (rates.append(given[2]), descend(*given)))
    train_denoiser(torch.linspace(-1, 1, 50)[:, None], num_steps=40, batch_size=8, learning_rate=0.01)
    falling = 0.005 * (1 + np.cos(np.pi * np.arange(40) / 40))
    np.testing.assert_allclose(rates, falling * np.minimum(np.arange(1, 41) / 4, 1))


def test_the_networks_of_vectors_are_constant_beyond_their_knots():
    network, x = MLP(2, 8), torch.ones(2, 2)
    with torch.no_grad():
        network.scales.normal_(), network.shifts.normal_()
        for tau, end in ((1e-6, 1e-4), (1e6, 1e4)):
            out = network(x, torch.tensor([tau, end]).log() / 8)
            torch.testing.assert_close(out[0], out[1])


def test_attention_is_its_formula():
    layer, x = _Attention(128), torch.randn(2, 128, 3, 4)
    torch.nn.init.normal_(layer.proj_out.weight)
    with torch.no_grad():
        q, k, v = layer.qkv(layer.norm(x)).reshape(2, 3, 2, 64, 12).unbind(dim=1)  # two heads of 64 channels
        weights = (torch.einsum("nhci,nhcj->nhij", q, k) / 8).softmax(dim=-1)
        mixed = torch.einsum("nhij,nhcj->nhci", weights, v).reshape(2, 128, 3, 4)
        torch.testing.assert_close(layer(x), x + layer.proj_out(mixed), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_training_has_gradients_wherever_it_is_called(mode):
    x, options = torch.randn((50, 2), generator=torch.Generator().manual_seed(0)), {"num_steps": 5, "batch_size": 16}
    with mode():
        trained = train_denoiser(x.double(), **options)
    y = torch.ones((1, 2))
    assert torch.equal(trained(y, 1.0), train_denoiser(x, **options)(y, 1.0))
    one, other = (fisher_curve(trained, each, 1.0) for each in (x, x.double()))
    assert one.mmse == other.mmse


def test_a_trained_denoiser_takes_any_dtype():
    """The best linear denoiser of N(3, 1), from a network that returns 0; and one of weights changed after training."""
    network = MLP(2, 8)
    for weight in (network.last.weight, network.last.bias):
        torch.nn.init.zeros_(weight)
    trained = TrainedDenoiser.of(network, torch.full((2,), 3.0), 1.0, (0.1, 9.0))
    y = torch.tensor([[1.0, 4.0]], dtype=torch.float64)
    for weights in (torch.float32, torch.float64):
        trained.network.to(weights)
        for dtype in (torch.float16, torch.float32, torch.float64):
            clean, score = torch.tensor([[[2.5, 3.25]], [[0.5, -0.25]]], dtype=dtype)
            torch.testing.assert_close(trained(y.to(dtype), 3.0), clean)
            torch.testing.assert_close(trained.score(y.to(dtype), 3.0), score)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_for_terminals(monkeypatch, terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stderr", stream)
    train_denoiser(torch.randn(20, 2), num_steps=3, batch_size=8, progress=True)
    train_vae(torch.rand(20, 1, 8, 8), 2, width=4, num_steps=3, progress=True)
    assert bool(stream.getvalue()) == terminal


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 16, 16), (2, 3, 7, 10), (2, 1, 1, 2)])
def test_networks_of_images(shape):
    network = UNet(shape[1], width=32)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert (network(x, torch.zeros(len(x))) == 0).all()  # so that training begins at the best linear denoiser
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    out = network(x, torch.zeros(len(x)))
    assert out.shape == x.shape and (out - network(x, torch.ones(len(x)))).std() > 1e-3 * out.std()
    torch.testing.assert_close(network(x[:1], torch.zeros(1)), out[:1], rtol=1e-4, atol=1e-4)


def test_refusals():
    x = torch.randn((20, 2), generator=torch.Generator().manual_seed(0))
    for change, message in (
        ({"samples": torch.ones(5, 2, 3)}, r"samples must have shape \[n, dim\] or \[n, channels, side, side\]"),
        ({"samples": torch.ones(5, 2)}, "samples must differ"),
        ({"tau_range": (1.0, 0.5)}, "tau_range must be two ascending"),
        ({"ema_decay": 1.0}, "ema_decay must be"),
        ({"num_steps": 0}, "num_steps must be"),
    ):
        with pytest.raises(ValueError, match=message):
            train_denoiser(**{"samples": x, "num_steps": 1, "batch_size": 4} | change)
    with pytest.raises(TypeError, match="network must be a module, got 2"):
        train_denoiser(x, 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="ema_decay must be a number"):
        train_denoiser(x, ema_decay=(0.9, 0.99))
    with pytest.raises(ArithmeticError, match="loss must be finite"):
        train_denoiser(x, num_steps=50, batch_size=4, learning_rate=1e30)


@pytest.mark.parametrize("kind", ["vectors", "images", "a network of the user"])
def test_what_is_saved_comes_back(kind, tmp_path):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((20, 1, 5, 5) if kind == "images" else (20, 3), generator=generator) + 7
    network = MLP(3, 8, skip=True) if kind == "vectors" else None

    class Own(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = torch.nn.Linear(3, width)
            self.last = torch.nn.Linear(width, 3)

        def forward(self, y, c_noise):
            return self.last(torch.tanh(self.layer(y) + c_noise[:, None]))

    network = Own(4) if kind == "a network of the user" else network
    trained = train_denoiser(x, network, num_steps=2, batch_size=4, tau_range=(0.1, 9.0))
    trained.save(tmp_path / "new" / "file.safetensors")
    file = tmp_path / "new" / "file.safetensors"
    if kind == "a network of the user":
        with pytest.raises(ValueError, match="network must be the Own that was trained, got None"):
            TrainedDenoiser.load(file)
        with pytest.raises(ValueError, match="network must be like the Own that was trained, got another"):
            TrainedDenoiser.load(file, Own(5))
    again = TrainedDenoiser.load(file, Own(4) if kind == "a network of the user" else None)
    for tau in (0.1, 2.0):
        assert torch.equal(again(x, tau), trained(x, tau)) and torch.equal(again.score(x, tau), trained.score(x, tau))
    assert again.tau_range == trained.tau_range == (0.1, 9.0)
    assert not any(x.requires_grad or layer.training for layer in again.network.modules() for x in layer.parameters())
    assert fisher_curve(again, x, [1.0]).to_dict() == fisher_curve(trained, x, [1.0]).to_dict()
    trained.network.double()
    trained.save(file)
    wide = TrainedDenoiser.load(file, Own(4) if kind == "a network of the user" else None)
    assert {x.dtype for x in wide.network.parameters()} == {torch.float64}


def test_files_of_others_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be a file written by TrainedDenoiser\.save"):
        TrainedDenoiser.load(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"path must be a whole file of TrainedDenoiser\.save"):
        TrainedDenoiser.load(tmp_path / "file")
