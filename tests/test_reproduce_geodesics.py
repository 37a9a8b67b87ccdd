"""Curves over phase diagrams: potentials made convex, the split by boundaries, and what a run reports of them."""

import itertools
import json

import numpy as np
import pytest

from hessfast import reproduce
from hessfast.geodesic import KINDS, connecting_geodesic
from hessfast.log_partition import LogPartition
from hessfast.potentials import Table
from hessfast.reproduce import figures, geodesics
from hessfast.reproduce.models import Ising, Tasep

SMALL = {"num": 5000, "size": 32, "held_out": 2, "rows": ["ours"], "splits": 1, "progress": False}
NODES = 101  # of the run's tables
AXES = [np.linspace(-2, 2, 81)] * 2
X, Y = geodesics.nodes_of(AXES).transpose(2, 0, 1)


def table_of(values):
    return Table.from_values([-2, -2], [2, 2], values)


def coins(x):
    return np.logaddexp(0, x).sum(axis=-1)


@pytest.fixture(scope="module")
def two_coins():
    """log Z of two independent coins: a flat metric in the angles 2 asin sqrt(p), whose lengths are known."""
    axes = [np.linspace(-5, 5, 101)] * 2
    return geodesics.convex(axes, coins(geodesics.nodes_of(axes)), sites=20_000, floor=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geodesics, "NODES", NODES)
        return folder, reproduce.run("ising", "quick", folder, pairs=30, **SMALL)


def test_lengths_and_energies_are_those_of_every_kind(two_coins):
    start, end = geodesics.random_pairs(((-5, -5), (5, 5)), 20, seed=1)
    p, q = (1 / (1 + np.exp(-x)) for x in (start, end))
    distance = 2 * np.linalg.norm(np.arcsin(np.sqrt(q)) - np.arcsin(np.sqrt(p)), axis=1)
    jeffreys = ((end - start) * (q - p)).sum(axis=1)  # energy of what is straight in theta or in eta = p
    group = np.arange(20) < 8
    report, lengths = geodesics.measure(two_coins, start, end, group)
    np.testing.assert_allclose(lengths, distance, rtol=0.01)
    assert list(report["kinds"]) == list(KINDS)
    assert report["above_straight"] == 0
    for name, some in (("crossing", group), ("others", ~group)):
        rows = {kind: entry[name] for kind, entry in report["kinds"].items()}
        assert {row["pairs"] for row in rows.values()} == {int(some.sum())}
        assert rows["levi-civita"]["converged"] == 1
        expected = np.quantile(distance[some], (0.25, 0.5, 0.75))
        np.testing.assert_allclose(rows["levi-civita"]["length"], expected, rtol=0.01)
        np.testing.assert_allclose(rows["levi-civita"]["energy"], expected**2, rtol=0.02)
        for kind in ("exponential", "mixture"):
            expected = np.quantile(jeffreys[some], (0.25, 0.5, 0.75))
            np.testing.assert_allclose(rows[kind]["energy"], expected, rtol=0.02)
            assert rows[kind]["energy"][1] > 1.01 * rows["levi-civita"]["energy"][1]
            assert rows[kind]["length"][1] > 1.001 * rows["levi-civita"]["length"][1]
        assert rows["mixture"]["length"] != rows["exponential"]["length"]
    middle = {kind: connecting_geodesic(two_coins, start, end, kind).points[:, 45] for kind in KINDS}
    np.testing.assert_allclose(middle["exponential"], start + 45 / 89 * (end - start))
    np.testing.assert_allclose(1 / (1 + np.exp(-middle["mixture"])), p + 45 / 89 * (q - p), atol=2e-3)


def test_a_double_well_is_filled():
    """(x^2 - 1)^2 / 4 is concave in the middle; its convex envelope is 0 between the wells."""
    well = geodesics.convex(AXES, (X**2 - 1) ** 2 / 4 + Y**2 / 2, sites=20_000, floor=1e-3)
    places = np.array([[0.0, 0.5], [0.5, 0.5], [1.5, -0.5]])
    rest = 0.125 + 1e-3 / 2 * (places**2).sum(axis=1)
    np.testing.assert_allclose(
        well(places) - rest, [0, 0, 1.25**2 / 4], atol=6e-3
    )  # the averages add a little where it bends
    points = geodesics.nodes_of([np.linspace(-1.7, 1.7, 90)] * 2).reshape(-1, 2)
    metric = well.hessian(points)
    assert np.linalg.eigvalsh(metric).min() > 0
    curves = connecting_geodesic(well, [[-1.5, 0.3]], [[1.5, -0.3]])
    assert curves.converged.all()
    raw = table_of((X**2 - 1) ** 2 / 4 + Y**2 / 2)
    assert np.linalg.eigvalsh(raw.hessian(points)).min() < -0.9


@pytest.mark.parametrize("sites", [16, 64])
def test_a_ridge_is_as_long_as_that_of_a_system_of_so_many_sites(sites):
    """Of |x| the system's log Z is log(2 cosh(sites x)) / sites: pi / sqrt(sites) from one phase to the other."""
    axes = [np.linspace(-0.4, 0.4, 161), np.linspace(-1, 1, 9 + 8)]
    x, y = geodesics.nodes_of(axes).transpose(2, 0, 1)
    ridge = geodesics.convex(axes, np.abs(x) + y**2 / 2, sites=sites, floor=0)
    curves = connecting_geodesic(ridge, [[-0.3, 0.1]], [[0.3, 0.1]], num_points=200)
    assert curves.converged.all()
    assert curves.length[0] == pytest.approx(np.pi / sites**0.5, rel=0.06)


def test_many_more_points_shorten_every_curve():
    """Around the end of a first-order line, where straight lines of many points are far from a geodesic."""
    diagram = geodesics.DIAGRAMS["ising"]
    axes = [np.linspace(a, b, 121) for a, b in zip(*diagram.box, strict=True)]
    table = geodesics.convex(axes, geodesics.exact_log_z(diagram, axes, 128**2))
    ends = geodesics.random_pairs(diagram.box, 40, 0)
    curves = [connecting_geodesic(table, *ends, num_points=num) for num in (20, 90, 300)]
    assert all(each.converged.all() for each in curves)
    for coarse, fine in itertools.pairwise(curves):
        assert (fine.length < coarse.length * (1 + 1e-6)).all() and (fine.length > 0.97 * coarse.length).all()


@pytest.mark.parametrize(
    ("model", "start", "end", "meets"),
    [
        (Ising, (1.5, 0.3), (1.5, -0.3), True),
        (Ising, (2.2, 0.3), (2.2, -0.3), True),
        (Ising, (2.35, 0.3), (2.35, -0.3), False),
        (Ising, (1.5, 0.3), (4.0, -0.3), False),  # at H = 0 where T = 2.75
        (Ising, (1.5, -0.1), (4.0, 0.6), True),  # where T = 1.86
        (Ising, (1.5, 0.3), (4.0, 0.3), False),
        (Tasep, (0.2, 0.4), (0.4, 0.2), True),  # coexistence
        (Tasep, (0.2, 0.8), (0.7, 0.8), True),  # to the maximal current
        (Tasep, (0.8, 0.2), (0.8, 0.7), True),
        (Tasep, (0.2, 0.4), (0.2, 0.9), False),  # beta = 1/2 is no boundary at low density
        (Tasep, (0.4, 0.2), (0.9, 0.2), False),
        (Tasep, (0.6, 0.9), (0.9, 0.6), False),  # nor alpha = beta at the maximal current
    ],
)
def test_which_segments_cross_a_boundary(model, start, end, meets):
    ends = model.natural(np.array([start, end]))
    boundaries = geodesics.DIAGRAMS[model.name].boundaries
    for a, b in (ends, ends[::-1]):
        assert geodesics.crosses(a[None], b[None], boundaries).tolist() == [meets]


@pytest.mark.parametrize("model", [Ising, Tasep])
def test_diagrams_are_in_the_models_box(model):
    diagram = geodesics.DIAGRAMS[model.name]
    theta = geodesics.nodes_of([np.linspace(a, b, 9) for a, b in zip(*diagram.box, strict=True)])
    own = diagram.parameters(theta)
    np.testing.assert_allclose(model.natural(own), theta, rtol=1e-12, atol=1e-12)
    low, high = model.box
    assert (own >= low).all() and (own <= high).all()
    drawn = np.array(diagram.drawn)
    inner = np.array(diagram.box).mean(axis=0) + 0.94 * (np.array(diagram.box) - np.mean(diagram.box, axis=0))
    assert (model.natural(drawn) > inner[0]).all() and (model.natural(drawn) < inner[1]).all()
    assert geodesics.crosses(*model.natural(drawn).swapaxes(0, 1), diagram.boundaries).any()


def test_the_exact_potential_is_the_models_truth():
    model = Tasep(size=4)
    log_z = geodesics.DIAGRAMS["tasep"].log_z(model.rates[::100], model.num_sites)
    np.testing.assert_allclose(log_z, model.log_z[::100], rtol=1e-12)
    model = Ising()
    points = model.grid.points.reshape(-1, 2)[::100]
    np.testing.assert_allclose(geodesics.DIAGRAMS["ising"].log_z(points, model.num_sites), model.log_z[::100])


def test_the_map_of_distances_exceeds_geodesics_by_its_own_error():
    bowl = table_of((X**2 + Y**2) / 2)
    ends = geodesics.random_pairs(((-2, -2), (2, 2)), 50, seed=0)[1]
    distances, report = geodesics.against_map(bowl, np.array([0.5, 0.5]), ends, shape=(101, 101))
    assert report["targets"] == 50
    lowest, *_, highest = report["excess"]
    assert -1e-9 < lowest < highest < 0.009
    assert distances[50, 50] == pytest.approx(0.5**0.5, abs=0.04)


def test_a_run_reports_curves_of_every_kind(finished):
    folder, whole = finished
    report = whole["geodesics"]
    assert json.loads((folder / "report.json").read_text())["geodesics"] == report
    diagram = geodesics.DIAGRAMS["ising"]
    start, end = geodesics.random_pairs(diagram.box, 30, seed=0)
    (T, H), (U, K) = (diagram.parameters(x).T for x in (start, end))
    crossing = (H * K < 0) & (T + (U - T) * H / (H - np.where(H == K, H + 1, K)) < 2.269)
    axes = [np.linspace(a, b, NODES) for a, b in zip(*diagram.box, strict=True)]
    nodes = geodesics.nodes_of(axes)
    values = diagram.log_z(diagram.parameters(nodes.reshape(-1, 2)), 0).reshape(nodes.shape[:2])
    lengths = {"exact": connecting_geodesic(geodesics.convex(axes, values), start, end).length}
    learned = LogPartition.load(folder / "log_partition").log_z(nodes)
    lengths["ours"] = connecting_geodesic(geodesics.convex(axes, learned), start, end).length
    for group, some in (("crossing", crossing), ("others", ~crossing)):
        for name, potential in report["potentials"].items():
            entry = potential["kinds"]["levi-civita"][group]
            assert entry["pairs"] == some.sum() > 5
            assert entry["converged"] == 1
            assert entry["without_length"] == 0
            np.testing.assert_allclose(entry["length"], np.quantile(lengths[name][some], (0.25, 0.5, 0.75)))
            assert entry["energy"][1] <= potential["kinds"]["exponential"][group]["energy"][1]
        off = np.abs(lengths["ours"] / lengths["exact"] - 1)[some]
        np.testing.assert_allclose(report["deviation"][group], np.quantile(off, (0.25, 0.5, 0.75)))
        assert report["deviation"][group][1] < 0.3
    assert [x["above_straight"] for x in report["potentials"].values()] == [0, 0]
    assert report["indefinite"] > 0.05
    text = reproduce.table(whole)
    median = report["potentials"]["exact"]["kinds"]["levi-civita"]["crossing"]["length"][1]
    assert f"exact, levi-civita, crossing{crossing.sum():>13}     100.0%   {median:.4f} (" in text
    assert (folder / "table.txt").read_text() == text + "\n"


@pytest.mark.skipif(not figures.available(), reason="needs matplotlib")
def test_curves_are_drawn(finished):
    folder, _ = finished
    assert (folder / "figures" / "ours_geodesics.png").stat().st_size > 10_000
    made = np.load(folder / "geodesics.npz")
    drawn = np.array(geodesics.DIAGRAMS["ising"].drawn)
    assert made["curves"].shape == (4, len(drawn), 90, 2)
    assert made["marks"].shape == (4, len(drawn), 10, 2)
    for k in (0, -1):
        np.testing.assert_allclose(made["curves"][:, :, k], np.tile(drawn[:, k], (4, 1, 1)))
        np.testing.assert_allclose(made["marks"][0, :, k], drawn[:, k])


def test_curves_are_made_once(finished, tmp_path, monkeypatch):
    folder, report = finished

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(geodesics, "compare", never)
    assert geodesics.keep(None, folder, pairs=30, seed=0) == report["geodesics"]
    with pytest.raises(AssertionError):
        geodesics.keep(None, folder, pairs=31, seed=0)
    (tmp_path / "log_partition").symlink_to(folder / "log_partition")
    for text in ("", "[]"):
        (tmp_path / "geodesics.json").write_text(text)
        with pytest.raises(AssertionError):
            geodesics.keep(None, tmp_path, pairs=30, seed=0)


def test_no_curves_without_pairs_or_without_the_row(tmp_path):
    options = SMALL | {"rows": ["affine"]}
    assert "geodesics" not in reproduce.run("ising", "quick", tmp_path, **options)
    assert not (tmp_path / "geodesics.json").exists()


def test_groups_without_pairs_are_empty(two_coins):
    start, end = geodesics.random_pairs(((-2, -2), (2, 2)), 2, seed=0)
    report, _ = geodesics.measure(two_coins, start, end, np.zeros(2, bool))
    row = report["kinds"]["levi-civita"]["crossing"]
    assert row == {"pairs": 0, "converged": None, "without_length": 0, "length": None, "energy": None}


def test_a_negative_number_of_pairs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="pairs must be >= 0, got -1"):
        reproduce.run("ising", "quick", tmp_path / "new", pairs=-1, **SMALL)
