"""The reproduction: its truth, its report, that it goes on where it was, and what it refuses."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from hessfast import cli, datasets, reproduce, shards
from hessfast._steps import Steps
from hessfast.log_partition import LogPartition
from hessfast.posterior import Grid, Posterior
from hessfast.reproduce import figures, presets, rows
from hessfast.reproduce._run import _chosen, _whole
from hessfast.reproduce.models import MODELS, Ising, Tasep

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
