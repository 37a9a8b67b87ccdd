"""The assessment of encoders: known answers of linear ones, its report, going on where it was, and its command."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hessfast import cli
from hessfast._steps import Steps
from hessfast.cli import diffusability as command
from hessfast.diffusability import (
    Doubt,
    Estimate,
    FisherCurve,
    ImageEncoder,
    Normalisation,
    Sphere,
    _report_figures,
    assess,
    digits,
    encoder_penalties,
    energy_distance,
    fisher_curve,
    from_denoiser,
    from_density,
    gaussian_curves,
    intrinsic_dimension,
    normalisation,
    train_vae,
)
from hessfast.diffusability import _measure as measure
from hessfast.diffusability import _spaces as spaces
from hessfast.diffusability._consistency import broken_laws, disagreements
from hessfast.diffusability._report_table import table
from hessfast.diffusability._spaces import Space
from hessfast.diffusability.preset import PRESETS
from hessfast.reproduce.figures import available

SMALL = {"num_tau": 9, "mlp_steps": 60, "mlp_width": 16, "num_generated": 40, "num_samples": 60, "num_probes": 1}
SIZES = {"width": 4, "batch_size": 32, "num_steps": 10}


class Linear:
    """z = (x - mean) U, U `[64, d]` orthonormal: what it does to images is known."""

    shape = (1, 8, 8)

    def __init__(self, train, d):
        x = train.flatten(1)
        self.centre = x.mean(dim=0)
        self.U = torch.linalg.svd(x - self.centre, full_matrices=False).Vh[:d].T
        self.normalisation: Normalisation = normalisation(self.encode(train))
        self.provenance = {"method": "pca", "d": d}

    def encode(self, x):
        return (x.flatten(1) - self.centre) @ self.U

    def decode(self, z):
        return (z @ self.U.T + self.centre).reshape(-1, 1, 8, 8)

    def latents(self, x):
        return self.normalisation(self.encode(x))

    def images(self, latents):
        return self.decode(latents / self.normalisation.scale + self.normalisation.shift)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def images():
    train, held_out = digits()
    return train[:300], held_out[:100]


@pytest.fixture(scope="module")
def encoders(images):
    return {"whole": Linear(images[0], 64), "half": Linear(images[0], 20)}


@pytest.fixture(scope="module")
def finished(images, encoders, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, assess(*images, encoders, folder, **SMALL)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """They take longer than all the rest; one run has them."""
    monkeypatch.setattr(_report_figures, "available", lambda: False)


@pytest.mark.parametrize("num", [2, 5, 9, 17, 25])
def test_exact_denoisers_break_no_law(num):
    """However far apart tau are, and with norms that do not vary, so that the MMSE has no spread."""
    x = torch.randn(2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normal = from_denoiser(lambda y, tau: y / (1 + tau))
    assert broken_laws(fisher_curve(normal, x, np.geomspace(1e-4, 6400, num)), float(x.var())) == []
    sphere = Sphere(3)
    for seed in range(5):
        known, held_out = sphere.sample(500, 2 * seed + 1000), sphere.sample(200, 2 * seed + 1)
        variance = float((known - known.mean(dim=0)).square().sum() / 499)
        curve = fisher_curve(from_density(sphere), held_out, np.geomspace(1e-2, 6400, num))
        assert broken_laws(curve, variance) == []


def test_a_rotation(finished):
    """It costs nothing, and the curves of the data alone are the same but for the draws, at equal SNR."""
    whole = finished[1]["spaces"]["whole"]
    assert whole["penalties"]["compression"] == 0
    for name in (
        "tangential_distortion",
        "anisotropy",
        "secant_distortion",
        "bending",
        "metric_change",
        "nonlinearity",
    ):
        assert whole["penalties"][name]["quantiles"][2] < 1e-4, name
    assert whole["reconstruction"]["mean"] < 1e-8
    for form, kept in whole["deviations"]["equal_snr_empirical"].items():
        mean, sem = np.array(kept["mean"]), np.array(kept["sem"])
        assert len(mean) >= 3 and (np.abs(mean) < 4 * sem + 1e-4).all(), form
    # At equal noise MMSE' is greater: normalised latents have the mean square 1, pixels less.
    off, noise = (np.array(whole["deviations"]["equal_tau_empirical"]["mmse-rate"][part]) for part in ("mean", "sem"))
    assert whole["scale"] > 1.5 and (off > 4 * noise).all()


def test_a_projection(finished, images, encoders):
    report, (_, held) = finished[1], images
    half, U = report["spaces"]["half"], encoders["half"].U
    rest = held.flatten(1) - encoders["half"].centre
    lost = (rest - rest @ U @ U.T).square().mean()
    assert half["reconstruction"]["mean"] == pytest.approx(float(lost), rel=1e-4)
    m = report["intrinsic_dimension"]["value"]
    assert half["penalties"]["compression"] == pytest.approx((64 - 20) / (64 - m))
    assert 0 < half["penalties"]["tangential_distortion"]["mean"] < 1  # of eigenvalues in [0, 1]
    # Of FIR at large noise little but the dimension is left: D / tau^2 against d / tau^2, both less what data add.
    assert half["deviations"]["equal_tau"]["plain"]["mean"][-1] == pytest.approx(20 / 64 - 1, abs=1e-3)
    assert half["deviations"]["equal_tau"]["per-dimension"]["mean"][-1] == pytest.approx(0, abs=1e-3)
    if m < 20:
        expected = 20 / 64 * (64 - m) / (20 - m) - 1
        assert half["deviations"]["equal_tau"]["normal-dimension"]["mean"][-1] == pytest.approx(expected, abs=1e-2)


def test_a_report_has_everything(finished, encoders, images):
    train, _ = images
    folder, report = finished
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report))
    assert (folder / "table.txt").read_text() == table(report) + "\n"
    assert list(report["spaces"]) == ["data", "whole", "half"]
    assert "0.01" not in report["notes"] and report["notes"] == []  # the paper's range
    assert report["tau"][0] == pytest.approx(0.01**2) and report["tau"][-1] == pytest.approx(80**2)
    assert {"stated", "inferred"} == set(report["sources"])
    curves = np.load(folder / "curves.npz")
    for name, space in report["spaces"].items():
        kept = curves[f"{name}.curve.fisher_information_rate"]
        assert kept.shape == (3, 9) and kept[0].tolist() == space["curve"]["fisher_information_rate"]["mean"]
        assert (kept[1] > 0).all() and (kept[2] == 60).all()
        samples = np.load(folder / "samples" / f"{name}.npz")
        assert samples["generated"].shape == (40, 1, 8, 8) and np.isfinite(samples["generated"]).all()
    for name, encoder in encoders.items():
        equal = report["spaces"][name]["curve_equal_snr"]["tau"]
        z = encoder.latents(train)
        ratio = float(z.var(dim=0, correction=0).sum() / train.flatten(1).var(dim=0, correction=0).sum())
        np.testing.assert_allclose(equal, ratio * np.array(report["tau"]), rtol=1e-5)
    if available():
        names = {path.name for path in (folder / "figures").iterdir()}
        assert names == {f"{n}.{k}" for n in ("curves", "deviations", "penalties", "samples") for k in ("png", "pdf")}


def test_doubts_are_told(finished):
    """Sixty steps make no good denoiser, and the report says so; of the data alone it says nothing."""
    report = finished[1]
    text = table(report)
    assert "data: the denoiser is worse than the best linear one" in text
    assert all(not space["empirical"]["warnings"] for space in report["spaces"].values())


def test_cells_that_are_doubted_are_marked(finished):
    """Of a report that doubts the data at tau = 1 and the latents of "half", at equal SNR, at another."""
    report = copy.deepcopy(finished[1])
    shown = [report["tau"][np.abs(np.log(np.array(report["tau"]) / tau)).argmin()] for tau in (0.01, 1.0, 100.0)]
    snr = dict(zip(report["tau"], report["spaces"]["half"]["curve_equal_snr"]["tau"], strict=True))
    for space in report["spaces"].values():
        for key in ("warnings", "laws", "warnings_equal_snr", "laws_equal_snr"):
            space[key] = []
    report["spaces"]["data"]["laws"] = [{"sentence": "FIR < FI^2 / D", "tau": [5e3, shown[1]]}]
    report["spaces"]["half"]["warnings_equal_snr"] = [{"sentence": "far beyond", "tau": [snr[shown[2]]]}]
    lines = table(report).splitlines()
    rows, pairing = {}, None
    for line in lines:
        if line.startswith("Signed deviations at"):
            pairing = line.split(";")[0]
        elif pairing and "tau = " in line[:38] and "+-" in line:
            rows.setdefault((pairing, line[24:38].strip()), []).append(line[38:].count("?"))
    for (pairing, tau), marks in rows.items():
        expected = 2 if tau == f"tau = {shown[1]:.3g}" else 1 if "SNR" in pairing and f"{shown[2]:.3g}" in tau else 0
        assert set(marks) == {expected}, (pairing, tau)
    report["spaces"]["half"]["laws"] = [{"sentence": "of every tau", "tau": None}]
    assert table(report).count(" ?") > sum(map(sum, rows.values()))
    assert len(rows) == 6 and "  half at equal SNR: far beyond" in lines


def test_columns_stay_apart(finished):
    report = copy.deepcopy(finished[1])
    for name in ("whole", "half"):
        report["spaces"][name]["penalties"]["anisotropy"] |= {"mean": 0.000902, "sem": 0.00013}
    (line,) = (line for line in table(report).splitlines() if line.startswith("  anisotropy"))
    assert "0.000902 +- 0.00013  0.000902 +- 0.00013" in line


def test_a_wrong_scale_is_refused_before_anything_is_trained(images, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("nothing is trained")

    monkeypatch.setattr(spaces, "train_denoiser", never)
    wrong = Linear(images[0], 4)
    wrong.normalisation = wrong.normalisation._replace(scale=5 * wrong.normalisation.scale)
    with pytest.raises(ValueError, match="encoder 'wrong' must have normalised latents of root mean square near 1"):
        assess(*images, {"wrong": wrong}, tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_a_narrower_range_is_said(images, tmp_path):
    report = assess(*images, {}, tmp_path, **SMALL | {"tau_range": (0.01, 100.0), "mlp_steps": 2})
    assert "sqrt(tau) runs from 0.1 to 10; the paper's curves from .01 to 80" in table(report)


def test_it_goes_on_where_it_was(finished, images, encoders, tmp_path, monkeypatch):
    """Stopped wherever a denoiser is trained, curves are measured or samples made; the end is the same."""
    for name in ("denoiser", "curve", "generated"):
        method = getattr(Space, name)

        def stopping(self, *arguments, method=method):
            if self.numbers == 20:  # of "half", the last
                raise KeyboardInterrupt
            return method(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Space, name, stopping)
            with pytest.raises(KeyboardInterrupt):
                assess(*images, encoders, tmp_path, **SMALL)
        assert not (tmp_path / "report.json").exists()
    assert assess(*images, encoders, tmp_path, **SMALL) == finished[1]
    (tmp_path / "samples" / "half.npz").write_bytes(b"half of it")
    (tmp_path / "curves" / "half.json").write_text("{")
    assert assess(*images, encoders, tmp_path, **SMALL) == finished[1]

    def never(*_, **__):
        raise AssertionError("a run that is done trains nothing")

    monkeypatch.setattr(spaces, "train_denoiser", never)
    assert assess(*images, encoders, tmp_path, **SMALL) == finished[1]
    for damage in (lambda: (tmp_path / "report.json").write_bytes(b"\xff"), lambda: (tmp_path / "table.txt").unlink()):
        damage()
        assert assess(*images, encoders, tmp_path, **SMALL) == finished[1]
        assert (tmp_path / "report.json").read_bytes() == (finished[0] / "report.json").read_bytes()
        assert (tmp_path / "table.txt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "with seed 0, not 1. Choose another"),
        ({"mlp_steps": 61}, "with preset.mlp_steps 60, not 61"),
        ({"train": "fewer"}, "with data.train [0-9a-f]+..., not [0-9a-f]+"),
        ({"encoders": "one"}, "with encoders.half .*, not none"),
        ({"encoders": "other"}, "with encoders.half.d 20, not 21"),
    ],
)
def test_another_run_is_refused(finished, images, encoders, change, message):
    given = {"train": images[0], "held_out": images[1], "encoders": encoders, "out": finished[0]} | SMALL
    others = {"one": {"whole": encoders["whole"]}, "other": encoders | {"half": Linear(images[0], 21)}}
    values = {"fewer": images[0][1:]} | others
    with pytest.raises(ValueError, match=f"out must be a new folder or that of the same run, got .* {message}"):
        assess(**given | {key: values.get(value, value) for key, value in change.items()})


def test_refusals(images, encoders, tmp_path):
    x, held = images
    half = encoders["half"]

    def refused(message, train=x, held_out=held, encoders=None, error=ValueError, out=tmp_path / "new", **options):
        with pytest.raises(error, match=message):
            assess(train, held_out, {"half": half} if encoders is None else encoders, out, **options)

    refused("preset must be one of quick, full", preset="large")
    refused("changes must be one of num_tau", steps=3)
    refused("num_tau must be >= 2", num_tau=1)
    refused("tau_range must be two ascending positive numbers", tau_range=(1.0, 0.1))
    refused("seed must be", seed=-1)
    refused(r"held_out must be images of train's shape \(1, 8, 8\)", held_out=held[..., :4, :4])
    refused("encoders must have names of letters", encoders={"data": half})
    refused("encoders must have names of letters", encoders={"a/b": half})
    refused(
        "'f' must be like hessfast's Autoencoder, got one without shape", encoders={"f": lambda x: x}, error=TypeError
    )
    refused(r"'half' must be one of images of shape \(1, 4, 4\), got \(1, 8, 8\)", x[..., :4, :4], held[..., :4, :4])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    refused("out must be a new folder or that of a run", out=tmp_path / "other")
    broken = Linear(x, 4)
    broken.centre = broken.centre * torch.nan
    refused("'nan' must map .* to finite", encoders={"nan": broken}, out=tmp_path / "nan", **SMALL | {"mlp_steps": 1})
    wrong = Linear(x, 4)
    wrong.normalisation = wrong.normalisation._replace(scale=5 * wrong.normalisation.scale)
    sentence = f"near 1, got 5 .* Correct its scale to {wrong.normalisation.scale / 5:.3}"
    refused(sentence, encoders={"wrong": wrong}, out=tmp_path / "wrong", **SMALL | {"mlp_steps": 1})
    assert isinstance(half, ImageEncoder)


def test_laws_hold_for_what_is_true_and_break_for_what_is_not():
    """N(0, diag(lam)), whose curves are known; and a denoiser that shrinks twice, of no distribution."""
    lam = torch.tensor([3.0, 1.0, 0.1])
    x = torch.randn((4000, 3), generator=torch.Generator().manual_seed(0)) * lam.sqrt()
    tau, variance = np.geomspace(1e-3, 100, 16), float(x.square().sum(dim=1).mean())
    true = fisher_curve(from_denoiser(lambda y, t: y * (lam / (lam + t))), x, tau)
    assert true.fisher_information.mean[3] == pytest.approx(gaussian_curves(lam, tau[3]).fisher_information, rel=1e-5)
    assert broken_laws(true, variance) == [] and disagreements(true, true) == []
    twice = fisher_curve(from_denoiser(lambda y, t: y * (lam / (lam + t)) ** 2), x, tau)
    broken = " ".join(map(str, broken_laws(twice, variance)))
    assert "FI does not fall by the integral of FIR at tau = " in broken
    assert "MMSE' is not what the data alone say at tau" in " ".join(map(str, disagreements(twice, true)))
    wide = fisher_curve(from_denoiser(lambda y, t: y * 1.5), x, tau)
    broken = " ".join(map(str, broken_laws(wide, variance)))
    assert "MMSE > the variance" in broken
    reflected = fisher_curve(from_denoiser(lambda y, t: -y), x, tau)
    assert "tau FI > D at tau" in " ".join(map(str, broken_laws(reflected, variance)))


def test_each_law_is_told_apart():
    """N(0, 1), for which R = I^2 / D, without errors; and one number of it changed at a time."""
    tau = np.array([1.0, 1.1])
    true = {"fisher_information": 1 / (1 + tau), "fisher_information_rate": 1 / (1 + tau) ** 2, "mmse": tau / (1 + tau)}

    def broken(dim=1, tau=tau, sem=0.0, **changes):
        rest = dict.fromkeys(("fisher_information_plug_in", "fisher_information_dsm", "mmse_rate"), tau)
        rows = {name: Estimate(mean, 0 * tau, np.full(2, 10**6)) for name, mean in (rest | true | changes).items()}
        rows["fisher_information"] = rows["fisher_information"]._replace(sem=np.full(2, sem))
        return [*map(str, broken_laws(FisherCurve(tau, dim, **rows, warnings=()), 1.0))]

    fall = "FI does not fall by the integral of FIR at tau = 1.1"
    assert broken() == []
    assert broken(fisher_information=np.array([0.47, 0.476])) == ["FI does not fall at tau = 1.1", fall]
    assert broken(fisher_information_rate=0.97 / (1 + tau) ** 2) == ["FIR < FI^2 / D at tau = 1, 1.1"]
    assert broken(fisher_information_rate=0.97 / (1 + tau) ** 2, sem=0.003) == []
    assert broken(mmse=np.array([0.5, 0.4])) == ["the MMSE does not grow at tau = 1.1"]
    # Of a point tau I = D, to rounding.
    assert broken(fisher_information=(1 + 2e-7) / tau, fisher_information_rate=1 / tau**2) == []
    # The variance is that of as many samples: it, too, has an error.
    assert broken(mmse=np.array([1.0, 1 + 3e-6])) == []
    assert broken(mmse=np.array([1.0, 1 + 5e-6])) == ["MMSE > the variance at tau = 1.1"]
    # R = 1 / tau, whose integral is a logarithm.
    slow = {"dim": 100, "fisher_information_rate": 1 / tau}
    assert broken(fisher_information=3 - np.log(tau), **slow) == []
    assert broken(fisher_information=3 - 0 * tau, **slow) == [fall]
    # Two decades apart no power law tells the integral.
    assert fall not in broken(tau=np.array([1.0, 101.0]), fisher_information=np.array([0.5, 0.4]))


def test_curves_outlive_json(finished):
    kept = finished[1]["spaces"]["half"]["curve"]
    assert FisherCurve.from_dict(kept).to_dict() == kept
    doubts = Doubt("at one", (0.5,)), Doubt("at all")
    assert [Doubt.from_dict(json.loads(json.dumps(each.to_dict()))) for each in doubts] == [*doubts]
    assert all(json.loads(json.dumps(each.to_dict())) == each.to_dict() for each in doubts)
    old = kept | {"warnings": ["a sentence alone, as runs kept it at first"]}
    assert [*map(str, FisherCurve.from_dict(old).warnings)] == old["warnings"]


def test_large_images_and_long_latents_go_to_a_u_net():
    """Of 20 x 20 pixels; and of 64 numbers laid out to and fro, whose samples come back in their order."""
    preset = replace(PRESETS["full"], unet_width=8, unet_steps=2, num_generated=5, num_samples=8)
    generator = torch.Generator().manual_seed(0)
    picture = Space(*torch.randn((2, 12, 1, 20, 20), generator=generator), preset, 0)
    assert picture.train.shape == (12, 1, 20, 20)
    spread = torch.arange(1.0, 65.0)
    vectors = Space(*torch.randn((2, 12, 64), generator=generator) * 1e-3 + spread, preset, 0)
    assert vectors.train.shape == (12, 1, 8, 8)
    for space in (picture, vectors):
        denoiser = space.denoiser((1e-4, 100.0), None, False)
        curve = space.curve(denoiser, np.array([0.1, 1.0]))
        assert curve.dim == space.numbers and (curve.mmse.num_samples == 8).all()
        assert space.generated(denoiser).shape == (5, *space.shape)
    made = vectors.generated(vectors.denoiser((1e-4, 100.0), None, False))
    torch.testing.assert_close(made.mean(dim=0), spread, atol=0.5, rtol=0)
    assert Space(*torch.randn((2, 12, 64), generator=generator), PRESETS["quick"], 0).train.shape == (12, 64)


def test_the_report_measures_what_it_says(finished, images, encoders):
    """Again from the samples that are kept, and from an encoder that is known."""
    folder, report = finished
    train, held = images
    kept = {name: np.load(folder / "samples" / f"{name}.npz") for name in report["spaces"]}
    made, again = (torch.as_tensor(kept["half"][part]) for part in ("generated", "reconstructed"))
    pairs = {
        ("data", "energy_distance"): (torch.as_tensor(kept["data"]["generated"]), held),
        ("data", "energy_distance_of_training_images"): (train[:100], held),
        ("half", "energy_distance"): (made, held),
        ("half", "energy_distance_to_reconstructions"): (made, again),
        ("half", "energy_distance_of_reconstructions"): (again[0::2], held[1::2]),
    }
    for (name, key), pair in pairs.items():
        assert report["spaces"][name]["quality"][key] == pytest.approx(energy_distance(*pair), rel=1e-6), key
    half = encoders["half"]
    errors = (half.decode(half.encode(held)) - held).square().flatten(1).mean(dim=1)
    sem = report["spaces"]["half"]["reconstruction"]["sem"]
    assert sem == pytest.approx(float(errors.std()) / 10, rel=1e-4)
    m = report["intrinsic_dimension"]["value"]
    assert m == round(report["intrinsic_dimension"]["mean"]) == round(intrinsic_dimension(train).mean)
    found, expected = report["spaces"]["half"]["penalties"]["anisotropy"], encoder_penalties(half.encode, held, m)
    assert (found["mean"], found["num_samples"]) == (pytest.approx(expected.anisotropy.mean), 100)


def test_curves_are_doubted_by_the_variance_of_their_space_and_by_the_data_alone(finished, images, monkeypatch):
    train, held = images
    preset = replace(PRESETS["quick"], **SMALL)
    run = measure.Run(Steps(finished[0]), np.array(finished[1]["tau"]), train, held, preset, 0, False)
    monkeypatch.setattr(measure, "broken_laws", lambda curve, variance: [Doubt(f"variance {variance:.4f}")])
    monkeypatch.setattr(measure, "disagreements", lambda curve, alone: [Doubt(f"{curve.dim} and {alone.dim}")])
    kept = [torch.as_tensor(np.load(finished[0] / "latents" / "half.npz")[part]) for part in ("train", "held_out")]
    entry = run._curves("half", run._diffused("half", Space(*kept, preset, 0), 2.0), 2.0)
    z, z_held = kept[0], kept[1][:60]
    variance = float((z_held - z.mean(dim=0)).double().square().sum(dim=1).mean())
    for suffix in ("", "_equal_snr"):
        assert entry[f"laws{suffix}"] == [{"sentence": f"variance {variance:.4f}", "tau": None}]
        assert {"sentence": "20 and 20", "tau": None} in entry[f"warnings{suffix}"]


@pytest.mark.parametrize(("scale", "ends"), [(1.0, (0.1, 10.0)), (3.0, (0.1, 90.0)), (0.5, (0.025, 10.0))])
def test_denoisers_are_trained_for_equal_noise_and_for_equal_snr(images, tmp_path, scale, ends):
    run = measure.Run(Steps(tmp_path), np.array([0.1, 1.0, 10.0]), *images, PRESETS["quick"], 0, False)
    assert run._diffused("half", run._data_space, scale).tau_range == pytest.approx(ends)


def test_latents_of_another_encoder_are_not_taken(finished, images, encoders):
    """Of the same name and provenance."""
    run = measure.Run(Steps(finished[0]), np.ones(2), *images, PRESETS["quick"], 0, False)
    assert run._latents("half", encoders["half"])[0].shape == (300, 20)
    other = copy.copy(encoders["half"])
    other.U = -other.U
    with pytest.raises(ValueError, match="encoder 'half' must be the one whose latents are in"):
        run._latents("half", other)


def test_deviations_are_at_the_greatest_tau_that_both_have(finished):
    data, half = (finished[1]["spaces"][name]["curve"] for name in ("data", "half"))
    whole = measure._deviations(data, half, 1.0, 5)
    fewer = measure._deviations(FisherCurve.from_dict(data).last(4).to_dict(), half, 1.0, 5)
    for form, deviation in whole.items():
        assert fewer[form]["mean"] == deviation["mean"][-4:], form
    assert whole["normal-dimension"] is not None
    assert measure._deviations(data, half, 1.0, 20)["normal-dimension"] is None


def test_penalties_of_few_images_are_of_their_neighbours_and_of_the_seed(images, encoders):
    """Six images have five neighbours, and span four dimensions with the errors of a fit."""
    held, half = images[1], encoders["half"]
    assert measure._penalties(half, held[:6], 30, 0)["compression"] == pytest.approx((64 - 20) / (64 - 4))
    first, again, other = (measure._penalties(half, held, 5, seed)["bending"]["mean"] for seed in (5, 5, 6))
    assert first == again == encoder_penalties(half.encode, held, 5, seed=5).bending.mean != other


def test_the_variance_of_a_space_is_about_the_mean_of_what_is_learned():
    train, apart = torch.tensor([[0.0, 2.0], [2.0, 4.0]]), torch.tensor([[3.0, 4.0], [-3.0, -4.0], [0.0, 5.0]])
    space = Space(train, torch.tensor([1.0, 3.0]) + apart, PRESETS["quick"], 0)
    assert space.variance == pytest.approx(25)


def test_a_surface_has_fewer_dimensions_than_its_space():
    """Samples that fill the plane are of as many dimensions as it, which no surface in it has."""
    x = torch.randn((2, 300, 2), generator=torch.Generator().manual_seed(0))
    found = Space(*x, PRESETS["quick"], 0).intrinsic_dimension()
    assert round(found["mean"]) == 2 and found["value"] == 1


def test_a_space_spends_what_its_preset_says_and_draws_from_its_seed(monkeypatch):
    preset = replace(PRESETS["quick"], mlp_steps=11, unet_steps=12, num_probes=3, mlp_width=5, unet_width=10)
    monkeypatch.setattr(spaces, "train_denoiser", lambda x, network, **settings: (network, settings))
    monkeypatch.setattr(spaces, "fisher_curve", lambda denoiser, x, tau, *given, **_: given)
    monkeypatch.setattr(
        spaces, "generate", lambda denoiser, num, shape, **given: torch.full((2, *shape), given["seed"])
    )
    for shape, steps, width in (((9,), 11, 5), ((1, 20, 20), 12, 10)):
        x = torch.randn((2, 12, *shape), generator=torch.Generator().manual_seed(0))
        one, again, other = (Space(*x, preset, seed) for seed in (7, 7, 8))
        (network, settings), (same, _), (different, _) = (
            s.denoiser((1.0, 2.0), None, False) for s in (one, again, other)
        )
        assert (settings["num_steps"], settings["seed"], settings["tau_range"]) == (steps, 7, (1.0, 2.0))
        assert network.settings["width"] == width
        weights = [torch.cat([w.flatten() for w in each.parameters()]) for each in (network, same, different)]
        assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
        assert one.curve(None, np.ones(1)) == (3, 7)  # type: ignore[arg-type]
        assert (one.generated(None) == 7).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(("side", "levels"), [(20, 3), (18, 2), (19, 1)])
def test_a_u_net_halves_the_sides_that_can_be_halved(monkeypatch, side, levels):
    asked = []
    monkeypatch.setattr(spaces, "UNet", lambda channels, width, levels: asked.append(levels))
    monkeypatch.setattr(spaces, "train_denoiser", lambda *_, **__: None)
    Space(*torch.zeros((2, 3, 1, side, side)), PRESETS["quick"], 0).denoiser((1.0, 2.0), None, False)
    assert asked == [levels]


@pytest.mark.parametrize(("side", "as_image"), [(16, False), (17, True)])
def test_small_images_go_to_a_perceptron(side, as_image):
    assert Space(*torch.zeros((2, 3, 1, side, side)), PRESETS["quick"], 0).as_image == as_image


# ----------------------------------------------------------------------------------------------------------- command


@pytest.fixture
def run(monkeypatch):
    """The command, with a preset of seconds."""
    monkeypatch.setitem(PRESETS, "quick", replace(PRESETS["quick"], **SMALL | {"mlp_steps": 5}))
    monkeypatch.setitem(command._ENCODERS, "quick", SIZES)

    def run(*arguments):
        result = CliRunner().invoke(cli.app, ["diffusability", *map(str, arguments)])
        return result.exit_code, result.output

    return run


def test_the_command(run, tmp_path):
    out = tmp_path / "run"
    code, text = run("--out", out, "--latent-dim", 5)
    assert code == 0, text
    assert (out / "table.txt").read_text() in text and f"In {out}: report.json, table.txt" in text
    assert "gpe: encoder of 1,437 images\n" in text and "vae: denoiser, curves and samples\n" in text  # for logs
    report = json.loads((out / "report.json").read_text())
    assert report["encoders"] == ["gpe", "vae"] and report["spaces"]["vae"]["latent_shape"] == [5]
    assert report["settings"]["encoders"]["gpe"]["method"] == "gpe"
    assert report["num_train"] == 1437
    before = (out / "report.json").read_bytes()
    assert run("--out", out, "--latent-dim", 5)[0] == 0
    assert (out / "report.json").read_bytes() == before
    code, text = run("--out", out, "--latent-dim", 5, "--seed", 1)
    assert code == 2 and "hessfast: out must be" in text and "with seed 0, not 1. Choose another." in text
    # An encoder that was trained is a file, for other runs.
    shutil.copy(out / "encoders" / "gpe.safetensors", tmp_path / "mine.safetensors")
    code, text = run("--out", tmp_path / "again", "--encoder", tmp_path / "mine.safetensors")
    again = json.loads((tmp_path / "again" / "report.json").read_text())["spaces"]
    assert code == 0 and again["mine"]["penalties"] == report["spaces"]["gpe"]["penalties"]


def test_the_command_reads_folders(run, tmp_path):
    Image, folder = pytest.importorskip("PIL.Image"), tmp_path / "images"
    folder.mkdir()
    for k, image in enumerate(digits()[0][:60, 0]):
        Image.fromarray(((image.numpy() + 1) * 127.5).astype(np.uint8)).resize((12, 12)).save(folder / f"{k}.png")
    code, text = run("--data", folder, "--side", 9, "--encoder", "vae", "--latent-dim", 3, "--out", tmp_path / "run")
    assert code == 0, text
    assert "Images of 1 x 9 x 9: 48 to learn from, 12 held out" in text
    (folder / "5.png").write_bytes(b"")
    code, text = run("--data", folder, "--out", tmp_path / "other")
    assert code == 2 and "got '5.png', damaged" in text and not (tmp_path / "other").exists()


def test_the_command_stops_in_a_sentence(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Space, "denoiser", interrupted)
    code, text = run("--out", tmp_path / "run", "--encoder", "vae", "--latent-dim", 3)
    assert (
        code == 130 and f"Interrupted; what is done stays in {tmp_path / 'run'}. Go on with the same command." in text
    )
    assert {path.name for path in (tmp_path / "run" / "encoders").iterdir()} == {"vae.training", "vae.safetensors"}


def test_the_command_looks_at_given_encoders_before_it_trains_others(run, tmp_path, monkeypatch):
    vae = train_vae(digits()[0][:40], 2, **SIZES)
    scaled = replace(vae, normalisation=vae.normalisation._replace(scale=9 * vae.normalisation.scale))
    scaled.save(tmp_path / "mine.safetensors")
    monkeypatch.setattr(command, "_trained", None)
    code, text = run("--encoder", "gpe", "--encoder", tmp_path / "mine.safetensors", "--out", tmp_path / "run")
    assert code == 2 and "encoder 'mine' must have normalised latents" in text and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--encoder none", "encoder must be gpe or vae, a file or a folder, got 'none'."),
        ("--encoder gpe --encoder gpe", "encoder must name each encoder once, got gpe, gpe. Rename a file."),
        ("--side 8", "side must be left out for the digits, which are 8 pixels wide, got 8."),
        ("--preset large", "preset must be one of quick, full, got 'large'."),
        ("--data none", "folder must be a folder of images, got 'none'."),
        ("--latent-dim 0", "latent_dim must be >= 1 and <= 64, got 0."),
    ],
)
def test_the_command_refuses(run, tmp_path, arguments, sentence):
    code, text = run(*arguments.split(), "--out", tmp_path / "run")
    assert code == 2 and f"hessfast: {sentence}" in text
