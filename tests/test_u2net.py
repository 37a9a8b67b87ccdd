"""The paper's posterior: its network's shape, that it learns, goes on after a kill, and says what it cannot do."""

import numpy as np
import pytest
import torch

from hessfast import _checkpoint
from hessfast.posterior import Grid, U2NetPosterior, _u2net

BOX = ((0.0, 0.0), (1.0, 1.0))


def pictures(num=300, seed=0):
    """Images whose mean and slope tell the two parameters."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, 1, (num, 2))
    ramp = np.linspace(-1, 1, 16)
    images = place[:, :1, None] + (place[:, 1:, None] - 0.5) * ramp + 0.1 * rng.normal(size=(num, 16, 16))
    return images, place


@pytest.mark.parametrize(("size", "weights"), [("full", 44.0e6), ("small", 1.13e6)])
def test_the_network_is_the_published_one(size, weights):
    """176.3 MB and 4.7 MB of float32 in the paper of the U2-Net, there with three channels and six side outputs."""
    network = _u2net.U2Net(3, size)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(weights, rel=0.01)


def test_any_shape_of_picture_goes_through():
    network = _u2net.U2Net(4, "tiny").eval()
    for rows, columns in ((16, 16), (33, 20)):
        assert network(torch.zeros(2, 4, rows, columns)).shape == (2, rows, columns)


def test_it_learns_where_samples_come_from():
    images, place = pictures()
    options = {"box": BOX, "size": "tiny", "bump_width": 0.1, "num_steps": 60, "batch_size": 32, "learning_rate": 3e-3}
    posterior = U2NetPosterior(**options).fit(images, place)
    assert posterior.losses_[-10:].mean() < posterior.losses_[:3].mean() - 0.5
    fresh, true = pictures(60, seed=1)
    bundles = np.repeat(fresh, 4, axis=0)
    mean = posterior.log_posterior(bundles, posterior.grid_).mean()
    assert np.corrcoef(mean[:, 0], true[:, 0])[0, 1] > 0.8
    assert np.corrcoef(mean[:, 1], true[:, 1])[0, 1] > 0.5


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    images, place = pictures(40)
    options = {"box": BOX, "size": "tiny", "num_steps": 6, "batch_size": 4, "learning_rate": 1e-3, "num_neighbours": 5}
    whole = U2NetPosterior(**options).fit(images, place)
    monkeypatch.setattr("hessfast.posterior.u2net._CHECKPOINT_EVERY", 2)
    save = "hessfast._checkpoint.save"
    from hessfast import _checkpoint

    kept = _checkpoint.save

    def killed(path, module, optimiser, step, plan):
        kept(path, module, optimiser, step, plan)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(save, killed)
    with pytest.raises(KeyboardInterrupt):
        U2NetPosterior(**options, checkpoint=tmp_path / "c").fit(images, place)
    monkeypatch.setattr(save, kept)
    resumed = U2NetPosterior(**options, checkpoint=tmp_path / "c").fit(images, place)
    np.testing.assert_allclose(resumed.losses_, whole.losses_[4:], rtol=1e-5)
    expected = whole.log_posterior(images[:4], whole.grid_).log_mass
    np.testing.assert_allclose(resumed.log_posterior(images[:4], whole.grid_).log_mass, expected, atol=1e-4)
    again = U2NetPosterior(**options, checkpoint=tmp_path / "c").fit(images, place)
    assert len(again.losses_) == 0  # nothing left to do
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        U2NetPosterior(**(options | {"seed": 1}), checkpoint=tmp_path / "c").fit(images, place)


IMAGES, PLACE = pictures(20)


@pytest.mark.parametrize(
    ("images", "parameters", "message"),
    [
        (IMAGES[:, 0], PLACE, r"images must have shape \[n, rows, columns\]"),
        (IMAGES[:, :8], PLACE, "images must be at least 16 x 16, got 8 x 16"),
        (np.where(IMAGES[0, 0, 0] == IMAGES, np.nan, IMAGES), PLACE, "images must be finite"),
        (IMAGES, PLACE[:5], r"parameters must have shape \[20, 2\], got \(5, 2\)"),
        (IMAGES, PLACE + 1, "parameters must lie in the box"),
        (IMAGES[:4], PLACE[:4], "samples must number at least 8, got 4"),
    ],
)
def test_what_does_not_fit_is_refused(images, parameters, message):
    with pytest.raises(ValueError, match=message):
        U2NetPosterior(box=BOX, size="tiny", num_steps=1, batch_size=2).fit(images, parameters)


def test_it_answers_on_its_own_grid_and_bundles_only():
    posterior = U2NetPosterior(box=BOX, size="tiny", num_steps=1, batch_size=2)
    with pytest.raises(ValueError, match="fit must be called first, got U2NetPosterior"):
        posterior.log_posterior(IMAGES, None)
    posterior.fit(IMAGES, PLACE)
    assert len(posterior.log_posterior(IMAGES[:0], posterior.grid_)) == 0
    with pytest.raises(ValueError, match="grid must be grid_"):
        posterior.log_posterior(IMAGES, Grid((0.0, 0.0), (1.0, 1.0), (3, 3)))
    with pytest.raises(TypeError, match="grid must be a Grid, got NoneType"):
        posterior.log_posterior(IMAGES, None)
    with pytest.raises(ValueError, match=r"images must have shape \[n, 16, 16\], got \(20, 8, 32\)"):
        posterior.log_posterior(IMAGES.reshape(20, 8, 32), posterior.grid_)
    with pytest.raises(ValueError, match="bundle must divide the number of samples, got 4 for 7"):
        posterior.log_posterior(IMAGES[:7], posterior.grid_)
    with pytest.raises(ValueError, match="bundle must be 4, the network's number of channels, got 1"):
        posterior.log_posterior(IMAGES, posterior.grid_, bundle=1)


QUICK = {"box": BOX, "size": "tiny", "num_steps": 3, "batch_size": 4, "learning_rate": 1e-3}


def test_the_loss_is_the_cross_entropy_of_bumps_at_the_parameters(monkeypatch):
    """Of a picture that is known, and bundles of all the samples there are."""
    picture = np.random.default_rng(0).normal(size=(16, 20))

    def drawn(self, x):
        return torch.tensor(picture, dtype=x.dtype).expand(len(x), 16, 20) + 0 * next(self.parameters()).sum()

    monkeypatch.setattr(_u2net.U2Net, "forward", drawn)
    options = QUICK | {"box": ((-1, 0), (3, 10)), "bundle": 2, "num_neighbours": 2, "bump_width": 0.1}
    parameters = np.array([[-0.5, 6.0], [2.0, 3.0]])
    posterior = U2NetPosterior(**options).fit(np.zeros((2, 16, 20)), parameters)
    steps = (posterior.grid_.points - parameters[:, None, None]) / [0.4, 1.0]
    bumps = np.exp(-(steps**2).sum(axis=-1) / 2)
    target = (bumps / bumps.sum(axis=(1, 2), keepdims=True)).mean(axis=0)
    expected = np.log(np.exp(picture).sum()) - (target * picture).sum()
    np.testing.assert_allclose(posterior.losses_, expected, rtol=1e-6)


def test_posteriors_do_not_depend_on_bundles_beside_them(monkeypatch):
    posterior = U2NetPosterior(**QUICK).fit(IMAGES, PLACE)
    together = posterior.log_posterior(IMAGES, posterior.grid_).log_mass
    monkeypatch.setattr("hessfast.posterior.u2net._EVALUATED", 2)
    np.testing.assert_allclose(posterior.log_posterior(IMAGES, posterior.grid_).log_mass, together, atol=1e-5)


@pytest.mark.parametrize(("bundle", "num_neighbours"), [(4, 6), (2, 2), (1, 1)])
def test_bundles_are_distinct_neighbours(monkeypatch, bundle, num_neighbours):
    """Every pixel of an image is the number of its sample."""
    _, place = pictures(40)
    images = np.broadcast_to(np.arange(40.0)[:, None, None], (40, 16, 16))
    forward, seen = _u2net.U2Net.forward, []

    def watched(self, x):
        seen.extend(x[:, :, 0, 0].int().tolist())
        return forward(self, x)

    monkeypatch.setattr(_u2net.U2Net, "forward", watched)
    U2NetPosterior(**QUICK, bundle=bundle, num_neighbours=num_neighbours).fit(images, place)
    near = np.argsort(((place[:, None] - place) ** 2).sum(axis=2), axis=1)[:, :num_neighbours].tolist()
    assert len(seen) == 12
    for chosen in seen:
        assert len(set(chosen)) == bundle
        assert any(set(chosen) <= set(each) for each in near)


def test_the_rate_decays_like_a_cosine(monkeypatch):
    step, rates = torch.optim.Adam.step, []

    def watched(self, *arguments):
        rates.extend(group["lr"] for group in self.param_groups)
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    U2NetPosterior(**QUICK).fit(IMAGES, PLACE)
    np.testing.assert_allclose(rates, [1e-3, 0.75e-3, 0.25e-3])


def test_an_interrupted_or_refused_fit_leaves_the_one_before(tmp_path, monkeypatch):
    posterior = U2NetPosterior(**QUICK).fit(IMAGES, PLACE)
    before, grid = posterior.log_posterior(IMAGES, posterior.grid_).log_mass, posterior.grid_
    with pytest.raises(ValueError, match="parameters must lie in the box"):
        posterior.fit(IMAGES.repeat(2, axis=1), PLACE + 1)
    fresh = U2NetPosterior(**QUICK, checkpoint=tmp_path / "c")
    larger = IMAGES.repeat(2, axis=1).repeat(2, axis=2)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hessfast._checkpoint.save", killed)
    posterior.checkpoint = tmp_path / "c"
    for each in (posterior, fresh):
        with pytest.raises(KeyboardInterrupt):
            each.fit(larger, PLACE)
    assert posterior.grid_ == grid
    np.testing.assert_array_equal(posterior.log_posterior(IMAGES, grid).log_mass, before)
    with pytest.raises(ValueError, match="fit must be called first, got U2NetPosterior"):
        fresh.log_posterior(IMAGES, grid)


@pytest.mark.parametrize("broken", ["loss", "weights"])
def test_what_is_not_finite_is_neither_kept_nor_fitted(tmp_path, monkeypatch, broken):
    """Of the second step the loss, or of the third and last one the weights."""
    monkeypatch.setattr("hessfast.posterior.u2net._CHECKPOINT_EVERY", 1)
    step, steps = torch.optim.Adam.step, []

    def spoiled(self, *arguments):
        if broken == "weights" or not steps:
            step(self, *arguments)
        steps.append(None)
        if len(steps) == 3 and broken == "weights":
            self.param_groups[0]["params"][-1].data.fill_(torch.nan)

    forward = _u2net.U2Net.forward
    monkeypatch.setattr(torch.optim.Adam, "step", spoiled)
    if broken == "loss":
        monkeypatch.setattr(_u2net.U2Net, "forward", lambda self, x: forward(self, x) * (1 if not steps else torch.inf))
    posterior = U2NetPosterior(**QUICK, checkpoint=tmp_path / "c")
    with pytest.raises(ArithmeticError, match=rf"^{broken} must be finite, got .*\. Lower learning_rate, or"):
        posterior.fit(IMAGES, PLACE)
    fields, tensors = _checkpoint.read(tmp_path / "c")
    assert fields["step"] == {"loss": 1, "weights": 2}[broken]
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    with pytest.raises(ValueError, match="fit must be called"):
        posterior.log_posterior(IMAGES, None)


def test_bumps_much_narrower_than_a_pixel():
    posterior = U2NetPosterior(**QUICK, bump_width=1e-6).fit(IMAGES, PLACE)
    assert np.isfinite(posterior.losses_).all()


def test_a_checkpoint_is_of_the_same_images_and_whole(tmp_path):
    path = tmp_path / "c"
    U2NetPosterior(**QUICK, checkpoint=path).fit(IMAGES, PLACE)
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        U2NetPosterior(**QUICK, checkpoint=path).fit(IMAGES + 0.1, PLACE)
    with pytest.raises(ValueError, match="checkpoint must be of the same training"):
        U2NetPosterior(**QUICK, checkpoint=path).fit(IMAGES, PLACE[::-1])
    plan = {"bump_width": 0.1, "num_neighbours": 9, "num_steps": 4, "batch_size": 5, "learning_rate": 2e-3}
    for name, value in plan.items():
        with pytest.raises(ValueError, match="checkpoint must be of the same training"):
            U2NetPosterior(**(QUICK | {name: value}), checkpoint=path).fit(IMAGES, PLACE)
    for garbage in (path.read_bytes()[:-9], b"garbage", b""):
        path.write_bytes(garbage)
        with pytest.raises(ValueError, match=r"checkpoint must be a whole safetensors file, got '.*c'\. Remove it"):
            U2NetPosterior(**QUICK, checkpoint=path).fit(IMAGES, PLACE)


def test_integers_and_memory_maps_are_the_same_images(tmp_path, monkeypatch):
    """Made float32 a few at a time; a checkpoint of either goes on with the other."""
    monkeypatch.setattr("hessfast.posterior.u2net._CHECKED", 7)
    spins = np.where(IMAGES > 0, 1, -1)
    np.save(tmp_path / "spins.npy", spins.astype(np.int8))
    mapped = np.load(tmp_path / "spins.npy", mmap_mode="r")
    one = U2NetPosterior(**QUICK, checkpoint=tmp_path / "c").fit(spins.astype(np.float64), PLACE)
    for images in (mapped, torch.as_tensor(spins)):
        other = U2NetPosterior(**QUICK).fit(images, PLACE)
        np.testing.assert_array_equal(other.losses_, one.losses_)
        got = other.log_posterior(images, other.grid_).log_mass
        np.testing.assert_array_equal(got, one.log_posterior(spins, one.grid_).log_mass)
        assert not len(U2NetPosterior(**QUICK, checkpoint=tmp_path / "c").fit(images, PLACE).losses_)


def test_nan_is_found_wherever_it_is(monkeypatch):
    monkeypatch.setattr("hessfast.posterior.u2net._CHECKED", 7)
    spoiled = IMAGES.copy()
    spoiled[-1, -1, -1] = np.nan
    with pytest.raises(ValueError, match="images must be finite, got nan"):
        U2NetPosterior(**QUICK).fit(spoiled, PLACE)
    with pytest.raises(TypeError, match="images must be a number or an array of numbers"):
        U2NetPosterior(**QUICK).fit(IMAGES.astype(str), PLACE)


def test_images_beyond_float32_are_refused():
    with pytest.raises(ValueError, match="images must be of order one, got numbers beyond float32"):
        U2NetPosterior(**QUICK).fit(IMAGES * 1e40, PLACE)


@pytest.mark.parametrize("box", [(0, 1), ((0, 0),), ((0, 0), (1, 0)), ((0,), (1,))])
def test_boxes_that_are_refused(box):
    with pytest.raises(ValueError, match=r"box must be the lowest and the highest of two parameters, got \("):
        U2NetPosterior(box=box)


@pytest.mark.parametrize("name", ["learning_rate", "bump_width"])
def test_widths_and_rates_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be > 0, got -1"):
        U2NetPosterior(box=BOX, **{name: -1})


def test_fits_are_the_same_without_gradients_and_amid_double_precision():
    expected = U2NetPosterior(**QUICK).fit(IMAGES, PLACE).losses_
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            np.testing.assert_array_equal(U2NetPosterior(**QUICK).fit(IMAGES, PLACE).losses_, expected)
    torch.set_default_dtype(torch.float64)
    try:
        posterior = U2NetPosterior(**QUICK).fit(IMAGES, PLACE)
    finally:
        torch.set_default_dtype(torch.float32)
    assert posterior.log_posterior(IMAGES, posterior.grid_).log_mass.dtype == np.float32
