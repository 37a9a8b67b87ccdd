"""The reproduction of the paper on latent diffusability: exact lines, the family of encoders, the correlations."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from hessfast.diffusability import Estimate, FisherCurve, encoder_penalties, gaussian_curves
from hessfast.reproduce.diffusability import family, run, study, table, toys

images = torch.tanh(
    torch.randn(300, 64, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.logspace(0, -1, 64))
)
images = images.reshape(-1, 1, 8, 8)


@pytest.mark.parametrize(("delta", "tau"), [(0.3, 0.1), (0.3, 1.0), (0.6, 0.01)])
def test_figure_3a(delta, tau):
    data, latent = (toys.stretched(d).exact(tau).fisher_information_rate for d in (0.0, delta))
    assert latent / data - 1 == pytest.approx(toys.closed_form_3a(delta, tau), rel=1e-12)
    assert (latent / data - 1 < toys.reference_3a(delta)) == (delta < 0.339)


def test_figure_3b():
    data, latent = (toys.padded(d).exact(0.1).fisher_information_rate for d in (512, 200))
    assert 1 - latent / data == pytest.approx(toys.closed_form_3b(200, 0.1), rel=1e-12)
    assert 1 - latent / data == pytest.approx(toys.reference_3b(200), rel=1e-4)
    assert toys.padded(512).exact(0.1).mmse_rate == pytest.approx(toys.padded(2).exact(0.1).mmse_rate)


def test_figure_3c_changes_its_sign():
    """Values of an independent quadrature; at small noise FIR hardly sees curvature, MMSE' does."""

    def signed(epsilon: float, tau: float, name: str) -> float:
        return getattr(toys.bent(epsilon).exact(tau), name) / getattr(toys.bent(0.0).exact(tau), name) - 1

    assert signed(0.5, 0.1, "fisher_information_rate") == pytest.approx(-3.0e-3, abs=5e-5)
    assert signed(1.0, 0.1, "fisher_information_rate") == pytest.approx(-3.3e-3, abs=5e-5)
    assert signed(1.5, 0.1, "fisher_information_rate") == pytest.approx(-0.144, abs=5e-4)
    assert signed(1.0, 0.01, "fisher_information_rate") == pytest.approx(-4.0e-5, abs=5e-7)
    assert signed(1.0, 0.01, "mmse_rate") == pytest.approx(5.6e-3, abs=5e-5)


def test_toys_draw_what_their_curves_are_of():
    y = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))
    for toy in (toys.pointwise("tanh"), toys.stretched(0.3), toys.padded(4), toys.bent(1.0)):
        x = toy.encode(y).double()
        assert x.shape == (200_000, toy.dim)
        # MMSE tends to the variance, and tau FI to the dimension
        late = toy.exact(1e4)
        assert late.mmse == pytest.approx(float(x.var(dim=0).sum()), rel=0.02)
        assert 1e4 * late.fisher_information == pytest.approx(toy.dim, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in family.NAMES if name not in family.TRAINED])
def test_maps_of_principal_axes_reconstruct_alike(name, tmp_path):
    plain = family.encoder("pca, power 1", images, 6, 0, 1, tmp_path / "none")
    made = family.encoder(name, images, 6, 0, 1, tmp_path / "none")
    again = made.decode(made.encode(images))
    assert again.shape == images.shape
    if name == "random axes":
        assert (again - images).square().mean() > (plain.decode(plain.encode(images)) - images).square().mean()
    else:
        assert torch.allclose(again, plain.decode(plain.encode(images)), atol=1e-4)


def test_coordinates_are_as_wide_as_their_powers_say(tmp_path):
    x = torch.randn(500, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 10).reshape(1, 3, 3)
    spread = torch.linalg.svdvals(x.flatten(1) - x.flatten(1).mean(dim=0))[:4] / 499**0.5
    for power in (0, 1, 2):
        made = family.encoder(f"pca, power {power}", x, 4, 0, 1, tmp_path)
        torch.testing.assert_close(made.encode(x).std(dim=0), spread**power, rtol=1e-4, atol=0)


def test_random_axes_are_decoded_by_least_squares(tmp_path):
    x = torch.randn(500, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 10).reshape(1, 3, 3)
    made = family.encoder("random axes", x, 4, 0, 1, tmp_path)
    design = torch.cat([torch.ones(500, 1), made.encode(x)], dim=1)
    best = design @ torch.linalg.lstsq(design, x.flatten(1)).solution
    torch.testing.assert_close(made.decode(made.encode(x)).flatten(1), best, rtol=1e-3, atol=1e-3)


def test_the_family_is_bent_and_stretched_as_its_names_say(tmp_path):
    plain = family.encoder("pca, power 1", images, 4, 0, 1, tmp_path / "none")
    flat = plain.decode(plain.encode(images))  # in the four axes, where the plain encoder is an isometry
    found = {
        name: encoder_penalties(family.encoder(name, images, 4, 0, 1, tmp_path / "none").encode, flat, 2)
        for name in ("pca, power 1", "pca, power 0", "pca, sheared")
    }
    assert found["pca, power 1"].tangential_distortion.mean < 1e-4 < 0.05 < found["pca, power 0"].anisotropy.mean
    assert found["pca, power 0"].bending.mean < 0.02 < 0.2 < found["pca, sheared"].bending.mean


def records(signal, quality, error=None, seeds=1) -> list[dict]:
    """Of encoders in two latent dimensions, as `study.encoder_record` writes them."""
    made = []
    for seed in range(seeds):
        for d in range(len(quality)):
            for k, q in enumerate(quality[d]):
                made.append({
                    "encoder": str(k), "latent_dim": d, "seed": seed,
                    "decoder_error": float(k if error is None else error[d][k]),
                    "penalties": dict.fromkeys(study._PENALTIES, 0.0),
                    "budgets": [{"steps": 1, study.QUALITY: q, "diagnostics": {"planted": signal[d][k]}}],
                })  # fmt: skip
    return made


def test_correlations_find_what_was_planted_and_nothing_else():
    rng = np.random.default_rng(1)
    quality = rng.normal(size=(2, 14))
    result = study.correlations(records(-np.exp(quality), quality), 0, 2000)
    row = result["diagnostics"]["planted"]
    assert row["within"] == pytest.approx([-1, -1]) and row["p_any"] < 0.005
    chance = study.correlations(records(rng.normal(size=(2, 14)), quality), 0, 2000)["diagnostics"]["planted"]
    assert abs(chance["mean"]) < 0.5 and chance["p"] > 0.01
    assert 0.3 < result["chance"]["one"] < 0.5  # 1.96 / sqrt(2 * 13) = .38


def test_the_decoder_explains_what_it_can():
    quality = np.random.default_rng(2).normal(size=(2, 14))
    row = study.correlations(records(2 * quality, quality, quality), 0, 500)["diagnostics"]["planted"]
    assert row["mean"] == pytest.approx(1) and row["partial"] == 0
    for num in range(5, 30):  # whatever is left by rounding
        order = np.random.default_rng(num).permutation(num)
        signals, quality, error = (study._ranks(sign * order) for sign in (1, 1, -1))
        assert study._partial(signals[None], quality, error).tolist() == [0]


def test_p_values_count_the_order_that_was_found_and_those_as_extreme():
    quality = np.arange(28.0).reshape(2, 14)
    row = study.correlations(records(quality, quality), 0, 1000)["diagnostics"]["planted"]
    assert row["p"] == row["p_any"] == pytest.approx(1 / 1001)
    row = study.correlations(records(quality[:, :3], quality[:, :3]), 0, 1000)["diagnostics"]["planted"]
    assert row["p"] == pytest.approx(1 / 3, abs=0.05)  # of six orders two


def test_the_decoder_is_no_candidate_for_the_best():
    rng = np.random.default_rng(5)
    rows = study.correlations(records(*np.abs(rng.normal(size=(3, 2, 14)))), 0, 500)["diagnostics"]
    assert rows["planted"]["p_any"] == rows["planted"]["p"] > 0.01 and study.CONTROL in rows
    assert "|planted|" not in rows  # it ranks as the signed one does


def test_absolute_values_are_those_of_the_mean_over_seeds():
    two = [r | {"seed": s} for s, x in enumerate((1.0, -3.0)) for r in records([[x, -x]], [[0.0, 1.0]])]
    found = study._averaged(two, 0)["diagnostics"]
    assert found["planted"].tolist() == [-1, 1] and found["|planted|"].tolist() == [1, 1]


def test_p_values_are_uniform_without_a_relation():
    """Even where encoders are what they are in every dimension, on either side."""
    rng = np.random.default_rng(3)

    def draw() -> np.ndarray:
        return rng.normal(size=8) + 0.3 * rng.normal(size=(3, 8))

    p = [study.correlations(records(draw(), draw()), 0, 200)["diagnostics"]["planted"]["p"] for _ in range(100)]
    assert 0.35 < np.mean(p) < 0.65 and np.mean(np.array(p) < 0.1) < 0.2


def test_seeds_are_averaged_and_the_best_of_many_has_more_chance():
    rng = np.random.default_rng(4)
    quality, signal = rng.normal(size=(2, 2, 14)), rng.normal(size=(2, 2, 14))
    two = [r | {"seed": s} for s in range(2) for r in records(signal[s], quality[s])]
    whole = study.correlations(two, 0, 500)
    mean = study.correlations(records(signal.mean(axis=0), quality.mean(axis=0)), 0, 500)
    assert whole["diagnostics"]["planted"]["within"] == pytest.approx(mean["diagnostics"]["planted"]["within"])
    assert whole["seeds_agree"][0] == pytest.approx(float(study._ranks(quality[0, 0]) @ study._ranks(quality[1, 0])))
    for record in two:  # more diagnostics, so that there is a best one
        values = record["budgets"][0]["diagnostics"]
        values |= {f"other {k}": float(np.sin((k + 37) * values["planted"])) for k in range(4)}
    rows = study.correlations(two, 0, 500)["diagnostics"]
    rows.pop(study.CONTROL)
    assert all(row["p_any"] >= row["p"] for row in rows.values())
    assert any(row["p_any"] > row["p"] + 0.05 for row in rows.values())


def test_diagnostics_are_zero_for_a_latent_that_is_a_larger_copy():
    """Normal data, and c times them at c^2 tau, in closed form."""
    c, variances = 3.0, np.array([2.0, 0.5, 0.1])

    def curve(eigenvalues: np.ndarray, levels: np.ndarray) -> FisherCurve:
        exact = [gaussian_curves(eigenvalues, t) for t in levels]
        rows = {name: np.array([getattr(e, name) for e in exact]) for name in exact[0]._fields}
        made = {name: Estimate(mean, 0 * mean, np.full(len(mean), 9)) for name, mean in rows.items()}
        same = {f"fisher_information_{kind}": made["fisher_information"] for kind in ("plug_in", "dsm")}
        return FisherCurve(np.asarray(levels), len(eigenvalues), **made, **same, warnings=())

    levels, larger = np.array(study.TAU), c**2 * variances
    found = study.diagnostics(curve(variances, levels), curve(larger, levels), curve(larger, c**2 * levels), c)
    for name, value in found.items():
        if "equal ratio" in name:
            assert value == pytest.approx(0, abs=1e-12), name
        else:
            assert abs(value) > 0.01, name
    same = curve(variances, levels)
    below = dataclasses.replace(same, fisher_information_rate=same.fisher_information_rate._replace(mean=-levels))
    assert np.isfinite(list(study.diagnostics(same, below, below, 1.0).values())).all()  # noise may leave it below zero


TINY = {
    "toy_steps": 8, "points": {"3a": (0.0, 0.3)}, "latent_dims": (4,), "budget": study.Budget((5,), 5, 3),
    "encoder_steps": 3,
    "assessment": ("quick", {"num_tau": 4, "mlp_steps": 8, "num_samples": 64, "num_generated": 32}),
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("run")
    return folder, run("quick", folder, workers=1, progress=False, **TINY)


def test_run_goes_on_and_does_nothing_twice(done):
    folder, report = done
    files = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.json") if path.name != "summary.json"}
    assert len(files) > len(family.NAMES)
    removed = {folder / "family" / f"{k:02d}-d4-seed0.json": "" for k in (3, 12)}
    for path in removed:
        removed[path] = path.read_text()
        path.unlink()
    assert run("quick", folder, workers=2, progress=False, **TINY) == json.loads(json.dumps(report))
    assert all(path.read_text() == before for path, before in removed.items())
    assert all(path.stat().st_mtime_ns == then for path, then in files.items() if path not in removed)


def test_report(done):
    folder, report = done
    text = table(report)
    rows = report["parts"]["family"]["budgets"][0]["diagnostics"]
    best = min(row["p_any"] for name, row in rows.items() if name != study.CONTROL)
    assert ("null result" in text) == (best >= 0.05)
    assert max(report["parts"]["toys"]["closed_forms"]["3a"], 0) < 1e-12
    for name in ("figures/3.png", "figures/family.png", "table.txt", "report.json"):
        assert (folder / name).stat().st_size > 0
    kept = report["parts"]["digits"]["spaces"]["gpe"]["curve"]
    assert FisherCurve.from_dict(kept).to_dict() == kept


def test_another_run_and_wrong_names_are_refused(done):
    folder, _ = done
    with pytest.raises(ValueError, match="out must be a new folder or that of the same run"):
        run("quick", folder, seed=1, progress=False, **TINY)
    with pytest.raises(ValueError, match="preset must be one of quick, full"):
        run("slow", folder)
    with pytest.raises(ValueError, match="parts must be one of toys, digits, family"):
        run("quick", folder, parts=["toy"])
    with pytest.raises(TypeError, match="parts must be a list"):
        run("quick", folder, parts="toys")
