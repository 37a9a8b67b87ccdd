"""The reproduction: its truth, its report, that it goes on where it was, and what it refuses."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hessfast import cli, datasets, reproduce, shards
from hessfast._steps import Steps
from hessfast.log_partition import LogPartition
from hessfast.posterior import Grid, Posterior
from hessfast.reproduce import figures, presets, rows
from hessfast.reproduce._run import _chosen, _whole
from hessfast.reproduce.models import MODELS, Ising, Tasep
from hessfast.reproduce.pca_vae import Autoencoder

SMALL = {"num": 5000, "size": 32, "held_out": 2, "potential_steps": 60, "network_steps": 2, "vae_steps": 3}
SMALL |= {"pairs": 0}
ALL = [
    "ours",
    "exact",
    "paper_method",
    "mean_as_stat",
    "pca_vae",
    "affine",
    "quadratic",
    "absolute_field",
    "paramagnet",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, reproduce.run("ising", "quick", folder, progress=False, **SMALL)


@pytest.fixture(scope="module", params=[Ising, Tasep])
def model(request):
    return request.param()


def test_values_are_the_derivatives_of_the_first(model):
    """By differences on the grid, away from the first-order line, for the truth that rows are compared with."""
    values = model.values(model.log_z, model.means).reshape(3, 128, 128)
    F, *slopes = values
    p = model.grid.axes
    low, high = slice(15, 40), slice(70, 120)  # for the TASEP low density, and high density where they change places
    for k in range(2):
        difference = np.gradient(F, p[k], axis=k)
        for x, y in ((low, high), (high, low), (high, high)):
            np.testing.assert_allclose(slopes[k][x, y], difference[x, y], atol=2e-3)
        assert max(np.abs(difference[low, high]).max(), np.abs(difference[high, low]).max()) > 0.1


def test_the_metric_is_the_slope_of_the_means(model):
    """By the chain rule and differences on the grid, as above."""
    theta, means = model.natural(model.grid.points), model.means.reshape(128, 128, 2)
    found = np.einsum("xyab,kxyb->kxya", model.metric.reshape(128, 128, 2, 2), np.gradient(theta, axis=(0, 1)))
    expected = np.array(np.gradient(means, axis=(0, 1)))
    low, high = slice(15, 40), slice(70, 120)
    for x, y in ((low, high), (high, low), (high, high)):
        np.testing.assert_allclose(found[:, x, y], expected[:, x, y], rtol=0.02, atol=1e-5)
    assert np.abs(expected[:, low, high]).max() > 1e-3


def test_the_truth_is_right_up_to_an_affine_function(model):
    theta = model.natural(model.grid.points.reshape(-1, 2))
    slope = np.array([2.0, -1.0])
    moved = model.log_z + 3 + theta @ slope, model.means + slope
    row = rows.errors(model, *moved)
    assert max(row["F"], row["dF_dp1"], row["dF_dp2"]) < 1e-8
    scaled = rows.errors(model, 5 * moved[0], 5 * moved[1], free_scale=True)
    assert max(scaled["F"], scaled["dF_dp1"], scaled["dF_dp2"]) < 1e-8
    assert rows.errors(model, 5 * moved[0], 5 * moved[1])["F"] > 0.01
    for scale, free, off in ((5, True, 0), (5, False, 4), (1, False, 0)):
        learned = rows.Learned(scale * moved[0], scale * moved[1], 0, scale * model.metric, free_scale=free)
        np.testing.assert_allclose(rows.metric_errors(model, learned)["deviation"], off, atol=1e-8)
    assert rows.metric_errors(model, rows.Learned(*moved, 0, -model.metric))["positive_definite"] < 0.02
    assert rows.metric_errors(model, rows.Learned(*moved, 0)) is None


def test_a_report_has_every_row(finished):
    folder, report = finished
    assert json.loads((folder / "report.json").read_text()) == json.loads(json.dumps(report))
    assert list(report["rows"]) == ALL
    for row in report["rows"].values():
        assert {"F", "dF_dp1", "dF_dp2", "normalised", "metric", "nats_gap", "num_samples", "seconds"} <= set(row)
    error = {name: row["F"] for name, row in report["rows"].items()}
    assert error["exact"] < error["ours"] < error["affine"]
    assert error["exact"] < 0.02
    assert report["rows"]["ours"]["nats_gap"]["median"] < report["rows"]["pca_vae"]["nats_gap"]["median"]
    metric = {name: row["metric"] and row["metric"]["deviation"][1] for name, row in report["rows"].items()}
    assert metric["exact"] < metric["ours"] < metric["paper_method"] and metric["affine"] is None
    assert report["published"]["paper_method"] == {"F": 0.0883, "dF_dp1": 0.1106, "dF_dp2": 0.1237}
    text = reproduce.table(report)
    assert (folder / "table.txt").read_text() == text + "\n"
    assert f"{error['ours']:.4f}" in text and f"{metric['ours']:.1%}" in text
    earlier = json.loads((folder / "report.json").read_text())
    del earlier["rows"]["ours"]["metric"]  # as a row kept by an earlier version
    assert len(reproduce.table(earlier).splitlines()) == len(text.splitlines())


def test_fitted_models_and_figures_are_there(finished):
    folder, _ = finished
    assert np.isfinite(LogPartition.load(folder / "log_partition").log_z([[0.3, 0.1]])).all()
    assert {path.name for path in (folder / "figures").glob("*.png")} == {"ours_derivatives.png", "ours_metric.png"}


def test_a_second_run_learns_nothing_anew(finished, monkeypatch):
    folder, report = finished
    monkeypatch.setattr("hessfast.reproduce._run._study", lambda *_: None)  # rows cannot be learned without it
    again = reproduce.run("ising", "quick", folder, progress=False, **SMALL)
    assert again["rows"] == report["rows"]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_report(finished, tmp_path, monkeypatch):
    _, report = finished
    learn = rows.quadratic

    def killed(study):
        raise KeyboardInterrupt

    monkeypatch.setattr(rows, "quadratic", killed)
    killed.__name__ = "quadratic"
    names = ["ours", "affine", "quadratic"]
    with pytest.raises(KeyboardInterrupt):
        reproduce.run("ising", "quick", tmp_path, rows=names, progress=False, **SMALL)
    assert {path.name for path in (tmp_path / "rows").glob("*.json")} == {"ours.json", "affine.json"}
    monkeypatch.setattr(rows, "quadratic", learn)
    resumed = reproduce.run("ising", "quick", tmp_path, rows=names, progress=False, **SMALL)
    for name in names:
        for key in ("F", "dF_dp1", "dF_dp2", "nats_gap"):
            assert resumed["rows"][name][key] == report["rows"][name][key]


def test_another_runs_folder_is_refused(finished):
    folder, _ = finished
    with pytest.raises(ValueError, match="out must be a new folder or that of the same run"):
        reproduce.run("ising", "quick", folder, progress=False, **(SMALL | {"seed": 1}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("xy", "quick"), "model must be .*, got 'xy'"),
        (("ising", "fast"), "preset must be .*, got 'fast'"),
        (("ising", "quick", {"num": 10}), "num must be"),
        (("ising", "quick", {"size": 50}), "size must be a multiple of 32, got 50"),
        (("ising", "quick", {"rows": ["best"]}), "rows must be .*, got 'best'"),
        (("ising", "quick", {"rows": "affine"}), r"rows must be a list of names, got 'affine'\. Pass \['affine'\]"),
        (("ising", "quick", {"num": 0}), "num must be >= 5000, got 0"),
        (("ising", "quick", {"held_out": 0}), "held_out must be >= 1, got 0"),
        (("ising", "quick", {"splits": -1}), "splits must be >= 1, got -1"),
        (("ising", "quick", {"potential_steps": 0}), "potential_steps must be >= 1, got 0"),
        (("ising", "quick", {"vae_steps": 1.5}), "vae_steps must be an integer, got 1.5"),
        (("ising", "quick", {"network": "huge"}), "network must be one of tiny, small, full, got 'huge'"),
        (("ising", "quick", {"speed": 2}), "changes must be one of .*held_out.*, got 'speed'"),
        (("ising", "quick", {"device": "tpu"}), 'device must be "cpu", "cuda" or "cuda:N", got \'tpu\''),
    ],
)
def test_what_there_is_not_is_refused(arguments, message, tmp_path):
    model, preset, *options = arguments
    with pytest.raises((ValueError, TypeError), match=message):
        reproduce.run(model, preset, tmp_path / "new", progress=False, **(options[0] if options else {}))
    assert not (tmp_path / "new").exists()


def test_the_command_prints_the_table(finished, monkeypatch):
    folder, report = finished
    asked = []
    monkeypatch.setattr("hessfast.reproduce.run", lambda *given, **options: asked.append((given, options)) or report)
    options = ["--out", str(folder), "--num", "6000", "--seed", "3", "--row", "ours", "--row", "affine"]
    for command in (["ising", "--size", "64"], ["tasep", "--preset", "paper"]):
        result = CliRunner().invoke(cli.app, ["reproduce", *command, *options])
        assert result.exit_code == 0
        assert reproduce.table(report) in result.output
    common = {"num": 6000, "seed": 3, "rows": ["ours", "affine"], "network": None, "device": "cpu"}
    assert asked == [(("ising", "quick", folder), common | {"size": 64}), (("tasep", "paper", folder), common)]
    monkeypatch.undo()
    refused = CliRunner().invoke(cli.app, ["reproduce", "ising", "--preset", "fast", "--out", str(folder)])
    assert refused.exit_code == 2
    assert "preset must be" in refused.output


@pytest.mark.parametrize(("name", "width"), [("ising", 1 / 50), ("tasep", 1 / 150)])
def test_the_full_network_is_all_as_published(tmp_path, monkeypatch, name, width):
    """Of the paper and its scripts: U2-Net, images of 128 x 128, bumps, Adam; log Z by LayerNorm and ReLU."""
    monkeypatch.setattr(rows, "U2NetPosterior", lambda **options: SimpleNamespace(fit=lambda *given: (options, *given)))
    preset = _chosen("paper", "full", {"potential_steps": 7})
    model = MODELS[name](pixels=presets.NETWORKS["full"].pixels)
    store = shards.fill(tmp_path / "samples", plan := model.plan(8, 0), datasets.maker(plan))
    study = rows.Study(model, preset, np.zeros((8, 2)), store, 0, tmp_path, "cpu", False)
    options, images, _ = study.network
    assert (images.dtype.itemsize, images.shape) == (1, (8, 128, 128))
    np.testing.assert_array_equal(images, model.images(datasets.batch(store)))
    expected = {"size": "full", "num_steps": 20_000, "batch_size": 2048, "learning_rate": 1e-5, "bump_width": width}
    assert {key: options[key] for key in expected} == expected
    potential = study.potential()
    assert (potential.potential, potential.num_steps, potential.num_polish) == ("layernorm", 7, 0)


@pytest.mark.parametrize(("size", "pixels"), [(32, 32), (128, 128), (160, 160), (256, 128), (416, 208), (448, 224)])
def test_images_are_means_over_blocks_that_fit(size, pixels):
    spins = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), (2, size, size))
    model = SimpleNamespace(pixels=Ising(size, pixels=128).pixels)
    images = Ising.images(model, SimpleNamespace(spins=lambda: spins))  # pyright: ignore[reportArgumentType]
    assert images.shape == (2, pixels, pixels)
    np.testing.assert_allclose(images[1, -1, 0], spins[1, -(size // pixels) :, : size // pixels].mean(), atol=1e-6)


def test_the_table_says_which_network_it_was(finished):
    _, report = finished
    assert "paper's method, reduced" in reproduce.table(report)
    assert "reduced" in reproduce.table(report | {"network": "full"})
    text = reproduce.table(report | {"network": "full", "pixels": 128, "published_network": True})
    assert "reduced" not in text and "as published (full, images of 128 x 128)." in text


@pytest.mark.slow
def test_processes_share_the_samples_and_the_network(tmp_path):
    """Rank 0 alone has the report."""
    (tmp_path / "run.py").write_text(
        "from hessfast import _distributed, reproduce\n"
        f"settings = {SMALL | {'batch_size': 4, 'rows': ['paper_method', 'affine'], 'progress': False}!r}\n"
        "with _distributed.group('cpu'):\n"
        f"    report = reproduce.run('ising', 'quick', {str(tmp_path / 'out')!r}, **settings)\n"
        "print('rows', sorted(report.get('rows', {})))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "run.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if line.startswith("rows")) == [
        "rows ['affine', 'paper_method']",
        "rows []",
    ]


def test_the_metric_of_figures_is_the_chain_rule():
    """phi = theta^2 / 2 in natural parameters: J^T J in the model's own."""
    model = Ising()
    theta = model.natural(model.grid.points)
    metric = figures.natural_metric(model, theta.reshape(-1, 2))
    T, H = 3.0, 1.0
    jacobian = np.array([[-1 / T**2, 0], [-H / T**2, 1 / T]])
    x, y = (int(np.abs(axis - value).argmin()) for axis, value in zip(model.grid.axes, (T, H), strict=True))
    np.testing.assert_allclose(metric[x, y], jacobian.T @ jacobian, rtol=0.03, atol=1e-4)


TWO = Grid((0.0,), (1.0,), (2,))


def test_the_divergence_is_that_of_the_learned_from_the_exact():
    """sum p log(p / q), with p the exact one, and 0 log 0 = 0."""
    exact = Posterior(np.log([[0.5, 0.5], [0.25, 0.75]]), TWO)
    learned = Posterior(np.log([[0.25, 0.75], [0.5, 0.5]]), TWO)
    expected = [np.log(2) / 2 + np.log(2 / 3) / 2, 0.25 * np.log(0.5) + 0.75 * np.log(1.5)]
    np.testing.assert_allclose(rows.divergence(exact, learned), expected)
    certain = Posterior(np.array([[0.0, -np.inf]]), TWO)
    np.testing.assert_allclose(rows.divergence(certain, Posterior(exact.log_mass[:1], TWO)), [np.log(2)])


def test_errors_are_divided_by_the_spread_of_the_truth():
    """On {-1, 0, 1}^2 xy has root mean square 2/3, x^2 + y^2 the deviation 2/3, 2x that of sqrt(8/3)."""
    grid = Grid((-1.0, -1.0), (1.0, 1.0), (3, 3))
    x, y = grid.points.reshape(-1, 2).T
    truth = {"log_z": x**2 + y**2, "means": np.column_stack([2 * x, 2 * y])}
    model = SimpleNamespace(
        grid=grid, natural=lambda p: p, values=lambda log_z, means: np.stack([log_z, *means.T]), **truth
    )
    learned = truth["log_z"] + 0.3 * x * y + 5, truth["means"] + np.column_stack([0.6 * x * y, 0 * x])
    row = rows.errors(model, *learned)
    np.testing.assert_allclose([row["F"], row["dF_dp1"], row["dF_dp2"]], [0.2, 0.4, 0], atol=1e-12)
    expected = {"F": 0.3, "dF_dp1": 0.4 / (8 / 3) ** 0.5, "dF_dp2": 0}
    assert row["normalised"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
def test_the_ceiling_of_the_tasep_end_to_end(tmp_path):
    report = reproduce.run("tasep", "quick", tmp_path, rows=["exact"], progress=False, **(SMALL | {"held_out": 1}))
    row = report["rows"]["exact"]
    assert row["num_samples"] == 5000
    assert row["normalised"]["F"] < 0.1
    assert 0 <= row["nats_gap"]["median"] < 5


@pytest.mark.slow
def test_the_largest_seed(tmp_path):
    changes = SMALL | {"seed": 2**64 - 1}
    report = reproduce.run("ising", "quick", tmp_path, rows=["exact", "pca_vae"], progress=False, **changes)
    assert report["rows"]["exact"]["F"] < 0.02


@pytest.mark.parametrize("text", ["", "[]", '{"F": 0.1'])
def test_a_row_that_is_not_whole_is_learned_anew(finished, tmp_path, text):
    folder, report = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "rows" / "affine.json").write_text(text)
    (copy / "rows" / "exact.json").write_text(text)
    again = reproduce.run("ising", "quick", copy, rows=["affine"], progress=False, **SMALL)
    assert again["rows"]["affine"]["F"] == report["rows"]["affine"]["F"]
    assert list(again["rows"]) == [name for name in ALL if name != "exact"]


def test_row_ours_has_its_log_z(tmp_path):
    """Geodesics are made of it, by runs that learn nothing anew, too."""
    steps = Steps(tmp_path)
    steps.keep("rows/ours", {"F": 0.1})
    steps.write_arrays("rows/ours.npz", {"log_z": np.zeros(3)})
    for name in ("settings.json", "weights.safetensors"):
        assert not _whole(steps, "ours")
        LogPartition(num_steps=1).fit_mean(*[np.linspace(0, 1, 9)[:, None]] * 2).save(tmp_path / "log_partition")
        assert _whole(steps, "ours")
        (tmp_path / "log_partition" / name).write_bytes(b"")
    assert not _whole(steps, "ours")


def test_an_edited_row_is_learned_anew(finished, tmp_path):
    folder, report = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "rows" / "affine.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"F": 0.001}))
    again = reproduce.run("ising", "quick", copy, rows=["affine"], progress=False, **SMALL)
    assert again["rows"]["affine"]["F"] == report["rows"]["affine"]["F"]


def test_features_that_are_not_whole_are_made_anew(tmp_path):
    """Zeroed, cut, without their seal, and of other samples."""
    model = MODELS["ising"]()

    def study(seed):
        plan = model.plan(8, seed)
        store = shards.fill(tmp_path / f"samples{seed}", plan, datasets.maker(plan))
        return rows.Study(model, _chosen("quick", None, {}), np.zeros((8, 2)), store, 0, tmp_path, "cpu", False)

    path, seal = tmp_path / "features.npy", tmp_path / "features.npy.json"
    expected = np.array(study(0).features)
    whole = path.read_bytes(), seal.read_bytes()
    for damage in (
        lambda: path.write_bytes(whole[0][:-400] + bytes(400)),
        lambda: path.write_bytes(whole[0][:-400]),
        lambda: seal.unlink(),
        lambda: study(1).features,
    ):
        damage()
        np.testing.assert_array_equal(study(0).features, expected)
        assert (path.read_bytes(), seal.read_bytes()) == whole


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("rows/affine.npz", lambda path: path.unlink()),
        ("rows/exact.npz", lambda path: path.write_bytes(path.read_bytes()[:-60])),
    ],
)
def test_a_row_without_its_log_z_is_learned_anew(finished, tmp_path, name, damage):
    folder, report = finished
    copy = shutil.copytree(folder, tmp_path / "copy")
    damage(copy / name)
    again = reproduce.run("ising", "quick", copy, rows=["affine", "exact"], progress=False, **SMALL)
    assert again["rows"]["exact"]["F"] == report["rows"]["exact"]["F"]
    with np.load(copy / name) as made, np.load(folder / name) as before:
        np.testing.assert_array_equal(made["log_z"], before["log_z"])
    assert again["seconds"]["samples"] == report["seconds"]["samples"]  # of the time when they were made


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"out must be a new folder or that of a run, got .*\. Choose another"):
        reproduce.run("ising", "quick", tmp_path, progress=False, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_samples_that_are_there_are_taken(finished, tmp_path):
    folder, report = finished
    shutil.copytree(folder / "samples", tmp_path / "samples")
    (tmp_path / "settings.json.tmp").write_text("{")  # of a run killed as it wrote this
    again = reproduce.run("ising", "quick", tmp_path, rows=["affine"], progress=False, **SMALL)
    assert again["rows"]["affine"]["F"] == report["rows"]["affine"]["F"]


@pytest.mark.slow
def test_the_papers_method_beats_its_baselines(tmp_path, capsys):
    """On 20,000 lattices of 32 x 32, in the derivatives; ten minutes on two cores."""
    rows = ["paper_method", "mean_as_stat", "pca_vae"]
    steps = {"network_steps": 1500, "potential_steps": 4000}
    report = reproduce.run("ising", "quick", tmp_path, size=32, rows=rows, progress=False, **steps)
    with capsys.disabled():
        print("\n" + reproduce.table(report))
    for name in ("dF_dp1", "dF_dp2"):
        errors = [report["rows"][row][name] for row in rows]
        assert errors[0] < 0.9 * min(errors[1:])


SQUARE = Grid((0.0, 0.0), (1.0, 1.0), (2, 2))


def test_the_divergence_of_nodes_that_both_exclude_is_none():
    certain = Posterior(np.array([[0.0, -np.inf]]), TWO)
    assert rows.divergence(certain, certain) == [0]
    other = rows.divergence(certain, Posterior(np.array([[-np.inf, 0.0]]), TWO))
    assert np.isfinite(other).all() and other > 100


def test_held_out_samples_are_at_random_nodes_and_others_than_the_runs(tmp_path):
    asked = []

    def sample(parameters, seed):
        asked.append((parameters, seed))
        return parameters

    exact = SimpleNamespace(log_posterior=lambda samples, grid, bundle: (len(samples), bundle))
    model = SimpleNamespace(sample=sample, exact=lambda: exact)
    preset = SimpleNamespace(held_out=60)
    study = rows.Study(model, preset, np.zeros((8, 2)), None, 7, tmp_path, "cpu", False)  # type: ignore[arg-type]
    samples, posterior = study.held_out(SQUARE, 3)
    assert posterior == (180, 3) and asked[0][1] != 7
    together = samples.reshape(60, 3, 2)
    assert (together == together[:, :1]).all()  # of one parameter each bundle
    assert {tuple(node) for node in samples} == {tuple(node) for node in SQUARE.points.reshape(-1, 2)}
    assert study.held_out(SQUARE, 3)[0] is samples and len(asked) == 1
    assert study.held_out(SQUARE, 1)[1] == (60, 1) and len(asked) == 2
    shifted = Grid((2.0, 2.0), (3.0, 3.0), (2, 2))
    assert study.held_out(shifted, 3)[0].min() == 2


def test_bundles_are_of_the_nearest_in_the_units_of_the_box(tmp_path):
    low, high = np.array([0.0, 0.0]), np.array([1.0, 100.0])
    parameters = low + (high - low) * np.random.default_rng(0).random((30, 2))
    model = SimpleNamespace(box=(low, high))
    study = rows.Study(model, SimpleNamespace(), parameters, None, 0, tmp_path, "cpu", False)  # type: ignore[arg-type]
    study.__dict__["images"] = np.arange(30)
    study.__dict__["network"] = SimpleNamespace(bundle=3, grid_=TWO, log_posterior=lambda images, grid: images)
    means, images = study.bundles
    near = np.array(images).reshape(30, 3)
    np.testing.assert_allclose(means, parameters[near].mean(axis=1))
    apart = np.linalg.norm((parameters[:, None] - parameters) / (high - low), axis=2)
    for bundle in near:
        assert set(bundle) == set(apart[bundle[0]].argsort()[:3])
    assert set(near[:, 0]) == set(range(30))


def test_row_ours_counts_what_lies_within_two_standard_errors(monkeypatch, tmp_path):
    """Of means that are off by 1.5 standard errors at half of the nodes, and by 2.5 at the others."""
    theta, slope = np.random.default_rng(0).normal(size=(40, 2)), np.array([3.0, -2.0])
    model = SimpleNamespace(num_sites=9, grid=SQUARE, log_z=theta[:, 0] ** 2, means=2 * theta, natural=None)
    model.features = lambda samples: samples
    off = np.where(np.arange(40) % 2, 1.5, 2.5)[:, None] * [0.1, -0.1]
    posterior = SimpleNamespace(
        convexity_=1.0,
        fit=lambda *_: posterior,
        log_z=lambda theta: model.log_z + 5 + theta @ slope,
        mean=lambda theta: model.means + slope + off,
        standard_error=lambda name, theta: np.full((40, 2), 0.1),
        fisher_metric=lambda theta: np.zeros((40, 2, 2)),
        log_posterior=lambda features, grid: None,
    )
    monkeypatch.setattr(rows, "ExponentialFamilyPosterior", lambda *_, **__: posterior)
    monkeypatch.setattr(rows, "LogPartition", SimpleNamespace(from_posterior=lambda _: SimpleNamespace(save=str)))
    monkeypatch.setattr(rows, "divergence", lambda *_: None)
    study = SimpleNamespace(
        model=model, theta=theta, preset=SimpleNamespace(splits=2), seed=0, features=None, parameters=theta,
        folder=tmp_path, held_out=lambda *_: (None, None),
    )  # fmt: skip
    learned = rows.ours(study)  # type: ignore[arg-type]
    assert learned.notes["within two standard errors"] == 0.5


def test_the_papers_log_z_is_of_all_sites_of_a_bundle_and_up_to_a_factor(monkeypatch, tmp_path):
    asked = {}
    network = SimpleNamespace(bundle=16, grid_=SQUARE, log_posterior=lambda images, grid: None)
    fitted = SimpleNamespace(save=lambda path: None)
    monkeypatch.setattr(rows, "_at_nodes", lambda *_: (np.zeros(1), np.zeros((1, 2)), 0, None))
    monkeypatch.setattr(rows, "divergence", lambda *_: None)
    study = SimpleNamespace(
        bundles=(None, None), network=network, folder=tmp_path, held_out=lambda *_: (None, None),
        model=SimpleNamespace(num_sites=100, natural=None, images=lambda samples: None),
        preset=SimpleNamespace(network="tiny", network_steps=1),
        potential=lambda **options: asked.update(options) or SimpleNamespace(fit=lambda *_: fitted),
    )  # fmt: skip
    assert rows.paper_method(study).free_scale  # type: ignore[arg-type]
    assert asked["scale"] == 1600


def test_components_are_ordered_and_signed_like_their_parameters(monkeypatch):
    """Of components (-b, a), for parameters (a, b)."""
    parameters, fresh = np.random.default_rng(0).normal(size=(2, 200, 2))
    module = sys.modules["hessfast.reproduce.pca_vae"]
    turned = lambda images: np.column_stack([-images[:, 1], images[:, 0]])  # noqa: E731
    monkeypatch.setattr(module, "pca_vae_statistics", lambda images, num_steps, seed: turned)
    monkeypatch.setattr(rows, "_statistics_gap", lambda study, fitted, given, statistics, own, truth: (statistics, own))
    monkeypatch.setattr(rows, "_of", lambda study, fitted, gap, notes: (fitted, *gap))
    same = lambda x: x  # noqa: E731
    study = SimpleNamespace(
        images=parameters, parameters=parameters, seed=0, preset=SimpleNamespace(vae_steps=1),
        model=SimpleNamespace(natural=same, images=same, grid=SQUARE), held_out=lambda *_: (fresh, None),
        potential=lambda: SimpleNamespace(fit_mean=lambda theta, statistics: (theta, statistics)),
    )  # fmt: skip
    (theta, fitted), statistics, own = rows.pca_vae(study)  # type: ignore[misc, arg-type]
    for found, expected in ((theta, parameters), (fitted, parameters), (statistics, parameters), (own, fresh)):
        np.testing.assert_allclose(found, expected)


def test_the_scale_of_statistics_is_the_most_likely():
    """Signs that tell three bits of four: exp(c s b) with c = log 3, by the posterior of each bit."""
    shift = np.array([2.0, -1.0])
    signs = np.array([[1, 1], [1, 1], [-1, -1], [-1, -1]])
    bits = np.array([[1.0, 1], [1, 0], [0, 0], [0, 1]])  # parameters; the nodes are the bits
    p = np.array([[0.25, 0.75], [0.75, 0.25]])  # of 0 and 1, at signs 1 and -1
    truth = Posterior(np.log(np.einsum("na,nb->nab", p, p)), SQUARE)
    study = SimpleNamespace(model=SimpleNamespace(natural=lambda x: x))
    fitted = SimpleNamespace(log_z=lambda nodes: nodes @ shift)
    gap = rows._statistics_gap(study, fitted, bits, signs + shift, signs[[0, 2]] + shift, truth)  # type: ignore[arg-type]
    np.testing.assert_allclose(gap, 0, atol=1e-8)


def test_the_quadratic_row_has_the_gradient_of_its_log_z():
    theta = np.random.default_rng(0).normal(size=(50, 2)) * [1.0, 3.0] + [2.0, -1.0]
    x, y = theta.T
    model = SimpleNamespace(log_z=2 * x * x + 3 * x * y - y * y + 7 * x - y + 4)
    learned = rows.quadratic(SimpleNamespace(theta=theta, model=model))  # type: ignore[arg-type]
    (u, v) = (theta - theta.mean(axis=0)).T
    np.testing.assert_allclose(learned.means, np.column_stack([4 * u + 3 * v, 3 * u - 2 * v]), atol=1e-9)
    np.testing.assert_allclose(learned.log_z, 2 * u * u + 3 * u * v - v * v, atol=1e-9)


def test_the_loss_of_the_autoencoder_is_its_formula():
    """Of images 0, a code of mean m and variance e^l, noise 1 and a decoder that gives the code back."""
    m, log = 0.5, -1.0

    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.cat([torch.full((len(x), 8), m), torch.full((len(x), 8), log)], dim=1)

    network = Autoencoder(8)
    network.encode, network.decode = Constant(), torch.nn.Unflatten(1, (1, 2, 4))  # type: ignore[assignment]
    loss = network.loss(torch.zeros(5, 2, 4), torch.ones(5, 8))
    expected = 8 * (m + np.exp(log / 2)) ** 2 / 2 + 8 * (m**2 + np.exp(log) - 1 - log) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_components_are_of_the_codes_mean_with_variance_one(monkeypatch):
    """Two axes of the mean vary, by the cosine and half the sine of an angle; the log variances say nothing of them."""
    module = sys.modules["hessfast.reproduce.pca_vae"]

    class Plain(torch.nn.Module):
        def __init__(self, side):
            super().__init__()
            self.weight, self.encode = torch.nn.Parameter(torch.ones(1)), torch.nn.Flatten()

        def loss(self, images, noise):
            return self.weight.square().sum()

    monkeypatch.setattr(module, "Autoencoder", Plain)
    angle = 2 * np.pi * np.arange(60) / 60
    images = np.zeros((60, 16))
    images[:, 3], images[:, 5] = 2 + np.cos(angle), np.sin(angle) / 2
    images[:, 8:] = 100 * np.random.default_rng(0).normal(size=(60, 8))
    images = images.reshape(60, 4, 4)
    components = module.pca_vae_statistics(images, 1)
    expected = np.sqrt(2) * np.column_stack([np.cos(angle), np.sin(angle)])
    np.testing.assert_allclose(np.abs(components(images)), np.abs(expected), atol=1e-5)
    np.testing.assert_allclose(components(images[:7]), components(images)[:7], atol=1e-6)


def test_the_mean_as_statistic_is_that_of_the_natural_parameters(monkeypatch):
    """Of half the mass at each of two nodes: the mean of their squares, not the square of their mean."""
    posterior = Posterior(np.log([[[0.5, 1e-300], [1e-300, 0.5]]]), SQUARE)
    study = SimpleNamespace(
        bundles=(np.full((1, 2), 3.0), posterior), held_out=lambda *_: (None, None),
        network=SimpleNamespace(bundle=1, log_posterior=lambda images, grid: posterior),
        model=SimpleNamespace(natural=lambda x: (x + 1) ** 2, images=lambda samples: None),
        potential=lambda: SimpleNamespace(fit_mean=lambda theta, statistics: (theta, statistics)),
    )  # fmt: skip
    monkeypatch.setattr(rows, "_statistics_gap", lambda study, fitted, given, statistics, own, truth: own)
    monkeypatch.setattr(rows, "_of", lambda study, fitted, gap: (*fitted, gap))
    theta, statistics, own = rows.mean_as_stat(study)  # type: ignore[misc, arg-type]
    assert theta.tolist() == [[16, 16]]
    np.testing.assert_allclose([*statistics, *own], [[2.5, 2.5]] * 2)


def test_deviations_of_metrics_are_given_in_ascending_quartiles():
    metric = np.tile(np.eye(2), (5, 1, 1))
    learned = rows.Learned(np.zeros(5), np.zeros((5, 2)), 0, metric * np.arange(1, 6)[:, None, None])
    found = rows.metric_errors(SimpleNamespace(metric=metric), learned)
    assert found == {"deviation": pytest.approx([1, 2, 3]), "positive_definite": 1}
